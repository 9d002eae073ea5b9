#!/usr/bin/env bash
# What stays at the source, and the way back: with --keep-source the definition stays and
# is in the way of a return; else the guest may go there and back again, all that it wrote
# with it, and with --remove-source-disks nothing stays.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

state_on() { lab vm state "$2" --host "$1" | head -n 1; }

lab_begin
mkdir "$LAB_DIR/a/images/back"
lab vm create kept --disk raw:64M:8M --disk qcow2:64M:8M --mem 128 --ram 8M
lab vm create tour --disk raw:100M:20M --disk qcow2:100M:20M --mem 128 --ram 8M \
    --write 4M --dirty 4M --discard
lab vm wait kept
lab vm wait tour

echo "== --keep-source: shut off at the source, definition and disks as they were"
move kept --keep-source --disks-to /var/lib/images
expect_status 0
judge_but "FAIL I7 the domain is still on a: shut-off" --compare
holds "the definition is the same" -z "$(diff "$ATTEMPT/before/inactive.xml" \
    <(lab run a virsh -q dumpxml --inactive --security-info kept))"
holds "it says that it stays" -n "$(result '.notes[]' | grep 'kept stays on hosta')"

echo "== so it cannot come back"
move_back kept --disks-to /var/lib/images/back
expect_status 3
judge_but "FAIL I7 the domain is still on a: shut-off"
holds "all that is in the way is said" \
    "$(jq -r 'select(.type == "finding" and .level == "blocker").code' "$ATTEMPT/json" |
        sort | tr '\n' ' ')" = "uuid-taken "
holds "it is off there" "$(state_on a kept)" = "shut off (migrated)"

old_disks_away kept

echo "== there"
move tour --disks-to /var/lib/images
moved
holds "the disks stay" -s "$LAB_DIR/a/images/tour-vda.raw" -a -s "$LAB_DIR/a/images/tour-vdb.qcow2"

echo "== back again, beside the old disks; the others go"
move_back tour --remove-source-disks --disks-to /var/lib/images/back
moved --disks none
holds "no disk stays" -z "$(find "$LAB_DIR/b/images" -name 'tour*')"
complete tour a a
