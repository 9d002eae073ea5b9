#!/usr/bin/env bash
# A move that was stopped, however that came, is gone on with by the same command: what was
# copied is not copied again, unless it is not what it was.
# timeout: 900
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

DATA=$((192 << 20)) # bytes on the disk
BUDGET=5000         # it is not the pause that is looked at here
MOVE=(snmigrate --json -vv --max-downtime 5s --disks-to /var/lib/images vm root@hostb)
fault_begin --disk raw:240M:192M

# compared REASON LEAST MOST: the same command; it says why it compares, and copies between
# LEAST and MOST bytes of the disk
compared() {
    local moved
    again
    grep -q "resume: .*$1.* both sides are compared" "$ATTEMPT/stderr" || failed "it does not say: $1"
    moved=$(tail -n 1 "$ATTEMPT/json" | jq .disk_bytes)
    echo "   copied $((moved >> 20)) MiB of $((DATA >> 20)) again"
    [ "$moved" -ge "$2" ] || failed "it trusted what it should not"
    [ "$moved" -le "$3" ] || failed "too much was copied again"
}

# What was copied and not flushed, and what of that the journal did not have yet.
MOST=$((DATA * 3 / 4))

killed() {
    stopped killed bulk:delay-1 "late 65 kill_main"
    gone_on $MOST
    go_home
}

# Whatever the guest wrote meanwhile; and a second stop in the second try.
stopped_twice() {
    stopped 130 bulk:delay-1 "late 65 int_main"
    sleep 5
    stopped 130 rounds:delay-300 int_main
    sleep 5
    gone_on $((48 << 20))
    go_home
}

# What the frozen bitmap of the round marks may not have been written there, or not flushed.
killed_in_round() {
    stopped killed copy.exported:kill-self:3 -
    gone_on $((48 << 20))
    go_home
}

both_killed_in_round() {
    lab link rate 200mbit
    faulty_attempt copy.exported:delay-3000:3 kill_both
    expect_status 137
    gone_on $((48 << 20))
    go_home
}

killed_in_switch() {
    stopped killed switch.copied:kill-self -
    gone_on $((48 << 20))
    go_home
}

agent_killed() {
    OPTS=(--reconnect 0s --retries 0)
    stopped 4 bulk:delay-1 "late 65 kill_agent"
    OPTS=()
    gone_on $MOST
    go_home
}

# Nobody is left that could keep anything; the same command recovers first.
both_killed() {
    lab link rate 200mbit
    faulty_attempt bulk:delay-1 "late 65 kill_both"
    expect_status 137
    gone_on $MOST
    go_home
}

both_killed_and_recovered() {
    lab link rate 200mbit
    faulty_attempt bulk:delay-1 "late 65 kill_both"
    expect_status 137
    on a snmigrate recover --json vm > "$WORK/recovered" || failed "recover: $?"
    jq -e '.notes[] | test("what was copied to")' "$WORK/recovered" > /dev/null ||
        failed "recover does not say what is kept"
    [ "$(on a snmigrate recover)" = "Nothing to recover on this host." ] ||
        failed "recover finds it again"
    rm "$ATTEMPT/status"
    mv "$ATTEMPT/json" "$ATTEMPT/json.killed"
    verdict
    is_kept
    gone_on $MOST
    go_home
}

# Nothing that the bitmaps do not know of is trusted.
qemu_restarted() {
    stopped 130 bulk:delay-1 "late 65 int_main"
    on a virsh -q destroy vm
    lab vm start vm
    vm_ready
    compared "started anew" 0 $MOST
    reset
}

# By somebody else: the mtime is as before, but not what is in it.
tampered() {
    stopped 130 bulk:delay-1 "late 65 int_main"
    on b sh -c 'f=/var/lib/images/vm-vda.raw
        touch -r "$f" /run/was
        tr "\000-\377" "\001-\377\000" < "$f" > /run/other
        cat /run/other > "$f"
        touch -r /run/was "$f"
        rm /run/was /run/other'
    compared "is not what was copied" $((DATA - (16 << 20))) $((DATA + (64 << 20)))
    go_home
}

gone_at_destination() {
    stopped 130 bulk:delay-1 "late 65 int_main"
    on b sh -c 'rm -rf /var/lib/snmigrate/* /var/lib/images/vm-vda.raw'
    again
    grep -q 'resume: .*nothing of the earlier try' "$ATTEMPT/stderr" || failed "it does not say so"
    go_home
}

