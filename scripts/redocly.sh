#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# redocly.sh - lint the contract; installs the linter (tests/tooling, pinned) when it is not there, or not this version.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top/tests/tooling"
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    npm ci --no-audit --no-fund --ignore-scripts
fi
cd "$top"
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true exec tests/tooling/node_modules/.bin/redocly \
    lint openapi/openapi.yaml --config openapi/redocly.yaml
