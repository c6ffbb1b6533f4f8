# shellcheck shell=bash disable=SC2015,SC2153
# Fetching. Packages come from Debian's suites, through this machine's own apt (its mirror, its proxy, its keys), with
# lists and cache of our own; their sha256 are those that Debian signed. Each kind is unpacked aside and moved into its
# place whole, so what is there works.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
APT_HELPER=/usr/lib/apt/apt-helper

# The packages a kind was made of are written beside it; another list of packages makes it anew.
present() { [[ -r $DIR/$1/PACKAGES && $(<"$DIR/$1/PACKAGES") == "$(packages "$1")" ]]; }

# Whether it is built here, and not unpacked.
is_built() { declare -F "$(family "$1")_build" >/dev/null; }

# program KIND [--client]
program() {
    local name
    if [[ ${2:-} == --client ]]; then name=$(client_of "$1"); else name=$(server_of "$1"); fi
    echo "$DIR/$1/bin/$name"
}

cmd_path() {
    (($# >= 1)) || misused "path: which kind?"
    (($# == 1)) || [[ $# == 2 && $2 == --client ]] || misused "path KIND [--client]"
    known "$1"
    local path
    path=$(program "$@") || exit
    [[ -e $path ]] || die "$1 is not there; to have it: ci/servers get $1"
    echo "$path"
}

cmd_get() {
    local kind missing=() failed=()
    (($#)) || set -- "${KINDS[@]}"
    for kind; do known "$kind"; done
    for kind; do present "$kind" || missing+=("$kind"); done
    ((${#missing[@]})) || return 0

    needs flock util-linux
    mkdir -p "$DIR" 2>/dev/null && [[ -w $DIR ]] || die "cannot write in $DIR (KV_SERVERS_DIR names another folder)"
    exec 8>"$DIR/.lock"
    if ! flock -n 8; then
        say "another 'get' is at work; waiting for it"
        flock -w 600 8 || die "another 'get' still holds $DIR/.lock after 10 minutes"
    fi
    rm -rf "$DIR"/.get.* # of one that was killed
    set -- "${missing[@]}"
    missing=()
    for kind; do present "$kind" || missing+=("$kind"); done
    ((${#missing[@]})) || return 0

    WORK=$(mktemp -d "$DIR/.get.XXXXXX")
    trap 'rm -rf "$WORK"' EXIT
    local began=$SECONDS packaged=()
    for kind in "${missing[@]}"; do is_built "$kind" || packaged+=("$kind"); done
    ((!${#packaged[@]})) || read_lists "${packaged[@]}"
    for kind in "${missing[@]}"; do (install "$kind") || failed+=("$kind"); done
    rm -rf "$WORK"
    trap - EXIT
    say "$((${#missing[@]} - ${#failed[@]})) of ${#missing[@]} fetched in $((SECONDS - began)) s, in $DIR"
    ((${#failed[@]} == 0)) || die "not fetched: ${failed[*]} (see above); the others can be used"
}

# The mirror that this machine's apt uses.
mirror() {
    if [[ -n ${KV_SERVERS_MIRROR:-} ]]; then
        echo "${KV_SERVERS_MIRROR%/}/"
        return
    fi
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Identifier: Packages' 2>/dev/null |
        awk '$2 ~ /^(bullseye|bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)$/ && !n++ {print $1}'
}

# read_lists KIND…: writes WORK/plan, a line "PACKAGE/SUITE FILE SHA256" for each package that Debian has. What hinders
# it is said and no more: a kind may still be had from KV_SERVERS_EXTRA.
read_lists() {
    local kind suite suites uri
    : >"$WORK/plan"
    if [[ ! -x $APT_HELPER ]]; then
        say "this machine has no apt: no packages can be fetched (see 'Other machines' in docs/servers.md)"
        return
    fi
    uri=$(mirror)
    if [[ -z $uri ]]; then
        say "apt on this machine has no Debian source to take the mirror from; KV_SERVERS_MIRROR can name one"
        return
    fi
    if [[ ! -r $KEYRING ]]; then
        say "no $KEYRING, so nothing fetched could be trusted (Debian's package debian-archive-keyring)"
        return
    fi
    echo "$uri" >"$WORK/mirror"
    suites=$(for kind; do packages "$kind"; done | sed 's,.*/,,' | sort -u)
    for suite in $suites; do echo "deb [signed-by=$KEYRING] $uri $suite main"; done >"$WORK/sources.list"
    mkdir -p "$WORK"/{lists,archives}/partial "$WORK/debs"
    # Valid-Until: an archived suite is signed once and for all.
    apt-get -o Dir::Etc::sourcelist="$WORK/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::Lists="$WORK/lists" -o Dir::Cache="$WORK" -o APT::Sandbox::User=root -o Acquire::Retries=3 \
        -o Acquire::GzipIndexes=false -o Acquire::Languages=none -o Acquire::PDiffs=false \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Check-Valid-Until=false \
        update >"$WORK/update.log" 2>&1 || true
    local lists
    for suite in $suites; do
        lists=("$WORK/lists/"*"_dists_${suite}_main_binary-"*_Packages)
        if [[ -e ${lists[0]} ]]; then
            for kind; do packages "$kind"; done | awk -v suite="$suite" '
                FNR == NR { if (sub("/" suite "$", "")) wanted[$1] = 1; next }
                /^Package: / { name = $2 } /^Filename: / { file = $2 } /^SHA256: / { sum = $2 }
                /^$/ && name in wanted { print name "/" suite, file, sum }' - "${lists[@]}" >>"$WORK/plan"
        else
            say "no list of Debian $suite: $(reason "$WORK/update.log" "$suite")"
        fi
    done
}

# The line of apt's output that tells most, without the mirror's address.
reason() {
    { grep -E -m 1 "^(E|W):.*${2:-}" "$1" || tail -n 1 "$1"; } | sed -E 's,[a-z+]+://[^ ]*/,,g'
}

install() {
    local kind=$1 at=$WORK/$1
    mkdir "$at"
    if is_built "$kind"; then
        "$(family "$kind")_build" "$at" || die "$kind: cannot be built (see above)"
    else
        unpack "$kind" "$at"
    fi
    works "$kind" "$at" >"$WORK/works.log" 2>&1 || die "$kind: does not run on this machine: $(tail -n 1 "$WORK/works.log")"
    packages "$kind" >"$at/PACKAGES"
    rm -rf "${DIR:?}/$kind"
    mv "$at" "$DIR/$kind" || die "$kind: cannot be moved into $DIR"
    say "$kind is there"
}

unpack() {
    local kind=$1 at=$2 package
    for package in $(packages "$kind"); do
        fetch "$package" || die "$kind: ${problem:-not to be had}"
        dpkg-deb -x "$deb" "$at" || die "$kind: ${deb##*/} cannot be unpacked"
        sha256sum "$deb" | sed 's,/.*/,,' >>"$at/SHA256SUMS"
    done
    rm -rf "${at:?}"/{etc,var} "$at"/usr/share/{doc,man,lintian,locale}
    programs "$kind" "$at"
}

# fetch PACKAGE/SUITE: sets deb to a file whose sha256 is good, or problem to what is to be done.
fetch() {
    local path sum file
    read -r path sum < <(awk -v p="$1" '$1 == p {path = $2; sum = $3} END {print path, sum}' "$WORK/plan")
    if [[ -n $path ]]; then
        deb=$WORK/debs/${path##*/}
        [[ ! -e $deb ]] || return 0
        # apt-helper takes the file only if its sha256 is the one given.
        "$APT_HELPER" -o APT::Sandbox::User=root -o Acquire::Retries=3 \
            download-file "$(<"$WORK/mirror")$path" "$deb" "SHA256:$sum" >"$WORK/fetch.log" 2>&1 && return 0
        rm -f "$deb" "$deb.FAILED"
        problem="${path##*/} of Debian ${1#*/}: $(reason "$WORK/fetch.log")"
    else
        problem="Debian ${1#*/} does not have the package ${1%/*} (archived, renamed, or its lists did not come)"
    fi
    read -r file sum < <(pinned "$1") || return 1
    problem+="; a copy, $file with sha256 $sum, is taken from the folder that KV_SERVERS_EXTRA names"
    [[ -n ${KV_SERVERS_EXTRA:-} ]] || return 1
    deb=$KV_SERVERS_EXTRA/$file
    if [[ ! -r $deb ]]; then
        problem+=", but $KV_SERVERS_EXTRA has no such file"
    elif echo "$sum  $deb" | sha256sum --quiet --check - &>/dev/null; then
        return 0
    else
        problem+=", but the file there has another sha256"
    fi
    return 1
}
