# shellcheck shell=bash disable=SC2015,SC2034,SC2153
# Starting and stopping. RUN/NAME/spec says what NAME is: it keeps its ports, its options and its data from start to
# start, until it is wiped. RUN/NAME/NODE/ holds one process: data, log, pid.

# target NAME[/NODE]: sets NAME, AT and ONLY (the node, if one is given), and loads the spec.
target() {
    NAME=${1%%/*} ONLY=""
    [[ $1 != */* ]] || ONLY=${1#*/}
    valid_name
    AT=$RUN/$NAME
    [[ -r $AT/spec ]] || misused "there is no '$NAME' (ci/servers status tells what there is)"
    load_spec
    [[ -z $ONLY ]] || [[ $ONLY =~ ^[0-9]+$ && $ONLY -ge 1 && $ONLY -le $NODES ]] ||
        misused "$NAME has no node '$ONLY' (it has $NODES)"
}
valid_name() {
    [[ $NAME =~ ^[a-z0-9][a-z0-9_.-]*$ && $NAME != all ]] ||
        misused "'$NAME' is no name (small letters, digits, '-', '_', '.'; and not 'all')"
}

load_spec() {
    read -r KIND NODES TLS AUTH <"$AT/spec"
    read -ra PORTS < <(tail -n 1 "$AT/spec")
}

# The folders of the nodes in question, in FOLDERS.
folders() {
    local node
    FOLDERS=()
    for ((node = 1; node <= NODES; node++)); do
        [[ -n $ONLY && $ONLY != "$node" ]] || FOLDERS+=("$AT/$node")
    done
}

