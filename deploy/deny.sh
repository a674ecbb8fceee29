#!/usr/bin/env bash
# Holds what the build takes in to deny.toml: licences, sources, bans, and known vulnerabilities. These last are looked up in RustSec's
# database where that can be fetched; elsewhere in the copy in deploy/advisories of what it says about the crates in Cargo.lock.
#
#   deploy/deny.sh                       checks
#   deploy/deny.sh --offline             checks by the copy, whatever can be fetched
#   deploy/deny.sh --renew PATH-OR-URL   renews the copy from a clone of https://github.com/rustsec/advisory-db
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$PWD/target/ci-tools"
work="$PWD/target/deny"
copy=deploy/advisories
export PATH="$tools/bin:$PATH"
mkdir -p "$work"

crates() { sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.lock fuzz/cargo-fuzz/Cargo.lock | sort -u; }

if [ "${1:-}" = --renew ]; then
    rm -rf "$work/clone"
    git clone --quiet --depth 1 "${2:?where from}" "$work/clone"
    rm -rf "$copy/crates"
    mkdir -p "$copy/crates"
    for crate in $(crates); do
        [ ! -d "$work/clone/crates/$crate" ] || cp -r "$work/clone/crates/$crate" "$copy/crates/"
    done
    crates >"$copy/COVERS"
    git -C "$work/clone" log -1 --format='%H of %cs' >"$copy/VERSION"
    echo "$copy: $(find "$copy/crates" -name 'RUSTSEC-*' | wc -l) advisories, of $(cat "$copy/VERSION")"
    exit
fi

command -v cargo-deny >/dev/null || cargo install --quiet --locked --root "$tools" cargo-deny
cargo deny --locked check --hide-inclusion-graph licenses bans sources

if [ "${1:-}" != --offline ] && timeout 120 cargo deny --locked fetch db >"$work/fetch" 2>&1; then
    cargo deny --locked check --hide-inclusion-graph advisories
    exit
fi
echo "RustSec's database is not fetched; by the copy of $(cat "$copy/VERSION"):"
uncovered="$(crates | comm -23 - <(sort "$copy/COVERS"))"
if [ -n "$uncovered" ]; then
    echo "the copy does not cover: $uncovered"
    echo "renew it where there is a network: deploy/deny.sh --renew https://github.com/rustsec/advisory-db"
    exit 1
fi
# cargo-deny takes its database from a git repository, in a directory whose name it alone knows: it says so when it finds none.
check=(cargo deny --locked --offline --config "$work/deny.toml" check --hide-inclusion-graph advisories)
rm -rf "$work/db"
mkdir -p "$work/db"
sed -e "s|^\[advisories\]|[advisories]\ndb-path = \"$work/db\"\nmaximum-db-staleness = \"P365D\"|" \
    -e 's|^yanked = .*|yanked = "allow"|' deny.toml >"$work/deny.toml"
name="$("${check[@]}" 2>&1 | grep -om1 'advisory-db-[0-9a-f]*' || true)"
db="$work/db/${name:?cargo-deny does not say where it looks for its database}"
cp -r "$copy" "$db"
date="$(sed -n 's/.* of //p' "$copy/VERSION")T00:00:00Z"
git -C "$db" init --quiet --initial-branch main
git -C "$db" add .
GIT_COMMITTER_DATE="$date" git -C "$db" -c user.name=holdfast -c user.email=holdfast@localhost commit --quiet --message copy --date "$date"
"${check[@]}"
