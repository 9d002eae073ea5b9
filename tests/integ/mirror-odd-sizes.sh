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
noise 7 $size | put b.raw 0
copy
