#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh PRESET [TARGET...] - configure and build, quietly when all goes well.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
preset=$1
shift
case $preset in
release) dir=$top/build ;;
*) dir=$top/build-$preset ;;
esac
cd "$top"
mkdir -p "$dir"
if [ ! -w "$dir" ] || { [ -e "$dir/build.ninja" ] && [ ! -w "$dir/build.ninja" ]; }; then
    echo "build: $dir belongs to $(stat -c %U "$dir"), and $(id -un) cannot write there; remove it or build as its owner" >&2
    exit 1
fi
log=$dir/build.log
if [ ! -e "$dir/build.ninja" ]; then
    echo "build: configuring and building ($preset) ..." >&2
fi
# The service alone is built without what the tests need; a directory that has the tests keeps them.
tests=ON
if [ "$*" = smirrord ] && ! grep -qs '^SMIRROR_TESTS:BOOL=ON' "$dir/CMakeCache.txt"; then
    tests=OFF
fi
if ! { cmake --preset "$preset" -DSMIRROR_TESTS=$tests && cmake --build "$dir" ${1:+--target "$@"}; } >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "build: failed; all of it is in $log" >&2
    exit 1
fi
