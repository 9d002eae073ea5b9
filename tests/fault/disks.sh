#!/usr/bin/env bash
# A disk is full or broken at the destination, or broken at the source: the move ends, says
# which disk and where, and the guest goes on where it was.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M
disks_can_fail

IMAGES=/var/lib/images
STATE=/var/lib/snmigrate
FULL='No space left'
BROKEN='vd[ab].*[0-9].*Input/output error'

# fill DIRECTORY: nothing more goes into it
fill() { on b sh -c "dd if=/dev/zero of=$1/filler bs=64k 2> /dev/null || true"; }

# A directory for images that has room in the preflight, and then not.
full_in_prepare() {
    on b mount -t tmpfs -o size=64m,mode=755 small $IMAGES
    faulty_attempt prepare:delay-300 "fill $IMAGES"
    on b rm -f $IMAGES/filler
    expect_status 4
    said_in_attempt "$FULL"
    [ -z "$(on b ls -A $IMAGES)" ] || failed "left in the directory: $(on b ls -A $IMAGES)"
    on b umount $IMAGES
    verdict --budget 0
    again
    go_home
}

# full_journal POINT FAULT STATUS OWNER: no room for the agent's journal from POINT on
full_journal() {
    on b mount -t tmpfs -o size=1m,mode=700 small $STATE
    faulty_attempt "$1" "$2"
    on b rm -f $STATE/filler
    expect_status "$3"
    [ "$(where_is)" = "$4" ] || failed "the guest is: $(where_is)"
    verdict --budget none --resumable
    [ "$4" = destination ] || again
    go_home
    on b umount $STATE
}
fill_for() {
    fill $STATE
    sleep "$1"
    on b rm -f $STATE/filler
}

try "full in prepare"              full_in_prepare
try "full in bulk"                 saying "$FULL" bulk:delay-300      "fail_writes 28" 4 source
try "full in rounds"               saying "$FULL" rounds:delay-1500   "fail_writes 28" 4 source
try "full in memory"               saying "$FULL" memory.loop:delay-1500 "fail_writes 28" 4 source
try "full after the suspend"       saying "$FULL" switch.suspended:delay-300 "fail_writes 28" 4 source
try "journal full at the release"  full_journal switch.suspended:delay-300 "fill $STATE" 4 source
try "journal full at COMMIT"       full_journal commit:delay-300 "fill_for 5" 0 destination
try "EIO at b in prepare"          saying "Input/output" prepare:delay-300 "fail_writes 5" 4 source --resumable
try "EIO at b in bulk"             saying "$BROKEN" bulk:delay-300      "fail_writes 5" 4 source --resumable
try "EIO at b in rounds"           saying "$BROKEN" rounds:delay-1500   "fail_writes 5" 4 source --resumable
try "EIO at b in memory"           saying "$BROKEN" memory.loop:delay-1500 "fail_writes 5" 4 source --resumable
try "EIO at b after the suspend"   saying "$BROKEN" switch.suspended:delay-300 "fail_writes 5" 4 source --resumable
try "EIO at a in bulk"             saying "$BROKEN" bulk:delay-300      fail_reads 4 source --resumable
try "EIO at a in rounds"           saying "$BROKEN" rounds:delay-2500   fail_reads 4 source --resumable
try "EIO at a after the suspend"   saying "$BROKEN" memory.done:delay-2500 fail_reads 4 source --resumable
cell "fsync fails at the switch"   agent.closed:fail        - 4 source --resumable
cell "agent fails at the release"  agent.released:fail      - 4 source --resumable
fault_end
