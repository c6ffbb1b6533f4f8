# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# More than one node is a cluster: three masters or more, from six on with a replica each.
redis_OPTIONS="nodes tls auth" redis_PORTS=2 redis_CLUSTER=6

redis_url() {
    local scheme=redis login="" tls=""
    if ((NODES > 1)); then scheme=redis-cluster; fi
    if ((AUTH)); then login=kv:kv-password@; fi
    if ((TLS)); then tls="?ca=$AT/certs/ca.pem&cert=$AT/certs/client.pem&key=$AT/certs/client.key"; fi
    echo "$scheme://$login$(addresses "")/$tls"
}

redis_command() {
    ((NODES != 2)) || die "a cluster of $KIND has three masters at least: --nodes 3, or 6 for a replica each"
    local port=port
    if ((TLS)); then port=tls-port; fi
    {
        printf '%s\n' "bind 127.0.0.1" "$port $(port "$NODE")" "dir \"$NODE_DIR/data\"" 'save ""' \
            "appendonly yes" "appendfsync always" "notify-keyspace-events KEA"
        if ((TLS)); then
            printf '%s\n' "port 0" "tls-ca-cert-file \"$AT/certs/ca.pem\"" "tls-cert-file \"$AT/certs/server.pem\"" \
                "tls-key-file \"$AT/certs/server.key\"" "tls-replication yes" "tls-cluster yes"
        fi
        if ((AUTH)); then
            printf '%s\n' "user default off" "user root on >root-password ~* &* +@all" \
                "user kv on >kv-password ~* &* +@all" "masteruser root" "masterauth root-password"
        fi
        if ((NODES > 1)); then
            printf '%s\n' "cluster-enabled yes" "cluster-port $(port "$NODE" 1)" "cluster-node-timeout 1000" \
                "repl-diskless-sync-delay 0"
        fi
    } >"$NODE_DIR/redis.conf"
    COMMAND=("$(program "$KIND")" "$NODE_DIR/redis.conf")
}

# redis_cli PORT: sets COMMAND.
redis_cli() {
    COMMAND=("$(program "$KIND" --client)" -p "$1")
    if ((TLS)); then
        COMMAND+=(--tls --cacert "$AT/certs/ca.pem" --cert "$AT/certs/client.pem" --key "$AT/certs/client.key")
    fi
    if ((AUTH)); then COMMAND+=(--no-auth-warning --user root --pass root-password); fi
}
redis_pings() {
    redis_cli "$(port "$1")"
    [[ $(timeout 2 "${COMMAND[@]}" ping 2>/dev/null) == PONG ]]
}
# The first node that answers; in a cluster it leads to the one that has the key.
redis_client() {
    local node first=1
    for ((node = NODES; node >= 1; node--)); do
        ! redis_pings "$node" || first=$node
    done
    redis_cli "$(port "$first")"
    if ((NODES > 1)); then COMMAND+=(-c); fi
}
redis_ready() { redis_pings "$NODE"; }

# Makes a new server's nodes a cluster, and waits until each of those that run knows it whole.
redis_prepare() {
    local node deadline=$((SECONDS + 30)) said
    ((NODES > 1)) || return 0
    if [[ ! -e $AT/cluster-made ]]; then
        redis_cli "$(port 1)"
        said=$("${COMMAND[@]}" --cluster create $(addresses "" | tr , ' ') \
            --cluster-replicas $((NODES >= 6)) --cluster-yes 2>&1) || die "$NAME: the cluster could not be made: $said"
        touch "$AT/cluster-made"
    fi
    for ((node = 1; node <= NODES; node++)); do
        pid_of "$AT/$node" >/dev/null || continue
        until redis_cli "$(port "$node")" && [[ $("${COMMAND[@]}" cluster info) == *cluster_state:ok* ]]; do
            ((SECONDS < deadline)) || die "$NAME: node $node knows no whole cluster"
            sleep 0.05
        done
    done
}
redis_put() { [[ $(client set "$1" "$2") == OK ]]; }
redis_get() { client get "$1"; }
