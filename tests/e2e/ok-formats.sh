#!/usr/bin/env bash
# Formats are converted on the way, sizes stay exact, disks go to different places.  All
# guests stand still, so that both copies can be compared byte for byte.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

ODD=$(((1 << 30) + 512))

# disk_is DEV FORMAT PATH: of the attempt's guest, on b
disk_is() {
    holds "$1 is $2 at $3" "$(grep "^$1 " "$ATTEMPT/after/disks.b")" = "$1 $2 $3"
}

size_is() { # IMAGE-OF-B BYTES
    holds "$1 has $2 bytes" "$(qemu-img info -U --output=json "$LAB_DIR/b/images/$1" |
        jq '.["virtual-size"]')" = "$2"
}

lab_begin
mkdir "$LAB_DIR/b/images/other"
lab vm create swap --disk raw:100M:20M --disk qcow2:100M:20M --mem 128 --ram 8M
lab vm create odd --disk raw:$ODD:20M --disk qcow2:$ODD:20M --mem 128 --ram 8M
lab vm create tail --disk raw:$ODD:20M --mem 128 --ram 8M --write 10M
for vm in swap odd tail; do lab vm wait $vm; done

echo "== raw becomes qcow2 and qcow2 raw, in two directories"
move swap --disk vda=/var/lib/images/other/first.qcow2,format=qcow2 \
    --disk vdb=/var/lib/images/second.raw,format=raw
moved --compare
disk_is vda qcow2 /var/lib/images/other/first.qcow2
disk_is vdb raw /var/lib/images/second.raw
old_disks_away swap

echo "== 1 GiB and 512 bytes, raw and qcow2, formats kept"
move odd --disks-to /var/lib/images
moved --compare
size_is odd-vda.raw $ODD
size_is odd-vdb.qcow2 $ODD
holds "the raw file is no longer than that" "$(stat -c %s "$LAB_DIR/b/images/odd-vda.raw")" = $ODD
old_disks_away odd

echo "== 1 GiB and 512 bytes, written to while it becomes qcow2; one disk elsewhere"
move tail --disks-to /var/lib/images/other --format qcow2
moved
disk_is vda qcow2 /var/lib/images/other/tail-vda.qcow2
size_is other/tail-vda.qcow2 $ODD
complete tail b a
