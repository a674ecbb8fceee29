#!/usr/bin/env bash
# Proves that third_party/openraft is the published crate but for openraft.patch: without the patch, its sources have the checksum of those
# that crates.io has (third_party/openraft.sum).
set -euo pipefail
cd "$(dirname "$0")"

sum() { (cd "$1" && find src -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1); }

if [ "${1:-}" = --record ]; then
    sum "${2:?the directory of the published crate}" >openraft.sum
    exit
fi
plain="$(mktemp -d)"
trap 'rm -rf "$plain"' EXIT
cp -r openraft/src "$plain/src"
(cd "$plain" && git apply -R -p1) <openraft.patch
[ "$(sum "$plain")" = "$(cat openraft.sum)" ] || {
    echo "third_party/openraft differs from the published crate by more, or less, than openraft.patch" >&2
    exit 1
}
