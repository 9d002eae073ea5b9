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

# A source that does not tell its extents is read in whole: nbdcopy goes on, too.
serve_nbdkit src -r --filter=error file holes.raw error-extents=EIO error-extents-rate=100%
serve_nbdkit dst memory $((32 << 20))
mirror --json src dst >result.json
[ "$(jq .zeroed result.json)" = $((32 << 20)) ] || die "$(cat result.json)"
mirror --dry-run src dst >out.txt
grep -q '32.0 MiB data, 0 B zero, 0 B holes (the source does not tell holes)' out.txt ||
    die "$(cat out.txt)"
mirror -q --verify --no-copy src dst
stop src
stop dst

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

# What could not be read is not written: there the destination is as it was.
cmp -s a.raw b.raw && die "all of it was copied"
[ "$(head -c 5505024 b.raw | tail -c 262144 | tr -d '\0' | wc -c)" = 0 ] ||
    die "something was written where nothing could be read"

# QEMU hangs up on such a read, unless it is asked for the answer in one piece.
serve_qemu src -r --image-opts "driver=raw,file.driver=blkdebug,file.image.driver=file,\
file.image.filename=$PWD/a.raw,file.inject-error.0.event=none,file.inject-error.0.iotype=read,\
file.inject-error.0.sector=10240,file.inject-error.0.errno=5"
serve_nbdkit dst file b.raw
mirror_fails 1 "src: read of 262144 bytes at 5242880: Input/output error" \
    -C 4 --request-size=256K src dst
stop src
stop dst

# One that comes and goes is an error all the same; zeroing is tried in another way only
# where the server says that it cannot.
sometimes() {
    echo "--filter=error file $2 error-$1=EIO error-$1-rate=20%"
}
fails "src: read of 4096 bytes at" "$(sometimes pread a.raw)" "file b.raw" --request-size=4K
fails "dst: write of 4096 bytes at" "file a.raw" "$(sometimes pwrite b.raw)" --request-size=4K
fails "src: read of" "--no-sr $(always pread a.raw EIO)" "--no-sr file b.raw"
fails "dst: write of" "--no-sr file a.raw" "--no-sr $(always pwrite b.raw EIO)"
fails "dst: write zeroes of 33554432 bytes at 0: No space left on device" "file holes.raw" \
    "$(always zero zeroed.raw ENOSPC)"

# The same when both are compared: an error is no difference.
fails "src: read of 262144 bytes at" "$(always pread a.raw EIO)" "file a.raw" \
    --verify --no-copy
fails "dst: read of 262144 bytes at" "file a.raw" "$(always pread a.raw EIO)" \
    --verify --no-copy
# What is not needed may fail: reads of a sparse source, writes of zeroes to a fresh image.
serve_nbdkit src -r --filter=error null 32M error-pread=EIO error-pread-rate=100%
serve_nbdkit dst --filter=error memory 32M error=EIO error-pwrite-rate=100%
mirror -q src dst
stop dst
serve_nbdkit dst --filter=error memory 32M error=EIO error-pwrite-rate=100% error-zero-rate=100%
mirror -q --dst-zero src dst
stop src
stop dst
fails "dst: write of 262144 bytes at" "file a.raw" "$(always pwrite b.raw EIO)" \
    --repair --no-copy --request-size=256K

# The disks do not fit.
truncate -s $((size + 512)) c.raw
fails "src: the export has $size bytes, not $((size + 512))" "file a.raw" "file c.raw"
fails "src: the export has $((size + 512)) bytes, not $size" "file c.raw" "file a.raw"
fails "dst: cannot write to the export: Read-only file system" "file a.raw" "-r file b.raw"
fails "dst: cannot write to the export: Read-only file system" "file a.raw" "-r file b.raw" -n
fails "src: the export has $size bytes, not $((size + 512))" "file a.raw" "file c.raw" --dry-run
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

# A server that dies when some of it has been copied.
begun() {
    [ "$(allocated b.raw)" -gt 0 ]
}
fresh() {
    stop dst
    rm -f b.raw
    truncate -s $size b.raw
}
fresh
serve_nbdkit src -r --filter=exitwhen --filter=rate file a.raw rate=16M
serve_nbdkit dst file b.raw
(wait_for 60 begun && kill -KILL "$(pid_of src)") &
mirror_fails 1 "src: connection lost" src dst
stop src
serve_nbdkit src -r file a.raw
fresh
serve_nbdkit dst --filter=rate file b.raw rate=16M
(wait_for 60 begun && kill -KILL "$(pid_of dst)") &
mirror_fails 1 "dst: connection lost" src dst
