#!/usr/bin/env bash
# All that is in the way is said at once and nothing is changed, with --check and without;
# once it is out of the way the same command moves the guest, its NIC and CD-ROM with it.
# timeout: 180
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

# blocked STATUS "CODE..." OPTION...: the blockers that are listed, in any order
blocked() {
    local status=$1 codes=$2 got=0
    shift 2
    lab run a snmigrate --json "$@" > "$WORK/json" 2> "$WORK/stderr" || got=$?
    holds "exit status $status: $*" "$got" = "$status"
    holds "blockers: ${codes:-none}" "$(jq -r 'select(.level == "blocker").code' "$WORK/json" |
        sort | xargs)" = "$codes"
}

DEVICES="<disk type='file' device='cdrom'><driver name='qemu' type='raw'/> \
<source file='/var/lib/images/cd.iso'/><target dev='sda' bus='sata'/><readonly/></disk> \
<interface type='bridge'><source bridge='br7'/><model type='virtio'/></interface>"

# A guest with a CD-ROM and a NIC at a bridge, which host b has not; and a snapshot.
make_stuck() {
    lab run a sh -c 'ip link add br7 type bridge && ip link set br7 up'
    truncate -s 1M "$LAB_DIR/a/images/cd.iso"
    lab vm create stuck --no-start --disk qcow2:64M:8M --disk qcow2:64M:8M --mem 128 --ram 8M
    lab vm xml stuck | sed "s,</devices>,$DEVICES&," > "$WORK/stuck.xml"
    lab run a virsh -q define "$WORK/stuck.xml" > /dev/null
    lab vm start stuck
    lab vm wait stuck
    lab run a virsh -q snapshot-create-as stuck before > /dev/null
}

lab_begin
lab run b mount -t sysfs sysfs /sys # its own interfaces, not the machine's
make_stuck
uuid=$(lab run a virsh -q domuuid stuck)
lab vm create other --host b --no-start --mem 128
lab vm xml other --host b | sed "s,<uuid>.*</uuid>,<uuid>$uuid</uuid>," > "$WORK/other.xml"
lab vm undefine other --host b
lab run b virsh -q define "$WORK/other.xml" > /dev/null
echo "somebody's" > "$LAB_DIR/b/images/stuck-vdb.qcow2"

echo "== refused, and looked at from all sides: nothing is changed"
everything="missing-file no-bridge no-directory snapshots target-exists uuid-taken"
there=(--disk "vda=/srv/none/stuck.qcow2" stuck root@hostb)
move stuck "${there[@]}"
blocked 3 "$everything" "${there[@]}"
blocked 3 "$everything" --check "${there[@]}"
blocked 3 "same-host snapshots" --check stuck root@hosta
blocked 3 "disk-unknown missing-file no-bridge snapshots target-exists uuid-taken" \
    --check --disk vdx=/var/lib/images/x stuck root@hostb
blocked 3 "" --check nobody root@hostb
blocked 9 "" stuck root@hostc
blocked 2 "" --check --max-downtime 300 stuck root@hostb
expect_status 3
judge --disks none # they would take the CD-ROM for one

echo "== now it can move, and has not yet"
lab run a virsh -q snapshot-delete stuck before > /dev/null
lab run b virsh -q undefine other > /dev/null
lab run b sh -c 'ip link add br7 type bridge && mkdir -p /var/lib/images/none'
rm "$LAB_DIR/b/images/stuck-vdb.qcow2"
cp "$LAB_DIR/a/images/cd.iso" "$LAB_DIR/b/images/"
move stuck --check --disk vda=/var/lib/images/none/stuck.qcow2
expect_status 0
judge --disks none --status 3 # a 0 that leaves the guest where it is

echo "== it does"
move stuck --disk vda=/var/lib/images/none/stuck.qcow2
moved --disks none
holds "its NIC is at the bridge" -n "$(lab run b ip -br link show master br7)"
complete stuck b a
