#!/usr/bin/env bash
# A disk that the guest does not write to takes no part in the rounds, and is what it was.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

# exports DISK: how often it was exported and not any more
exports() { lab events raw | grep QMP_BLOCK_EXPORT_DELETED | grep -c -- "-$1-" || true; }

lab_begin
lab vm create vm --no-start --disk raw:64M:16M --disk raw:64M:32M --mem 160 --ram 8M --write 4M
# Without its superblock the guest leaves it alone.
dd if=/dev/zero of="$LAB_DIR/a/images/vm-vdb.raw" bs=512 count=1 conv=notrunc status=none
lab vm start vm
lab vm wait vm

move vm --disks-to /var/lib/images
expect_status 0
judge --disks none
cmp "$LAB_DIR"/[ab]/images/vm-vdb.raw || failed "the idle disk differs"
idle=$(exports vdb) rounds=$(result .rounds)
holds "in $rounds rounds the idle disk was exported $idle times: for the first pass and to compare a sample" \
    "$idle" -le 3
holds "the other one for the rounds, too" "$(exports vda)" -ge $((rounds - 1 + 2))
