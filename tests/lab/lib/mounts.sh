# shellcheck shell=bash
# mounts.sh - what a host has at which place; these functions run on the host

# The machine's own userland: /var/lib becomes a directory of symlinks beside the private
# ones, so that no mount point has to be made on the machine.
mount_native() {
    local dir=$1 name
    mount --bind /var/lib "$dir/machine-var-lib"
    for name in "$dir"/machine-var-lib/*; do
        [ -e "$dir/var-lib/${name##*/}" ] || ln -s "$name" "$dir/var-lib/"
    done
    mount --bind "$dir/images" "$dir/var-lib/images"
    mount --rbind "$dir/var-lib" /var/lib
    mount_home "$dir"
    mount_dev "$dir/dev"
    mount --move "$dir/dev" /dev
}

# A small /dev without kvm: where a machine has one that QEMU's user may not use, libvirt
# probes QEMU anew (for seconds) at each step; where it is usable tests would differ.
mount_dev() {
    local dev=$1 node
    mount -t tmpfs -o mode=755 dev "$dev"
    mkdir "$dev"/{pts,shm,net}
    for node in null zero full random urandom tty net/tun loop-control loop{0..7}; do
        [ ! -e "/dev/$node" ] || cp -a "/dev/$node" "$dev/$node"
    done
    ln -s /proc/self/fd "$dev/fd"
    ln -s /proc/self/fd/0 "$dev/stdin"
    ln -s /proc/self/fd/1 "$dev/stdout"
    ln -s /proc/self/fd/2 "$dev/stderr"
    ln -s pts/ptmx "$dev/ptmx"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$dev/pts"
    mount -t tmpfs -o mode=1777 shm "$dev/shm"
}

# A home of its own, so that the machine's shell and ssh settings have no effect on a host.
mount_home() {
    local dir=$1 home
    home=$(getent passwd 0 | cut -d: -f6)
    mount --bind "$REPO" "$dir/repo"
    mount --bind "$dir/home" "$home"
    case $REPO/ in
        "$home"/*) mkdir -p "$REPO" && mount --bind "$dir/repo" "$REPO" ;;
    esac
    umount "$dir/repo"
}

# Another userland: the tree becomes /, with the machine's /sys, /tmp and the repository.
mount_tree() {
    local dir=$1 tree=$2 root=$1/root path
    mount --bind "$tree" "$root"
    mount_dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    mount --bind /tmp "$root/tmp"
    for path in "$REPO" "$LAB_BIN"; do
        case $path in /tmp/*) continue ;; esac
        [ -d "$path" ] || continue
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
    done
    mkdir -p "$root"/var/lib/{libvirt,images,snmigrate} "$root/.machine"
    mount --bind "$dir/var-lib/libvirt" "$root/var/lib/libvirt"
    mount --bind "$dir/var-lib/snmigrate" "$root/var/lib/snmigrate"
    mount --bind "$dir/images" "$root/var/lib/images"
    cd "$root" || exit
    pivot_root . .machine
    umount -l /.machine
}

zeros() { head -c "$1" /dev/zero; }

# utmp NOW: one record "booted at NOW" of struct utmp (utmp(5)).  libvirt looks there to tell
# locks and owners that it noted on files before a reboot from those in use.
utmp() {
    local now
    printf -v now '%08x' "$1"
    printf '\2'
    zeros 339
    printf '%b' "\\x${now:6:2}\\x${now:4:2}\\x${now:2:2}\\x${now:0:2}"
    zeros 40
}

# /run is empty after a boot, and the boot has a name of its own.
mount_run() {
    mount -t tmpfs -o mode=755 run /run
    mkdir /run/sshd /run/lock
    utmp "$(date +%s)" > /run/utmp
    cp /proc/sys/kernel/random/uuid /run/boot_id
    mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
}

# QEMU behind its wrapper: qemu-odd-ram says why.  QEMU finds its data at ../share from where
# it is, so it goes to a directory that Debian always has beside /usr/share.
mount_qemu() {
    local name=qemu-system-x86_64
    mount -t tmpfs -o mode=755 games /usr/games
    touch /usr/games/$name
    mount --bind /usr/bin/$name /usr/games/$name
    mount --bind "$LAB_TOOLS/qemu-odd-ram" /usr/bin/$name
}

mount_host() {
    local dir=$LAB_DIR/$1 tree=$2
    if [ -n "$tree" ]; then mount_tree "$dir" "$tree"; else mount_native "$dir"; fi
    mount_run
    mount_qemu
    mount --bind "$dir/etc-libvirt" /etc/libvirt
    mount --bind "$dir/etc-ssh" /etc/ssh
    mount --bind "$dir/cache-libvirt" /var/cache/libvirt
    mount --bind "$dir/log-libvirt" /var/log/libvirt
    mount --bind "$dir/hosts" /etc/hosts
}
