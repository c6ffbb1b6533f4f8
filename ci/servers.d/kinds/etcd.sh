# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
etcd_OPTIONS="nodes tls auth" etcd_PORTS=2 etcd_USERS="users: kv, kv-password (all keys); root, root-password"

etcd_url() {
    local login="" tls=""
    if ((AUTH)); then login=kv:kv-password@; fi
    if ((TLS)); then tls="?ca=$AT/certs/ca.pem&cert=$AT/certs/client.pem&key=$AT/certs/client.key"; fi
    echo "etcd://$login$(addresses "")/$tls"
}

etcd_command() {
    local http=http cluster="" node peers=() timing=(--heartbeat-interval 10 --election-timeout 100)
    if ((NODES > 1)); then timing=(--heartbeat-interval 50 --election-timeout 500); fi
    if ((TLS)); then http=https; fi
    for ((node = 1; node <= NODES; node++)); do peers+=("n$node=$http://127.0.0.1:$(port "$node" 1)"); done
    cluster=$(IFS=, && echo "${peers[*]}")
    local us="$http://127.0.0.1:$(port "$NODE")" peer="$http://127.0.0.1:$(port "$NODE" 1)"
    COMMAND=("$(program "$KIND")" --name "n$NODE" --data-dir "$NODE_DIR/data" --log-level warn "${timing[@]}"
        --listen-client-urls "$us" --advertise-client-urls "$us"
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$cluster")
    if ((TLS)); then
        local c=$AT/certs
        COMMAND+=(--client-cert-auth --trusted-ca-file "$c/ca.pem" --cert-file "$c/server.pem" --key-file "$c/server.key"
            --peer-client-cert-auth --peer-trusted-ca-file "$c/ca.pem" --peer-cert-file "$c/server.pem"
            --peer-key-file "$c/server.key")
    fi
}
etcd_client() {
    local http=http
    if ((TLS)); then http=https; fi
    COMMAND=("$(program "$KIND" --client)" --endpoints "${1:-$(addresses "$http://")}" --command-timeout 3s)
    if ((TLS)); then
        COMMAND+=(--cacert "$AT/certs/ca.pem" --cert "$AT/certs/client.pem" --key "$AT/certs/client.key")
    fi
    if [[ -e $AT/auth-enabled ]]; then COMMAND+=(--user root:root-password); fi
}
etcd_ready() {
    local http=http
    if ((TLS)); then http=https; fi
    etcd_client "$http://127.0.0.1:$(port "$NODE")"
    "${COMMAND[@]}" endpoint health &>/dev/null
}
# Users as docs/servers.md names them. Once, when the server is new.
etcd_prepare() {
    ((AUTH)) && [[ ! -e $AT/auth-enabled ]] || return 0
    etcd_client
    etcd_step user add root:root-password
    etcd_step role add root
    etcd_step user grant-role root root
    etcd_step user add kv:kv-password
    etcd_step role add kv
    etcd_step role grant-permission kv --prefix=true readwrite ""
    etcd_step user grant-role kv kv
    etcd_step auth enable
    touch "$AT/auth-enabled"
}
etcd_step() {
    local said
    said=$("${COMMAND[@]}" "$@" 2>&1) || [[ $said == *"already exists"* ]] ||
        die "$NAME: 'etcdctl $*' failed: ${said##*$'\n'}"
}
etcd_put() { client put "$1" "$2"; }
etcd_get() { client get "$1" --print-value-only; }
