# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
consul_OPTIONS="" consul_PORTS=3

consul_url() { echo "consul://$(addresses "")/"; }
consul_command() {
    cat >"$NODE_DIR/consul.json" <<EOT
{
  "server": true, "bootstrap_expect": 1, "node_name": "n1", "data_dir": "$NODE_DIR/data",
  "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "warn", "disable_update_check": true,
  "ports": {"http": $(port 1), "server": $(port 1 1), "serf_lan": $(port 1 2), "serf_wan": -1, "dns": -1, "grpc": -1},
  "performance": {"raft_multiplier": 1}, "limits": {"http_max_conns_per_client": 2000}
}
EOT
    COMMAND=("$(program consul)" agent -config-file "$NODE_DIR/consul.json")
}
consul_client() { COMMAND=(env "CONSUL_HTTP_ADDR=http://127.0.0.1:$(port 1)" "$(program consul)"); }
# A leader is known a little earlier than writes are taken, so it takes a write to tell; this one leaves nothing.
consul_ready() { client kv delete ci-servers-ready &>/dev/null; }
consul_put() { client kv put "$1" "$2"; }
consul_get() { client kv get "$1"; }
