#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh - the whole story on loopback: a LUN, a snapshot, a clone, a way back, a restart, a copy onto somebody else's array.
#
# ./run demo builds what it needs and calls it. Everything is in a directory of its own, which is gone at the end.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
mib=${SMIRROR_DEMO_MIB:-64} # of data

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

# ---- smirrord

iscsi=127.0.0.1:0
start_smirrord() {
    local began
    began=$(date +%s%N)
    rm -f "$work/ready"
    "$top/build/smirrord" --data "$work/data" --http 127.0.0.1:0 --iscsi "$iscsi" --ready-file "$work/ready" >>"$work/smirrord.log" 2>&1 &
    smirrord_pid=$!
    wait_for 10 eval "[ -s '$work/ready' ] || ! kill -0 $smirrord_pid 2>/dev/null"
    [ -s "$work/ready" ]
    server=http://$(jq -r .http "$work/ready")
    iscsi=$(jq -r .iscsi "$work/ready") # the same again after a restart, so that hosts find their LUNs
    header=@$(jq -r .auth_header_file "$work/ready")
    ready_ms=$(elapsed_ms "$began")
}
get() { curl -sS --fail-with-body -H "$header" "$server$1"; }
# Shows the call, its answer and how long that took; keeps the answer in $answer.
call() {
    local out
    show "${dim}POST $1${off}" "${dim}$2${off}"
    out=$(curl -sS --fail-with-body -w '\n%{time_total}' -H "$header" -H 'Content-Type: application/json' -X POST "$server$1" -d "$2")
    answer=${out%$'\n'*}
    show "$answer   $(awk '{ printf "%.1f ms", $1 * 1000 }' <<<"${out##*$'\n'}")"
}
storage=/services/StorageConfigurationService
replication=/services/ReplicationService
part() { jq -r ".$1" <<<"$answer"; }
url() { get "$1" | jq -r .Url; }

# ---- any initiator: here that of qemu

# Writes the letter over the data of the LUN and flushes.
write_all() { # write_all VOLUME LETTER NAME
    qemu-io -f raw -c "write -P $(printf '%d' "'$2") 0 ${mib}M" -c flush "$(url "$1")" >"$work/qemu-io" 2>&1 || { cat "$work/qemu-io" >&2; return 1; }
    show "$3 := $2$2$2…   ($mib MiB over iSCSI)"
}
# Reads all of it; fails when there is anything else.
must_be() { # must_be VOLUME LETTER NAME
    qemu-io -f raw -c "read -P $(printf '%d' "'$2") 0 ${mib}M" "$(url "$1")" >"$work/qemu-io" 2>&1 || { cat "$work/qemu-io" >&2; return 1; }
    if grep -q 'Pattern verification failed' "$work/qemu-io"; then
        cat "$work/qemu-io" >&2
        return 1
    fi
    show "$3 == $2$2$2…   every byte"
}

say "1. smirrord, as an ordinary program"
start_smirrord
show "ready in $ready_ms ms; HTTP on ${server#http://}, iSCSI on $iscsi, nothing installed, no root"

say "2. A LUN: one call. Thin, so that its 1 TiB costs nothing yet"
call $storage/CreateOrModifyElementFromStoragePool '{"ElementName":"orders","Size":1099511627776}'
orders=$(part TheElement)
show "$(url "$orders")"
write_all "$orders" A orders

say "3. A snapshot and a clone, at once, whatever the size"
call $replication/CreateElementReplica "{\"SyncType\":\"Snapshot\",\"SourceElement\":\"$orders\",\"ElementName\":\"orders-monday\"}"
monday=$(part TargetElement)
synchronization=$(part Synchronization)
call $replication/CreateElementReplica "{\"SyncType\":\"Clone\",\"SourceElement\":\"$orders\",\"ElementName\":\"orders-test\"}"
test_copy=$(part TargetElement)

say "4. Three LUNs with one past and three futures"
write_all "$orders" B orders
write_all "$test_copy" C orders-test
must_be "$orders" B orders
must_be "$monday" A orders-monday
must_be "$test_copy" C orders-test
get /volumes | jq -r '.Members[] | "    \(.ElementName): \(.Size / 1073741824) GiB, \(.SpaceConsumed / 1048576 | floor) MiB of its own, \(.SpaceShared / 1048576 | floor) MiB shared"'

say "5. Back to Monday"
call $replication/ModifyReplicaSynchronization "{\"Operation\":\"Restore from Replica\",\"Synchronization\":\"$synchronization\"}"
must_be "$orders" A orders
must_be "$monday" A orders-monday
show "what was there before is kept as a volume of its own:"
kept=$(get /volumes | jq -r '.Members[] | select(.ElementName | test("before-restore")) | .self')
must_be "$kept" B "$(get "$kept" | jq -r .ElementName)"

say "6. kill -9, and start again"
{
    kill -9 $smirrord_pid
    wait $smirrord_pid || true
} 2>/dev/null
start_smirrord
show "ready in $ready_ms ms"
must_be "$orders" A orders
must_be "$test_copy" C orders-test

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

say "7. Onto somebody else's array: tgtd with a LUN of 256 MiB, full of old data"
start_tgtd
head -c 256M /dev/zero | tr '\0' '\333' >"$work/lun"
admin --op new --mode target --tid 1 -T $iqn
admin --op new --mode logicalunit --tid 1 --lun 1 --backing-store "$work/lun" --bstype rdwr
admin --op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1
admin --op bind --mode target --tid 1 -I ALL
call $replication/AddReplicationEntity "{\"ReplicationEntity\":{\"Type\":8,\"EntityID\":\"iscsi://127.0.0.1:$port/$iqn/1\",\"ElementName\":\"theirs\"}}"
theirs=$(part ReplicationEntityPath)
call $storage/CreateOrModifyElementFromStoragePool '{"ElementName":"ours","Size":268435456}'
ours=$(part TheElement)
write_all "$ours" D ours
call $replication/CreateElementReplica \
    "{\"SyncType\":\"Clone\",\"SourceElement\":\"$ours\",\"TargetElement\":\"$theirs\",\"ReplicationSettingData\":{\"Verify\":true}}"
job=$(part Job)
synchronization=$(part Synchronization)
while :; do
    answer=$(get "$job?wait=500ms")
    jq -r '"    \(.JobStateText): \(.PercentComplete) %  wrote \(.BytesWritten / 1048576 | floor) MiB, zeroed \(.BytesZeroed / 1048576 | floor) MiB"' <<<"$answer"
    case $(part JobState) in
    7) break ;;
    8 | 9 | 10)
        part ErrorDescription >&2
        exit 1
        ;;
    esac
done
qemu-img compare -f raw -F raw "$(url "$ours")" "$work/lun" | sed 's/^/    qemu-img compare, our LUN and the file behind theirs: /'
call $replication/ModifyReplicaSynchronization "{\"Operation\":\"Detach\",\"Synchronization\":\"$synchronization\"}"

say "8. Gone as fast as it came"
call $storage/ReturnToStoragePool "{\"TheElement\":\"$test_copy\"}"
kill $smirrord_pid
wait $smirrord_pid
smirrord_pid=
say "That was smirror, in $SECONDS s; nothing is left running. README.md shows the same with your own hosts."
