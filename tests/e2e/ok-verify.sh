#!/usr/bin/env bash
# A block that somebody spoils at the destination is found, repaired and said; what the guest
# writes meanwhile is no difference.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

SIZE=$((128 * MIB))

# spoil VM: a block that the guest does not write, once it was copied
spoil() {
    local stderr=$WORK/$((ATTEMPTS + 1))/stderr end=$((SECONDS + 60))
    until grep -qs 'point=bulk.done happens now' "$stderr"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
    dd if=/dev/urandom of="$LAB_DIR/b/images/$1-vda.raw" bs=64K seek=777 count=1 \
        conv=notrunc,fsync status=none
}

lab_begin
lab vm create quiet --disk raw:$SIZE:100M --disk qcow2:$SIZE:20M --mem 128 --ram 8M
lab vm create busy --disk raw:$SIZE:60M --disk qcow2:$SIZE:20M --mem 128 --ram 8M --write 6M
lab vm wait quiet
lab vm wait busy

echo "== one block is spoilt behind the move's back"
spoil quiet & job=$!
attempt quiet env SNMIGRATE_FAULT=bulk.done:delay-2000 snmigrate --json -v --verify full \
    --disks-to /var/lib/images quiet root@hostb
wait $job || failed "it was not spoilt"
json_is_sound
moved --compare
holds "all was compared" "$(result .verified.compared)" = $((2 * SIZE))
holds "one block differed" "$(result .verified.differing)" = 65536
holds "and was repaired" "$(result .verified.repaired)" = 65536
holds "on that disk" "$(result '.disks[0].verified | "\(.compared) \(.alike) \(.differing)"')" = \
    "$SIZE $((SIZE - 65536)) 65536"
holds "each has a digest" "$(result '[.disks[].verified.digest | select(length == 32)] | length')" = 2
grep -q 'warn verify: vda: .* differed' "$ATTEMPT/stderr" || failed "it does not say so"

echo "== a guest that writes differs nowhere"
move busy --verify full --disks-to /var/lib/images
moved --disks none
holds "all was compared" "$(result .verified.compared)" = $((2 * SIZE))
holds "nothing differed" "$(result .verified.differing)" = 0
old_disks_away busy

echo "== by default a sample; or nothing"
move_back busy --disks-to /var/lib/images
moved --disks none
holds "256 blocks of each disk were compared" "$(result .verified.compared)" = $((512 * 65536))
holds "nothing differed" "$(result .verified.differing)" = 0
lab run b sh -c 'rm -f /var/lib/images/busy-vd?.*'
move busy --verify none --disks-to /var/lib/images
moved --disks none
holds "nothing was compared" "$(result '.verified // .disks[0].verified')" = null
complete busy b a
