#!/usr/bin/env bash
# What src/virt/blk.c assumes of QEMU's NBD server and iothreads: before 9.0, a client of an
# export whose disk is in an iothread must not close its connection while the export exists
# (assertion in nbd_blockdev_client_closed, the guest is gone), whereas deleting the export
# first, which makes QEMU close, is safe.  From 9.0 on both are.
# timeout: 120
. "$(dirname "$0")/../integ/virt.bash"

lab_begin ${LAB_UP:-}
lab vm create m1 --disk raw:8M --no-start
lab run a virsh -q dumpxml --inactive m1 |
    sed -e "s|</vcpu>|&<iothreads>1</iothreads>|" -e "s|type='raw' |&iothread='1' |" \
        > "$WORK/domain.xml"
lab run a virsh -q define "$WORK/domain.xml"
lab run a virsh -q start m1
lab vm wait m1
version=$(lab run a qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p')

after=$(live blk-close m1 after)
first=$(live blk-close m1 first)
echo "QEMU $version: export deleted first: $after; client closes first: $first"
[ "$after" = survived ] || failed "not even that is safe"
if [ "$version" -ge 9 ]; then
    [ "$first" = survived ] || failed "src/virt/blk.c allows what kills this QEMU"
else
    [ "$first" = died ] || failed "this QEMU is better than src/virt/blk.c believes"
fi
