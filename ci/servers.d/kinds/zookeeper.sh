# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
zookeeper_OPTIONS="nodes tls auth" zookeeper_PORTS=3

# Anyone may call themselves `kv`; with --auth nobody may come without a name. docs/servers.md tells more.
zookeeper_url() {
    local login="" tls=""
    if ((AUTH)); then login=kv:kv-password@; fi
    if ((TLS)); then tls="?ca=$AT/certs/ca.pem&cert=$AT/certs/client.pem&key=$AT/certs/client.key"; fi
    echo "zookeeper://$login$(addresses "")/$tls"
}
zookeeper_command() {
    [[ -n ${JAVA_HOME:-} ]] || needs java default-jre-headless
    local node secure="" flags=() c=$AT/certs
    mkdir -p "$NODE_DIR/data"
    if ((TLS)); then secure=secureClient; else secure=client; fi
    {
        cat <<EOT
tickTime=200
initLimit=50
syncLimit=10
minSessionTimeout=200
maxSessionTimeout=60000
dataDir=$NODE_DIR/data
${secure}Port=$(port "$NODE")
${secure}PortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
EOT
        if ((NODES > 1)); then
            echo "$NODE" >"$NODE_DIR/data/myid"
            for ((node = 1; node <= NODES; node++)); do
                echo "server.$node=127.0.0.1:$(port "$node" 1):$(port "$node" 2)"
            done
        fi
        if ((TLS)); then
            # Java wants the key and the certificate in one file.
            cat "$c/server.key" "$c/server.pem" >"$NODE_DIR/server.pem"
            cat <<EOT
ssl.keyStore.location=$NODE_DIR/server.pem
ssl.keyStore.type=PEM
ssl.trustStore.location=$c/ca.pem
ssl.trustStore.type=PEM
ssl.clientAuth=need
EOT
        fi
    } >"$NODE_DIR/zoo.cfg"
    if ((TLS)); then flags+=(-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory); fi
    if ((AUTH)); then flags+=(-Dzookeeper.enforce.auth.enabled=true -Dzookeeper.enforce.auth.schemes=digest); fi
    COMMAND=(env "JVMFLAGS=${flags[*]}" "$(program "$KIND")" "$NODE_DIR/zoo.cfg")
}
zookeeper_client() {
    COMMAND=("$(program "$KIND" --client)" -server "${1:-$(addresses "")}")
    if ((TLS)); then
        cat "$AT/certs/client.key" "$AT/certs/client.pem" >"$AT/certs/client-both.pem"
        local flags="-Dzookeeper.client.secure=true -Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty"
        flags+=" -Dzookeeper.ssl.trustStore.location=$AT/certs/ca.pem -Dzookeeper.ssl.trustStore.type=PEM"
        flags+=" -Dzookeeper.ssl.keyStore.location=$AT/certs/client-both.pem -Dzookeeper.ssl.keyStore.type=PEM"
        COMMAND=(env "JVMFLAGS=$flags" "${COMMAND[@]}")
    fi
}
# "Mode:" is in the answer as soon as requests are served.
zookeeper_ready() {
    local answer at=127.0.0.1:$(port "$NODE")
    if ((TLS)); then
        local c=$AT/certs
        answer=$({ printf srvr; sleep 1; } | timeout 3 openssl s_client -quiet -connect "$at" -CAfile "$c/ca.pem" \
            -cert "$c/client.pem" -key "$c/client.key" 2>/dev/null)
    else
        answer=$({ exec 3<>"/dev/tcp/127.0.0.1/$(port "$NODE")" && printf srvr >&3 && timeout 2 cat <&3; } 2>/dev/null)
    fi
    [[ $answer == *Mode:* ]]
}
zookeeper_put() { zookeeper_do create "/$1" "$2"; }
zookeeper_get() { zookeeper_do get "/$1" | tail -n 1; }
# A command given to the client as its arguments is run before anyone has told a name.
zookeeper_do() {
    if ((AUTH)); then
        printf '%s\n' "addauth digest kv:kv-password" "$*" | client
    else
        client "$@"
    fi
}
