#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh - the main job from end to end, on loopback, in a directory that is removed afterwards: a foreign iSCSI target with three LUNs
# (Debian's tgtd, unprivileged), smirrord beside it, a replica by curl, a kill -9 in the middle, and the proof.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
room=$(mktemp -d)
tgtd_pid=
smirrord_pid=

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

clean_up() {
    local status=$?
    set +e
    if [ -n "$smirrord_pid" ]; then
        kill "$smirrord_pid" 2>/dev/null
        wait "$smirrord_pid" 2>/dev/null
    fi
    # tgtd ignores SIGTERM while it has targets
    if [ -n "$tgtd_pid" ]; then
        kill -9 "$tgtd_pid" 2>/dev/null
        wait "$tgtd_pid" 2>/dev/null
    fi
    if [ "$status" -ne 0 ]; then
        say "The demo failed; last words of smirrord:"
        tail -n 20 "$room/smirrord.log"
    fi
    rm -rf "$room"
    exit "$status"
}
trap clean_up EXIT INT TERM

# until_true SECONDS COMMAND...: waits for a condition
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            echo "not after its time: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

say "1. A foreign iSCSI target: tgtd on a loopback port, without privileges, with three LUNs of 256 MiB"
export TGT_IPC_SOCKET=$room/tgtd.socket
portal=127.0.0.1:$(free_port)
iqn=iqn.2026-11.io.smirror.demo:array
admin() { tgtadm -C 7 --lld iscsi "$@"; }
# Data in the first, old data in the second, and a third one for the pool.
head -c 192M /dev/urandom >"$room/lun1"
truncate -s 256M "$room/lun1"
head -c 256M /dev/urandom >"$room/lun2"
truncate -s 256M "$room/lun3"
PATH=$PATH:/usr/sbin
tgtd -f -C 7 --iscsi portal="$portal" >"$room/tgtd.log" 2>&1 &
tgtd_pid=$!
until_true 10 admin --mode target --op show
admin --mode target --op new --tid 1 -T "$iqn"
for lun in 1 2 3; do
    admin --mode logicalunit --op new --tid 1 --lun $lun -b "$room/lun$lun" --bstype rdwr
    admin --mode logicalunit --op update --tid 1 --lun $lun --params thin_provisioning=1
done
admin --mode target --op bind --tid 1 -I ALL
echo "iscsi://$portal/$iqn/1 … /3"

start() {
    rm -f "$room/ready"
    "$top/build/smirrord" --data "$room/data" --http 127.0.0.1:0 --iscsi 127.0.0.1:0 --ready-file "$room/ready" \
        >>"$room/smirrord.log" 2>&1 &
    smirrord_pid=$!
    until_true 10 test -s "$room/ready"
    service=http://$(jq -r .http "$room/ready")
    header=$(jq -r .auth_header_file "$room/ready")
}
mkdir -m 700 "$room/data"
say "2. smirrord"
start
echo "$service, one unprivileged process; the token is in $(basename "$header")"

get() { curl -sS --fail-with-body -H "@$header" "$service$1"; }
post() {
    echo "   POST $1" >&2
    echo "        $2" >&2
    curl -sS --fail-with-body -H "@$header" -H 'Content-Type: application/json' -X POST "$service$1" -d "$2"
}
volume() {
    post /services/ReplicationService/AddReplicationEntity \
        "{\"ReplicationEntity\":{\"Type\":8,\"EntityID\":\"iscsi://$portal/$iqn/$1\"},\"Persistent\":true}" |
        jq -r .ReplicationEntityPath
}

say "3. Register the LUNs"
source=$(volume 1)
target=$(volume 2)
spare=$(volume 3)
get /volumes | jq -r '.Members[] | "   \(.self)  \(.Size / 1048576) MiB  \(.Url)"'

say "4. Clone the first onto the second (which is full of other data), with a verification pass at the end"
answer=$(post /services/ReplicationService/CreateElementReplica \
    "{\"SyncType\":\"Clone\",\"SourceElement\":\"$source\",\"TargetElement\":\"$target\",\"ReplicationSettingData\":{\"Verify\":true,\"BandwidthLimit\":\"268435456\"}}")
echo "$answer" | jq -c .
job=$(jq -r .Job <<<"$answer")
copied() { [ "$(get "$job" | jq .BytesDone)" -gt 40000000 ]; }
until_true 20 copied

say "5. kill -9, in the middle of it; start again: the job goes on from its checkpoint"
get "$job" | jq -c '{JobStateText, PercentComplete, BytesDone, CheckpointBytes}'
kill -9 "$smirrord_pid"
wait "$smirrord_pid" 2>/dev/null || true
start
get "$job?wait=50s" | jq -c '{JobStateText, PercentComplete, Phase, BytesRead, BytesWritten, BytesZeroed, ElapsedTime}'
test "$(get "$job" | jq .JobState)" = 7

say "6. The proof: both LUNs, byte by byte"
cmp "$room/lun1" "$room/lun2"
echo "   equal"

say "7. A replica without naming a target: from a pool of LUNs"
pool=$(post /services/StorageConfigurationService/CreateOrModifyStoragePool \
    "{\"ElementName\":\"spares\",\"InExtents\":[\"$spare\"]}" | jq -r .Pool)
answer=$(post /services/StorageConfigurationService/CreateReplica \
    "{\"SourceElement\":\"$source\",\"TargetPool\":\"$pool\",\"ElementName\":\"nightly\",\"CopyType\":\"UnSyncAssoc\"}")
echo "$answer" | jq -c .
get "$(jq -r .Job <<<"$answer")?wait=50s" | jq -c '{JobStateText, PercentComplete, ElapsedTime, BytesSkipped}'
cmp "$room/lun1" "$room/lun3"
echo "   equal"
get /synchronizations | jq -r '.Members[] | "   \(.SystemElement) -> \(.SyncedElement)  \(.SyncTypeText), \(.CopyStateText); legal now: \(.LegalOperationsText | join(", "))"'

say "Done in $SECONDS s."
