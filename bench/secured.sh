#!/usr/bin/env bash
# What TLS and tokens cost: the same load, in turn, on a cluster without either and on one with both, and the medians' ratio.
# usage: secured.sh PATH-TO-HOLDFAST [ROUNDS [SECONDS]]
set -euo pipefail
holdfast=$(realpath "${1:?usage: secured.sh PATH-TO-HOLDFAST [ROUNDS [SECONDS]]}")
rounds=${2:-5} seconds=${3:-5} clients=64 ranges=8
dir=$(mktemp -d)
base=$((20000 + RANDOM % 200 * 40))
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

"$holdfast" cert create-ca --out "$dir" >/dev/null
"$holdfast" cert create-client --ca "$dir" --out "$dir" --name ops --admin >/dev/null
for member in placement-p store-s1 store-s2 store-s3 router-r; do
    "$holdfast" cert create-node --ca "$dir" --out "$dir" --role "${member%%-*}" --name "${member#*-}" >/dev/null
done

# Starts the processes of a cluster: KIND PORT
start() {
    local kind=$1 port=$2 at=$2 member role name
    for member in placement-p store-s1 store-s2 store-s3 router-r; do
        role=${member%%-*} name=${member#*-}
        local args=("$role" --http "127.0.0.1:$at")
        [ "$role" = router ] || args+=(--name "$name" --rpc "127.0.0.1:$((at + 1))" --data-dir "$dir/$kind-$name")
        if [ "$role" = placement ]; then
            args+=(--members "$name=127.0.0.1:$((at + 1))" --bootstrap)
        else
            args+=(--placement "127.0.0.1:$((port + 1))")
        fi
        if [ "$kind" = secured ]; then
            args+=(--tls-ca "$dir/ca.pem" --tls-cert "$dir/$name.pem" --tls-key "$dir/$name-key.pem")
            [ "$role" = store ] || args+=(--auth)
        fi
        "$holdfast" "${args[@]}" >"$dir/$kind-$name.log" 2>&1 &
        pids+=($!)
        at=$((at + 2))
    done
}

plain=(--router "http://127.0.0.1:$((base + 8))")
ops=(--ca "$dir/ca.pem" --cert "$dir/ops.pem" --cert-key "$dir/ops-key.pem")
secured=(--router "https://127.0.0.1:$((base + 28))" --ca "$dir/ca.pem" --token-file "$dir/token")
start plain "$base"
start secured "$((base + 20))"
for _ in $(seq 300); do
    "$holdfast" store ls -o json --placement "http://127.0.0.1:$base" 2>/dev/null | grep -c '"up"' | grep -qx 3 &&
        "$holdfast" store ls -o json --placement "https://127.0.0.1:$((base + 20))" "${ops[@]}" 2>/dev/null | grep -c '"up"' | grep -qx 3 &&
        break
    sleep 0.1
done
# The first credential has to be one that can make others.
for role in admin read-write; do
    "$holdfast" token create --placement "https://127.0.0.1:$((base + 20))" "${ops[@]}" --name "$role" --role "$role" -o json |
        sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' >"$dir/token"
done
[ -s "$dir/token" ] || { echo "no token was made"; exit 1; }
for at in $(seq $((ranges - 1))); do
    key=$(printf 'k%015d' $((at * 50000 / ranges)))
    "$holdfast" range split --at "$key" --placement "http://127.0.0.1:$base" >/dev/null
    "$holdfast" range split --at "$key" --placement "https://127.0.0.1:$((base + 20))" "${ops[@]}" >/dev/null
done

# Operations a second: WORKLOAD ARGUMENTS…
rate() {
    "$holdfast" bench "$1" "${@:2}" --clients "$clients" --seconds "$seconds" --warm-up 1 --no-load -o json |
        sed -n 's/.*"operations_per_second": *\([0-9]*\).*/\1/p' | tail -1
}
median() { sort -n | sed -n "$(((rounds + 1) / 2))p"; }

"$holdfast" bench put "${plain[@]}" --seconds 1 >/dev/null
"$holdfast" bench put "${secured[@]}" --seconds 1 >/dev/null
for kind in put get; do
    for round in $(seq "$rounds"); do
        # Taking turns who goes first.
        if [ $((round % 2)) = 1 ]; then
            rate "$kind" "${plain[@]}" >>"$dir/$kind.plain"
            rate "$kind" "${secured[@]}" >>"$dir/$kind.secured"
        else
            rate "$kind" "${secured[@]}" >>"$dir/$kind.secured"
            rate "$kind" "${plain[@]}" >>"$dir/$kind.plain"
        fi
    done
    without=$(median <"$dir/$kind.plain") with=$(median <"$dir/$kind.secured")
    echo "$kind, $clients clients, $ranges ranges: $without/s without ($(paste -sd' ' "$dir/$kind.plain"))," \
        "$with/s with TLS and a token ($(paste -sd' ' "$dir/$kind.secured")): $((100 * with / without)) %"
done
