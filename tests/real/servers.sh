# Defines functions that install and start servers. Sourced by tests/run.

declare -A servers=()

say() {
    printf 'tests/run: %s (%ss)\n' "$*" "$SECONDS" >&2
}

fail() {
    printf 'tests/run: %s\n' "$*" >&2
    exit 1
}

# Prints the end of a log without URLs and local paths: NAME.
tell() {
    tail -n 20 "$real/log/$1.log" | sed -E -e 's#https?://[^ ]+#(an address)#g' -e "s#$PWD/##g" -e "s#$HOME/##g" >&2
}

# Starts a server that logs to a file, and that ends with this shell: NAME COMMAND...
start() {
    local bound=()
    ! command -v setpriv >/dev/null || bound=(setpriv --pdeathsig TERM)
    "${bound[@]}" "${@:2}" </dev/null >"$real/log/$1.log" 2>&1 &
    servers[$1]=$!
}

# Waits until a command succeeds, while the server is running: NAME COMMAND...
await() {
    local tries
    for ((tries = 0; tries < 1200; tries++)); do
        if "${@:2}" >/dev/null 2>&1; then return 0; fi
        kill -0 "${servers[$1]}" 2>/dev/null || break
        sleep 0.05
    done
    tell "$1"
    return 1
}

stop_servers() {
    local id
    for id in "${servers[@]}"; do
        kill "$id" 2>/dev/null || true
    done
    for id in "${servers[@]}"; do
        wait "$id" 2>/dev/null || true
    done
    servers=()
}

# Prints a free port below the ephemeral range. Another process may take it, so the caller must be ready to retry.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s' "$port"
            return
        fi
    done
}

# Installs a program if it is missing: PROGRAM DEBIAN-PACKAGE...
need() {
    command -v "$1" >/dev/null || debian "$1" "${@:2}"
}

# Installs Debian packages: PROGRAM DEBIAN-PACKAGE...
debian() {
    local root=() log=$real/log/apt.log
    if ((EUID != 0)); then
        root=(sudo -n)
        sudo -n true 2>/dev/null || root=()
    fi
    if ! command -v apt-get >/dev/null || ((EUID != 0 && ${#root[@]} == 0)); then
        fail "$1 is missing: install it, or run this as root (on Debian: apt-get install ${*:2})"
    fi
    say "installing ${*:2}"
    export DEBIAN_FRONTEND=noninteractive
    local install=("${root[@]}" apt-get install -y --no-install-recommends "${@:2}")
    "${install[@]}" >"$log" 2>&1 && return
    { "${root[@]}" apt-get update && "${install[@]}"; } >"$log" 2>&1 && return
    tell apt
    fail "apt-get install ${*:2} failed"
}
