#!/bin/bash
# Servers that can do less than they might: the copy is right all the same.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit qemu-nbd jq openssl

size=$((24 * 1024 * 1024))
scatter a.raw $size 3

dirty() {
    noise 9 $size >b.raw
}

# pair 'SRC ARGUMENTS' 'DST ARGUMENTS' [OPTIONS]: nbdkits with these filters.
pair() {
    local src=$1 dst=$2

    shift 2
    dirty
    # shellcheck disable=SC2086 # these are lists of words
    {
        serve_nbdkit src -r $src
        serve_nbdkit dst $dst
    }
    mirror --json -C 4 "$@" src dst >result.json
    cmp a.raw b.raw || die "src: $src; dst: $dst"
    stop src
    stop dst
}

result_is() { # NAME VALUE
    [ "$(jq ".$1" result.json)" = "$2" ] || die "$1 is no $2: $(cat result.json)"
}

pair "file a.raw" "file b.raw"
result_is connections 4

# No extents: everything is read, and zeroes are found in it.
pair "--filter=noextents file a.raw" "file b.raw"
[ "$(jq .zeroed result.json)" -gt 0 ] || die "no zeroes found"
pair "--no-sr file a.raw" "--no-sr file b.raw"

# No zeroing: zeroes are written.
pair "file a.raw" "--filter=nozero file b.raw zeromode=none"
pair "file a.raw" "--filter=nozero file b.raw zeromode=emulate"
pair "--filter=noextents file a.raw" "--filter=nozero file b.raw zeromode=none"
pair "file a.raw" "--filter=error file b.raw error-zero=EINVAL error-zero-rate=50%"

# One connection: where a side is not multi-conn, and where it is but lets no more in.
pair "--filter=multi-conn file a.raw multi-conn-mode=disable" "file b.raw"
pair "file a.raw" "--filter=multi-conn file b.raw multi-conn-mode=disable"
result_is connections 1
pair "file a.raw" "--filter=limit file b.raw limit=2"
result_is connections 2
pair "--filter=limit file a.raw limit=1" "file b.raw"
dirty
serve_nbdkit src -r file a.raw
server dst qemu-nbd --persistent --shared=3 --socket="$PWD/dst" --format=raw b.raw
mirror --json -C 4 src dst >result.json
cmp a.raw b.raw
result_is connections 3
stop src
stop dst

# Serialised, and answers out of order.
pair "--threads=1 file a.raw" "--threads=1 file b.raw"
pair "--filter=noparallel file a.raw serialize=all-requests" "file b.raw"

# Block sizes: the server refuses whatever breaks its rule.
policy="blocksize-error-policy=error"
for min in 4096 65536; do
    sizes="blocksize-minimum=$min blocksize-preferred=65536 $policy"
    pair "--filter=blocksize-policy file a.raw $sizes" "file b.raw"
    pair "file a.raw" "--filter=blocksize-policy file b.raw $sizes"
    pair "--filter=blocksize-policy file a.raw $sizes" \
        "--filter=blocksize-policy file b.raw $sizes" --request-size=4M
done
pair "--filter=blocksize-policy file a.raw blocksize-minimum=512 blocksize-preferred=4096
      blocksize-maximum=65536 $policy" "file b.raw" --request-size=1M
pair "file a.raw" "--filter=blocksize-policy file b.raw blocksize-minimum=4096
      blocksize-preferred=4096 blocksize-maximum=131072 $policy" --request-size=32M

# QEMU's server without --shared: one client, and it is gone when the client is.
dirty
server src qemu-nbd --socket="$PWD/src" --read-only --format=raw a.raw
server dst qemu-nbd --socket="$PWD/dst" --format=raw b.raw
mirror -q src dst
cmp a.raw b.raw