every_name() {
    local spec
    for spec in "$RUN"/*/spec; do
        [[ ! -e $spec ]] || basename "${spec%/spec}"
    done
}

# One at a time may choose ports and start or stop.
lock() {
    needs flock util-linux
    needs setsid util-linux
    mkdir -p "$RUN" 2>/dev/null && [[ -w $RUN ]] || die "cannot write in $RUN (KV_SERVERS_DIR names another folder)"
    exec 9>"$RUN/.lock"
    flock -w 120 9 || die "another ci/servers holds $RUN/.lock"
}

cmd_start() {
    (($#)) || misused "start: which kind, or which name?"
    local what=$1 name="" port="" nodes="" tls="" auth=""
    shift
    while (($#)); do
        case $1 in
        --name | --port | --nodes) (($# >= 2)) || misused "start: $1 wants a value" ;;&
        --name) name=$2 && shift ;;
        --port) port=$2 && shift ;;
        --nodes) nodes=$2 && shift ;;
        --tls) tls=1 ;;
        --auth) auth=1 ;;
        *) misused "start: unknown option '$1'" ;;
        esac
        shift
    done
    [[ -z $port ]] || [[ $port =~ ^[0-9]{1,5}$ && $port -ge 1 && $port -le 65535 ]] || misused "start: '$port' is no port"
    [[ -z $nodes ]] || [[ $nodes =~ ^[1-9]$ ]] || misused "start: --nodes takes 1 to 9"

    if [[ -r $RUN/${what%%/*}/spec && (-z $name || $name == "$what") ]]; then
        name=$what
    else
        known "$what"
        [[ $what != @(protoc|faketime) ]] || misused "$what is no server"
        name=${name:-$what}
        [[ $name != */* ]] || misused "start: '$name' is no name"
    fi
    lock
    if [[ -r $RUN/${name%%/*}/spec ]]; then
        target "$name"
        [[ " ${KINDS[*]} " != *" $what "* || $what == "$KIND" || $what == "$NAME" ]] ||
            die "'$NAME' is a $KIND; take another --name, or wipe it"
        [[ ${port:-${PORTS[0]}} == "${PORTS[0]}" && ${nodes:-$NODES} == "$NODES" && ${tls:-$TLS} == "$TLS" &&
            ${auth:-$AUTH} == "$AUTH" ]] || die "'$NAME' was made with other options; wipe it, or take another --name"
    else
        cmd_path "$what" >/dev/null
        create "$what" "$name" "${port:-}" "${nodes:-1}" "${tls:-0}" "${auth:-0}"
    fi
    cmd_path "$KIND" >/dev/null
    bring_up
    say "$NAME is ready; log: ${FOLDERS[0]}/log"
    if ((AUTH)); then say "$(of_family "$KIND" USERS)"; fi
    if ((TLS)); then say "certificates: $AT/certs"; fi
    url
}
url() { "$(family "$KIND")_url"; }

create() {
    KIND=$1 NAME=$2 NODES=$4 TLS=$5 AUTH=$6 ONLY=""
    AT=$RUN/$NAME
    valid_name
    allows nodes $((NODES > 1))
    allows tls "$TLS"
    allows auth "$AUTH"
    choose_ports "$3" $((NODES * $(ports_a_node "$KIND")))
    mkdir -p "$AT"
    if ((TLS)); then certificates "$AT/certs"; fi
    printf '%s\n' "$KIND $NODES $TLS $AUTH" "${PORTS[*]}" >"$AT/spec.new"
    mv "$AT/spec.new" "$AT/spec"
}

# allows OPTION WANTED
allows() {
    (($2 == 0)) || [[ " $(of_family "$KIND" OPTIONS) " == *" $1 "* ]] || misused "start: $KIND takes no --$1"
}

# choose_ports FIRST COUNT: below the range from which the system hands out ports, so that no client's connection and
# no test that binds port 0 sits on one; and none that another name keeps.
choose_ports() {
    local low span=10240 candidate kept tries=0
    kept=" $(for name in $(every_name); do tail -n 1 "$RUN/$name/spec"; done | tr '\n' ' ') "
    read -r low _ </proc/sys/net/ipv4/ip_local_port_range
    ((low >= 20480)) || low=32768
    PORTS=()
    if [[ -n $1 ]]; then
        ! taken "$1" || die "port $1 is taken; without --port a free one is found"
        PORTS=("$1")
    fi
    while ((${#PORTS[@]} < $2)); do
        ((tries++ < 1000)) || die "no free port found"
        candidate=$((low - 1 - (RANDOM * 32768 + RANDOM) % span))
        [[ "$kept ${PORTS[*]} " != *" $candidate "* ]] && ! taken "$candidate" || continue
        PORTS+=("$candidate")
    done
}

# Starts the nodes in question that do not run, and waits for all of them. What it started ends with it if it fails.
bring_up() {
    local folder pid beyond i deadline
    STARTED=()
    folders
    trap 'end_now "${STARTED[@]}"' EXIT
    trap 'exit 130' INT TERM HUP
    for folder in "${FOLDERS[@]}"; do
        case $(state_of "$folder") in
        running) continue ;;
        paused) die "$NAME: node ${folder##*/} is paused; to let it go on: ci/servers resume $NAME" ;;
        esac
        NODE=${folder##*/} NODE_DIR=$folder
        for ((i = 0; i < $(ports_a_node "$KIND"); i++)); do
            ! taken "$(port "$NODE" "$i")" ||
                die "$NAME: its port $(port "$NODE" "$i") is taken by another program; end that, or wipe $NAME"
        done
        (umask 077 && mkdir -p "$folder/data")
        "$(family "$KIND")_command"
        STARTED+=("$folder")
        spawn "$folder" "${COMMAND[@]}"
    done
    deadline=$((SECONDS + 30))
    for folder in "${FOLDERS[@]}"; do
        NODE=${folder##*/} NODE_DIR=$folder
        until "$(family "$KIND")_ready"; do
            pid_of "$folder" >/dev/null || failed_start "ended at once" "$folder"
            ((SECONDS < deadline)) || failed_start "not ready within 30 s" "$folder"
            sleep 0.02
        done
        pid=$(pid_of "$folder") || failed_start "ended at once" "$folder"
        beyond=$(beyond_loopback "$pid")
        [[ -z $beyond ]] || failed_start "listens beyond loopback ($beyond)" "$folder"
    done
    if declare -F "$(family "$KIND")_prepare" >/dev/null; then "$(family "$KIND")_prepare"; fi
    trap - EXIT INT TERM HUP
}
failed_start() {
    tail -n 5 "$2/log" >&2 || true
    die "$NAME: node ${2##*/} $1; log: $2/log"
}

cmd_stop() {
    local name names=("$@") to_end=()
    if (($# == 0)) || [[ $* == all ]]; then
        [[ -d $RUN ]] || return 0
        readarray -t names < <(every_name)
    fi
    lock
    for name in "${names[@]}"; do
        target "$name"
        folders
        to_end+=("${FOLDERS[@]}")
    done
    end "${to_end[@]}"
}

cmd_wipe() {
    (($# == 1)) || misused "wipe NAME, or wipe all"
    local name
    if [[ $1 == all ]]; then
        for name in $(every_name); do cmd_wipe "$name"; done
        return
    fi
    lock
    target "$1"
    [[ -z $ONLY ]] || misused "wipe takes a whole NAME"
    folders
    end_now "${FOLDERS[@]}"
    rm -rf "${RUN:?}/${NAME:?}"
}

# running NAME[/NODE]: FOLDERS, of which all must run.
running() {
    (($# == 1)) || misused "one NAME or NAME/NODE, please"
    lock
    target "$1"
    folders
    local folder
    for folder in "${FOLDERS[@]}"; do
        pid_of "$folder" >/dev/null || die "$NAME: node ${folder##*/} does not run"
    done
}
cmd_pause() {
    running "$@"
    for folder in "${FOLDERS[@]}"; do kill -STOP "$(pid_of "$folder")"; done
}
cmd_resume() {
    running "$@"
    for folder in "${FOLDERS[@]}"; do kill -CONT "$(pid_of "$folder")"; done
}
cmd_kill() {
    running "$@"
    end_now "${FOLDERS[@]}"
}

cmd_status() {
    local name folder
    printf '%-20s %-12s %-8s %-8s %s\n' NAME KIND STATE PID URL
    for name in $(every_name); do
        target "$name"
        folders
        for folder in "${FOLDERS[@]}"; do
            local shown=$name/${folder##*/} at="" pid
            pid=$(pid_of "$folder") || pid=-
            ((NODES > 1)) || shown=$name
            [[ $folder != "${FOLDERS[0]}" ]] || at=$(url)
            printf '%-20s %-12s %-8s %-8s %s\n' "$shown" "$KIND" "$(state_of "$folder")" "$pid" "$at"
        done
    done
}

client() {
    "$(family "$KIND")_client"
    "${COMMAND[@]}" "$@"
}
cmd_client() {
    (($#)) || misused "client: of which server?"
    target "$1"
    [[ -z $ONLY ]] || misused "client takes a whole NAME"
    shift
    client "$@"
}

cmd_certs() {
    (($# == 1)) || misused "certs FOLDER"
    certificates "$1"
}

# certificates FOLDER: a CA (ca.pem), and signed by it a server on loopback and a client (server.pem, server.key, ...).
certificates() {
    needs openssl openssl
    local at=$1 who
    mkdir -p "$at"
    (
        cd "$at"
        umask 077
        key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }
        key ca
        openssl req -x509 -new -key ca.key -out ca.pem -days 3650 -subj "/CN=ci-servers CA" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
        for who in server client; do
            key "$who"
            openssl req -new -key "$who.key" -out "$who.csr" -subj "/CN=ci-servers $who"
            # A cluster's servers are each other's clients, so a server's certificate is good for both.
            printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
                "extendedKeyUsage=clientAuth$([[ $who == client ]] || echo ,serverAuth)" \
                "subjectAltName=$([[ $who == client ]] && echo DNS:client || echo DNS:localhost,IP:127.0.0.1,IP:::1)" \
                >"$who.ext"
            openssl x509 -req -in "$who.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -out "$who.pem" -days 3650 \
                -extfile "$who.ext" 2>/dev/null
            rm -f "$who.csr" "$who.ext"
        done
        rm -f ca.srl
    ) || die "certificates could not be made in $at (openssl)"
}
