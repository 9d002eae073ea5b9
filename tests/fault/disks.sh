#!/usr/bin/env bash
# A disk is full or broken at the destination, or broken at the source: the move ends, says
# which disk and where, and the guest goes on where it was.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

# It writes so much that the last round always has something to read.
fault_begin --write 4M --disk raw:64M:24M --disk qcow2:64M:8M
disks_can_fail

IMAGES=/var/lib/images
FULL='No space left'
BROKEN='vd[ab].*[0-9].*Input/output error'

# Nothing more goes into the directory of the images.
fill() { on b sh -c "dd if=/dev/zero of=$IMAGES/filler bs=64k 2> /dev/null || true"; }

# A directory for images that has room in the preflight, and then not.
full_in_prepare() {
    on b mount -t tmpfs -o size=64m,mode=755 small $IMAGES
    faulty_attempt prepare:delay-300 fill
    on b rm -f $IMAGES/filler
    expect_status 4
    said_in_attempt "$FULL"
    [ -z "$(on b ls -A $IMAGES)" ] || failed "left in the directory: $(on b ls -A $IMAGES)"
    on b umount $IMAGES
    verdict --budget 0
    again
    go_home
}

try "full in prepare"              full_in_prepare
try "full in bulk"                 saying "$FULL" bulk:delay-300      "fail_writes 28" 4 source
try "full in rounds"               saying "$FULL" rounds:delay-1500   "fail_writes 28" 4 source
try "full in memory"               saying "$FULL" memory.loop:delay-1500 "fail_writes 28" 4 source
try "full after the suspend"       saying "$FULL" switch.suspended:delay-300 "fail_writes 28" 4 source
try "EIO at b in prepare"          saying "Input/output" prepare:delay-300 "fail_writes 5" 4 source --resumable
try "EIO at b in bulk"             saying "$BROKEN" bulk:delay-300      "fail_writes 5" 4 source --resumable
try "EIO at b in rounds"           saying "$BROKEN" rounds:delay-1500   "fail_writes 5" 4 source --resumable
try "EIO at b in memory"           saying "$BROKEN" memory.loop:delay-1500 "fail_writes 5" 4 source --resumable
try "EIO at b after the suspend"   saying "$BROKEN" switch.suspended:delay-300 "fail_writes 5" 4 source --resumable
try "EIO at a in bulk"             saying "$BROKEN" bulk:delay-300      fail_reads 4 source --resumable
try "EIO at a in rounds"           saying "$BROKEN" rounds:delay-2500   fail_reads 4 source --resumable
try "EIO at a after the suspend"   saying "$BROKEN" memory.done:delay-900  fail_reads 4 source --resumable
cell "fsync fails at the switch"   agent.closed:fail        - 4 source --resumable
cell "agent fails at the release"  agent.released:fail      - 4 source --resumable
fault_end
