#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs iscsi-test-cu against a portal, one process per test, and says of each what really became of it.
# (iscsi-test-cu counts a skipped test as passed, and one that hangs hides all after it.)
#
#   testcu.sh [options] URL [URL2]      the same URL twice: the tests with two sessions run too
#   testcu.sh [options] --serve PROGRAM [target_serve options] -- LUN...
#                                       starts target_serve and uses its portal
#
#   --only REGEX      tests whose name matches
#   --limit SECONDS   for one test, 20
#   --sanitize        with the SANITIZE tests
#   --login USER%SECRET  CHAP
#   --digests         header and data digests
#   --skips FILE      the list of tests that may be skipped: NAME, blanks, reason; also of those that are run apart
#                     ("apart NAME …") and of those that are wrong themselves ("broken NAME …")
#   --gate N          fails unless at least N pass, none fails, hangs or crashes, and each skip is listed
#
# Destroys what is on the LUN. Prints one line per test and a summary; with --gate also what is wrong.
set -u
only=. limit=20 sanitize= login= digests= skips= gate= serve= serve_args=()
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=$2; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    --sanitize) sanitize=-S; shift ;;
    --login) login=$2@; shift 2 ;;
    --digests) digests=1; shift ;;
    --skips) skips=$2; shift 2 ;;
    --gate) gate=$2; shift 2 ;;
    --serve)
        serve=$2; shift 2
        while [ $# -gt 0 ] && [ "$1" != -- ]; do serve_args+=("$1"); shift; done
        shift; serve_args+=("$@"); set -- ;;
    -*) sed -n '4,22s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) break ;;
    esac
done
tester=${ISCSI_TEST_CU:-iscsi-test-cu}
command -v "$tester" >/dev/null || { echo "testcu.sh: $tester is not installed (libiscsi-bin)"; exit 2; }
work=$(mktemp -d)
server=
cleanup() {
    local status=$?
    if [ -n "$server" ] && kill "$server" 2>/dev/null; then
        wait "$server" || { echo "testcu.sh: the server ended with $?"; cat "$work/server.log"; status=1; }
    fi
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT

if [ -n "$serve" ]; then
    "$serve" "${serve_args[@]}" >"$work/portal" 2>"$work/server.log" &
    server=$!
    for _ in $(seq 100); do grep -q portal "$work/portal" && break; sleep 0.05; done
    portal=$(awk '/^portal/ {print $2}' "$work/portal")
    [ -n "$portal" ] || { cat "$work/server.log"; exit 2; }
    set -- "iscsi://$login$portal/iqn.2026-11.io.smirror:test/0" "iscsi://$login$portal/iqn.2026-11.io.smirror:test/0"
fi
if [ -n "$digests" ]; then
    for i in $(seq $#); do set -- "${@:2}" "$1?header_digest=crc32c&data_digest=crc32c"; done
fi
[ $# -gt 0 ] || { echo "testcu.sh: no URL"; exit 2; }

# PASS, FAIL, SKIP, HANG or CRASH, from the exit status and the report. What stands before "Suite:" are the tester's own
# questions to the target, with SKIPPED lines of their own.
verdict() {
    case $1 in
    124 | 137) echo HANG; return ;;
    esac
    [ "$1" -ge 128 ] && { echo CRASH; return; }
    awk '/^Suite:/ {in_report = 1}
         !in_report {next}
         /\[SKIPPED\]/ {skipped = 1}
         $1 == "tests" {ran = $3; passed = $4; failed = $5}
         END {
             if (failed > 0 || ran != 1) print "FAIL"
             else if (skipped) print "SKIP"
             else if (passed == 1) print "PASS"
             else print "FAIL"
         }' "$work/report"
}

reason() {
    sed -n '/^Suite:/,$p' "$work/report" | grep -oE '\[(FAILED|SKIPPED)\].*|[a-z0-9_]+\.c:[0-9]+ .*' | sort -u |
        head -2 | cut -c1-160 | paste -sd'|'
}

# Whether the list has a test, under "apart", "broken" or no word at all.
listed() {
    [ -n "$skips" ] && awk -v word="$1" -v name="${2#ALL.}" '
        /^#/ {next}
        word != "" && $1 == word && $2 == name {found = 1}
        word == "" && $1 == name {found = 1}
        END {exit !found}' "$skips"
}

declare -A count=([PASS]=0 [FAIL]=0 [SKIP]=0 [HANG]=0 [CRASH]=0 [BROKEN]=0 [APART]=0)
bad=0
started=$(date +%s)
for name in $("$tester" -l 2>&1 | grep -E '^ALL\.[^.]+\.[^.]+' | grep -E "$only"); do
    # Tests that need another unit are not run with all the others; --only names them.
    if [ "$only" = . ] && listed apart "$name"; then
        count[APART]=$((count[APART] + 1))
        echo "APART $name"
        continue
    fi
    [ -z "$sanitize" ] && [[ $name == ALL.Sanitize.* ]] && continue
    timeout -k 1 "$limit" "$tester" -d $sanitize -t "$name" "$@" >"$work/report" 2>&1
    result=$(verdict $?)
    count[$result]=$((count[$result] + 1))
    case $result in
    PASS) echo "PASS $name" ;;
    SKIP)
        if [ -n "$skips" ] && ! listed "" "$name"; then
            echo "SKIP $name NOT LISTED: $(reason)"
            bad=1
        else
            echo "SKIP $name $(reason)"
        fi ;;
    *)
        if listed broken "$name"; then
            count[$result]=$((count[$result] - 1))
            count[BROKEN]=$((count[BROKEN] + 1))
            echo "BROKEN $name ($result) $(reason)"
        else
            echo "$result $name $(reason)"
            bad=1
        fi ;;
    esac
    if [ -n "$server" ] && ! kill -0 "$server" 2>/dev/null; then
        echo "testcu.sh: the server ended during $name"
        cat "$work/server.log"
        exit 1
    fi
done
echo "SUMMARY PASS=${count[PASS]} FAIL=${count[FAIL]} SKIP=${count[SKIP]} HANG=${count[HANG]} CRASH=${count[CRASH]}" \
    "BROKEN=${count[BROKEN]} APART=${count[APART]}" \
    "in $(($(date +%s) - started)) s"
[ -z "$gate" ] && exit 0
if [ "${count[PASS]}" -lt "$gate" ]; then
    echo "testcu.sh: ${count[PASS]} passed, $gate are wanted"
    bad=1
fi
exit $bad
