# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
redis_OPTIONS="" redis_PORTS=1

redis_url() { echo "redis://$(addresses "")/"; }
redis_command() {
    COMMAND=("$(program "$KIND")" --bind 127.0.0.1 --port "$(port 1)" --dir "$NODE_DIR/data" --save ''
        --appendonly yes --appendfsync always --notify-keyspace-events KEA)
}
redis_client() { COMMAND=("$(program "$KIND" --client)" -p "$(port 1)"); }
redis_ready() { [[ $(client ping 2>/dev/null) == PONG ]]; }
redis_put() { client set "$1" "$2"; }
redis_get() { client get "$1"; }
