# Starts a Redis server, with and without TLS, and with a user that has a password. Sourced by tests/run.

need redis-server redis-server
need redis-cli redis-tools

export TOWER_BEARER_REDIS_SERVER=$(command -v redis-server)
export TOWER_BEARER_REDIS_USER=orders
export TOWER_BEARER_REDIS_PASSWORD='p w:c%d+e/f@é'
digest=$(printf '%s' "$TOWER_BEARER_REDIS_PASSWORD" | openssl dgst -sha256 -r)

# Another process may have taken the port.
redis_is_up() {
    redis-cli -h 127.0.0.1 -p "$port" info server | grep -q "^process_id:${servers[redis]}\b"
}

for attempt in 1 2 3 4 5; do
    port=$(free_port) tls_port=$(free_port)
    start redis redis-server --bind 127.0.0.1 --port "$port" --tls-port "$tls_port" \
        --tls-cert-file "$tls/server.pem" --tls-key-file "$tls/server.key" \
        --tls-ca-cert-file "$tls/authority.pem" --tls-auth-clients optional \
        --save '' --appendonly no --dir "$run" \
        --user "$TOWER_BEARER_REDIS_USER" on "#${digest%% *}" '~*' '&*' +@all -@admin
    if await redis redis_is_up; then break; fi
    ((attempt < 5)) || fail "redis-server does not start"
done

export TOWER_BEARER_REDIS=redis://127.0.0.1:$port
export TOWER_BEARER_REDIS_TLS=rediss://localhost:$tls_port
