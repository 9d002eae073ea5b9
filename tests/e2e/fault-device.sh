#!/usr/bin/env bash
# A block device as the destination: a move that is stopped goes on by the same command; what is
# given up does not look like a disk any more; what has another use since is left alone.
# timeout: 600
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

SIZE=$((160 << 20))
MOST=$((96 << 20)) # of the 128 MiB on the disk, that may be copied again
fault_begin --disk raw:$SIZE:128M
truncate -s $SIZE "$WORK/disk"
DEVICE=$(losetup --find --show "$WORK/disk") || skip "no loop devices"
exec 9<> "$DEVICE" # detached when this is closed
losetup --detach "$DEVICE"
on b test -b "$DEVICE" || skip "$DEVICE is not among the lab's devices"
BUDGET=5000 # it is not the pause that is looked at here
MOVE=(snmigrate --json -vv --max-downtime 5s --disk "vda=$DEVICE" vm root@hostb)

ends() { head -c 1048576 "$DEVICE" && tail -c 1048576 "$DEVICE"; }
is_blank() { [ "$(ends | tr -d '\0' | wc -c)" -eq 0 ]; }
empty() { blkdiscard -z "$DEVICE"; }

# discard WORDS: they are said, and nothing is left to discard
discard() {
    on a snmigrate discard vm > "$WORK/out" 2> "$WORK/err" || failed "discard: $?"
    grep -qF -- "$1" "$WORK/out" || {
        cat "$WORK/out" "$WORK/err"
        failed "it does not say: $1"
    }
    [ -z "$(on a snmigrate list --json)$(on b snmigrate list --json)" ] ||
        failed "something is left"
}

killed() {
    empty
    stopped killed bulk:delay-1 "late 65 kill_main"
    gone_on $MOST
    go_home
}

interrupted() {
    empty
    stopped 130 rounds:delay-300 int_main
    gone_on $((48 << 20))
    go_home
}

# Half a file system must not be taken for a whole one, and the next move takes the device.
given_up() {
    empty
    stopped 130 bulk:delay-1 "late 65 int_main"
    ! is_blank || failed "nothing is on it"
    discard "blanked      $DEVICE on root@hostb, its first and last MiB"
    is_blank || failed "it is not blank"
    again
    go_home
}

# Nobody was left to note how the device was left.
given_up_when_killed() {
    empty
    lab link rate 200mbit
    faulty_attempt bulk:delay-1 "late 65 kill_both"
    expect_status 137
    wait_until 20 agent_gone || failed "the agent is still there"
    discard "blanked      $DEVICE on root@hostb, its first and last MiB"
    is_blank || failed "it is not blank"
    again
    go_home
}

# Somebody has put a file system of his own on it.
taken() {
    local before
    empty
    stopped 130 bulk:delay-1 "late 65 int_main"
    printf 'precious' | dd of="$DEVICE" bs=512 seek=2 conv=notrunc,fsync status=none
    before=$(sha256sum < "$DEVICE")
    attempt vm "${MOVE[@]}"
    expect_status 3
    grep -q "$DEVICE is not empty" "$ATTEMPT/stderr" || failed "it does not say what is in the way"
    verdict
    discard "left alone   on root@hostb: disk vda: $DEVICE was written after the move had left it"
    [ "$before" = "$(sha256sum < "$DEVICE")" ] || failed "it was written"
    empty
    again
    go_home
}

try "killed" killed
more try "interrupted" interrupted
more try "given up" given_up
more try "given up when both were killed" given_up_when_killed
more try "taken since" taken
fault_end
