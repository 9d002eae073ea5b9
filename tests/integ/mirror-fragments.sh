#!/bin/bash
# 1 TiB in fragments: first what base:allocation calls data, then what a bitmap marks.
# Memory does not grow with the disk, and nothing but the fragments is copied.
# timeout: 300
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit qemu-io qemu-nbd qemu-storage-daemon jq

fragments=${FRAGMENTS:-10000} # 1000000 copies 61 GiB
limit=$((64 << 10))           # KiB

# measured ARGUMENTS...: nbd-mirror, with its peak of memory in $peak (VmHWM only grows)
measured() {
    local pid now

    peak=0
    "$NBD_MIRROR" --json "$@" >result.json &
    pid=$!
    while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null); do
        peak=${now:-$peak}
        sleep 0.02
    done
    wait $pid || die "nbd-mirror $*: $(cat result.json)"
    [ "$peak" -gt 0 ] || die "no peak was seen"
    echo "$fragments fragments, $(jq .data result.json) bytes: $peak KiB at most"
    [ "$peak" -lt $limit ] || die "nbd-mirror $*: $peak KiB"
}

truncate -s 1T a.raw
step=$(((1 << 40) / fragments & ~65535))
seq -f 'write -q -P 1 %.0f 4096' 0 $step $(((fragments - 1) * step)) |
    qemu-io -f raw a.raw >/dev/null
serve_qemu src --read-only --format=raw a.raw
coproc qsd { exec qemu-storage-daemon --chardev stdio,id=m --monitor chardev=m \
    --blockdev driver=null-co,node-name=disk,size=$((1 << 40)) \
    --nbd-server "addr.type=unix,addr.path=$PWD/dst" 2>dst.log; }
# shellcheck disable=SC2154 # coproc sets it
adopt dst "$qsd_PID"
exec {to_qsd}>&"${qsd[1]}" {from_qsd}<&"${qsd[0]}"
qmp() { # COMMAND ARGUMENTS
    local line

    echo '{"execute": "'"$1"'", "arguments": {'"$2"'}}' >&"$to_qsd"
    while IFS= read -r -t 20 line <&"$from_qsd"; do
        case $line in
        *'"error"'*) die "$1: $line" ;;
        *'"return"'*) return ;;
        esac
    done
    die "$1: no answer"
}
qmp qmp_capabilities ''
qmp block-dirty-bitmap-add '"node": "disk", "name": "b", "granularity": 65536'
qmp block-export-add \
    '"type": "nbd", "id": "e", "node-name": "disk", "name": "", "writable": true'

measured --dst-zero src dst
[ "$(jq .data result.json)" = $((fragments * 4096)) ] || die "$(cat result.json)"
stop src
qmp block-dirty-bitmap-disable '"node": "disk", "name": "b"'
qmp block-export-add \
    '"type": "nbd", "id": "x", "node-name": "disk", "name": "x", "bitmaps": ["b"]'

serve_nbdkit null null 1T
measured --src-export=x --bitmap=b dst null
# What null-co reads as is not said.
[ "$(jq '.data + .zeroed' result.json)" = $((fragments * 65536)) ] ||
    die "granules of 64 KiB: $(cat result.json)"
