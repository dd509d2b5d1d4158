#!/usr/bin/env bash
# Measures stdio alone, the sidecar, edge + sidecar and two other translators on the same server in one run, and writes
# load-tests/RESULTS.md. See bench.py, which takes the same arguments.
#
#   bench.sh [--quick] [--out FILE]      BENCH_PROFILE=dev measures a development build (to try the bench itself)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
tests/setup/install.sh bench
profile=${BENCH_PROFILE:-release}
echo "bench: building ($profile)"
cargo build --workspace --profile "$profile"
case $profile in dev) folder=target/debug ;; *) folder=target/$profile ;; esac
MCP_EDGE_BIN=$PWD/$folder exec python3 "$here/bench.py" --profile "$profile" "$@"
