#!/usr/bin/env bash
# The link is lost, or the agent killed, when most of the disk has been copied: only a small
# part of it is sent again.
# timeout: 420
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"
only_with_all

DATA=$((256 << 20)) # bytes on the disk
fault_begin --disk raw:320M:256M

resend() {
    lab link rate 200mbit
    faulty_attempt bulk:delay-1 "late 75 $1"
    expect_end 0
    link_back
    verdict
    local moved redials
    moved=$(tail -n 1 "$ATTEMPT/json" | jq .disk_bytes)
    redials=$(tail -n 1 "$ATTEMPT/json" | jq .redials)
    echo "   copied $((moved >> 20)) MiB of $((DATA >> 20)), on $((redials + 1)) links"
    grep -q 'vda: going on at' "$ATTEMPT/stderr" || failed "it did not go on"
    [ "$redials" -ge 1 ] || failed "the link was not lost"
    # Two flush intervals of 16 MiB, what was under way, and what the guest wrote.
    [ "$moved" -le $((DATA + (48 << 20))) ] || failed "too much was sent again"
    go_home
}

more try "cut" resend "link_cut_for 15"
more try "agent killed" resend kill_agent
fault_end
