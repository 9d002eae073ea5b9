#!/usr/bin/env bash
# Dirty bitmaps and NBD exports in a real QEMU: a full cycle, what cleans up after a move
# that died, what is kept of one that was stopped, servers of other programs left alone, and a
# disk set that changes is noticed.
# timeout: 180
. "$(dirname "$0")/virt.bash"

# changed TEXT CMD: while CMD changes the disks, this is what is said
changed() {
    live blk-changed m1 "$2" > "$WORK/out"
    grep -q "the disk set changed: $1" "$WORK/out" || failed "'$(< "$WORK/out")', not '$1'"
    echo "ok   $(tail -n 1 "$WORK/out")"
}

lab_begin ${LAB_UP:-}
lab vm create m1 --disk raw:64M --disk qcow2:96M
lab vm wait m1
live blk m1
live blk-fd m1
live blk-foreign m1
live blk-cleanup m1
live blk-keep m1

lab run a qemu-img create -q -f raw /var/lib/images/new.raw 1M
changed "vdb has another size" "virsh -q blockresize m1 vdb 100M"
changed "3 block devices, there were 2" \
    "virsh -q attach-disk m1 /var/lib/images/new.raw vdc --subdriver raw --live"
changed "vdc is gone" "virsh -q detach-disk m1 vdc --live
    for i in \$(seq 100); do virsh domblklist m1 | grep -q vdc || exit 0; sleep 0.1; done"
changed "vda has another image on top" "virsh -q snapshot-create-as m1 s1 --disk-only \
    --no-metadata --diskspec vda,file=/var/lib/images/snap.qcow2 --diskspec vdb,snapshot=no"

# QEMU kept running through all of it, and the guest saw no error.
[ "$(lab where m1)" = a ] || failed "m1 does not run"
! lab console a m1 | grep -E 'ERROR|I/O error' || failed "the guest saw errors"
