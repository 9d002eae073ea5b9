#!/usr/bin/env bash
# Disks on every bus, with every option that changes what QEMU makes of them: each is
# found by its alias, exported, and its bitmap sees what the guest writes.
# timeout: 120
. "$(dirname "$0")/virt.bash"

NAME='web 1 é, of more than twenty bytes' # libvirt's directory has the first 20 characters

# disk TARGET BUS [DRIVER-ATTRIBUTES [MORE-ELEMENTS]]
disk() {
    qemu-img create -q -f raw "$LAB_DIR/a/images/$1.raw" $(((++sizes << 20) + 512))
    echo "<disk type='file' device='disk'><driver name='qemu' type='raw' $3/>" \
        "<source file='/var/lib/images/$1.raw'/><target dev='$1' bus='$2'/>$4</disk>"
}

# define IOTHREAD: the lab's domain with more disks; one of them in an iothread if asked
define() {
    sizes=0
    {
        disk sda sata '' ''
        disk sdb scsi '' ''
        disk sdc usb '' ''
        disk vdb virtio "$1" ''
        disk vdc virtio "copy_on_read='on'" '<iotune><total_iops_sec>900</total_iops_sec></iotune>'
        disk vdd virtio "discard='unmap' detect_zeroes='unmap'" "<alias name='ua-my_disk'/>"
        disk vde virtio '' '<readonly/>'
        echo "<disk type='file' device='cdrom'><target dev='sdd' bus='sata'/></disk>"
        echo "<controller type='scsi' model='virtio-scsi'/>"
    } > "$WORK/disks"
    lab run a virsh -q dumpxml --inactive m1 |
        sed -e "s|<name>.*</name>|<name>$NAME</name>|" -e '/<uuid>/d' \
            -e "s|</vcpu>|&<iothreads>1</iothreads>|" -e 's|m1-vda|vda|' \
            -e "/<controller type='usb'/{
                s/model='none'/model='qemu-xhci'/
                r $WORK/disks
            }" > "$WORK/domain.xml"
    lab run a virsh -q define "$WORK/domain.xml"
    lab run a virsh -q start "$NAME"
}

# expect TARGET QDEV DIRTY: a line of blk-each
expect() {
    grep -qE "^$1 $2 [^ ]+ size=[0-9]+ dirty=$3\$" "$WORK/out" ||
        failed "no line '$1 $2 dirty=$3'"
}

lab_begin ${LAB_UP:-}
lab vm create m1 --disk raw:8M --no-start
cp "$LAB_DIR/a/images/m1-vda.raw" "$LAB_DIR/a/images/vda.raw"
define ''
live blk-each "$NAME" | tee "$WORK/out"
expect vda '/machine/peripheral/virtio-disk0/.*' 65536
expect sda 'sata0-0-0' 65536
expect sdb 'scsi0-0-0-[0-9]' 65536
expect sdc '/machine/peripheral/usb-disk2/.*' 65536
expect vdb '/machine/peripheral/virtio-disk1/.*' 65536
expect vdc '/machine/peripheral/virtio-disk2/.*' 65536
expect vdd '/machine/peripheral/ua-my_disk/.*' 65536
expect vde '/machine/peripheral/virtio-disk4/.*' 0
live facts "$NAME"

# QEMU before 9.0 dies of an NBD client of an iothread's disk: it must not come to that.
lab run a virsh -q destroy "$NAME"
lab run a virsh -q undefine "$NAME"
define "iothread='1'"
if lab run a qemu-system-x86_64 --version | grep -qE 'version (9|[1-9][0-9])\.'; then
    live blk-each "$NAME" > "$WORK/out"
else
    live blk-refused "$NAME" | tee "$WORK/out"
    grep -q iothread "$WORK/out" || failed "another reason"
fi
[ "$(lab run a virsh domstate "$NAME" | head -n 1)" = running ] || failed "the guest died"
