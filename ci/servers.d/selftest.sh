# shellcheck shell=bash disable=SC2153,SC2154
# Every kind that is there, as a person would use it: start, write, kill, start, read, stop, wipe.

PASSED=0 FAILED=0

cmd_selftest() {
    local kind kinds=()
    (($#)) || set -- "${KINDS[@]}"
    for kind; do
        known "$kind"
        ! present "$kind" || kinds+=("$kind")
    done
    ((${#kinds[@]})) || die "none of these is there: $* (to have them: ci/servers get)"
    SELF=selftest-$$
    trap 'for name in $(every_name); do [[ $name != "$SELF"* ]] || "$0" wipe "$name"; done' EXIT
    for kind in "${kinds[@]}"; do
        if [[ $kind == protoc ]]; then
            check protoc compiles
        elif [[ $kind == faketime ]]; then
            check faketime works faketime "$DIR/faketime"
        else
            check "$kind" keeps "$kind" "$SELF-$kind"
            if [[ $(of_family "$kind" OPTIONS) == "nodes tls auth" ]]; then
                local nodes
                nodes=$(of_family "$kind" CLUSTER)
                check "$kind, ${nodes:=3} nodes, TLS, users" survives "$kind" "$SELF-$kind-cluster" "$nodes"
            fi
        fi
    done
    echo "$PASSED passed, $FAILED failed"
    ((!FAILED))
}

# check TITLE FUNCTION ARG…
check() {
    local title=$1 began said
    shift
    began=$(date +%s%N)
    if said=$("$@" 2>&1); then
        PASSED=$((PASSED + 1))
        printf '%-28s ok      %5d ms\n' "$title" $((($(date +%s%N) - began) / 1000000))
    else
        FAILED=$((FAILED + 1))
        printf '%-28s FAILED  %s\n' "$title" "$said"
    fi
}

put() { (target "$1" && "$(family "$KIND")_put" selftest "$2") >/dev/null 2>&1 || complain "the write failed"; }
reads() {
    local got
    got=$( (target "$1" && "$(family "$KIND")_get" selftest) 2>/dev/null) || true
    [[ $got == "$2" ]] || complain "read '$got', not '$2'"
}
complain() {
    echo "$*"
    return 1
}

keeps() {
    "$0" start "$1" --name "$2" && put "$2" kept && "$0" kill "$2" &&
        "$0" start "$2" && reads "$2" kept && "$0" stop "$2" && ends "$2" &&
        "$0" start "$2" && "$0" pause "$2" && "$0" wipe "$2" && [[ ! -e $RUN/$2 ]]
}
survives() {
    "$0" start "$1" --name "$2" --nodes "$3" --tls --auth && put "$2" kept && "$0" kill "$2/1" &&
        reads_in_time "$2" kept && "$0" start "$2/1" && "$0" stop "$2" && ends "$2" &&
        "$0" start "$2" && reads "$2" kept && "$0" wipe "$2" && [[ ! -e $RUN/$2 ]]
}
# Until those that are left have a leader.
reads_in_time() {
    local deadline=$((SECONDS + 10))
    until reads "$@" >/dev/null; do ((SECONDS < deadline)) || reads "$@" || return; done
}
ends() { [[ $("$0" status | grep -c "^$1[ /].* stopped ") == $("$0" status | grep -c "^$1[ /]") ]] || complain "still runs"; }

compiles() {
    local at
    at=$(mktemp -d)
    printf '%s\n' 'syntax = "proto3";' 'import "google/protobuf/any.proto";' 'message M { google.protobuf.Any any = 1; }' \
        >"$at/m.proto"
    (cd "$at" && "$(program protoc)" --include_imports -o m.bin m.proto && grep -q 'google.protobuf.Any' m.bin)
    local result=$?
    rm -rf "$at"
    return $result
}
