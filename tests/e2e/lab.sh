#!/usr/bin/env bash
# The lab itself, proved with stock tools: virsh moves a busy guest and the invariants
# hold; each of them fails when its evidence is falsified; nothing is left at the end.
# timeout: 300
# shellcheck source=tests/lab/e2e.sh
. "$(dirname "$0")/../lab/e2e.sh"

INVARIANTS=$E2E_SRC/invariants

# What a lab could leave on the machine, where other labs may come and go.
machine_state() {
    cut -d' ' -f5 /proc/self/mountinfo | sort
    ip -o link | cut -d: -f2 | sort
    ls /run/netns 2> /dev/null || true
    find /var/lib /run /root /etc /var/log/libvirt /dev -maxdepth 1 | sort
    find /tmp -maxdepth 1 -name "*$LAB_NAME*"
}

namespaces_of_lab() {
    local host kind
    for host in a b; do
        for kind in mnt net pid uts; do
            lab run $host readlink /proc/self/ns/$kind
        done
    done
}

# processes_in NAMESPACE...: those of the whole machine; what has ended and waits for the
# machine's own init is none of ours
processes_in() {
    local ns
    for ns; do
        find /proc/[0-9]*/ns -lname "${ns/[/\\[}" 2> /dev/null || true
    done | cut -d/ -f3 | sort -u | while read -r pid; do
        ! grep -qs '^State:.[^ZX]' "/proc/$pid/status" || echo "$pid"
    done
}

# target_images VM: what virsh does not make: images of the same size on b
target_images() {
    local format file size
    lab vm disks "$1" | while read -r _ format file; do
        file=${file#/var/lib/images/}
        size=$(qemu-img info -U --output=json "$LAB_DIR/a/images/$file" | jq '.["virtual-size"]')
        qemu-img create -q -f "$format" "$LAB_DIR/b/images/$file" "$size"
    done
}

stock_move() {
    attempt "$1" virsh -q migrate --live --persistent --undefinesource --copy-storage-all \
        "$1" qemu+ssh://root@hostb/system
    expect_status 0
    echo '{"guest_location":"destination"}' > "$ATTEMPT/json"
}

# falsify "FAIL Ix" EDIT FILE: with that edit in a copy of the evidence this fails.
# EDIT: an expression of sed, or "+LINE" to add one.
falsify() {
    local expect=$1 edit=$2 file=$3 copy=$WORK/false
    rm -rf "$copy"
    cp -r "$ATTEMPT" "$copy"
    case $edit in
        +*) echo "${edit#+}" >> "$copy/$file" ;;
        *) sed -i "$edit" "$copy/$file" ;;
    esac
    ! cmp -s "$copy/$file" "$ATTEMPT/$file" || failed "the edit of $file changed nothing"
    if "$INVARIANTS" --dir "$copy" > "$WORK/verdict"; then
        failed "$expect: not seen after '$edit' in $file"
    fi
    grep -q "^$expect" "$WORK/verdict" || {
        cat "$WORK/verdict"
        failed "$expect: another was seen"
    }
    echo "ok   falsified: $(grep -m 1 "^$expect" "$WORK/verdict")"
}

falsify_text_after_success() {
    falsify "FAIL I1" '/ b vm .*RESUME/s/^./1/' after/events
    falsify "FAIL I2" 's/^vm running/vm paused/' after/domains.b
    falsify "FAIL I5 wrong" '+ERROR ram page 7 generation 3 is wrong' after/console.b
    falsify "FAIL I6" '+blk_update_request: I/O error, dev vda' after/console.b
    falsify "FAIL I7 left" '+f /run/snmigrate/1/x' after/files.a
    falsify "FAIL I7 left" '+f /var/lib/images/half.qcow2' after/files.b
    falsify "FAIL I7 process" '+qemu-nbd' after/procs.b
    falsify "FAIL I7 bitmap" '+bitmap /machine/peripheral/virtio-disk0 snm-1' after/block.b
    falsify "FAIL I7 the domain is still" '+vm shut-off yes 1 2' after/domains.a
    falsify "FAIL I8 exit" 's/0/4/' status
    falsify "FAIL I8 exit" 's/0/77/' status
    falsify "FAIL I8 JSON" 's/destination/source/' json
    falsify "FAIL I11" '/ b vm .*RESUME/s/^[0-9]*/9&/' after/events
    falsify "FAIL I12" 's/^[0-9a-f]/x/' after/sums.b
    falsify "FAIL I12" '/^bystander /d' after/domains.b
}

