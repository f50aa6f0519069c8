#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh - the whole story on loopback: somebody else's iSCSI target with two LUNs, smirrord, a replica, the proof.
#
# ./run demo builds what it needs and calls it. Everything is in a directory of its own, which is gone at the end.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
size_mib=${SMIRROR_DEMO_MIB:-256}

work=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/smirror-demo-XXXXXX")
chmod 755 "$work"
tgtd_pid=
smirrord_pid=
finish() {
    local status=$?
    # tgtd does not listen to TERM while it has targets.
    [ -z "$smirrord_pid" ] || kill "$smirrord_pid" 2>/dev/null || true
    [ -z "$smirrord_pid" ] || wait "$smirrord_pid" 2>/dev/null || true
    [ -z "$tgtd_pid" ] || kill -9 "$tgtd_pid" 2>/dev/null || true
    [ -z "$tgtd_pid" ] || wait "$tgtd_pid" 2>/dev/null || true
    if [ $status -ne 0 ] && [ -s "$work/smirrord.log" ]; then
        echo "demo: this went wrong; the log of smirrord:" >&2
        tail -n 20 "$work/smirrord.log" >&2
    fi
    rm -rf "$work"
}
trap finish EXIT

if [ -t 1 ]; then
    bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'
else
    bold='' dim='' off=''
fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
show() { printf '    %s\n' "$@"; }
wait_for() { # wait_for SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            echo "demo: '$*' did not come true" >&2
            return 1
        fi
        sleep 0.02
    done
}
elapsed_ms() { echo $((($(date +%s%N) - $1) / 1000000)); }

# ---- the foreign array

iqn=iqn.2026-11.example.array:demo
export TGT_IPC_SOCKET=$work/tgtd.socket
start_tgtd() {
    for _ in 1 2 3 4 5; do
        port=$((RANDOM % 20000 + 30000))
        tgtd -f -d 0 --iscsi portal=127.0.0.1:$port -C 0 >"$work/tgtd.log" 2>&1 &
        tgtd_pid=$!
        wait_for 5 eval "[ -e '$TGT_IPC_SOCKET.0' ] || ! kill -0 $tgtd_pid 2>/dev/null"
        if kill -0 $tgtd_pid 2>/dev/null && wait_for 2 eval ": <>/dev/tcp/127.0.0.1/$port" 2>/dev/null; then
            return 0
        fi
        kill -9 $tgtd_pid 2>/dev/null || true
        rm -f "$TGT_IPC_SOCKET".0*
    done
    cat "$work/tgtd.log" >&2
    return 1
}
admin() { tgtadm --lld iscsi -C 0 "$@"; }

say "1. Somebody else's iSCSI array: tgtd on 127.0.0.1 with two LUNs of $size_mib MiB"
start_tgtd
truncate -s "${size_mib}M" "$work/source" "$work/target"
# A quarter of the source has data, in pieces; the target is full of something else.
for ((at = 0; at < size_mib; at += 16)); do
    dd if=/dev/urandom of="$work/source" bs=1M count=4 seek=$at conv=notrunc status=none
done
head -c "${size_mib}M" /dev/zero | tr '\0' '\333' >"$work/target"
admin --op new --mode target --tid 1 -T $iqn
for pair in MaxRecvDataSegmentLength=262144 MaxXmitDataSegmentLength=262144 FirstBurstLength=262144 MaxBurstLength=1048576 \
    InitialR2T=No ImmediateData=Yes MaxOutstandingR2T=8; do
    admin --op update --mode target --tid 1 --name "${pair%=*}" --value "${pair#*=}"
done
lun=1
for file in source target; do
    admin --op new --mode logicalunit --tid 1 --lun $lun --backing-store "$work/$file" --bstype rdwr
    admin --op update --mode logicalunit --tid 1 --lun $lun --params thin_provisioning=1
    lun=$((lun + 1))
done
admin --op bind --mode target --tid 1 -I ALL
show "iscsi://127.0.0.1:$port/$iqn/1   a quarter of it is data" "iscsi://127.0.0.1:$port/$iqn/2   full of old data"

# ---- smirrord

