# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154,SC2155
# What the kinds of server are: their packages, how they are started, when they are ready, how they are spoken to.
# The functions of a family (etcd_command, ...) read NODE, NODE_DIR and the variables of load_spec in run.sh.

KINDS=(etcd etcd34 consul zookeeper zookeeper38 redis redis8 valkey dynamodb protoc faketime)

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
    faketime) echo libfaketime.so.1 ;;
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
    dynamodb) dynamodb_packages ;;
    protoc) from bookworm protobuf-compiler libprotoc32 libprotobuf32 libprotobuf-dev zlib1g ;;
    faketime) from bookworm libfaketime ;;
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
    # The one for processes of several threads.
    faketime) ln -s "../$lib/faketime/libfaketimeMT.so.1" "$at/bin/libfaketime.so.1" ;;
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
    dynamodb) "$2/bin/dynamodb" --version ;;
    faketime) [[ $(LD_PRELOAD=$2/bin/libfaketime.so.1 FAKETIME='1999-12-31 12:00:00' date +%Y) == 1999 ]] ;;
    protoc) "$2/bin/protoc" --version && [[ -s $2/usr/include/google/protobuf/descriptor.proto ]] ;;
    esac
}

# ---- Running

# Each family's own half is in kinds/FAMILY.sh:
#   FAMILY_OPTIONS  which of nodes, tls and auth its servers take
#   FAMILY_PORTS    how many ports a node has; the first is its clients'
#   FAMILY_CLUSTER  how many nodes it takes to go on without one; 3 unless it says so
#   _command        sets COMMAND, which becomes the process of NODE
#   _client         sets COMMAND to the command-line client, for the given addresses (default: all nodes)
#   _url            prints the URL for clients of the library
#   _ready          whether NODE takes writes
#   _build          where there is one: what is built here, in this folder, in place of packages
#   _prepare        where there is one: what a server needs once it is ready, cluster or users; runs at every start
#   _put, _get      KEY [VALUE], with the command-line client

# of_family KIND VARIABLE
of_family() {
    local variable
    variable=$(family "$1")_$2
    echo "${!variable:-}"
}

ports_a_node() { of_family "$1" PORTS; }

# port NODE [NTH]
port() { echo "${PORTS[($1 - 1) * $(ports_a_node "$KIND") + ${2:-0}]}"; }

# addresses PREFIX [NTH]: PREFIX127.0.0.1:PORT of every node, with commas
addresses() {
    local node all=()
    for ((node = 1; node <= NODES; node++)); do all+=("${1}127.0.0.1:$(port "$node" "${2:-0}")"); done
    (IFS=, && echo "${all[*]}")
}

for file in "$HERE"/servers.d/kinds/*.sh; do
    # shellcheck source=/dev/null
    source "$file"
done
