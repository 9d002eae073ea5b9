# shellcheck shell=bash
# common.sh - names, paths, messages, built tools; for all parts of the lab

LAB_NAME=${LAB_NAME:-lab}
case $LAB_NAME in
    *[!A-Za-z0-9._-]* | '' | .* | -*) echo "lab: bad LAB_NAME" >&2; exit 2 ;;
esac
# shellcheck disable=SC2034 # used by the other parts
LAB_DIR=/tmp/snm-$LAB_NAME
REPO=$(cd "$LAB_SRC/../.." && pwd)
LAB_BIN=${LAB_BIN:-${SNM_BUILD:-$REPO/build/release}}
LAB_TOOLS=$REPO/build/lab
LAB_CACHE=${LAB_CACHE:-${XDG_CACHE_HOME:-/var/cache}/snmigrate-lab}

die() { echo "lab: $*" >&2; exit 1; }
die_usage() { echo "lab: $* (see: lab help)" >&2; exit 2; }

check_host() {
    case ${1:-} in
        a | b) ;;
        *) die_usage "expected host a or b, not '${1:-}'" ;;
    esac
}

other_host() { if [ "$1" = a ]; then echo b; else echo a; fi; }

# now_ms: monotonic
now_ms() {
    local up
    read -r up _ < /proc/uptime
    echo $((10#${up/./} * 10))
}

# wait_until SECONDS CMD...: poll CMD every 50 ms; status 1 when it never succeeds
wait_until() {
    local end=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# bytes_of 10M -> 10485760
bytes_of() {
    local text=$1 n
    case $text in
        *[!0-9KMGT]* | '' | [KMGT]*) die_usage "bad size: $text" ;;
    esac
    n=${text%[KMGT]}
    case $n in *[!0-9]*) die_usage "bad size: $text" ;; esac
    case $text in
        *K) n=$((n << 10)) ;;
        *M) n=$((n << 20)) ;;
        *G) n=$((n << 30)) ;;
        *T) n=$((n << 40)) ;;
    esac
    echo "$n"
}

# with_lock NAME CMD...: labs started at the same time build shared things once
with_lock() {
    local fd
    mkdir -p "$LAB_TOOLS"
    exec {fd}> "$LAB_TOOLS/.$1.lock"
    flock "$fd"
    shift
    "$@" {fd}>&-
    exec {fd}>&-
}

# tool_build OUT "FLAGS" SOURCE...: compile when a source (or header beside it) is newer
tool_build() {
    local out=$LAB_TOOLS/$1 flags=$2 src newer=
    shift 2
    for src in "$@" "$(dirname "$1")"/*.h; do
        [ ! -e "$src" ] || [ "$out" -nt "$src" ] || newer=1
    done
    [ -n "$newer" ] || return 0
    # shellcheck disable=SC2086
    cc -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wshadow -pedantic -pthread \
        -o "$out.new" "$@" $flags || die "cannot compile $out"
    mv "$out.new" "$out"
}

tools_build_all() {
    local guest=$REPO/tests/guest
    tool_build host-ns "" "$LAB_SRC/host-ns.c"
    # a copy: libvirt probes QEMU anew when the time of what it runs changes
    cmp -s "$LAB_SRC/qemu-odd-ram" "$LAB_TOOLS/qemu-odd-ram" ||
        install "$LAB_SRC/qemu-odd-ram" "$LAB_TOOLS/"
    tool_build events "-lvirt -lvirt-qemu" "$LAB_SRC/events.c"
    tool_build init "-static" "$guest"/{init,disk,ram,power,agent,record}.c
    tool_build format-disk "" "$guest/format-disk.c" "$guest/record.c"
    tool_build check-disk "" "$guest/check-disk.c" "$guest/record.c"
}

tools_build() { with_lock tools tools_build_all; }
