# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154,SC2155
# What the kinds of server are: their packages, how they are started, when they are ready, how they are spoken to.
# Functions named after a family (etcd_command, ...) read NODE, NODE_DIR and the variables of load_spec in run.sh.

KINDS=(etcd etcd34 consul zookeeper zookeeper38 redis redis8 valkey protoc)

known() {
    [[ " ${KINDS[*]} " == *" $1 "* ]] || misused "unknown kind '$1' (one of: ${KINDS[*]})"
}

family() {
    case $1 in
    etcd*) echo etcd ;;
    zookeeper*) echo zookeeper ;;
    redis* | valkey) echo redis ;;
    *) echo "$1" ;;
    esac
}

server_of() {
    case $1 in
    etcd*) echo etcd ;;
    zookeeper*) echo zookeeper ;;
    redis*) echo redis-server ;;
    valkey) echo valkey-server ;;
    *) echo "$1" ;;
    esac
}

client_of() {
    case $1 in
    etcd*) echo etcdctl ;;
    consul) echo consul ;;
    zookeeper*) echo zkCli ;;
    redis*) echo redis-cli ;;
    valkey) echo valkey-cli ;;
    *) misused "$1 has no client" ;;
    esac
}

# ---- Fetching: packages as NAME/SUITE of Debian, and the programs made of them under KIND/bin/

packages() {
    local redis=(libjemalloc2 liblzf1 libatomic1)
    local zookeeper=(libzookeeper-java libcommons-cli-java libcommons-io-java libdropwizard-metrics-java libnetty-java
        libjctools-java libslf4j-java libsnappy-java libservlet-api-java)
    # Built against a newer libc than Debian 12's, so it brings its own, with all that it links to.
    local redis8=("${redis[@]}" libc6 libstdc++6 libgcc-s1 libssl3t64 libsystemd0 libcap2 libzstd1 zlib1g)
    case $1 in
    etcd) from trixie etcd-server etcd-client ;;
    etcd34) from bookworm etcd-server etcd-client ;;
    consul) from bullseye consul ;;
    zookeeper) from trixie "${zookeeper[@]}" ;;
    zookeeper38) from bookworm "${zookeeper[@]}" ;;
    redis) from bookworm redis-server redis-tools "${redis[@]}" ;;
    redis8) from trixie redis-server redis-tools "${redis8[@]}" ;;
    valkey) from bookworm-backports valkey-server valkey-tools && from bookworm "${redis[@]}" ;;
    protoc) from bookworm protobuf-compiler libprotoc32 libprotobuf32 libprotobuf-dev zlib1g ;;
    esac
}
from() {
    local suite=$1
    shift
    printf "%s/$suite\n" "$@"
}

# pinned PACKAGE/SUITE: file and sha256 of a package whose suite Debian may drop, to be found in KV_SERVERS_EXTRA then.
pinned() {
    case $1-$(dpkg --print-architecture) in
    consul/bullseye-amd64)
        echo "consul_1.8.7+dfsg1-2+b3_amd64.deb e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9"
        ;;
    esac
}

