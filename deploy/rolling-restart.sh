#!/usr/bin/env bash
# Restarts every process of a cluster, one at a time, without a failed request: for new configuration, or a new binary.
# docs/upgrade.md tells how to use it.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: rolling-restart.sh --restart COMMAND [OPTION]...

Restarts placement members (the leading one last), then stores, then routers, one at a time. Each store is drained first; the next
one waits until every range has all its replicas again, and until leaderships have come back to the store.

  --restart COMMAND     how a process is restarted: a line for bash, which finds ROLE (placement, store, router), NAME, HTTP
                        (host:port) and HOST in its environment. It returns when the process was told to stop and to start.
  --placement URL       a placement member, or several behind one name (default: $HOLDFAST_PLACEMENT or http://127.0.0.1:7410);
                        may be given several times: whoever answers is asked
  --router NAME=URL     a router to restart; may be given several times, for the placement driver has no list of them
  --only ROLE           only placement, store or router; may be given several times
  --no-drain            do not drain stores: they hand their leaderships over when they are told to stop
  --restarted COMMAND   succeeds once the process runs anew (default: /metrics tells a later process_start_time_seconds, and
                        /ready says yes), for where HTTP can't be reached from here
  --timeout SECONDS     for each thing that is waited for (default: 300)
  --settle SECONDS      for leaderships to come back to a store; beyond it, it goes on and says so (default: 90)
  --dry-run             say what would be restarted, in order, and whether the cluster is fit for it

Examples for --restart:
  systemd               'ssh "$HOST" sudo systemctl restart "holdfast-$ROLE"'
  Kubernetes            'kubectl -n holdfast delete pod "$NAME"'
  holdfast up           'curl -fsS -X POST "$C/stop/$NAME" && curl -fsS -X POST "$C/start/$NAME"', with C=http://127.0.0.1:7409/api/control

It changes nothing unless the cluster is healthy, and stops at the first thing that does not come back in time. A store that was being
drained then stays so: `holdfast store resume ID`. HOLDFAST names the binary (default: holdfast). Needs jq and curl. With
HOLDFAST_CA, the authority of a cluster with TLS, processes are asked by https; HOLDFAST_TOKEN or the other variables of `holdfast`
say who asks.
TEXT
}

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }
die() { say "stopped: $*" >&2; exit 1; }

holdfast=${HOLDFAST:-holdfast}
restart=''
restarted=''
placements=()
routers=()
only=()
drain=yes
dry_run=no
timeout=300
settle=90
while [ $# -gt 0 ]; do
    case $1 in
        --restart) restart=${2:?}; shift ;;
        --restarted) restarted=${2:?}; shift ;;
        --placement) placements+=("${2:?}"); shift ;;
        --router) routers+=("${2:?}"); shift ;;
        --only) only+=("${2:?}"); shift ;;
        --timeout) timeout=${2:?}; shift ;;
        --settle) settle=${2:?}; shift ;;
        --no-drain) drain=no ;;
        --dry-run) dry_run=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[ -n "$restart" ] || [ "$dry_run" = yes ] || { usage >&2; exit 2; }
[ ${#placements[@]} -gt 0 ] || placements=("${HOLDFAST_PLACEMENT:-http://127.0.0.1:7410}")
for tool in jq curl "$holdfast"; do
    command -v "$tool" >/dev/null || die "there is no $tool"
done

# What a process says of itself to everybody.
ask() {
    if [ -n "${HOLDFAST_CA:-}" ]; then
        curl -fsS --max-time 5 --cacert "$HOLDFAST_CA" "https://$1"
    else
        curl -fsS --max-time 5 "http://$1"
    fi
}

wanted() { [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

# An admin command, by whichever placement member answers. A member that is being restarted is no reason to stop; a command that was
# refused is.
admin() {
    local url status out
    for _ in $(seq 20); do
        for url in "${placements[@]}"; do
            status=0
            out=$("$holdfast" "$@" --placement "$url" -o json 2>&1) || status=$?
            # 5 is unavailable, 1 covers a connection that was refused.
            case $status in
                0) printf '%s' "$out"; return ;;
                1 | 5) ;;
                *) printf '%s\n' "$out" >&2; return "$status" ;;
            esac
        done
        sleep 0.5
    done
    printf '%s\n' "$out" >&2
    return 1
}

# `wait_for SECONDS WHAT COMMAND…` until the command succeeds.
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.5
    done
    say "  $what"
}

# Healthy: every member knows its part, every store is up, every range has all its replicas and a leader.
healthy() {
    admin status | jq -e '
        .settled and .health == "ok" and .under_replicated_ranges == 0 and .unknown_spans == 0
        and (.ranges | keys - ["ok"] == []) and (.stores | keys - ["up", "removed"] == [])
        and all(.members[]; .role == "leader" or .role == "follower")' >/dev/null
}

# When the process behind host:port started, or nothing.
started() {
    ask "$1/metrics" 2>/dev/null | awk '$1 == "process_start_time_seconds" { print $2 }' || true
}

