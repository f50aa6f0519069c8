#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# qemu-img copies to and from the target, and finds the same again, in all four combinations of InitialR2T and
# ImmediateData, with small bursts and segments, and with CHAP.
#
#   target_qemu.sh TARGET_SERVE
set -eu
serve=$1
work=$(mktemp -d)
server=
cleanup() { [ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"; }
trap cleanup EXIT
head -c 20M /dev/urandom >"$work/data"
truncate -s 48M "$work/data"
head -c 5M /dev/urandom >>"$work/data"
truncate -s 64M "$work/data"

round() {
    local name=$1 login=$2
    shift 2
    rm -f "$work/portal" # the round before left one
    "$serve" "$@" mem:64M >"$work/portal" 2>"$work/log" &
    server=$!
    for _ in $(seq 100); do grep -qs portal "$work/portal" && break; sleep 0.05; done
    local url="iscsi://$login$(awk '{print $2}' "$work/portal")/iqn.2026-11.io.smirror:test/0"
    timeout 60 qemu-img convert -n -f raw -O raw "$work/data" "$url"
    timeout 60 qemu-img compare -f raw -F raw "$work/data" "$url" >/dev/null
    timeout 60 qemu-img convert -f raw -O raw "$url" "$work/back"
    cmp "$work/data" "$work/back"
    kill "$server"
    wait "$server"
    server=
    echo "ok $name"
}

round "InitialR2T=No ImmediateData=Yes" ""
round "InitialR2T=Yes ImmediateData=Yes" "" --initial-r2t
round "InitialR2T=No ImmediateData=No" "" --no-immediate
round "InitialR2T=Yes ImmediateData=No" "" --initial-r2t --no-immediate
round "small bursts and segments" "" --first-burst 1024 --max-burst 3072 --max-segment 1000 --max-r2t 1
round "small bursts, several R2T" "" --initial-r2t --max-burst 4096 --max-segment 512 --max-r2t 4
round "few tasks" "" --depth 2
round "blocks of 4096" "" --block 4096
round "CHAP" "host%secret-of-the-host@" --chap "host%secret-of-the-host" --chap-md5
