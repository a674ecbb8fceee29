#!/usr/bin/env bash
# A cluster of its own, and schemathesis against its router: bash deploy/schemathesis.sh HOLDFAST
set -euo pipefail

holdfast=$1
port=${PORT:-8600}
url=http://127.0.0.1:$port
here=$(cd "$(dirname "$0")" && pwd)
log=$(mktemp)

"$holdfast" up --ephemeral --base-port "$port" >"$log" 2>&1 &
cluster=$!
trap 'kill "$cluster" 2>/dev/null; wait "$cluster" 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 120); do
    curl --silent --fail --max-time 1 --output /dev/null "$url/ready" && break
    kill -0 "$cluster" 2>/dev/null || { cat "$log"; exit 1; }
    sleep 0.5
done

schemathesis --config-file "$here/schemathesis.toml" run "$url/openapi.json" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --max-examples "${EXAMPLES:-30}"
