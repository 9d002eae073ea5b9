#!/usr/bin/env bash
# Formats are converted on the way, odd sizes stay exact, disks go to different places.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

ODD=$(((1 << 30) + 512))

# disk_is DEV FORMAT FILE: of the attempt's guest, on b
disk_is() {
    holds "$1 is $2, $3" "$(grep "^$1 " "$ATTEMPT/after/disks.b")" = "$1 $2 /var/lib/images/$3"
    holds "and has $ODD bytes" "$(qemu-img info -U --output=json "$LAB_DIR/b/images/$3" |
        jq '.["virtual-size"]')" = $ODD
}

lab_begin
mkdir "$LAB_DIR/b/images/other"
lab vm create cross --disk raw:$ODD:20M --disk qcow2:$ODD:20M --mem 128 --ram 8M
lab vm create kept --disk raw:$ODD:20M --disk qcow2:$ODD:20M --mem 128 --ram 8M --write 8M
lab vm wait cross
lab vm wait kept

echo "== raw becomes qcow2 and qcow2 raw, in two directories; nobody writes: compared"
move cross --disks-to /var/lib/images/other --format qcow2 \
    --disk vdb=/var/lib/images/second.raw,format=raw
moved --compare
disk_is vda qcow2 other/cross-vda.qcow2
disk_is vdb raw second.raw
old_disks_away cross
lab vm destroy cross --host b
lab run b rm /var/lib/images/other/cross-vda.qcow2 /var/lib/images/second.raw

echo "== the formats are kept, and the guest writes"
move kept --disks-to /var/lib/images
moved --disks none
disk_is vda raw kept-vda.raw
disk_is vdb qcow2 kept-vdb.qcow2
holds "the raw file is no longer" "$(stat -c %s "$LAB_DIR/b/images/kept-vda.raw")" = $ODD
complete kept b a
