#!/bin/bash
# Rounds by dirty bitmap, as a move does them: a guest (qemu-io on a writable export) goes
# on writing, zeroing and discarding, while qemu-storage-daemon's bitmaps are swapped.
. "$(dirname "$0")/lib/mirror.bash"
requires qemu-storage-daemon qemu-nbd qemu-img qemu-io jq openssl

size=$((96 << 20))

qmp() { # one command; what it returns, on stdout
    local line

    echo "$1" >&"$to_qsd"
    while IFS= read -r -t 20 line <&"$from_qsd"; do
        case $line in
        *'"error"'*) die "$1: $line" ;;
        *'"return"'*)
            echo "$line"
            return
            ;;
        esac
    done
    die "$1: no answer"
}

add_bitmap() {
    qmp '{"execute": "block-dirty-bitmap-add", "arguments":
         {"node": "disk", "name": "'"$1"'", "granularity": 65536}}' >/dev/null
}

# swap OLD NEW: writes are recorded in NEW from one instant on.
swap() {
    qmp '{"execute": "transaction", "arguments": {"actions": [
         {"type": "block-dirty-bitmap-add", "data":
          {"node": "disk", "name": "'"$2"'", "granularity": 65536}},
         {"type": "block-dirty-bitmap-disable", "data":
          {"node": "disk", "name": "'"$1"'"}}]}}' >/dev/null
}

# with_export NAME BITMAPS-JSON COMMAND...: run it while a read-only export is there.
with_export() {
    local name=$1 bitmaps=$2

    shift 2
    qmp '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "'"$name"'",
         "node-name": "disk", "name": "'"$name"'", "bitmaps": '"$bitmaps"'}}' >/dev/null
    "$@"
    qmp '{"execute": "block-export-del", "arguments": {"id": "'"$name"'"}}' >/dev/null
    wait_for 10 export_gone "$name"
}

export_gone() {
    ! qmp '{"execute": "query-block-exports"}' | grep -q "\"$1\""
}

round() { # OLD NEW [OPTIONS]: copy what OLD has marked
    local old=$1

    swap "$old" "$2"
    shift 2
    with_export "x$old" '["'"$old"'"]' \
        mirror --json --src-export="x$old" --bitmap="$old" "$@" src dst >result.json
    qmp '{"execute": "block-dirty-bitmap-remove", "arguments":
         {"node": "disk", "name": "'"$old"'"}}' >/dev/null
}

guest() { # qemu-io commands
    local args=() c

    for c; do
        args+=(-c "$c")
    done
    qemu-io -f raw -d unmap "${args[@]}" "nbd+unix:///guest?socket=$PWD/src" >guest.out 2>&1 ||
        die "guest: $(cat guest.out)"
    ! grep -qi 'failed' guest.out || die "guest: $(cat guest.out)"
}

busy_guest() { # many small writes, from a seed, until the file "enough" is there
    RANDOM=$1
    while [ ! -e enough ]; do
        guest "write -q -P $((RANDOM % 255 + 1)) $((RANDOM * 512)) $((RANDOM % 200 * 512 + 512))" \
            "write -q -z $((RANDOM * 2048)) $((RANDOM % 200 * 512 + 512))" \
            "discard -q $((RANDOM * 2048)) $((RANDOM % 100 * 4096 + 4096))"
    done
}

run() { # FORMAT OF THE SOURCE, OF THE DESTINATION
    local old=b0 n busy

    rm -f a.img b.img enough src
    qemu-img create -q -f "$1" a.img $size
    qemu-img create -q -f "$2" b.img $size
    for n in {0..11}; do
        qemu-io -f "$1" -c "write -q -P $((n + 1)) $((n * 8))M $((n + 1))00k" a.img
    done
    coproc qsd { exec qemu-storage-daemon --chardev stdio,id=m --monitor chardev=m \
        --blockdev driver=file,node-name=file,filename=a.img,discard=unmap \
        --blockdev "driver=$1,node-name=disk,file=file,discard=unmap" \
        --nbd-server "addr.type=unix,addr.path=$PWD/src,max-connections=0" 2>src.log; }
    # shellcheck disable=SC2154 # coproc sets it
    adopt src "$qsd_PID"
    exec {to_qsd}>&"${qsd[1]}" {from_qsd}<&"${qsd[0]}" # those of bash are not inherited
    qmp '{"execute": "qmp_capabilities"}' >/dev/null
    qmp '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "guest",
         "node-name": "disk", "name": "guest", "writable": true}}' >/dev/null
    serve_qemu dst --format="$2" --discard=unmap b.img

    # Everything, while the guest is busy; then what it has done meanwhile, four times.
    add_bitmap b0
    busy_guest 42 &
    busy=$!
    with_export xall '[]' mirror -q --dst-zero --src-export=xall src dst
    for n in 1 2 3 4; do
        round $old b$n
        [ "$(jq .data result.json)" -gt 0 ] || die "the guest was not busy"
        old=b$n
    done
    touch enough
    wait $busy

    # With the guest stopped: a last round makes them alike.  One that ends in the middle
    # of the bitmap's granularity, and a stretch that becomes zero where there was data.
    guest "write -q -P 77 1000448 512" "write -q -z 8M 100k" "discard -q 16M 64k"
    round $old c0
    round c0 c1
    [ "$(jq '.data + .zeroed' result.json)" = 0 ] || die "not idle: $(cat result.json)"

    # Nothing but what was written is copied.
    guest "write -q -P 78 32M 64k" "write -q -P 79 70M 1k"
    round c1 c2 -C 1
    [ "$(jq '.data + .zeroed' result.json)" -le $((3 * 65536)) ] ||
        die "too much: $(cat result.json)"

    # What the guest discards becomes holes, as at the source.
    guest "discard -q 0 64M"
    round c2 c3
    [ "$(jq .data result.json)" = 0 ] || die "discards are no data: $(cat result.json)"
    qmp '{"execute": "quit"}' >/dev/null
    wait "$(pid_of src)" || true
    forget src
    exec {to_qsd}>&- {from_qsd}<&-
    stop dst
    same "$1" a.img "$2" b.img
    thin a.img b.img
}

run raw raw
run qcow2 qcow2
run qcow2 raw
