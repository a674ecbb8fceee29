#!/usr/bin/env bash
# Proves that each crate here is the published one but for its patch: without the patch, its sources have the checksum of those that
# crates.io has (the file that ends in .sum).
set -euo pipefail
cd "$(dirname "$0")"

sum() { (cd "$1" && find src -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1); }

if [ "${1:-}" = --record ]; then
    sum "${3:?the directory of the published crate}" >"${2:?the name of the crate}.sum"
    exit
fi
plain="$(mktemp -d)"
trap 'rm -rf "$plain"' EXIT
for crate in */; do
    crate="${crate%/}"
    mkdir "$plain/$crate"
    cp -r "$crate/src" "$plain/$crate/src"
    (cd "$plain/$crate" && git apply -R -p1) <"$crate.patch"
    [ "$(sum "$plain/$crate")" = "$(cat "$crate.sum")" ] || {
        echo "third_party/$crate differs from the published crate by more, or less, than $crate.patch" >&2
        exit 1
    }
done