say "2. smirrord, as an ordinary program"
"$top/build/smirrord" --data "$work/data" --http 127.0.0.1:0 --iscsi 127.0.0.1:0 --ready-file "$work/ready" >"$work/smirrord.log" 2>&1 &
smirrord_pid=$!
wait_for 10 test -s "$work/ready"
server=http://$(jq -r .http "$work/ready")
header=@$(jq -r .auth_header_file "$work/ready")
show "listens on $server, token in $(basename "${header#@}") of its data directory"

get() { curl -sS --fail-with-body -H "$header" "$server$1"; }
post() { curl -sS --fail-with-body -H "$header" -H 'Content-Type: application/json' -X POST "$server$1" -d "$2"; }
# Shows the call and its answer, and keeps the answer in $answer.
call() {
    show "${dim}POST $1${off}" "${dim}$2${off}"
    answer=$(post "$1" "$2")
    show "$answer"
}

say "3. The LUNs become known by their URLs"
call /services/ReplicationService/AddReplicationEntity \
    "{\"ReplicationEntity\":{\"Type\":8,\"EntityID\":\"iscsi://127.0.0.1:$port/$iqn/1\",\"ElementName\":\"orders\"}}"
source_volume=$(jq -r .ReplicationEntityPath <<<"$answer")
call /services/ReplicationService/AddReplicationEntity \
    "{\"ReplicationEntity\":{\"Type\":8,\"EntityID\":\"iscsi://127.0.0.1:$port/$iqn/2\",\"ElementName\":\"orders-copy\"}}"
target_volume=$(jq -r .ReplicationEntityPath <<<"$answer")
get /volumes | jq -r '.Members[] | "    \(.self)  \(.ElementName)  \(.Size) bytes in blocks of \(.BlockSize), thin: \(.ThinlyProvisioned)"'

say "4. A replica: one call, a job, an answer that stays true"
start=$(date +%s%N)
call /services/ReplicationService/CreateElementReplica \
    "{\"SyncType\":\"Clone\",\"SourceElement\":\"$source_volume\",\"TargetElement\":\"$target_volume\",\"ReplicationSettingData\":{\"Verify\":true}}"
job=$(jq -r .Job <<<"$answer")
synchronization=$(jq -r .Synchronization <<<"$answer")
while :; do
    answer=$(get "$job?wait=250ms")
    jq -r '"    \(.JobStateText), \(.Phase): \(.PercentComplete) %  read \(.BytesRead / 1048576 | floor) MiB, wrote \(.BytesWritten / 1048576 | floor) MiB, zeroed \(.BytesZeroed / 1048576 | floor) MiB, skipped \(.BytesSkipped / 1048576 | floor) MiB"' <<<"$answer"
    case $(jq -r .JobState <<<"$answer") in
    7) break ;;
    8 | 9 | 10)
        jq -r '.ErrorDescription' <<<"$answer" >&2
        exit 1
        ;;
    esac
done
show "done in $(elapsed_ms "$start") ms, verified by reading both sides again"
get "$synchronization" | jq -r '"    \(.self): \(.SyncTypeText), \(.CopyStateText), \(.PercentSynced) % synced"'

say "5. The proof: the two files behind the LUNs"
cmp "$work/source" "$work/target"
show "cmp: $(stat -c %s "$work/source") bytes, equal"

say "6. kill -9 in the middle of another copy"
dd if=/dev/urandom of="$work/source" bs=1M count="$((size_mib / 2))" conv=notrunc status=none
call /services/ReplicationService/ModifyReplicaSynchronization \
    "{\"Operation\":\"Resync Replica\",\"Synchronization\":\"$synchronization\",\"ReplicationSettingData\":{\"BandwidthLimit\":$((size_mib << 18))}}"
job=$(jq -r .Job <<<"$answer")
wait_for 20 eval "[ \"\$(get $job | jq .BytesDone)\" -gt $((size_mib << 18)) ]"
before=$(get "$job")
{
    kill -9 $smirrord_pid
    wait $smirrord_pid || true
} 2>/dev/null
show "killed at $(jq -r .PercentComplete <<<"$before") %"
rm -f "$work/ready"
"$top/build/smirrord" --data "$work/data" --http 127.0.0.1:0 --iscsi 127.0.0.1:0 --ready-file "$work/ready" >>"$work/smirrord.log" 2>&1 &
smirrord_pid=$!
wait_for 10 test -s "$work/ready"
server=http://$(jq -r .http "$work/ready")
get "$job" | jq -r '"    started again: \(.JobStateText), goes on at \(.CheckpointBytes / 1048576 | floor) MiB"'
answer=$(get "$job?wait=60s")
jq -r '"    \(.JobStateText), \(.PercentComplete) %"' <<<"$answer"
[ "$(jq -r .JobState <<<"$answer")" = 7 ]
cmp "$work/source" "$work/target"
show "cmp: equal"

say "7. Let go of it"
call /services/ReplicationService/ModifyReplicaSynchronization "{\"Operation\":\"Detach\",\"Synchronization\":\"$synchronization\"}"
kill $smirrord_pid
wait $smirrord_pid
smirrord_pid=
say "That was smirror: two independent volumes, nothing left running. README.md shows the same with your own LUNs."
