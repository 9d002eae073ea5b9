#!/usr/bin/env bash
# A libvirtd restarts, or a host reboots, where the e2e tests do not do it.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

BULK=bulk:delay-1
HELD=switch.suspended:delay-300
REL=agent.released:delay-500

# The guest was lost with its host; its disks there are as its last writes left them.
source_reboots() {
    faulty_attempt "$1" "reboot_host a"
    expect_off
}

expect_off() {
    recovered
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    echo 5 > "$ATTEMPT/status"
    verdict --budget none --disks off
    lab vm start vm
    vm_ready
    again
    go_home
}

# Its QEMU had sent all and was ended by libvirt, but nothing on its disk tells that from one
# that libvirt had resumed: the memory that the destination has may be old.
source_gone() { [ "$(on a virsh -q domstate vm)" = 'shut off' ]; }
reboot_when_gone() { await 5 source_gone && lab reboot a; }
source_reboots_released() {
    faulty_attempt switch.released:delay-6000 reboot_when_gone
    expect_off
}

# The order to end the source's QEMU, libvirt's last, is lost with the libvirtd there: it is
# snmigrate that ends it.  Killed after that, its guard does not take it for the guest's end.
sent_all() {
    on a virsh -q qemu-monitor-command vm '{"execute":"query-migrate"}' | grep -q '"completed"'
}
lose_confirmation() {
    on b pkill -STOP -x libvirtd
    await 10 sent_all || return 1
    sleep 0.3
    lab kill-host-daemon a
    on b pkill -CONT -x libvirtd
    sleep 0.5
    lab restart-libvirtd a
}
confirmation_lost() {
    BUDGET=5000 # a restart takes its time
    MOVE=(snmigrate --json -vv --max-downtime 5s --disks-to /var/lib/images vm root@hostb)
    faulty_attempt "switch.release:delay-700$1" lose_confirmation
    said_in_attempt 'ending it$'
    expect_end "$2"
    verdict
    [ "$(where_is)" = destination ] || failed "the guest is: $(where_is)"
    go_home
}

source_reboots_in_finish() {
    faulty_attempt finish:delay-2000 "reboot_host a"
    recovered
    verdict --budget none
    [ "$(where_is)" = destination ] || failed "the guest is: $(where_is)"
    go_home
}

# All had gone to a host that then lost its power: like a power cut of the guest there.
destination_reboots_at_commit() {
    faulty_attempt commit:delay-500 "reboot_host b"
    case $(< "$ATTEMPT/status") in 5 | 6) ;; *) failed "exit status $(< "$ATTEMPT/status")" ;; esac
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    reset
}

#    what                                where                fault               status owner
cell "libvirtd of a restarts in preflight" preflight:delay-300 restart_src_libvirtd 9     source
cell "libvirtd of a restarts in prepare" prepare:delay-300    restart_src_libvirtd 4      source
cell "libvirtd of a restarts in rounds"  rounds:delay-300     restart_src_libvirtd 0      destination
cell "libvirtd of a restarts, released"  $REL                 restart_src_libvirtd 4      source --resumable
cell "libvirtd of a restarts at commit"  commit:delay-500     restart_src_libvirtd 0      destination --budget none
cell "libvirtd of a restarts in the finish" finish:delay-500  restart_src_libvirtd 0      destination
cell "libvirtd of b restarts in preflight" preflight:delay-300 restart_dst_libvirtd 9     source
cell "libvirtd of b restarts in prepare" prepare:delay-300    restart_dst_libvirtd 0      destination
cell "libvirtd of b restarts in rounds"  rounds:delay-300     restart_dst_libvirtd 0      destination
cell "libvirtd of b restarts, suspended" $HELD                restart_dst_libvirtd 0      destination
cell "libvirtd of b restarts, released"  $REL                 restart_dst_libvirtd 4      source --resumable
cell "libvirtd of b restarts at commit"  commit:delay-500     restart_dst_libvirtd 0      destination --budget none
cell "libvirtd of b restarts in the finish" finish:delay-500  restart_dst_libvirtd 0      destination
try "libvirtd of a dies before it has ended QEMU" confirmation_lost "" 0
try "the same, and snmigrate at commit"  confirmation_lost ,commit:kill-self killed
cell "host b reboots in preflight"       preflight:delay-300  "reboot_host b"     9      source
cell "host b reboots in prepare"         prepare:delay-300    "reboot_host b"     4      source --resumable
cell "host b reboots in bulk"            $BULK                "slowly reboot_host b" 0   destination
cell "host b reboots in rounds"          rounds:delay-300     "reboot_host b"     0      destination
cell "host b reboots in memory"          memory.loop:delay-1  "slowly reboot_host b" 0   destination
cell "host b reboots, suspended"         $HELD                "reboot_host b"     0      destination
cell "host b reboots, released"          $REL                 "reboot_host b"     4      source --resumable
try "host b reboots at commit"           destination_reboots_at_commit
try "host a reboots in bulk"             source_reboots $BULK
try "host a reboots in rounds"           source_reboots rounds:delay-2000
try "host a reboots, suspended"          source_reboots switch.suspended:delay-3000
try "host a reboots, released"           source_reboots_released
try "host a reboots in the finish"       source_reboots_in_finish
fault_end