# Another one than was begun is refused, and nothing of it is touched.
another_plan() {
    local id
    stopped 130 bulk:delay-1 "late 65 int_main"
    id=$(awk '$2 == "kept" { print substr($1, 1, 8) }' "$ATTEMPT/after/kept.a")
    attempt vm snmigrate --json -vv --disk vda=/var/lib/images/other.raw vm root@hostb
    expect_status 3
    grep -q "/var/lib/images/other.raw" "$ATTEMPT/stderr" || failed "it does not say what differs"
    grep -q "snmigrate discard $id" "$ATTEMPT/stderr" || failed "it does not say how to give it up"
    verdict
    gone_on $MOST
    go_home
}

cut_and_write() {
    link_cut
    touch "$WORK/was-cut"
    wait_until 20 agent_gone
    printf 'foreign' | on b dd of=/var/lib/images/vm-vda.raw bs=1M seek=100 conv=notrunc,fsync status=none
    lab link restore
}

# The move would have gone on with it once the link was back.
written_while_cut() {
    stopped 4 bulk:delay-1 "late 65 cut_and_write"
    grep -q "somebody has written an image at the destination" "$ATTEMPT/stderr" ||
        failed "it does not say why it ended"
    compared "an image was written since it was kept" 1 $MOST
    go_home
}

# Somebody reads what was kept just then, a backup or a check: that costs the try and no more.
read_by_another() {
    local file=/var/lib/images/vm-vda.raw
    stopped 130 bulk:delay-1 "late 65 int_main"
    on b qemu-nbd --fork --read-only --persistent -f raw --pid-file /run/reader -k /run/reader.sock $file
    attempt vm "${MOVE[@]}"
    expect_status 4
    grep -q "$file is in use" "$ATTEMPT/stderr" || failed "it does not say what is in the way"
    on b sh -c 'kill "$(cat /run/reader)"'
    verdict
    is_kept
    gone_on $MOST
    go_home
}

# The guest has another name since, and so has the socket on which its QEMU waits at b.
renamed() {
    local host
    stopped 130 bulk:delay-1 "late 65 int_main"
    on a sh -c 'virsh -q destroy vm && virsh -q domrename vm vm2 && virsh -q start vm2'
    for host in a b; do on $host ln -sf vm.log /var/log/libvirt/console/vm2.log; done
    vm_ready
    attempt vm2 "${MOVE[@]/#vm/vm2}"
    expect_status 0
    grep -q "resume: .*started anew.* both sides are compared" "$ATTEMPT/stderr" || failed "it began anew"
    verdict
    on b sh -c 'virsh -q destroy vm2 && virsh -q undefine vm2'
    for host in a b; do on $host rm /var/log/libvirt/console/vm2.log; done
    reset
}

# other_on_b: a domain that is off, on what the move has kept
other_on_b() {
    lab vm xml vm | sed 's,<name>.*</name>,<name>other</name>,; /<uuid>/d; /<nvram/d' > "$WORK/other.xml"
    on b virsh -q define "$WORK/other.xml" > /dev/null || failed "not defined"
}

# Somebody has made a guest of it, and that has run: it is neither written over nor removed.
anothers_disk() {
    local before
    stopped 130 bulk:delay-1 "late 65 int_main"
    other_on_b
    printf 'precious' | on b dd of=/var/lib/images/vm-vda.raw bs=1M seek=100 conv=notrunc,fsync status=none
    before=$(on b sha256sum /var/lib/images/vm-vda.raw)
    attempt vm "${MOVE[@]}"
    expect_status 3
    grep -q "vm-vda.raw is a disk of the domain 'other'" "$ATTEMPT/stderr" || failed "it does not say whose it is"
    verdict
    is_kept
    on a snmigrate discard vm > "$WORK/out" || failed "discard: $?"
    grep -q "left alone .*vm-vda.raw is a disk of the domain 'other'" "$WORK/out" || {
        cat "$WORK/out"
        failed "discard does not say whose it is"
    }
    [ "$before" = "$(on b sha256sum /var/lib/images/vm-vda.raw)" ] || failed "it has changed"
    on b sh -c 'virsh -q undefine other && rm /var/lib/images/vm-vda.raw'
    again
    go_home
}

try "killed" killed
more try "stopped twice" stopped_twice
more try "both killed" both_killed
more try "another plan" another_plan
try "tampered with" tampered
more try "written while the link was lost" written_while_cut
more try "another guest's disk" anothers_disk
more try "read by another program" read_by_another
more try "renamed" renamed
try "QEMU restarted" qemu_restarted
try "killed in a round" killed_in_round
more try "both killed in a round" both_killed_in_round
more try "killed in the switch" killed_in_switch
more try "agent killed" agent_killed
more try "both killed and recovered" both_killed_and_recovered
more try "gone at the destination" gone_at_destination
fault_end
