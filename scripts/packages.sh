#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# packages.sh TAG... - print the packages of packages.txt that have one of the tags, one a line.
set -eu
list="$(dirname "$0")/../packages.txt"
if [ $# -eq 0 ]; then
    echo "usage: packages.sh TAG..." >&2
    exit 2
fi
for tag in "$@"; do
    if ! grep -v '^#' "$list" | grep -qw -- "$tag"; then
        echo "packages.sh: packages.txt has no tag '$tag'" >&2
        exit 2
    fi
done
awk -v tags="$*" '
    BEGIN { n = split(tags, wanted, " ") }
    /^#/ || NF < 2 { next }
    {
        for (i = 2; i <= NF; i++) {
            for (j = 1; j <= n; j++) {
                if ($i == wanted[j]) { print $1; next }
            }
        }
    }' "$list"
