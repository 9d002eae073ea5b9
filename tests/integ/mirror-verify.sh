#!/bin/bash
# --verify finds what differs, block by block, and writes nothing; --repair copies that again
# and nothing else.  With servers that can do less than they might.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit qemu-nbd qemu-img jq openssl

size=$(((40 << 20) + 4608)) block=262144
scatter a.raw $size 21

# differ OFFSET...: make the byte there another one, in b.raw.
differ() {
    local at

    for at; do
        printf '%b' "\\x$(printf %02x $((0x$(xxd_at "$at") ^ 0x5a)))" | put b.raw "$at"
    done
}

xxd_at() {
    od -An -tx1 -j "$1" -N 1 b.raw | tr -d ' '
}

# verified STATUS [OPTIONS]: compare src and dst; the result is in result.json.
verified() {
    local status=0 wanted=$1

    shift
    mirror --json --verify --no-copy "$@" src dst >result.json 2>err.txt || status=$?
    [ $status -eq "$wanted" ] || die "status $status: $(cat err.txt result.json)"
}

found() { # EXPRESSION
    jq -e "$1" result.json >/dev/null || die "no $1: $(cat result.json)"
}

# between 'SRC ARGUMENTS' 'DST ARGUMENTS': alike, then not, then repaired.
between() {
    cp --sparse=always a.raw b.raw
    # shellcheck disable=SC2086 # these are lists of words
    {
        serve_nbdkit src -r $1
        serve_nbdkit dst $2
    }
    verified 0
    found '.result == "ok" and .verify.differ == 0 and .verify.found == []'
    differ 0 $((5 * block + 17)) $((6 * block - 1)) $((6 * block)) $((size - 1))
    cp b.raw before.raw
    verified 3
    found ".result == \"differ\" and .verify.stretches == 3 and .verify.found == [
        { offset: 0, length: $block }, { offset: $((5 * block)), length: $((2 * block)) },
        { offset: $((size / block * block)), length: $((size % block)) }]"
    cmp b.raw before.raw || die "--verify has written"
    verified 0 --repair -C 2
    found ".verify.repaired == $((3 * block + size % block)) and .verify.differ == 0"
    cmp a.raw b.raw
    stop src
    stop dst
}

between "file a.raw" "file b.raw"
between "--filter=noextents file a.raw" "file b.raw"
between "--no-sr file a.raw" "--no-sr --filter=nozero file b.raw"
between "--filter=multi-conn file a.raw multi-conn-mode=disable" \
    "--filter=noparallel file b.raw serialize=all-requests"
sizes="blocksize-preferred=65536 blocksize-error-policy"
between "--filter=blocksize-policy file a.raw blocksize-minimum=512
    blocksize-maximum=65536 $sizes=error" "file b.raw"
for min in 4096 65536; do
    between "file a.raw" "--filter=blocksize-policy file b.raw blocksize-minimum=$min
        $sizes=allow"
done

# After a copy, between formats; holes of one are zeroes of the other, and are not read.
qemu-img convert -q -f raw -O qcow2 -S 0 a.raw a.qcow2
rm -f b.raw
truncate -s $size b.raw
serve_qemu src --read-only --format=qcow2 a.qcow2
serve_qemu dst --format=raw --discard=unmap b.raw
mirror --verify --dst-zero src dst >out.txt
grep -q '^40.0 MiB compared: alike$' out.txt || die "$(cat out.txt)"
verified 0
found ".verify.read_dst < $size"
stop src
stop dst

# The destination loses what is written: neither the copy nor the repair can be told so.
noise 22 $size >b.raw
serve_nbdkit src -r file a.raw
serve_nbdkit dst eval get_size="echo $size" can_write="exit 0" pwrite="cat >/dev/null" \
    pread="dd if=$PWD/b.raw skip=\$4 count=\$3 iflag=count_bytes,skip_bytes status=none"
status=0
mirror --repair src dst >out.txt 2>err.txt || status=$?
[ $status -eq 3 ] || die "status $status: $(cat err.txt)"
grep -q 'stretch differ even now$' out.txt || die "$(cat out.txt)"
stop dst

# Disks of another size are not alike.
truncate -s $((size + 512)) b.raw
serve_nbdkit dst file b.raw
mirror_fails 1 "src has $size bytes, dst $((size + 512))" --verify --no-copy src dst
