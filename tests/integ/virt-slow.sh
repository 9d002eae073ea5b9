#!/usr/bin/env bash
# A real QEMU's disks and CPUs are slowed and as they were afterwards: a disk without limits,
# one with limits of its own, a burst and a group among them, and one that nobody put right.
# timeout: 120
. "$(dirname "$0")/virt.bash"

lab_begin ${LAB_UP:-}
lab vm create m1 --disk raw:64M --disk qcow2:64M --disk raw:64M
lab vm wait m1
lab run a virsh -q blkdeviotune m1 vda --total-bytes-sec 50000000 \
    --total-bytes-sec-max 90000000 --total-bytes-sec-max-length 2 --group-name gold --live
lab run a virsh -q blkdeviotune m1 vdc --write-bytes-sec 40000000 --read-iops-sec 500 --live
lab run a virsh blkdeviotune m1 vda > "$WORK/before"
live slow m1
lab run a virsh blkdeviotune m1 vda > "$WORK/after"
cmp "$WORK/before" "$WORK/after" || failed "libvirt sees another limit"
! lab console a m1 | grep -E 'ERROR|I/O error' || failed "the guest saw errors"
