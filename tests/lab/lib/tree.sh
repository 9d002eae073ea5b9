# shellcheck shell=bash
# tree.sh - userlands of other Debian releases, for hosts with another libvirt and QEMU
#
# $LAB_CACHE/tree-RELEASE: made once with debootstrap; a host that runs in it sees private
# directories and the repository in the same places as a native one (host.sh).

TREE_PACKAGES="qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients
    openssh-server openssh-client iproute2 procps libnbd0 libzstd1 libnghttp2-14 libjson-c5
    libxml2 libxxhash0 libseccomp2 libvirt0"

tree_mirror() {
    awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { print ($2 ~ /^\[/) ? $3 : $2; exit }' \
        /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null || true
}

# tree_fill DIR RELEASE MIRROR: in namespaces of its own, so that nothing is left running or
# mounted.  Services are not started.
tree_fill() {
    local dir=$1
    mount --make-rprivate /
    debootstrap --variant=minbase "$2" "$dir" "$3"
    printf '#!/bin/sh\nexit 101\n' > "$dir/usr/sbin/policy-rc.d"
    chmod 755 "$dir/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$dir/etc/resolv.conf"
    cp /etc/apt/apt.conf.d/*proxy* "$dir/etc/apt/apt.conf.d/" 2> /dev/null || true
    mount -t proc proc "$dir/proc"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive chroot "$dir" apt-get -y -q install \
        --no-install-recommends $TREE_PACKAGES
    chroot "$dir" apt-get clean
    mkdir -p "$dir"/var/lib/{images,snmigrate} "$dir/.machine"
}

tree_make() {
    local release=$1 tree=$LAB_CACHE/tree-$1 mirror log=$LAB_CACHE/tree-$1.log
    [ ! -d "$tree" ] || return 0
    command -v debootstrap > /dev/null || die "debootstrap is not installed"
    mirror=$(tree_mirror)
    mkdir -p "$LAB_CACHE"
    rm -rf --one-file-system "$tree.new"
    # shellcheck disable=SC2016
    LAB_SRC=$LAB_SRC LAB_NAME=$LAB_NAME unshare --mount --pid --fork --kill-child bash -euc '
        . "$LAB_SRC/lib/common.sh"; . "$LAB_SRC/lib/tree.sh"; tree_fill "$@"' tree \
        "$tree.new" "$release" "${mirror:-http://deb.debian.org/debian}" > "$log" 2>&1 ||
        die "cannot make $tree, see $log: $(tail -n 1 "$log")"
    mv -T "$tree.new" "$tree"
    rm "$log"
}

cmd_tree() {
    case ${1:-} in
        trixie) with_lock "tree-$1" tree_make "$1" ;;
        *) die_usage "tree trixie" ;;
    esac
    echo "$LAB_CACHE/tree-$1"
}
