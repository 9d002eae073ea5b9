#!/usr/bin/env bash
# snmigrate, its agent and its guard give back what they took, over whole moves: one that
# arrives, one that is interrupted, one whose agent is killed, one that the guard has to end,
# and what is said to them.  With the address sanitizer's build that is memory; with any other
# descriptors.
# timeout: 400
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

# Called when the lab is up.
agent_wrapper() {
    [ "$SNM_MODE" != asan ] || return 0
    cc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -shared -fPIC -o "$LAB_BIN/fd-leaks.so" \
        "$E2E_SRC/fd-leaks.c"
    echo "export LD_PRELOAD=$LAB_BIN/fd-leaks.so FD_LEAKS=$REPORTS FD_LEAKS_OF=snmigrate"
}

# too_many FILE: more than the one eventfd(2) of libvirt's event thread, which lives as long as
# the process
too_many() {
    sed 1d "$1" | awk '/ anon_inode:\[eventfd\]$/ && !seen++ { next } { n++ } END { exit !n }'
}

all_gone() { guard_gone && agent_gone; }

# clean WHO...: nothing is left; of descriptors: each WHO has ended by itself and been looked at
clean() {
    local file who bad=
    wait_until 15 all_gone || failed "something does not end"
    silent
    for who in "$@"; do
        [ "$SNM_MODE" = asan ] || grep -qsE "^[^ ]*(snmigrate|exe) $who" "$REPORTS"/* ||
            failed "nobody looked at snmigrate $who"
    done
    for file in "$REPORTS"/[0-9]*; do
        [ -e "$file" ] && too_many "$file" || continue
        cat "$file"
        bad=1
    done
    rm -f "$REPORTS"/*
    [ -z "$bad" ] || failed "that was not given back"
    echo "ok   nothing was left: $*"
}

# The test can fail: what is taken and kept is seen.
can_fail() {
    if [ "$SNM_MODE" = asan ]; then
        echo 'int main(void) { return ((char *)malloc(77))[76]; }' |
            cc -O0 -include stdlib.h -fsanitize=address -x c -o "$WORK/leaky" -
        ASAN_OPTIONS=log_path=$REPORTS/asan lab run b "$WORK/leaky" || true
        grep -q '^Direct leak of 77 byte' "$REPORTS"/asan.* || failed "a leak of memory is not seen"
    else
        cp /bin/bash "$WORK/leaky"
        LD_PRELOAD=$LAB_BIN/fd-leaks.so FD_LEAKS=$REPORTS FD_LEAKS_OF=leaky \
            "$WORK/leaky" -c 'exec 7< /etc/passwd; exit 0'
        grep -q '^7 /etc/passwd$' "$REPORTS"/* || failed "a descriptor that is left is not seen"
    fi
    rm "$REPORTS"/*
}

fault_begin --disk raw:96M:48M --disk qcow2:64M:8M
BUDGET=5000
MOVE=(snmigrate --json -vv --max-downtime 5s --disks-to /var/lib/images vm root@hostb)

arrives() {
    again
    clean --json agent guard
    go_home
    clean --json agent guard
}

interrupted() {
    faulty_attempt bulk:delay-1 "slowly int_main"
    expect_end 130
    clean --json agent guard
}

agent_killed() {
    faulty_attempt bulk:delay-1 "slowly kill_agent"
    expect_end 0
    clean --json agent guard
    go_home
    clean --json
}

by_the_guard() {
    faulty_attempt memory.loop:delay-1 "slowly kill_main"
    expect_end killed
    clean agent guard
}

recovered() {
    faulty_attempt bulk:delay-1 "slowly kill_both"
    expect_status 137
    wait_until 20 agent_gone || failed "the agent is still there"
    on a snmigrate list > /dev/null
    on a snmigrate recover > /dev/null 2>&1 || failed "recover: $?"
    local want=3 status=0
    [ -z "$(on a snmigrate list --json | jq 'select(.state == "kept")')" ] || want=0
    on a snmigrate discard vm > /dev/null 2>&1 || status=$?
    [ $status = $want ] || failed "discard: $status, not $want"
    on a snmigrate status > /dev/null
    clean agent list recover discard status
}

can_fail
try "a move that arrives" arrives
try "a move that is interrupted" interrupted
try "a move whose agent is killed" agent_killed
try "a move that the guard ends" by_the_guard
try "recover, list, discard, status" recovered
fault_end
