# What every step of the set-up shares: how to speak, how to fail, and how to know that nothing has changed.
# Sourced by install.sh. A step that is done leaves a stamp: the hash of everything that decides its result. While
# the hash stays the same the step is skipped, so the second run needs no network.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$root/.tools
stamps=$tools/stamps

say() { printf 'setup: %s\n' "$*"; }

# One line that says what is missing and what to do, then the end. Never a silent skip.
fail() {
    printf 'setup: FAILED: %s\n' "$*" >&2
    exit 1
}

# fingerprint FILE-OR-WORD...: one hash over the files' contents and the words.
fingerprint() {
    local item
    for item in "$@"; do
        if [ -f "$item" ]; then sha256sum <"$item"; else printf '%s\n' "$item"; fi
    done | sha256sum | cut -d' ' -f1
}

# fresh NAME HASH: true when step NAME was finished with this very hash.
fresh() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }

# done_with NAME HASH: remembers it.
done_with() {
    mkdir -p "$stamps"
    printf '%s\n' "$2" >"$stamps/$1"
}

# quietly LOG COMMAND...: runs it with its output in .tools/logs/LOG; shows the end of that if it fails.
quietly() {
    local log=$tools/logs/$1
    shift
    mkdir -p "$tools/logs"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        fail "$* (the whole output: $log)"
    fi
}

need_node() {
    command -v node >/dev/null && command -v npm >/dev/null ||
        fail "node and npm are needed (Node.js 20 or newer) and are not on the PATH; install Node.js, then run this again"
    node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' ||
        fail "Node.js 20 or newer is needed, this is $(node --version); install a newer one, then run this again"
}

need_python() {
    command -v python3 >/dev/null ||
        fail "python3 is needed (Python 3.11 or newer) and is not on the PATH; install it, then run this again"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed, this is $(python3 --version); install a newer one, then run this again"
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        debian_package python3-venv # Debian keeps these two modules in a package of their own
        python3 -c 'import ensurepip, venv' 2>/dev/null || fail "python3 has no venv module even after installing python3-venv"
    fi
}

# debian_package NAME...: installs them. RUNLEVEL=1 keeps a server package (postgresql) from starting its service.
debian_package() {
    command -v apt-get >/dev/null || fail "$* is needed, and there is no apt-get here to install it; install it by hand"
    [ "$(id -u)" = 0 ] || fail "$* is needed; as root: apt-get install -y --no-install-recommends $*"
    say "Debian packages: $*"
    quietly apt-update.log apt-get update
    quietly "apt-$1.log" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@"
}

# npm_step NAME FOLDER INTO WHAT: `npm ci` of FOLDER's lock file, in place if INTO is FOLDER, else in a copy.
npm_step() {
    local name=$1 folder=$2 into=$3 what=$4 hash
    need_node
    hash=$(fingerprint "$folder/package.json" "$folder/package-lock.json" "$(node --version)")
    if fresh "$name" "$hash" && [ -d "$into/node_modules" ]; then return; fi
    say "$name: npm ci ($what)"
    mkdir -p "$into"
    if [ "$folder" != "$into" ]; then cp "$folder/package.json" "$folder/package-lock.json" "$folder/.npmrc" "$into/"; fi
    quietly "$name.log" npm ci --prefix "$into" --ignore-scripts --no-audit --no-fund
    done_with "$name" "$hash"
}

# venv_step NAME REQUIREMENTS INTO WHAT: a virtual environment with exactly the pinned packages.
venv_step() {
    local name=$1 requirements=$2 into=$3 what=$4 hash
    need_python
    hash=$(fingerprint "$requirements" "$(python3 --version)" "$(python3 -c 'import sys; print(sys.executable)')")
    if fresh "$name" "$hash" && [ -x "$into/bin/python" ]; then return; fi
    say "$name: virtual environment ($what)"
    rm -rf "$into"
    mkdir -p "$(dirname "$into")"
    quietly "$name-venv.log" python3 -m venv "$into"
    quietly "$name.log" "$into/bin/pip" install --disable-pip-version-check --no-deps -r "$requirements"
    done_with "$name" "$hash"
}
