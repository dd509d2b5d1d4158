#!/usr/bin/env bash
# Runs test steps one after the other and adds them up. A failed step does not keep the next from running; the end is
# a table and a line `N passed, N failed`.
#
#   steps.sh STEP...      STEP: build rust doc http conformance clients fleet
#
# A step that ran no test, or failed without naming a failed test, counts as a failure. Logs: target/test-logs/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
logs=target/test-logs
mkdir -p "$logs"

build() { cargo build --workspace; }
rust() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --no-fail-fast
    else
        cargo test --workspace --no-fail-fast --lib --bins --tests
    fi
}
doc() { cargo test --workspace --doc --no-fail-fast; }
http() { tests/http/run.sh; }
conformance() { tests/conformance/run.sh; }
clients() { tests/clients/run.sh; }
fleet() { tests/fleet/run.sh; }

# count WORD LOG: the sum over the closing lines of nextest, cargo test, pytest and this project's own runners. A
# runner that runs others (clients) closes with a line of its own, which then is the only one that counts.
count() {
    local word=$1 log=$2 own
    own=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1 || true)
    if [ -n "$own" ]; then
        grep -oE "[0-9]+ $word" <<<"$own" | cut -d' ' -f1
        return
    fi
    { grep -E '^ *(test result:|Summary \[)|^[0-9]+ (passed|failed).* in [0-9.]+s|^=+ .*(passed|failed|error)' "$log" || true; } |
        { grep -oE "[0-9]+ $word" || true; } | awk '{ n += $1 } END { print n + 0 }'
}

[ $# -gt 0 ] || { echo "steps.sh: name the steps" >&2; exit 2; }
table='' passed=0 failed=0
for step in "$@"; do
    case $step in
        build | rust | doc | http | conformance | clients | fleet) ;;
        *) echo "steps.sh: there is no step '$step'" >&2; exit 2 ;;
    esac
    printf '=== %s\n' "$step"
    log=$logs/$step.log started=$SECONDS status=0
    # A child shell, so that `set -e` holds in the step, whose own status is looked at here.
    bash -c 'set -euo pipefail; eval "$1"; "$2"' - "$(declare -f "$step")" "$step" </dev/null 2>&1 | tee "$log" || status=$?
    p=$(count passed "$log") f=$(count failed "$log")
    if [ "$step" = build ]; then
        f=$status word=$([ "$status" = 0 ] && echo built || echo FAILED)
    else
        if [ "$f" = 0 ] && [ "$status" != 0 ]; then f=1; fi
        if [ "$p" = 0 ] && [ "$f" = 0 ] && [ "$step" != doc ]; then f=1; fi # it ran nothing: never a success
        word="$p passed, $f failed"
    fi
    passed=$((passed + p)) failed=$((failed + (f > 0 ? f : 0)))
    table+=$(printf '%-12s %5s s  %s' "$step" $((SECONDS - started)) "$word")$'\n'
    if [ "$step" = build ] && [ "$status" != 0 ]; then break; fi # nothing else can run
done
printf '\n%s\n%s passed, %s failed\n' "$table" "$passed" "$failed"
[ "$failed" = 0 ]
