#!/usr/bin/env bash
# The guest, or somebody who works with it, does not stand still while it is moved: it reboots
# or powers off, its QEMU dies, its disks change, another tool has a job on them.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

IMAGES=/var/lib/images
REL=agent.released:delay-500

v() { on a virsh -q "$@"; }

resize() { v blockresize vm vda 68M; }
# Also where it comes between the look at the disks and the round's connection.
RESIZED='disk set changed: vda has another size|vda: src: the export has 71303168 bytes'
snapshot() {
    v snapshot-create-as vm --disk-only --no-metadata \
        --diskspec vda,snapshot=external,file=$IMAGES/vm-over.qcow2 --diskspec vdb,snapshot=no > /dev/null
}
hotplug() { v attach-disk vm $IMAGES/vm-extra.raw vdc --subdriver raw --live "$@"; }
hotunplug() { v detach-disk vm vdb --live; }
block_job() { v blockcopy vm vda $IMAGES/vm-copy.raw --format raw --transient-job --bandwidth 1; }

# By QEMU, as long as the disk is exported.
not_resized() { ! resize 2> /dev/null || { echo "blockresize was allowed"; return 1; }; }

# locked_out: while libvirt migrates it, nobody else changes its disks
locked_out() {
    ! timeout 3 "$E2E_SRC/lab" run a virsh -q blockresize vm vda 68M 2> /dev/null ||
        { echo "blockresize was allowed"; return 1; }
}

# changed POINT FAULT STATUS WORDS: the move ends with STATUS and says WORDS; it is not gone
# back to, as the disks are no more what the next cell expects
changed() {
    on a qemu-img create -q -f raw $IMAGES/vm-extra.raw 16M
    faulty_attempt "$1" "$2"
    expect_status "$3"
    said_in_attempt "$4"
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    vm_beats || failed "the guest does not go on"
    reset
}

plugged_before() {
    on a qemu-img create -q -f raw $IMAGES/vm-extra.raw 16M
    hotplug --config
    attempt vm "${MOVE[@]}"
    expect_status 0
    verdict --disks none # the guest's program writes nothing on a disk that it did not boot with
    on b qemu-img info -U --output=json $IMAGES/vm-extra.raw | grep -q '"virtual-size": 16777216' ||
        failed "the disk is not there"
    reset
}

# job_before: what a backup tool does when the move begins
job_before() {
    block_job
    attempt vm "${MOVE[@]}"
    expect_status 3
    said_in_attempt 'block job'
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    v blockjob vm vda --abort
    verdict --allow '^a /var/lib/images/vm-copy.raw'
    reset
}

#    what                          where                  fault         status owner
cell "reboot in preflight"         preflight:delay-500    press_reset   0      destination
cell "reboot in prepare"           prepare:delay-500      press_reset   0      destination
cell "reboot in bulk"              bulk:delay-1           "slowly press_reset" 0 destination
cell "reboot in rounds"            rounds:delay-500       press_reset   0      destination
cell "reboot in memory"            memory.loop:delay-1    "slowly press_reset" 0 destination
reset
cell "power off in preflight"      preflight:delay-4000   press_power   5      off
cell "power off in prepare"        prepare:delay-4000     press_power   5      off
cell "power off in rounds"         rounds:delay-4000      press_power   5      off
cell "power off in memory"         memory.loop:delay-4000 press_power   5      off
cell "QEMU of a killed in preflight" preflight:delay-500  kill_src_qemu 5      off
cell "QEMU of a killed in prepare" prepare:delay-500      kill_src_qemu 5      off
cell "QEMU of a killed in rounds"  rounds:delay-500       kill_src_qemu 5      off
cell "QEMU of a killed, suspended" switch.suspended:delay-500 kill_src_qemu 5  off
cell "QEMU of a killed, released"  $REL                   kill_src_qemu 5      off
reset
try "disk hot-plugged before"      plugged_before
try "disk resized in prepare"      changed prepare:delay-1000 resize   4 "disk set changed: vda has another size"
try "disk resized in rounds"       changed rounds:delay-1500 resize    4 "$RESIZED"
cell "resizing is refused in bulk" bulk:delay-1           "slowly not_resized" 0 destination
try "snapshot in bulk"             changed bulk:delay-1 "slowly snapshot" 4 "disk set changed: vda has another image"
try "snapshot in rounds"           changed rounds:delay-1500 snapshot  4 "disk set changed: vda has another image"
try "disk hot-plugged in bulk"     changed bulk:delay-1 "slowly hotplug" 4 "disk set changed"
try "disk unplugged in rounds"     changed rounds:delay-3000 hotunplug 4 "disk set changed: vdb is gone"
cell "disks are locked in memory"  memory.loop:delay-1    "slowly locked_out" 0      destination
try "block job before"             job_before
try "block job in prepare"         changed prepare:delay-1000 block_job 4 "block job|another image on top"
try "block job in rounds"          changed rounds:delay-1500 block_job 4 "block job|another image on top"
fault_end
