# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
consul_OPTIONS="nodes tls auth" consul_PORTS=3
consul_ROOT=00000000-0000-0000-0000-726f6f740000 consul_KV=00000000-0000-0000-0000-6b7600000000
consul_USERS="tokens: $consul_KV (all keys and sessions); $consul_ROOT (everything)"

consul_url() {
    local parameters=()
    if ((AUTH)); then parameters+=("token=$consul_KV"); fi
    if ((TLS)); then
        parameters+=("ca=$AT/certs/ca.pem" "cert=$AT/certs/client.pem" "key=$AT/certs/client.key")
    fi
    echo "consul://$(addresses "")/$( ((${#parameters[@]})) && IFS='&' && echo "?${parameters[*]}")"
}
consul_command() {
    local http="\"http\": $(port "$NODE"), \"https\": -1" tls="" acl="" join="" c=$AT/certs
    if ((TLS)); then
        http="\"http\": -1, \"https\": $(port "$NODE")"
        tls="\"ca_file\": \"$c/ca.pem\", \"cert_file\": \"$c/server.pem\", \"key_file\": \"$c/server.key\",
  \"verify_incoming\": true, \"verify_outgoing\": true,"
    fi
    if ((AUTH)); then
        acl="\"acl\": {\"enabled\": true, \"default_policy\": \"deny\",
          \"tokens\": {\"master\": \"$consul_ROOT\", \"agent\": \"$consul_ROOT\"}},"
    fi
    if ((NODES > 1)); then
        join="\"retry_join\": [\"$(addresses "" 2 | sed 's/,/", "/g')\"], \"retry_interval\": \"200ms\","
    fi
    cat >"$NODE_DIR/consul.json" <<EOT
{
  "server": true, "bootstrap_expect": $NODES, "node_name": "n$NODE", "data_dir": "$NODE_DIR/data",
  "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "warn", "disable_update_check": true,
  "ports": {$http, "server": $(port "$NODE" 1), "serf_lan": $(port "$NODE" 2), "serf_wan": -1, "dns": -1, "grpc": -1},
  $tls $acl $join
  "performance": {"raft_multiplier": 1}, "limits": {"http_max_conns_per_client": 2000}
}
EOT
    COMMAND=("$(program consul)" agent -config-file "$NODE_DIR/consul.json")
}
# For the given address, or the first node that answers: the tool takes one.
consul_client() {
    local node at=${1:-} http=http
    if ((TLS)); then http=https; fi
    if [[ -z $at ]]; then
        for ((node = 1; node <= NODES; node++)); do
            at=127.0.0.1:$(port "$node")
            if (: <>"/dev/tcp/127.0.0.1/$(port "$node")") 2>/dev/null; then break; fi
        done
    fi
    COMMAND=(env "CONSUL_HTTP_ADDR=$http://$at")
    if ((AUTH)); then COMMAND+=("CONSUL_HTTP_TOKEN=$consul_ROOT"); fi
    if ((TLS)); then
        COMMAND+=("CONSUL_CACERT=$AT/certs/ca.pem" "CONSUL_CLIENT_CERT=$AT/certs/client.pem"
            "CONSUL_CLIENT_KEY=$AT/certs/client.key")
    fi
    COMMAND+=("$(program consul)")
}
# A leader is known a little earlier than writes are taken, so it takes a write to tell; this one leaves nothing.
consul_ready() {
    consul_client "127.0.0.1:$(port "$NODE")"
    "${COMMAND[@]}" kv delete ci-servers-ready &>/dev/null
}
# Tokens as docs/servers.md names them. Once, when the server is new.
consul_prepare() {
    ((AUTH)) && [[ ! -e $AT/auth-enabled ]] || return 0
    consul_client
    consul_step policy create -name kv -rules 'key_prefix "" { policy = "write" } session_prefix "" { policy = "write" }
        agent_prefix "" { policy = "read" } node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }'
    consul_step token create -secret "$consul_KV" -policy-name kv
    touch "$AT/auth-enabled"
}
# A new leader needs a moment before it takes tokens.
consul_step() {
    local said deadline=$((SECONDS + 30))
    until said=$("${COMMAND[@]}" acl "$@" 2>&1) || [[ $said == *"already exists"* || $said == *"already in use"* ]]; do
        [[ $said == *"legacy mode"* || $said == *"ACL not found"* ]] && ((SECONDS < deadline)) ||
            die "$NAME: 'consul acl $1 $2' failed: ${said##*$'\n'}"
        sleep 0.1
    done
}
consul_put() { client kv put "$1" "$2"; }
consul_get() { client kv get "$1"; }