# programs KIND FOLDER: writes FOLDER/bin/*. Each finds its folder by itself, so that the tree can be moved, and
# ends in exec, so that the process started is the server.
programs() {
    local kind=$1 at=$2 program lib loader
    mkdir -p "$at/bin"
    lib=$(cd "$at" && echo usr/lib/*-linux-gnu*)
    case $kind in
    etcd) for program in etcd etcdctl; do script "exec \"\$D/usr/bin/$program\" \"\$@\""; done ;;
    etcd34)
        program=etcd script 'exec "$D/usr/bin/etcd" "$@"'
        program=etcdctl script 'ETCDCTL_API=3 exec "$D/usr/bin/etcdctl" "$@"'
        ;;
    consul) program=consul script 'exec "$D/usr/bin/consul" "$@"' ;;
    zookeeper*)
        local paths="C=
for jar in zookeeper zookeeper-jute commons-cli commons-io metrics-core slf4j-api slf4j-simple snappy-java servlet-api \\
    jctools-core netty-buffer netty-codec netty-common netty-handler netty-resolver netty-transport \\
    netty-transport-classes-epoll netty-transport-native-epoll netty-transport-native-unix-common
do C=\$C:\$D/usr/share/java/\$jar.jar; done"
        local java='exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData'
        program=zookeeper script "$paths
# Options for the JVM: JVMFLAGS. Arguments: a zoo.cfg.
$java -Xmx128m -Dzookeeper.extendedTypesEnabled=true -Dznode.container.checkIntervalMs=500 \\
    \${JVMFLAGS:-} -cp \"\$C\" org.apache.zookeeper.server.quorum.QuorumPeerMain \"\$@\""
        program=zkCli script "$paths
$java -Dorg.slf4j.simpleLogger.defaultLogLevel=error \${JVMFLAGS:-} \\
    -cp \"\$C\" org.apache.zookeeper.ZooKeeperMain \"\$@\""
        ;;
    redis | valkey)
        for program in "$kind-server" "$kind-cli"; do
            script "LD_LIBRARY_PATH=\"\$D/$lib\" exec \"\$D/usr/bin/$program\" \"\$@\""
        done
        ;;
    redis8)
        loader=$(cd "$at/$lib" && echo ld-linux*.so.*)
        for program in redis-server redis-cli; do
            script "L=\$D/$lib
exec \"\$L/$loader\" --argv0 $program --library-path \"\$L\" \"\$D/usr/bin/$program\" \"\$@\""
        done
        ;;
    # It finds its include folder by itself, from where its binary lies.
    protoc)
        rm -rf "${at:?}/$lib"/*.a
        program=protoc script "LD_LIBRARY_PATH=\"\$D/$lib\" exec \"\$D/usr/bin/protoc\" \"\$@\""
        ;;
    esac
}
script() {
    printf '#!/bin/sh\nD=$(cd "$(dirname "$0")/.." && pwd -P) || exit 127\n%s\n' "$1" >"$at/bin/$program"
    chmod 755 "$at/bin/$program"
}

# works KIND FOLDER: whether what was unpacked runs on this machine.
works() {
    case $1 in
    etcd*) "$2/bin/etcd" --version && "$2/bin/etcdctl" version ;;
    consul) "$2/bin/consul" version ;;
    zookeeper*) [[ -s $2/usr/share/java/zookeeper.jar && -s $2/usr/share/java/netty-handler.jar ]] ;;
    redis* | valkey) "$2/bin/$(server_of "$1")" --version && "$2/bin/$(client_of "$1")" --version ;;
    protoc) "$2/bin/protoc" --version && [[ -s $2/usr/include/google/protobuf/descriptor.proto ]] ;;
    esac
}

# ---- Running

ports_a_node() {
    case $(family "$1") in
    etcd) echo 2 ;;
    consul) echo 3 ;;
    *) echo 1 ;;
    esac
}

# port NODE [NTH]
port() { echo "${PORTS[($1 - 1) * $(ports_a_node "$KIND") + ${2:-0}]}"; }

# addresses PREFIX [NTH]: PREFIX127.0.0.1:PORT of every node, with commas
addresses() {
    local node all=()
    for ((node = 1; node <= NODES; node++)); do all+=("${1}127.0.0.1:$(port "$node" "${2:-0}")"); done
    (IFS=, && echo "${all[*]}")
}

url() {
    case $(family "$KIND") in
    etcd)
        local login="" tls=""
        if ((AUTH)); then login=kv:kv-password@; fi
        if ((TLS)); then tls="?ca=$AT/certs/ca.pem&cert=$AT/certs/client.pem&key=$AT/certs/client.key"; fi
        echo "etcd://$login$(addresses "")/$tls"
        ;;
    *) echo "$(family "$KIND")://$(addresses "")/" ;;
    esac
}

# ..._command: sets COMMAND. ..._ready: whether NODE takes writes. ..._client: sets COMMAND to the client for the
# given addresses (default: all nodes).

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

redis_command() {
    COMMAND=("$(program "$KIND")" --bind 127.0.0.1 --port "$(port 1)" --dir "$NODE_DIR/data" --save ''
        --appendonly yes --appendfsync always --notify-keyspace-events KEA)
}
redis_client() { COMMAND=("$(program "$KIND" --client)" -p "$(port 1)"); }
redis_ready() { [[ $(client ping 2>/dev/null) == PONG ]]; }
redis_put() { client set "$1" "$2"; }
redis_get() { client get "$1"; }
