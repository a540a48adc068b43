# Creates a certificate authority and its certificates for this run. Sourced by tests/run.

need openssl openssl
tls=$run/tls
mkdir -p "$tls"

# Issues a certificate: NAME EXTENSIONS (a section of openssl.cnf) OPTIONS...
issue() {
    openssl req -x509 -config tests/real/tls/openssl.cnf -extensions "$2" -subj "/CN=$1" -days 2 \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tls/$1.key" -out "$tls/$1.pem" "${@:3}" \
        2>"$real/log/tls.log" || { tell tls; fail "openssl can't make certificates"; }
}

issue authority authority
issue server server -CA "$tls/authority.pem" -CAkey "$tls/authority.key"
issue client client -CA "$tls/authority.pem" -CAkey "$tls/authority.key"

export TOWER_BEARER_CA=$tls/authority.pem
export TOWER_BEARER_CLIENT_CERT=$tls/client.pem
export TOWER_BEARER_CLIENT_KEY=$tls/client.key
