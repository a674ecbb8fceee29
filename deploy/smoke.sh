#!/usr/bin/env bash
# Starts a throw-away cluster with the given binary, writes, reads and stops it: what a first user does.
set -euo pipefail
holdfast=${1:?usage: smoke.sh PATH-TO-HOLDFAST}
base=${2:-$((10000 + RANDOM % 200 * 100))}
out=$(mktemp)

"$holdfast" up --ephemeral --base-port "$base" >"$out" &
launcher=$!
trap 'kill "$launcher" 2>/dev/null || true; rm -f "$out"' EXIT

for _ in $(seq 600); do
    grep -q 'Ctrl-C stops it' "$out" && break
    kill -0 "$launcher" || { echo "the cluster did not come up"; exit 1; }
    sleep 0.1
done

router=(--router "http://127.0.0.1:$base")
placement=(--placement "http://127.0.0.1:$((base + 10))")
"$holdfast" kv put "${router[@]}" greeting hello
[ "$("$holdfast" kv get "${router[@]}" greeting)" = hello ]
"$holdfast" kv import "${router[@]}" data/unicode.tsv.gz
"$holdfast" range split "${placement[@]}" --at U+00A000
[ "$("$holdfast" kv export "${router[@]}" --format tsv --prefix U+ - | wc -l)" = 34924 ]
"$holdfast" status "${placement[@]}"
"$holdfast" range ls "${placement[@]}"

kill -TERM "$launcher"
wait "$launcher"
trap - EXIT
rm -f "$out"
echo "smoke test passed"
