# shellcheck shell=bash
# Processes, known by a file "PID START" in the node's folder: the start time tells a pid that was given to another.

# started PID: when it started, in ticks; fails if it is gone (or dead, and only not yet reaped).
started() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} != [ZX] ]] && echo "${stat[19]}"
}

# pid_of FOLDER: the pid of the process that runs there; fails if none does.
pid_of() {
    local pid start
    { read -r pid start <"$1/pid"; } 2>/dev/null || return 1
    [[ -n $start && $(started "$pid") == "$start" ]] && echo "$pid"
}

# state_of FOLDER: running, paused, stopped, or ended (by a kill, or by itself).
state_of() {
    local pid stat
    if pid=$(pid_of "$1"); then
        stat=$(<"/proc/$pid/stat")
        if [[ ${stat##*) } == T* ]]; then echo paused; else echo running; fi
    elif [[ -e $1/pid ]]; then
        echo ended
    else
        echo stopped
    fi
}

# spawn FOLDER COMMAND…: in a session of its own, so that it outlives the terminal.
spawn() {
    local at=$1 pid
    shift
    setsid "$@" >>"$at/log" 2>&1 </dev/null 8>&- 9>&- &
    pid=$!
    disown
    echo "$pid $(started "$pid")" >"$at/pid"
}

# gone_within SECONDS FOLDER…: whether all of them end in time.
gone_within() {
    local deadline=$((SECONDS + $1)) at
    shift
    for at; do
        while pid_of "$at" >/dev/null; do
            ((SECONDS < deadline)) || return 1
            sleep 0.02
        done
    done
}

# end FOLDER…: SIGTERM, and SIGKILL after 5 s: a Redis that writes its first file refuses the former for ever. One after
# another, so that a cluster's leader still has somebody to hand over to.
end() {
    local at pid
    for at; do
        if pid=$(pid_of "$at"); then
            kill -TERM "$pid" 2>/dev/null || true
            kill -CONT "$pid" 2>/dev/null || true
        fi
        if ! gone_within 5 "$at"; then
            say "$at: not ended by SIGTERM within 5 s; SIGKILL"
            end_now "$at"
        fi
        rm -f "$at/pid"
    done
}
end_now() {
    local at pid
    for at; do
        if pid=$(pid_of "$at"); then kill -KILL "$pid" 2>/dev/null || true; fi
    done
    gone_within 10 "$@" || die "a process outlived SIGKILL: see ci/servers status"
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# beyond_loopback PID: prints what it listens on that others could reach.
beyond_loopback() {
    local sockets table tables=()
    sockets=$({ for fd in "/proc/$1/fd/"*; do readlink "$fd" || true; done } 2>/dev/null |
        sed -n 's/^socket:\[\(.*\)]$/\1/p' | tr '\n' ' ')
    for table in /proc/net/{tcp,tcp6,udp,udp6}; do [[ ! -r $table ]] || tables+=("$table"); done
    awk -v sockets="$sockets" '
        BEGIN { n = split(sockets, a, " "); for (i = 1; i <= n; i++) ours[a[i]] = 1 }
        FNR > 1 && ($10 in ours) && $4 == (FILENAME ~ /udp/ ? "07" : "0A") {
            split($2, address, ":")
            if (address[1] !~ /^(0000000000000000FFFF0000)?......7F$/ &&
                address[1] != "00000000000000000000000001000000") print $2
        }' "${tables[@]}"
}
