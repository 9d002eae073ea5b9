#!/bin/bash
# A thick source full of zeroes makes a thin copy, raw and qcow2 in all four combinations,
# and a destination that is said to read as zeroes is not zeroed again.
. "$(dirname "$0")/lib/mirror.bash"
requires qemu-nbd qemu-img qemu-io nbdkit jq openssl

size=$((96 << 20))
noise 3 $((5 << 20)) >data

make_thick() { # FORMAT FILE: every byte is allocated, 5 MiB are data
    rm -f "$2"
    qemu-img create -q -f "$1" "$2" $size
    qemu-io -f "$1" -c "write -q -P 0 0 $size" -c "write -q -s data 40M 5M" "$2"
    [ "$(allocated "$2")" -ge $size ] || die "$2 is not thick"
}

for from in raw qcow2; do
    make_thick $from a.$from
    serve_qemu src --read-only --format=$from a.$from
    for to in raw qcow2; do
        for options in --dst-zero "--dst-zero -C 4 --request-size=64K" ""; do
            rm -f dst.img
            qemu-img create -q -f $to dst.img $size
            serve_qemu dst --format=$to --discard=unmap dst.img
            # shellcheck disable=SC2086 # a list of words
            mirror --json $options src dst >result.json
            stop dst
            same $from a.$from $to dst.img
            # The data and what qcow2 needs to know where it is.
            [ "$(allocated dst.img)" -le $(((5 << 20) * 101 / 100 + 512 * 1024)) ] ||
                die "$from to $to $options: $(allocated dst.img) bytes"
            [ "$(jq .data result.json)" = $((5 << 20)) ] || die "$(cat result.json)"
            case $options in
            --dst-zero*) [ "$(jq .zeroed result.json)" = 0 ] || die "$(cat result.json)" ;;
            esac
        done
    done
    stop src
done

# Not one request to zero, neither for what is allocated nor for holes.
truncate -s $((2 * size)) a.raw
truncate -s $((2 * size)) b.raw
serve_nbdkit src -r file a.raw
serve_nbdkit dst --filter=error file b.raw error-zero=EIO error-zero-rate=100%
mirror -q --dst-zero src dst
cmp a.raw b.raw
mirror_fails 1 "write zeroes of" src dst
