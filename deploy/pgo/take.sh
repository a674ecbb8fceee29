#!/usr/bin/env bash
# Takes the profile that releases are compiled with: builds Holdfast so that it counts what it does, has a local cluster do what
# clusters mostly do, and leaves the counts beside this script under the compiler's name. `just pgo` calls it.
set -euo pipefail
cd "$(dirname "$0")/../.."

release=$(rustc -vV | sed -n 's/^release: //p')
host=$(rustc -vV | sed -n 's/^host: //p')
merge=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[ -x "$merge" ] || rustup component add llvm-tools
work=$(mktemp -d)
up=
trap '[ -z "$up" ] || kill -INT "$up" 2>/dev/null || true; rm -rf "$work"' EXIT

target=${CARGO_TARGET_DIR:-target}/pgo
PGO="$work/counts" cargo build --release --target-dir "$target"
holdfast=$(realpath "$target/release/holdfast")

base=${BASE_PORT:-9300}
router=http://127.0.0.1:$base
placement=http://127.0.0.1:$((base + 10))
"$holdfast" up --data-dir "$work/data" --base-port "$base" >"$work/up.log" 2>&1 &
up=$!
curl --silent --fail --output /dev/null --retry 100 --retry-delay 1 --retry-all-errors "$router/ready"

# Ranges stay as they are cut here: what is counted shall not depend on when the driver cuts them.
"$holdfast" config set 'schedulers={"hot":false,"split_by_load":false}' --placement "$placement" >/dev/null
load() {
    local workload=$1 clients=$2 seconds=$3
    shift 3
    echo "== $workload, $clients clients"
    "$holdfast" bench "$workload" --clients "$clients" --seconds "$seconds" --router "$router" "$@" | grep '│'
}
load put 64 8
load get 64 4 --no-load
load put 1 4 --no-load
keys=()
for eighth in 1 2 3 4 5 6 7; do
    keys+=(--key "$(printf 'k%015d' $((eighth * 125000000000000)))")
done
"$holdfast" range split --placement "$placement" "${keys[@]}" --scatter
# By HTTP/1.1, a connection for each client, and by HTTP/2, one for 64.
load put 64 8 --no-load
load put 64 8 --no-load --clients-per-connection 64
load put 256 4 --no-load
load put 256 4 --no-load --clients-per-connection 64
load get 64 4 --no-load
load get 64 4 --no-load --clients-per-connection 64
load mixed 64 3 --no-load
load mixed 64 3 --no-load --clients-per-connection 64
load ycsb-b 64 2
load ycsb-b 64 3 --no-load --clients-per-connection 64
load scan 16 4

# Counts are written by processes that end in order.
kill -INT "$up"
wait "$up"
up=
taken=deploy/pgo/$release-$host
"$merge" merge --sparse --output "$taken.profdata" "$work/counts"
# Every eighth function's symbol, for check.sh. One that is local to a file has the file's name before it.
"$merge" show --all-functions "$taken.profdata" | sed -nE 's/^  ([^ ].*):$/\1/p' | sed 's/^[^;]*;//' | LC_ALL=C sort -u \
    | sed -n '0~8p' >"$taken.functions"
ls -l "$taken".*
