#!/usr/bin/env bash
# Runs libFuzzer on each target for so many seconds, or on one of them: `fuzz/run.sh [SECONDS] [TARGET]`. Ends with 1 when an input does
# harm: it lies in fuzz/cargo-fuzz/artifacts then, and belongs into the corpus once it is understood.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-60}"
targets="${2:-$(ls fuzz/corpus)}"
tools="$PWD/target/ci-tools"
export PATH="$tools/bin:$PATH"
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root "$tools" cargo-fuzz

# libFuzzer needs flags of the compiler that are not stable: the nightly one has them, any other one has them when it is told so.
if rustup run nightly rustc --version >/dev/null 2>&1; then
    export RUSTUP_TOOLCHAIN=nightly
    echo "built by the nightly toolchain"
else
    export RUSTC_BOOTSTRAP=1
    echo "built by the stable toolchain with RUSTC_BOOTSTRAP=1"
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
# Without AddressSanitizer: there is no unsafe code of ours, and without it three times as many inputs are tried.
build=(cargo fuzz build --fuzz-dir fuzz/cargo-fuzz --sanitizer none holdfast)
"${build[@]}"
program="$(find "$CARGO_TARGET_DIR" -path '*release/holdfast' -type f -perm -u+x | head -1)"

ends=0
for target in $targets; do
    found="$CARGO_TARGET_DIR/found/$target"
    artifacts="fuzz/cargo-fuzz/artifacts/$target/"
    mkdir -p "$found" "$artifacts"
    log="$(mktemp)"
    # What is found lies outside the repository: the corpus is for people to choose.
    if HOLDFAST_FUZZ="$target" "$program" "$found" "fuzz/corpus/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=16384 -artifact_prefix="$artifacts" -print_final_stats=1 >"$log" 2>&1; then
        verdict="nothing found"
    else
        verdict="FOUND SOMETHING: see $artifacts"
        ends=1
        grep -aE 'panicked at|ERROR|SUMMARY' -A 3 "$log" | head -20 || true
    fi
    executions="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    covered="$(grep -aoE 'cov: [0-9]+' "$log" | tail -1 || true)"
    echo "$target: ${executions:-?} executions in $seconds s, ${covered:-cov: ?}; $verdict"
    rm -f "$log"
done
exit "$ends"
