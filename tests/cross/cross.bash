# shellcheck shell=bash
# cross.bash - what the tests of moves between two Debian releases have in common
#
#   userlands SRC DST    each "native" (this machine's) or "trixie" (Debian 13's); the lab
#                        that is begun later has them on hosts a and b
#   versions             what the hosts run
#   busy_move            a guest that writes, discards and dirties its memory, from a to b

E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")/../e2e" && pwd)

# An option of "lab up" that gives the host this userland.
tree_option() {
    local host=$1 release=$2 tree why
    [ "$release" != native ] || return 0
    why=$(mktemp)
    if tree=$(lab tree "$release" 2> "$why"); then
        rm "$why"
        echo "--tree-$host $tree"
    else
        echo "no Debian $release: $(tail -n 1 "$why")"
        rm "$why"
        return 1
    fi
}

userlands() {
    local a b
    requires_lab
    a=$(tree_option a "$1") || skip "$a"
    b=$(tree_option b "$2") || skip "$b"
    export LAB_UP="$a $b"
}

versions() {
    local host
    for host in a b; do
        echo "$host: $(lab run $host qemu-system-x86_64 --version | head -n 1)," \
            "libvirt $(lab run $host libvirtd --version | sed 's/.* //')"
    done
}

busy_move() {
    lab_begin
    versions
    lab vm create vm --disk raw:300M:30M --disk qcow2:314573312:30M --ram 16M \
        --write 10M --dirty 20M --discard
    lab vm wait vm
    move vm --disks-to /var/lib/images
    moved --disks off
}
