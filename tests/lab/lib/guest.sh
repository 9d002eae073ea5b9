# shellcheck shell=bash
# guest.sh - the test guest: Debian's cloud kernel, downloaded but never installed, and an
# initramfs of a few modules and tests/guest/init.c
#
# $GUEST_KERNEL/{vmlinuz,modules/*.ko}; $LAB_TOOLS/initramfs, and initramfs-agent, which has
# this host's qemu-ga as well

GUEST_MODULES="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
    virtio_blk button evdev virtio_console"
GUEST_KERNEL=$LAB_CACHE/kernel-$(cksum <<< "$GUEST_MODULES" | cut -d' ' -f1)

# kernel_package: the package that linux-image-cloud-amd64 stands for
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 |
        awk '/Depends: linux-image-/ { print $2; exit }'
}

kernel_fetch() {
    local tmp=$LAB_CACHE/kernel.$$ package module
    [ ! -e "$GUEST_KERNEL/vmlinuz" ] || return 0
    package=$(kernel_package)
    [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64 (apt-get update?)"
    mkdir -p "$tmp/modules"
    (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$package" > download.log 2>&1) ||
        die "cannot download $package: $(tail -n 1 "$tmp/download.log")"
    dpkg-deb -x "$tmp"/*.deb "$tmp/x"
    cp "$tmp"/x/boot/vmlinuz-* "$tmp/vmlinuz"
    for module in $GUEST_MODULES; do
        find "$tmp/x/lib/modules" -name "$module.ko" -exec cp {} "$tmp/modules/" \;
    done
    rm -rf "$tmp/x" "$tmp"/*.deb "$tmp/download.log"
    echo "$package" > "$tmp/package"
    mv -T "$tmp" "$GUEST_KERNEL" 2> /dev/null || rm -rf "$tmp"
}

initramfs_build() {
    local out=$LAB_TOOLS/initramfs root=$LAB_TOOLS/initramfs.root
    [ ! "$out" -nt "$LAB_TOOLS/init" ] || [ ! "$out" -nt "$GUEST_KERNEL/vmlinuz" ] ||
        return 0
    rm -rf "$root"
    mkdir -p "$root"/{dev,proc,sys}
    cp "$LAB_TOOLS/init" "$root/init"
    cp -r "$GUEST_KERNEL/modules" "$root/modules"
    (cd "$root" && find . | cpio -o -H newc --quiet) > "$out.new"
    mv "$out.new" "$out"
    rm -rf "$root"
}

# Debian's qemu-ga, and busybox, which it calls as hwclock to set the clock.  The kernel
# unpacks one archive after the other.
agent_build() {
    local out=$LAB_TOOLS/initramfs-agent root=$LAB_TOOLS/agent.root lib
    [ ! "$out" -nt "$LAB_TOOLS/initramfs" ] || return 0
    rm -rf "$root"
    mkdir -p "$root"/{run,etc,sbin,usr/sbin}
    cp /usr/sbin/qemu-ga "$root/usr/sbin/"
    cp /bin/busybox "$root/sbin/hwclock"
    echo 'root:x:0:0:root:/:/bin/false' > "$root/etc/passwd"
    ldd /usr/sbin/qemu-ga | grep -o '/[^ ]*' | while read -r lib; do
        mkdir -p "$root$(dirname "$lib")"
        cp -L "$lib" "$root$lib"
    done
    { cat "$LAB_TOOLS/initramfs"; (cd "$root" && find . | cpio -o -H newc --quiet); } > "$out.new"
    mv "$out.new" "$out"
    rm -rf "$root"
}

guest_build() {
    tools_build
    with_lock guest kernel_fetch
    with_lock guest initramfs_build
    [ -z "$VM_AGENT" ] || with_lock guest agent_build
}

# guest_install HOST: kernel and initramfs where that host's QEMU may read them.  A copy for
# each: libvirt changes the owner of what it gives to a guest.
guest_install() {
    local boot=$LAB_DIR/$1/var-lib/libvirt/boot
    [ -z "$VM_AGENT" ] || [ -e "$boot/initramfs-agent" ] ||
        install -m 644 "$LAB_TOOLS/initramfs-agent" "$boot/initramfs-agent"
    [ ! -e "$boot/vmlinuz" ] || return 0
    install -m 644 "$GUEST_KERNEL/vmlinuz" "$boot/vmlinuz"
    install -m 644 "$LAB_TOOLS/initramfs" "$boot/initramfs"
}
