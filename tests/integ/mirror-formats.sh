#!/bin/bash
# Raw and qcow2, in all four combinations, onto fresh images and onto ones full of dirt:
# the result is the same image, and as thin.
. "$(dirname "$0")/lib/mirror.bash"
requires qemu-nbd qemu-img qemu-io jq openssl

size=$((100 * 1024 * 1024))
scatter a.raw $size 1
qemu-img convert -q -f raw -O qcow2 a.raw a.qcow2

make_dirty() { # an image of that format without a single zero
    rm -f dst.img
    qemu-img create -q -f "$1" dst.img $size
    qemu-io -f "$1" -c "write -q -P 0xa5 0 $size" dst.img
}

for from in raw qcow2; do
    serve_qemu src --read-only --format=$from a.$from
    for to in raw qcow2; do
        rm -f dst.img
        qemu-img create -q -f $to dst.img $size
        serve_qemu dst --format=$to --discard=unmap dst.img
        mirror -q --dst-zero src dst
        stop dst
        same $from a.$from $to dst.img
        # A raw image has holes of 4 KiB, a qcow2 one of 64 KiB.
        [ $from = raw ] && [ $to = qcow2 ] || thin a.$from dst.img

        make_dirty $to
        serve_qemu dst --format=$to --discard=unmap dst.img
        mirror -q src dst
        stop dst
        same $from a.$from $to dst.img
        [ $to = qcow2 ] || thin a.$from dst.img
    done
    stop src
done
