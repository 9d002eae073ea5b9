#!/usr/bin/env bash
# Onto images that lie there already: only what differs travels, whatever is wrong with them is
# said before anything is touched, and they stay where they are when the move does not come.
# A guest that writes and an agent that dies in the middle change nothing of that.
# timeout: 420
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

SIZE=$((256 * MIB))
BLOCKS=$((SIZE / 65536))
IMAGES=/var/lib/images

# seed_of VM: copies of its disks, which may be in use, on the other host
seed_of() {
    local image
    for image in "$LAB_DIR/a/images/$1"-vd?.*; do
        cp --sparse=always "$image" "$LAB_DIR/b/images/"
    done
}

# spoil_one_percent FILE: of the blocks of a raw image, spread over all of it
spoil_one_percent() {
    local i
    for ((i = 50; i < BLOCKS; i += 100)); do
        dd if=/dev/urandom of="$1" bs=64K seek=$i count=1 conv=notrunc status=none
    done
}

# spoil_qcow2 FILE: the same through the format
spoil_qcow2() {
    local i args=()
    for ((i = 50; i < BLOCKS; i += 100)); do
        args+=(-c "write -q -P $((i % 251 + 1)) $((i * 65536)) 65536")
    done
    qemu-io -f qcow2 "${args[@]}" "$1" > /dev/null
}

# refused VM WORDS: before anything is changed, and what lies there is as it was
refused() {
    local before
    before=$(cd "$LAB_DIR/b/images" && sha256sum -- *)
    move "$1" --seed --disks-to $IMAGES
    expect_status 3
    grep -qE "$2" "$ATTEMPT/stderr" || failed "not said: $2"
    [ "$before" = "$(cd "$LAB_DIR/b/images" && sha256sum -- *)" ] || failed "something changed"
    judge
    echo "ok   refused: $(grep -oEm 1 "$2" "$ATTEMPT/stderr")"
}

# in_bulk SECONDS: so long after the bulk pass of the coming attempt has begun
in_bulk() { at_point copy.exported && sleep "$1"; }

interrupt() { in_bulk "$1" && lab run a pkill -INT -f '^snmigrate --json'; }
kill_agent() { in_bulk "$1" && lab run b pkill -KILL -f '^[^ ]*snmigrate agent'; }

lab_begin
lab vm create quiet --disk raw:$SIZE:200M --disk qcow2:$SIZE:60M --mem 128 --ram 8M
lab vm create busy --disk raw:$SIZE:100M --disk qcow2:$SIZE:60M --mem 128 --ram 8M --write 4M
lab vm wait quiet
lab vm wait busy

echo "== nothing there, another size, a backing file, another format"
move quiet --seed --disks-to $IMAGES
expect_status 3
grep -q 'no-seed\|only what differs was to be copied' "$ATTEMPT/stderr" || failed "not said"
judge
seed_of quiet
truncate -s +512 "$LAB_DIR/b/images/quiet-vda.raw"
refused quiet "quiet-vda.raw has $((SIZE + 512)) bytes, the disk has $SIZE"
truncate -s $SIZE "$LAB_DIR/b/images/quiet-vda.raw"
mv "$LAB_DIR/b/images/quiet-vdb.qcow2" "$LAB_DIR/b/images/base.qcow2"
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 "$LAB_DIR/b/images/quiet-vdb.qcow2"
refused quiet 'quiet-vdb.qcow2 has a backing file'
rm "$LAB_DIR/b/images/quiet-vdb.qcow2"
qemu-img convert -O raw "$LAB_DIR/b/images/base.qcow2" "$LAB_DIR/b/images/quiet-vdb.qcow2"
refused quiet 'quiet-vdb.qcow2 is not a qcow2 image'

echo "== Ctrl-C in the middle: they lie there still, and the next try makes them right"
rm "$LAB_DIR"/b/images/*
truncate -s $SIZE "$LAB_DIR/b/images/quiet-vda.raw"
qemu-img create -q -f qcow2 "$LAB_DIR/b/images/quiet-vdb.qcow2" $SIZE
interrupt 3 & job=$!
attempt quiet env SNMIGRATE_FAULT=copy.exported:delay-1 snmigrate --json -v --seed \
    --bandwidth 4MiB/s --disks-to $IMAGES quiet root@hostb
wait $job || failed "it was not interrupted"
expect_status 130
judge
holds "the raw image is there" -f "$LAB_DIR/b/images/quiet-vda.raw"
holds "the qcow2 image is there" -f "$LAB_DIR/b/images/quiet-vdb.qcow2"

echo "== copies of which one block in a hundred differs; what is compared is not compared again"
rm "$LAB_DIR"/b/images/*
seed_of quiet
spoil_one_percent "$LAB_DIR/b/images/quiet-vda.raw"
spoil_qcow2 "$LAB_DIR/b/images/quiet-vdb.qcow2"
attempt quiet env SNMIGRATE_FAULT=compare.safe:fail:12 snmigrate --json -v --seed --retries 0 \
    --disks-to $IMAGES quiet root@hostb
expect_status 4
judge
holds "12 steps of 16 MiB at least are kept" "$(result .kept.bytes)" -ge $((12 * 16 * MIB))
move quiet -v --seed --disks-to $IMAGES
moved --compare
holds "it goes on there" "$(grep -c 'info disks: vd.: going on at' "$ATTEMPT/stderr")" -ge 1
disks=$((2 * SIZE))
holds "$(result .disk_bytes) bytes of $disks were copied" "$(result .disk_bytes)" -le $((disks / 50))
holds "some were" "$(result .disk_bytes)" -gt 0
holds "and $(result '.sent + .received') travelled, memory included" \
    "$(result '.sent + .received')" -le $((disks * 3 / 100 + $(result .ram_bytes) * 11 / 10))

echo "== an older copy of a guest that writes all the time; the agent dies in the middle"
seed_of busy
truncate -s 0 "$LAB_DIR/b/images/busy-vda.raw"
truncate -s $SIZE "$LAB_DIR/b/images/busy-vda.raw"
kill_agent 3 & job=$!
attempt busy env SNMIGRATE_FAULT=copy.exported:delay-1 snmigrate --json -v --seed \
    --bandwidth 16MiB/s --max-downtime 1s --disks-to $IMAGES busy root@hostb
wait $job || failed "the agent was not killed"
json_is_sound
moved --disks none --budget 1000
holds "it was ridden through" "$(result .redials)" -ge 1
complete busy b a
