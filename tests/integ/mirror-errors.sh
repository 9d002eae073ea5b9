#!/bin/bash
# What fails at a server fails the copy, and the message says where.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit qemu-nbd jq

size=$((8 << 20))
head -c $size /dev/urandom >a.raw
truncate -s $size b.raw
truncate -s $((32 << 20)) holes.raw zeroed.raw

# fails TEXT 'SRC ARGUMENTS' 'DST ARGUMENTS' [OPTIONS]
fails() {
    local text=$1 src=$2 dst=$3

    shift 3
    # shellcheck disable=SC2086 # these are lists of words
    {
        serve_nbdkit src -r $src
        serve_nbdkit dst $dst
    }
    mirror_fails 1 "$text" "$@" src dst
    stop src
    stop dst
}

always() { # an error filter on one command
    echo "--filter=error file $2 error-$1=$3 error-$1-rate=100%"
}

fails "src: read of 262144 bytes at 0: Input/output error" "$(always pread a.raw EIO)" \
    "file b.raw" -C 1 -R 1 --request-size=256K
fails "dst: write of 262144 bytes at 0: No space left on device" "file a.raw" \
    "$(always pwrite b.raw ENOSPC)" -C 1 -R 1 --request-size=256K
fails "dst: write zeroes of 33554432 bytes at 0: Input/output error" "file holes.raw" \
    "$(always zero zeroed.raw EIO)"
fails "src: block status of 8388608 bytes at 0: Operation not permitted" \
    "$(always extents a.raw EPERM)" "file b.raw"

# An error in the middle, with everything else in flight.
serve_nbdkit src -r eval get_size="echo $size" can_multi_conn="exit 0" pread="
    if [ \$4 -le 5242880 ] && [ \$((\$4 + \$3)) -gt 5242880 ]; then
        echo EIO no such luck >&2
        exit 1
    fi
    dd if=$PWD/a.raw skip=\$4 count=\$3 iflag=count_bytes,skip_bytes status=none"
serve_nbdkit dst file b.raw
mirror_fails 1 "src: read of 262144 bytes at 5242880: Input/output error" \
    -C 4 --request-size=256K src dst
mirror --json src dst >result.json 2>err.txt && die "no error"
[ "$(jq -r .result,.kind,.errno result.json | xargs)" = "failed nbd 5" ] ||
    die "$(cat result.json)"
stop src
stop dst

# The disks do not fit.
truncate -s $((size + 512)) c.raw
fails "src: the export has $size bytes, not $((size + 512))" "file a.raw" "file c.raw"
fails "src: the export has $((size + 512)) bytes, not $size" "file c.raw" "file a.raw"
fails "dst: cannot write to the export: Read-only file system" "file a.raw" "-r file b.raw"
fails "src: the server does not offer the bitmap b0" "file a.raw" "file b.raw" --bitmap=b0

# There is no server, or none that we know.
serve_nbdkit dst file b.raw
mirror_fails 1 "src: cannot connect" nowhere dst
mirror_fails 1 "dst: cannot connect" dst nowhere
server http socat UNIX-LISTEN:http,fork EXEC:"echo HTTP/1.1 400 Bad Request"
mirror_fails 1 "src: NBD handshake" http dst
stop dst
qemu-img create -q -f qcow2 d.qcow2 8M
serve_qemu dst --format=qcow2 --export-name=right d.qcow2
mirror_fails 1 "dst: NBD handshake" --export=wrong dst dst

# A server that dies.
serve_nbdkit src -r --filter=exitwhen --filter=rate file a.raw rate=16M
stop dst
serve_nbdkit dst file b.raw
(sleep 0.5 && kill -KILL "$(pid_of src)") &
mirror_fails 1 "src: connection lost" src dst
stop src
serve_nbdkit src -r file a.raw
stop dst
serve_nbdkit dst --filter=rate file b.raw rate=16M
(sleep 0.5 && kill -KILL "$(pid_of dst)") &
mirror_fails 1 "dst: connection lost" src dst
