#!/usr/bin/env bash
# Where the time goes: a local cluster under load while perf samples the whole machine, then by thread, and by function for the
# threads that took most. `bench/profile.sh HOLDFAST [workload [clients [ranges]]]`; `just profile` builds HOLDFAST first. Needs root and
# Debian's package linux-perf. What was sampled stays in target/profile for `perf report`.
set -euo pipefail
cd "$(dirname "$0")/.."

holdfast=$(realpath "$1")
workload=${2:-put}
clients=${3:-64}
ranges=${4:-8}
seconds=6
command -v perf >/dev/null || { echo "perf is missing: apt-get install linux-perf"; exit 1; }

out=${CARGO_TARGET_DIR:-target}/profile
mkdir -p "$out"
work=$(mktemp -d)
up=
trap '[ -z "$up" ] || { kill -INT "$up" 2>/dev/null && wait "$up"; } || true; rm -rf "$work"' EXIT

base=${BASE_PORT:-9300}
router=http://127.0.0.1:$base
placement=http://127.0.0.1:$((base + 10))
"$holdfast" up --data-dir "$work/data" --base-port "$base" >"$work/up.log" 2>&1 &
up=$!
curl --silent --fail --output /dev/null --retry 100 --retry-delay 1 --retry-all-errors "$router/ready"

# The ranges that were asked for, and no others.
"$holdfast" config set 'schedulers={"hot":false,"split_by_load":false}' --placement "$placement" >/dev/null
keys=()
for ((part = 1; part < ranges; part++)); do
    keys+=(--key "$(printf 'k%015d' $((part * 1000000000000000 / ranges)))")
done
[ ${#keys[@]} -eq 0 ] || "$holdfast" range split --placement "$placement" "${keys[@]}" --scatter >/dev/null

# The rows are there before anything is sampled.
"$holdfast" bench "$workload" --clients "$clients" --seconds 2 --router "$router" >/dev/null
"$holdfast" bench "$workload" --no-load --clients "$clients" --seconds $((seconds + 3)) --router "$router" >"$work/bench.log" &
bench=$!
sleep 2
perf record --freq 1999 --all-cpus --output "$out/perf.data" -- sleep "$seconds" >/dev/null 2>&1
wait "$bench"
grep '│' "$work/bench.log"

report() { perf report --input "$out/perf.data" --no-children --stdio "$@" 2>/dev/null | grep -vE '^(#|$)' || true; }
printf '\nOf all processors, by process, thread and program\n'
report --sort pid,comm,dso --percent-limit 0.5
for thread in "$(basename "$holdfast")" raft-log holdfast-data; do
    printf '\nOf the threads called %s\n' "$thread"
    report --comm "$thread" --percentage relative --sort dso,sym --percent-limit 0.7 | head -50
done
