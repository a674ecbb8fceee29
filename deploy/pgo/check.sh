#!/usr/bin/env bash
# Whether the profile beside this script still speaks of the program that is built: `check.sh target/release/holdfast`.
#
# It knows functions by their symbols, and a symbol has its crate's version, features and dependencies in it. A profile from before
# some of these have changed is not refused by the compiler: it is of no use, and nobody is told. Three in four of its functions
# are in a program that is built with it, and every other one where only code has changed; the rest are compiled into others.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$1

release=$(rustc -vV | sed -n 's/^release: //p')
host=$(rustc -vV | sed -n 's/^host: //p')
profile=deploy/pgo/$release-$host.profdata
if ! [ -f "$profile" ]; then
    echo "$profile is missing: take it with \`just pgo\`, and remove what other compilers have taken"
    exit 1
fi
functions=deploy/pgo/$release-$host.functions

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm "$binary" | sed 's/.* //' | LC_ALL=C sort -u >"$work/built"
counted=$(wc -l <"$functions")
found=$(LC_ALL=C comm -12 "$functions" "$work/built" | wc -l)
echo "$found of $counted functions of the profile are in $binary"
if [ "$counted" -eq 0 ] || [ $((found * 3)) -lt "$counted" ]; then
    echo "the profile is of another program: take it anew with \`just pgo\`"
    exit 1
fi
