# shellcheck shell=bash
# vm.sh - virtual machines that run the test guest
#
# Images are $LAB_DIR/HOST/images/NAME-vdX.FORMAT, /var/lib/images/... on the host.

# shellcheck disable=SC2034 # the options of one "vm" command, set by vm_options
vm_defaults() {
    VM_HOST=a VM_MEM=256 VM_WRITE=0 VM_DIRTY=0 VM_RAM=64M VM_DISCARD=0 VM_CMDLINE='' VM_AGENT=''
    VM_PAUSED='' VM_START=1 VM_CACHE='' VM_DISKS=() VM_FOR=READY VM_TIMEOUT=90
}

vm_options() {
    vm_defaults
    while [ $# -gt 0 ]; do
        case $1 in
            --discard) VM_DISCARD=1; shift; continue ;;
            --agent) VM_AGENT=1; shift; continue ;;
            --paused) VM_PAUSED=--paused; shift; continue ;;
            --no-start) VM_START=; shift; continue ;;
        esac
        [ $# -ge 2 ] || die_usage "vm: $1 needs a value"
        case $1 in
            --host) check_host "$2"; VM_HOST=$2 ;;
            --disk) VM_DISKS+=("$2") ;;
            --mem) VM_MEM=$2 ;;
            --write) VM_WRITE=$2 ;;
            --dirty) VM_DIRTY=$2 ;;
            --ram) VM_RAM=$2 ;;
            --cmdline) VM_CMDLINE=$2 ;;
            --cache) VM_CACHE=$2 ;;
            --for) VM_FOR=$2 ;;
            --timeout) VM_TIMEOUT=$2 ;;
            *) die_usage "vm: $1" ;;
        esac
        shift 2
    done
}

# cache_mode: none where the images' file system can do O_DIRECT
cache_mode() {
    local probe=$LAB_DIR/$VM_HOST/images/.probe mode=none
    dd if=/dev/zero of="$probe" bs=4096 count=1 oflag=direct status=none 2> /dev/null ||
        mode=writeback
    rm -f "$probe"
    echo "$mode"
}

# image_make FORMAT DISK SIZE FILL RING FILE
image_make() {
    local format=$1 disk=$2 size fill ring=$5 file=$6
    size=$(bytes_of "$3")
    fill=$(bytes_of "$4")
    [ -z "$ring" ] || ring=$(bytes_of "$ring")
    if [ "$format" = raw ]; then
        "$LAB_TOOLS/format-disk" "$file" "$disk" "$size" "$fill" "$VM_DISCARD" ${ring:+"$ring"}
        return
    fi
    "$LAB_TOOLS/format-disk" "$file.raw" "$disk" "$size" "$fill" "$VM_DISCARD" ${ring:+"$ring"}
    qemu-img convert -f raw -O "$format" "$file.raw" "$file"
    rm "$file.raw"
}

# disk_make NAME INDEX FORMAT:SIZE[:FILL[:RING]]: the image, and its XML on stdout
disk_make() {
    local name=$1 dev format size fill ring file
    dev=vd$(echo abcdefgh | cut -c "$(($2 + 1))")
    IFS=: read -r format size fill ring <<< "$3"
    case $format in raw | qcow2) ;; *) die_usage "disk format raw or qcow2: $3" ;; esac
    file=$name-$dev.$format
    [ ! -e "$LAB_DIR/$VM_HOST/images/$file" ] || die "$file is there already"
    image_make "$format" "$dev" "$size" "${fill:-0}" "$ring" "$LAB_DIR/$VM_HOST/images/$file" ||
        die "cannot make $file"
    cat << END
    <disk type='file' device='disk'>
      <driver name='qemu' type='$format' cache='$VM_CACHE' discard='unmap'/>
      <source file='/var/lib/images/$file'/>
      <target dev='$dev' bus='virtio'/>
    </disk>
END
}

# The guest agent's channel, as virt-install makes it.
agent_xml() {
    [ -n "$VM_AGENT" ] || return 0
    cat << END
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
END
}