falsify_text_after_failure() {
    falsify "FAIL I10" 's/<vcpu/<vcpu /' after/inactive.xml
    falsify "FAIL I7 left" '+f /var/lib/images/half.qcow2' after/files.b
    falsify "FAIL I7 bitmap" '+export snm-1' after/block.a
    falsify "FAIL I2" 's/^vm running/vm paused/' after/domains.a
}

# poke FILE OFFSET BYTE
poke() {
    printf '%b' "\\x$(printf %x "$3")" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# falsify_disk "FAIL Ix" FILE OFFSET [OPTION...]: one byte flipped in an image of b
falsify_disk() {
    local expect=$1 file=$LAB_DIR/b/images/$2 offset=$3 byte
    shift 3
    byte=$(od -An -tu1 -j "$offset" -N 1 "$file")
    rm -rf "$ATTEMPT/after"
    poke "$file" "$offset" $((byte ^ 1))
    ! "$INVARIANTS" --dir "$ATTEMPT" "$@" > "$WORK/verdict" || failed "$expect: not seen"
    poke "$file" "$offset" "$byte"
    grep -q "^$expect" "$WORK/verdict" || { cat "$WORK/verdict"; failed "$expect: not seen"; }
    echo "ok   falsified: $(grep -m 1 -A 1 "^$expect" "$WORK/verdict" | tr -s '\n ' ' ')"
}

export LAB_NAME=$E2E_NAME-$$
before=$(machine_state)
lab_begin --rate 1gbit
echo "not yours" > "$LAB_DIR/b/images/bystander.img"
lab vm create bystander --host b --disk raw:16M --ram 1M
lab vm create vm --disk raw:300M:30M --disk qcow2:314573312:30M --write 10M --dirty 20M \
    --discard
lab vm create still --disk raw:64M:8M --disk qcow2:64M:8M --ram 1M
lab vm wait vm
lab vm wait still
lab vm wait bystander --host b

echo "== nothing was done: the source keeps it"
attempt vm sh -c 'exit 4'
judge
falsify_text_after_failure

echo "== a busy guest"
target_images vm
stock_move vm
judge
falsify_text_after_success
lab pause-of vm --all

echo "== a guest that stands still"
lab run a virsh -q suspend still
target_images still
stock_move still
judge --compare
falsify_disk "FAIL I3 vda: differs" still-vda.raw 40000000 --compare
falsify_disk "FAIL I4 vda" still-vda.raw 40000000
falsify_disk "FAIL I3 vdb: qemu-img check" still-vdb.qcow2 131073 # a refcount

echo "== power off, and the last operation must be there"
lab vm quiesce vm --host b
"$LAB_DIR/check-disk" --window 0 vda "$LAB_DIR/b/images/vm-vda.raw" \
    "$LAB_DIR"/{a,b}/log-libvirt/console/vm.log

echo "== nothing is left"
mapfile -t namespaces < <(namespaces_of_lab)
[ -n "$(processes_in "${namespaces[@]}")" ] || failed "no processes in the lab's namespaces?"
lab down
trap - EXIT
[ -z "$(processes_in "${namespaces[@]}")" ] || failed "the lab left processes"
diff <(echo "$before") <(machine_state) || failed "the lab left something"
lab down # again, and after half of an up
mkdir "$(lab dir)"
lab down
[ ! -e "$(lab dir)" ] || failed "the lab left its directory"
echo ok
