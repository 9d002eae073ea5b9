# shellcheck shell=bash
# guest.bash - what the parts of the bench that move guests share; after lab/e2e.sh.

# The guest "vm", and all that it left on both hosts.
remove_guest() {
    local host
    for host in a b; do
        lab run $host sh -c 'virsh -q destroy vm; virsh -q undefine vm
            rm -rf /var/lib/images/vm-* /var/lib/images/.snm* /var/lib/snmigrate/*
            rm -f /var/log/libvirt/console/vm.log' > /dev/null 2>&1 || true
    done
}

# Bytes that passed the link, both directions, all that is on it.
wire_bytes() {
    local to_b to_a
    read -r to_b to_a < <(lab link bytes)
    echo $((to_b + to_a))
}

# What the guest wrote per second of its own time, disks together.
guest_rate() {
    lab console a vm | awk '/^beat .* written=/ {
            ms = $2; sub(/.*written=/, ""); bytes = $1 + 0
            if (!n++) { ms0 = ms; bytes0 = bytes }
        }
        END { printf "%d\n", (ms > ms0 ? (bytes - bytes0) * 1000 / (ms - ms0) : 0) }'
}
