#!/usr/bin/env bash
# A bill of materials of the binary, CycloneDX: target/sbom/holdfast.cdx.json.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$PWD/target/ci-tools"
export PATH="$tools/bin:$PATH"
command -v cargo-cyclonedx >/dev/null || cargo install --quiet --locked --root "$tools" cargo-cyclonedx
# It writes one beside each member's manifest; that of the binary is kept.
cargo cyclonedx --manifest-path cli/Cargo.toml --format json --spec-version 1.5 --override-filename holdfast-sbom
mkdir -p target/sbom
mv cli/holdfast-sbom.json target/sbom/holdfast.cdx.json
find . -name holdfast-sbom.json -not -path './target/*' -delete
echo "target/sbom/holdfast.cdx.json: $(grep -c '"bom-ref"' target/sbom/holdfast.cdx.json) components"
