#!/usr/bin/env bash
# src/virt on a real libvirt: looking domains up, suspend and resume with their events,
# XML both ways, and what preflight says of a domain that is fit and of one that is not.
# timeout: 120
. "$(dirname "$0")/virt.bash"

virsh_a() { lab run a virsh -q "$@"; }

# says CODE...: preflight finds exactly these blockers and warnings
says() {
    local codes
    live check m1 qemu+ssh://root@hostb/system > "$WORK/findings"
    codes=$(awk '{ printf "%s:%s ", $1, $2 }' "$WORK/findings")
    [ "${codes% }" = "$*" ] || failed "findings '${codes% }', expected '$*'"
    echo "ok   $*"
}

lab_begin ${LAB_UP:-}
lab vm create m1 --disk qcow2:8M --disk qcow2:16M
live facts m1
says
live fits m1 qemu+ssh://root@hostb/system

virsh_a snapshot-create-as m1 s1 > "$WORK/out"
says blocker:snapshots
virsh_a snapshot-delete m1 s1 > "$WORK/out"

lab run b virsh -q define /dev/stdin < <(virsh_a dumpxml --inactive m1) > "$WORK/out"
says blocker:uuid-taken
lab run b virsh -q undefine m1 > "$WORK/out"
lab run b virsh -q define /dev/stdin < <(virsh_a dumpxml --inactive m1 | sed /uuid/d) \
    > "$WORK/out"
says blocker:name-taken
lab run b virsh -q undefine m1 > "$WORK/out"

virsh_a qemu-monitor-command m1 --hmp stop > "$WORK/out"
says
virsh_a qemu-monitor-command m1 --hmp cont > "$WORK/out"

# shellcheck disable=SC2016 # expanded on the host
live lost m1 'cd / && pid=$(cat /run/libvirt/libvirtd.pid) && kill "$pid" &&
    while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done &&
    libvirtd -d -p /run/libvirt/libvirtd.pid'

virsh_a undefine m1 > "$WORK/out"
says warning:transient
