# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
zookeeper_OPTIONS="" zookeeper_PORTS=1

zookeeper_url() { echo "zookeeper://$(addresses "")/"; }
zookeeper_command() {
    [[ -n ${JAVA_HOME:-} ]] || needs java default-jre-headless
    cat >"$NODE_DIR/zoo.cfg" <<EOT
tickTime=200
minSessionTimeout=200
maxSessionTimeout=60000
dataDir=$NODE_DIR/data
clientPort=$(port 1)
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
EOT
    COMMAND=("$(program "$KIND")" "$NODE_DIR/zoo.cfg")
}
zookeeper_client() { COMMAND=("$(program "$KIND" --client)" -server "127.0.0.1:$(port 1)"); }
# "Mode:" is in the answer as soon as requests are served.
zookeeper_ready() {
    local answer
    answer=$({ exec 3<>"/dev/tcp/127.0.0.1/$(port 1)" && printf srvr >&3 && timeout 2 cat <&3; } 2>/dev/null) || return 1
    [[ $answer == *Mode:* ]]
}
zookeeper_put() { client create "/$1" "$2"; }
zookeeper_get() { client get "/$1" | tail -n 1; }
