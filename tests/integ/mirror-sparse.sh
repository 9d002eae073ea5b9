#!/bin/bash
# 20 GiB with 200 MiB of data: what is not there is neither read nor written.
. "$(dirname "$0")/lib/mirror.bash"
requires qemu-nbd qemu-img jq openssl

truncate -s 20G a.raw b.raw
for i in {0..19}; do
    noise "$i" $((10 << 20)) | put a.raw $((i * 1073741824 + i * 4096))
done
serve_qemu src --read-only --format=raw a.raw
serve_qemu dst --format=raw --discard=unmap b.raw

begun=$SECONDS
mirror -q --dst-zero src dst
[ $((SECONDS - begun)) -lt 60 ] || die "it took $((SECONDS - begun)) s"
same raw a.raw raw b.raw
thin a.raw b.raw

# Once more, now with the zeroes: it stays thin.
mirror -q src dst
same raw a.raw raw b.raw
thin a.raw b.raw
