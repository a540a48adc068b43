# Installs oidc-provider as pinned by package-lock.json, and starts it. Sourced by tests/run.

node_is_new_enough() {
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'
}

need node nodejs
need npm npm
node_is_new_enough || fail "node $(node --version) is too old for oidc-provider: install 20.19 or newer"

oidc=$real/oidc-provider
mkdir -p "$oidc"
cp tests/real/oidc-provider/*.mjs tests/real/oidc-provider/package*.json "$oidc"
if ! cmp -s "$oidc/package-lock.json" "$oidc/installed"; then
    say "installing oidc-provider"
    (cd "$oidc" && npm ci --no-audit --no-fund --ignore-scripts) >"$real/log/npm.log" 2>&1 || { tell npm; fail "npm ci failed"; }
    cp "$oidc/package-lock.json" "$oidc/installed"
fi

start oidc-provider node "$oidc/server.mjs" "$tls" "$run/oidc-provider.sh"
