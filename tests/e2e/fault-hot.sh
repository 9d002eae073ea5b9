#!/usr/bin/env bash
# What the guest writes in every round waits for the last ones; whatever breaks while it
# waits, nothing of it is lost.
# timeout: 900
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"
only_with_all

# Most writes go round half a MiB, the others anywhere.
fault_begin --disk raw:160M:24M:512K --mem 448 --ram 256M --write 8M
MOVE=(snmigrate --json -vv --compress off --max-downtime "${BUDGET}ms"
    --disks-to /var/lib/images vm root@hostb)

waiting() { jq -s 'map([.disks[]?.hot] | add // 0) | last // 0' "$1" 2> /dev/null || echo 0; }

# when_hot FAULT: while something waits, and memory is on its way
when_hot() {
    local end=$((SECONDS + 90)) json=$WORK/$((ATTEMPTS + 1))/json
    until [ "$(waiting "$json")" -gt 0 ]; do
        [ $SECONDS -lt $end ] || { echo "nothing waits"; return 1; }
        sleep 0.1
    done
    echo "   $(waiting "$json") bytes wait"
    "$@"
}

kill_both() {
    on a sh -c 'kill -KILL $(pgrep -f "^/proc/self/exe guard") \
        $(pgrep -x -f "[^ ]*/snmigrate --json .*")'
}

# hot FAULT: a move over a slow link, with that while something waits
hot() {
    lab link rate 120mbit
    faulty_attempt memory:delay-1 "when_hot $1"
}

undisturbed() {
    hot true
    expect_status 0
    verdict
    [ "$(waiting "$ATTEMPT/json")" = 0 ] || failed "something waits still"
    grep -Eq ' disks: round=[0-9]+ copied=.* waits=[1-9]' "$ATTEMPT/stderr" ||
        failed "the log does not say that anything waits"
    lab link rate none
    go_home
}

killed() {
    hot "$1"
    expect_end killed
    lab link rate none
    verdict
    again
    go_home
}

# Nobody is left; the same command recovers first.
both_killed() {
    hot kill_both
    expect_status 137
    lab link rate none
    again
    go_home
}

# It goes on by itself.
goes_on() {
    OPTS=(--timeout 300s)
    hot "$1"
    OPTS=()
    expect_status 0
    link_back
    verdict
    lab link rate none
    go_home
}

more try "nothing breaks" undisturbed
more try "killed while some waits" killed kill_main
more try "both killed while some waits" both_killed
more try "cut while some waits" goes_on "link_cut_for 20"
more try "agent killed while some waits" goes_on kill_agent
more try "writer killed while some waits" goes_on kill_writer
fault_end