is_new() {
    if [ -n "$restarted" ]; then
        bash -c "$restarted" </dev/null
        return
    fi
    local now
    now=$(started "$HTTP")
    [ -n "$now" ] && [ "$now" != "$before" ] && ask "$HTTP/ready" >/dev/null 2>&1
}

# Restarts one process and waits until it is another one, and ready.
restart_process() {
    export ROLE=$1 NAME=$2 HTTP=$3 HOST=${3%:*}
    before=$(started "$HTTP")
    [ -n "$before" ] || [ -n "$restarted" ] || die "$NAME does not tell its metrics at $HTTP: pass --restarted"
    # Start times are whole seconds: a process must not be restarted within the one in which it started.
    [ "${before%.*}" != "$(date +%s)" ] || sleep 1
    bash -c "$restart" </dev/null >/dev/null || die "the command that restarts $NAME failed"
    wait_for "$timeout" "$NAME runs anew" is_new || die "$NAME did not come back within $timeout s"
}

restart_member() {
    say "placement member $1"
    restart_process placement "$1" "$2"
    wait_for "$timeout" "the cluster is healthy" healthy || die "the cluster is not healthy"
}

restart_placement() {
    local members leader name http
    members=$(admin placement ls)
    leader=$(jq -r '.[] | select(.role == "leader") | .name' <<<"$members")
    while read -r name http; do
        restart_member "$name" "$http"
    done < <(jq -r '.[] | select(.role != "leader") | "\(.name) \(.http)"' <<<"$members")
    http=$(jq -r '.[] | select(.role == "leader") | .http' <<<"$members")
    restart_member "$leader" "$http"
}

# Whether a store leads about as many ranges as the others, or as many as it led.
leads_its_share() {
    admin store ls | jq -e --argjson id "$1" --argjson had "$2" '
        map(select(.state == "up")) | (map(.leaders) | add / length) as $mean
        | .[] | select(.id == $id) | .leaders >= ([$had, ($mean * 0.95 | floor) - 1] | min)' >/dev/null
}

# Whether the store's replicas have nearly all of what their leaders have: the next store may lead them.
has_caught_up() {
    admin range ls | jq -e --argjson id "$1" '
        [.[].replicas[] | select(.store_id == $id) | .lag_entries // 0] | all(. < 100)' >/dev/null
}

is_up() { admin store show "$1" | jq -e '.[0].state == "up"' >/dev/null; }

restart_store() {
    local id=$1 name=$2 http=$3 leaders=$4
    say "store $id, $name, leads $leaders ranges"
    if [ "$drain" = yes ]; then
        admin store drain "$id" >/dev/null || die "store $id can't be drained"
        say "  drained"
    fi
    restart_process store "$name" "$http"
    if [ "$drain" = yes ]; then
        admin store resume "$id" >/dev/null || die "store $id could not be resumed"
    fi
    wait_for "$timeout" "the store is up" is_up "$id" || die "store $id is not up"
    wait_for "$timeout" "every range has all its replicas" healthy || die "the cluster is not healthy"
    wait_for "$timeout" "its replicas have caught up" has_caught_up "$id" || die "store $id does not catch up"
    wait_for "$settle" "leaderships are back" leads_its_share "$id" "$leaders" \
        || say "  leaderships are not all back after $settle s: going on"
}

restart_stores() {
    local id name http leaders
    # Read anew for each: the leaders move from one to the next.
    for id in $(admin store ls | jq -r '.[] | select(.state != "removed") | .id'); do
        read -r name http leaders < <(admin store show "$id" | jq -r '.[0] | "\(.name) \(.http) \(.leaders)"')
        restart_store "$id" "$name" "$http" "$leaders"
    done
}

restart_routers() {
    local router name http
    for router in ${routers[@]+"${routers[@]}"}; do
        name=${router%%=*}
        http=${router#*=}
        http=${http#*://}
        say "router $name"
        restart_process router "$name" "${http%/}"
    done
}

plan() {
    admin status | jq -r '"cluster \(.id): \(.health)"'
    if wanted placement; then admin placement ls | jq -r 'sort_by(.role == "leader")[] | "placement member \(.name) (\(.role))"'; fi
    if wanted store; then admin store ls | jq -r '.[] | select(.state != "removed") | "store \(.id), \(.name) (\(.state), leads \(.leaders))"'; fi
    if wanted router && [ ${#routers[@]} -gt 0 ]; then printf 'router %s\n' "${routers[@]}"; fi
}

if [ "$dry_run" = yes ]; then
    plan
    healthy || die "the cluster is not healthy: nothing would be restarted"
    exit 0
fi
healthy || die "the cluster is not healthy: see holdfast status"
begun=$SECONDS
if wanted placement; then restart_placement; fi
if wanted store; then restart_stores; fi
if wanted router; then restart_routers; fi
say "everything was restarted, in $((SECONDS - begun)) s"
