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

# ---- methods: method_NAME; they run on host a, and leave the guest "vm" on b ----------

method_snmigrate() {
    exec snmigrate --json --disks-to /var/lib/images vm root@hostb
}

# Disks and RAM go over connections of QEMU's own, in the clear.
method_virsh() {
    exec virsh -q migrate --live --persistent --undefinesource --copy-storage-all vm \
        qemu+ssh://root@hostb/system
}

# What a method needs at the destination, not measured: virsh does not make images.
before_snmigrate() { :; }

before_virsh() {
    local format file size
    lab vm disks vm | while read -r _ format file; do
        file=${file#/var/lib/images/}
        size=$(qemu-img info -U --output=json "$LAB_DIR/a/images/$file" |
            jq '.["virtual-size"]')
        qemu-img create -q -f "$format" "$LAB_DIR/b/images/$file" "$size"
    done
}

# What snmigrate itself says of it.
said_result() { tail -n 1 "$1" | jq -c 'select(type == "object")' 2> /dev/null | grep . || echo null; }
