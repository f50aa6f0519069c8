#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# redocly.sh - lint the contract; installs the linter (tests/tooling, pinned) when it is not there yet.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top/tests/tooling"
if [ ! -x node_modules/.bin/redocly ]; then
    npm ci --no-audit --no-fund --ignore-scripts
fi
cd "$top"
REDOCLY_TELEMETRY=off exec tests/tooling/node_modules/.bin/redocly lint openapi/openapi.yaml --config openapi/redocly.yaml
