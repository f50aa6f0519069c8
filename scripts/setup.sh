#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# setup.sh TAG... - install the packages of packages.txt with these tags, when some are missing; otherwise do nothing.
#
# SMIRROR_SETUP=no in the environment skips all of it, for systems where the packages have other names.
set -eu
here=$(dirname "$0")

if [ "${SMIRROR_SETUP:-yes}" = no ]; then
    exit 0
fi
packages=$("$here/packages.sh" "$@")

if ! command -v dpkg-query >/dev/null 2>&1; then
    {
        echo "setup: this is not a Debian system, so nothing can be installed from here. Needed are (Debian 12 names):"
        echo "$packages" | tr '\n' ' ' | fold -s -w 110 | sed 's/^/    /'
        echo
        echo "Install them your way, then set SMIRROR_SETUP=no."
    } >&2
    exit 1
fi

# A node and npm that somebody put into the PATH are as good as Debian's.
have() {
    case $1 in
    nodejs) command -v node >/dev/null 2>&1 && return 0 ;;
    npm) command -v npm >/dev/null 2>&1 && return 0 ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $packages; do
    if ! have "$package"; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo >/dev/null 2>&1; then
    root=sudo
else
    {
        echo "setup: these packages are missing, and this is neither root nor is there sudo to install them:"
        echo "   $missing"
        echo "As root: apt-get install --no-install-recommends$missing"
    } >&2
    exit 1
fi

echo "setup: installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # shellcheck disable=SC2086 # the list is to be split
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$log" 2>&1 </dev/null
}
# The lists may be old or not there at all: only then is an update worth its time.
if ! install && ! { $root apt-get update -qq >"$log" 2>&1 && install; }; then
    {
        tail -n 20 "$log"
        echo "setup: apt-get could not install$missing (its last words are above)."
    } >&2
    exit 1
fi

# The program tgtd is wanted, not a service of it on the port that smirrord would have.
case "$missing " in
*" tgt "*)
    if [ -d /run/systemd/system ]; then
        $root systemctl disable --now tgt >/dev/null 2>&1 || true
    fi
    ;;
esac
