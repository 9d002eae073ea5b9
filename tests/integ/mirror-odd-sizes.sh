#!/bin/bash
# Disks whose size is no multiple of anything, down to one byte and none at all.
. "$(dirname "$0")/lib/mirror.bash"
requires qemu-nbd nbdkit openssl

copy() { # between two servers on a.raw and b.raw, over zeroes and over dirt
    mirror -q "$@" src dst
    cmp a.raw b.raw
}

for size in 0 1 511 512 513 4095 4097 65537 1000001; do
    noise $size $size >a.raw
    truncate -s $size b.raw
    serve_nbdkit src -r file a.raw
    serve_nbdkit dst file b.raw
    copy
    tr '\0-\377' '\245' <a.raw >b.raw
    copy -C 1 --request-size=4K
    head -c $size /dev/zero >a.raw # only zeroes, and no hole
    copy
    stop src
    stop dst
done

# 1 GiB and a sector, with data in the last bytes.
size=$(((1 << 30) + 512))
rm -f a.raw b.raw
truncate -s $size a.raw b.raw
noise 5 1536 | put a.raw $((size - 1536))
noise 6 70000 | put a.raw 1000000
serve_qemu src --read-only --format=raw a.raw
serve_qemu dst --format=raw b.raw
copy
noise 7 3000000 | put b.raw 0
noise 7 3000000 | put b.raw $((size - 3000000))
copy

# A disk that is no whole number of the server's blocks: its rest is tried, and whether it
# can be reached is the server's to say.
size=$((1000 * 4096 + 512))
noise 8 $size >a.raw
stop src
stop dst
policy="blocksize-minimum=4096 blocksize-preferred=4096 blocksize-error-policy"
for side in src dst; do
    noise 9 $size >b.raw
    # shellcheck disable=SC2086 # a list of words
    case $side in
    src) serve_nbdkit src -r --filter=blocksize-policy file a.raw $policy=allow ;;
    dst) serve_nbdkit src -r file a.raw ;;
    esac
    # shellcheck disable=SC2086
    case $side in
    src) serve_nbdkit dst file b.raw ;;
    dst) serve_nbdkit dst --filter=blocksize-policy file b.raw $policy=allow ;;
    esac
    copy
    stop src
    stop dst
done
# shellcheck disable=SC2086
serve_nbdkit src -r --filter=blocksize-policy file a.raw $policy=error
serve_nbdkit dst file b.raw
mirror_fails 1 "src: read of 512 bytes at 4096000: Invalid argument" src dst
