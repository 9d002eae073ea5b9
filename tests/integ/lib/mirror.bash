# What the mirror tests share: servers to copy between, and checks.  Source it.
#
#   serve_qemu NAME IMAGE-OPTIONS...   qemu-nbd on the socket $NAME
#   serve_nbdkit NAME ARGUMENTS...     nbdkit on the socket $NAME
#   stop NAME                          end that server; its image is then complete
#   mirror ARGUMENTS...                the program under test
#
# The current directory is a fresh one, so images and sockets have short names.  What was
# started is ended, by pid, when the test ends.
set -euo pipefail

NBD_MIRROR=${SNM_BUILD:-$PWD/build/release}/nbd-mirror

skip() {
    echo "$*"
    exit 77
}

# requires PROGRAM...: skip the test where one is missing.
requires() {
    local p

    for p; do
        command -v "$p" >/dev/null || skip "needs $p"
    done
}

[ -x "$NBD_MIRROR" ] || skip "needs $NBD_MIRROR"
SOURCES=$PWD
DIR=$(mktemp -d "${TMPDIR:-/tmp}/snm-mirror.XXXXXX")
cd "$DIR"
declare -A server_pid=()

cleanup() {
    local status=$? name

    trap - EXIT
    set +e # to the end, whatever
    [ "$status" -eq 0 ] || tail -n 30 "$DIR"/*.log 2>/dev/null
    for name in "${!server_pid[@]}"; do
        stop "$name"
    done
    cd "$SOURCES"
    rm -rf "$DIR"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local end=$((SECONDS + $1))

    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || die "waited for: $*"
        sleep 0.02
    done
}

listening() {
    [ -S "$1" ]
}

# server NAME COMMAND...: start it and wait until its socket is there.
server() {
    local name=$1

    shift
    rm -f "$name"
    "$@" >"$name.log" 2>&1 &
    server_pid[$name]=$!
    wait_for 20 listening "$name"
}

# For servers that a test starts or ends in its own way.
pid_of() {
    echo "${server_pid[$1]}"
}
adopt() { # NAME PID
    server_pid[$1]=$2
}
forget() {
    unset "server_pid[$1]"
}

serve_qemu() {
    local name=$1

    shift
    server "$name" qemu-nbd --persistent --shared=16 --socket="$PWD/$name" "$@"
}

serve_nbdkit() {
    local name=$1

    shift
    server "$name" nbdkit --foreground --exit-with-parent --unix="$PWD/$name" "$@"
}

stop() {
    local pid=${server_pid[$1]:-}

    [ -n "$pid" ] || return 0
    unset "server_pid[$1]"
    kill "$pid" 2>/dev/null || true
    for _ in {1..50}; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    kill -KILL "$pid" 2>/dev/null || true # a server that a test has made hang
    wait "$pid" 2>/dev/null || true
    rm -f "$1"
}

mirror() {
    "$NBD_MIRROR" "$@"
}

# mirror_fails STATUS TEXT ARGUMENTS...: it ends so and says so.
mirror_fails() {
    local wanted=$1 text=$2 status=0

    shift 2
    mirror "$@" >out.txt 2>err.txt || status=$?
    [ "$status" -eq "$wanted" ] || die "nbd-mirror $*: status $status: $(cat err.txt)"
    grep -qF -- "$text" err.txt || die "nbd-mirror $*: no \"$text\" in: $(cat err.txt)"
}

# same FORMAT A FORMAT B: both images read alike and have the same size.
same() {
    qemu-img compare -q -f "$1" -F "$3" "$2" "$4" || die "$2 and $4 differ"
    [ "$(size_of "$1" "$2")" = "$(size_of "$3" "$4")" ] || die "the sizes differ"
}

size_of() {
    qemu-img info -f "$1" --output=json "$2" | jq '."virtual-size"'
}

# Bytes that an image occupies.
allocated() {
    echo $(($(stat -c %b "$1") * 512))
}

# thin SRC DST: DST occupies at most what SRC does and 1 %, and a few blocks of metadata.
thin() {
    local src dst

    src=$(allocated "$1") dst=$(allocated "$2")
    [ "$dst" -le $((src + src / 100 + 512 * 1024)) ] ||
        die "$2 occupies $dst bytes, $1 only $src"
}

# scatter FILE SIZE SEED: make FILE with stretches of random data, zeroes and holes.
scatter() {
    local file=$1 size=$2 seed=$3 at=0 len blocks

    RANDOM=$seed
    [ -e pool ] || noise 0 $((8 << 20)) >pool
    rm -f "$file"
    truncate -s "$size" "$file"
    while [ "$at" -lt "$size" ]; do
        # The odd large stretch among small ones; all start at multiples of 512.
        blocks=$((RANDOM % 4 == 0 ? RANDOM % 4000 + 1 : RANDOM % 100 + 1))
        len=$((blocks * 512 < size - at ? blocks * 512 : size - at))
        case $((RANDOM % 4)) in
        0 | 1) part pool "$((RANDOM * 512 % (6 << 20)))" "$len" "$file" "$at" ;;
        2) part /dev/zero 0 "$len" "$file" "$at" ;;
        esac
        at=$((at + len))
    done
}

# noise SEED BYTES: bytes that no compressor likes, the same for the same seed.
noise() {
    openssl enc -aes-128-ctr -nosalt -K "$(printf %032x "$1")" -iv 0 -in /dev/zero \
        2>/dev/null | head -c "$2" || true
}

# part FROM OFFSET LENGTH TO OFFSET: copy between files; one process, for there are many.
part() {
    dd if="$1" of="$4" bs=1M skip="$2" count="$3" seek="$5" conv=notrunc status=none \
        iflag=skip_bytes,count_bytes oflag=seek_bytes
}

# put FILE OFFSET: write stdin there.
put() {
    dd of="$1" bs=64k seek="$2" oflag=seek_bytes conv=notrunc status=none iflag=fullblock
}