# The machine type is one that QEMU 7.2 and 10 both know; the CPU has a name, so that it is
# the same on both hosts; the console is a file below a directory that each host has.
domain_xml() {
    local name=$1 disks=$2
    cat << END
<domain type='qemu'>
  <name>$name</name>
  <memory unit='MiB'>$VM_MEM</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <kernel>/var/lib/libvirt/boot/vmlinuz</kernel>
    <initrd>/var/lib/libvirt/boot/initramfs${VM_AGENT:+-agent}</initrd>
    <cmdline>console=ttyS0 loglevel=4 panic=0 tsc=unstable no_timer_check random.trust_cpu=on write=$(bytes_of "$VM_WRITE") dirty=$(bytes_of "$VM_DIRTY") ram=$(bytes_of "$VM_RAM") $VM_CMDLINE</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>
  <clock offset='utc'><timer name='hpet' present='no'/></clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
$disks
$(agent_xml)
    <controller type='usb' model='none'/>
    <serial type='file'>
      <source path='/var/log/libvirt/console/$name.log' append='on'/>
      <target type='isa-serial' port='0'/>
    </serial>
    <memballoon model='none'/>
  </devices>
</domain>
END
}

vm_create() {
    local name=$1 disks='' i
    guest_build
    guest_install a
    guest_install b
    [ -n "$VM_CACHE" ] || VM_CACHE=$(cache_mode)
    for i in "${!VM_DISKS[@]}"; do
        disks+=$(disk_make "$name" "$i" "${VM_DISKS[$i]}")$'\n'
    done
    domain_xml "$name" "$disks" > "$LAB_DIR/$VM_HOST/$name.xml"
    virsh_on "$VM_HOST" define "$LAB_DIR/$VM_HOST/$name.xml" > /dev/null
    rm "$LAB_DIR/$VM_HOST/$name.xml"
    [ -n "$VM_START" ] || return 0
    virsh_on "$VM_HOST" start "$name" ${VM_PAUSED:+"$VM_PAUSED"} > /dev/null
    caps_save "$VM_HOST" "$(cat "$LAB_DIR/$VM_HOST/tree")"
}

console_file() { echo "$LAB_DIR/$1/log-libvirt/console/$2.log"; }

console_says() { grep -qs "$3" "$(console_file "$1" "$2")"; }

vm_wait() {
    wait_until "$VM_TIMEOUT" console_says "$VM_HOST" "$1" "$VM_FOR" ||
        die "'$VM_FOR' not seen in $VM_TIMEOUT s on the console of $1 on host $VM_HOST"
}

# vm_disks NAME: DEV FORMAT FILE of the defined (inactive if off) domain, one line each
vm_disks() {
    virsh_on "$VM_HOST" dumpxml "$1" | xmllint --xpath '//disk' - | awk -F"['\"]" '
        /<driver/ { for (i = 1; i < NF; i++) if ($i ~ / type=$/) format = $(i + 1) }
        /<source/ { for (i = 1; i < NF; i++) if ($i ~ /(file|dev)=$/) file = $(i + 1) }
        /<target/ { for (i = 1; i < NF; i++) if ($i ~ / dev=$/) dev = $(i + 1) }
        /<\/disk>/ { print dev, format, file }'
}

vm_is_off() { [ "$(virsh_on "$VM_HOST" domstate "$1" 2> /dev/null)" = 'shut off' ]; }

vm_quiesce() {
    virsh_on "$VM_HOST" shutdown "$1" --mode acpi > /dev/null
    wait_until "$VM_TIMEOUT" vm_is_off "$1" || die "$1 does not power off"
}

cmd_vm() {
    [ $# -ge 2 ] || die_usage "vm COMMAND NAME ..."
    local what=$1 name=$2
    shift 2
    need_up
    vm_options "$@"
    case $what in
        create) vm_create "$name" ;;
        wait) vm_wait "$name" ;;
        quiesce) vm_quiesce "$name" ;;
        start | destroy) virsh_on "$VM_HOST" "$what" "$name" > /dev/null ;;
        undefine) virsh_on "$VM_HOST" undefine "$name" --nvram --managed-save > /dev/null ;;
        state) virsh_on "$VM_HOST" domstate "$name" --reason ;;
        xml) virsh_on "$VM_HOST" dumpxml --inactive "$name" ;;
        disks) vm_disks "$name" ;;
        *) die_usage "vm $what" ;;
    esac
}

cmd_console() {
    [ $# -eq 2 ] || die_usage "console a|b NAME"
    check_host "$1"
    [ ! -e "$(console_file "$1" "$2")" ] || tr -d '\r' < "$(console_file "$1" "$2")"
}
