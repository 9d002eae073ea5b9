#!/usr/bin/env bash
# What moves have left is listed on both hosts, and discarded: from the source on both, or
# on one alone; never while somebody works on it, nor where the guest is concerned.  Then
# nothing is left, and the same command moves the guest.
# timeout: 600
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:160M:96M --disk qcow2:64M:16M
BUDGET=5000
MOVE=(snmigrate --json -vv --max-downtime 5s --disks-to /var/lib/images vm root@hostb)

# say HOST WANTED-STATUS ARGUMENT...: snmigrate on HOST, into $WORK/out and $WORK/err
say() {
    local host=$1 wanted=$2 status=0
    shift 2
    on "$host" snmigrate "$@" > "$WORK/out" 2> "$WORK/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || {
        cat "$WORK/out" "$WORK/err"
        failed "on $host: snmigrate $*: status $status, not $wanted"
    }
}

says() { grep -qF -- "$2" "$WORK/$1" || { cat "$WORK/$1"; failed "no \"$2\" in $1"; }; }

# listed HOST STATE...: of all moves there
listed() {
    local host=$1 states
    shift
    say "$host" 0 list --json
    states=$(jq -r .state "$WORK/out" | xargs)
    [ "$states" = "$*" ] || {
        cat "$WORK/out"
        failed "listed on $host: '$states', not '$*'"
    }
    echo "ok   listed on $host: ${*:-nothing}"
}

nothing_listed() {
    local host
    for host in a b; do
        listed $host
        say $host 0 list
        says out "No move has left anything on this host."
        say $host 3 discard vm
        says err "no move of 'vm' has left anything on this host"
    done
}

# It is seen on both hosts, and left alone; in the background, where "failed" ends nothing.
look_and_kill() {
    local host ok=0
    for host in a b; do
        (
            listed $host running
            say $host 0 list
            says out "running"
            say $host 3 discard vm
            says err "vm is being moved"
        ) || ok=1
    done
    kill_both
    return $ok
}

agent_away() { wait_until 20 agent_gone || failed "the agent is still there"; }

# abandon POINT FAULT: both are killed, and nobody has said anything of the end
abandon() {
    faulty_attempt "$1" "$2"
    expect_status 137
    rm "$ATTEMPT/status" "$ATTEMPT/json"
    agent_away
}

nothing_left() {
    nothing_listed
    link_back
    verdict --budget none
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
}

from_the_source() {
    nothing_listed
    abandon bulk:delay-1 "slowly look_and_kill"
    listed a killed
    listed b parked
    say a 0 list
    says out "to root@hostb"
    says out "killed: the same command"
    say b 0 list
    says out "from hosta"
    says out "incomplete: "
    link_cut
    say a 9 discard vm
    says err "discard --here"
    says err "Nothing was changed."
    lab link restore
    listed a killed
    listed b parked
    say a 0 discard --json "$(jq -r '.id[:8]' "$WORK/out")" # of the list on b
    [ "$(jq -c '[.type, .status, .role, .in_qemu, (.removed | length),
        (.removed | all(.host == "root@hostb" and (.path | startswith("/var/lib/images/vm-")))),
        ([.removed[].bytes] | add > 1000000), .left, .error]' "$WORK/out")" = \
        '["discard",0,"source",true,2,true,true,[],null]' ] || {
        cat "$WORK/out"
        failed "that is not what was to be removed"
    }
    nothing_left
}

half_and_half() {
    abandon bulk:delay-1 "slowly kill_both"
    say a 0 discard --here vm
    says out "left to do   on root@hostb: snmigrate discard"
    listed a
    listed b parked
    say b 0 discard vm
    says out "removed      /var/lib/images/vm-vda.raw on this host"
    nothing_left
}

killed_itself() {
    local status=0
    abandon bulk:delay-1 "slowly kill_both"
    on a env SNMIGRATE_FAULT=discard.half:kill-self snmigrate discard vm > /dev/null 2>&1 ||
        status=$?
    [ $status = 137 ] || failed "discard: status $status, not killed"
    listed a killed
    listed b
    say a 0 discard vm
    says out "what it had in QEMU on this host"
    nothing_left
}

# What decides about the guest is not discard's to remove.
guest_concerned() {
    abandon switch.suspended:delay-3000 kill_both
    listed a open
    say a 3 discard vm
    says err "snmigrate recover"
    say a 3 discard --here vm
    listed a open
    on a snmigrate recover -q vm > /dev/null || failed "recover: $?"
    listed a kept
    say a 0 discard vm
    nothing_left
}

# Whatever an interrupted move keeps is given up.
interrupted() {
    faulty_attempt rounds:delay-300 int_main
    expect_status 130
    listed a kept
    say a 0 discard vm
    nothing_left
}

# Somebody has made something else of what was kept: it is his.
written_since() {
    local sum
    faulty_attempt rounds:delay-300 int_main
    expect_status 130
    listed a kept
    echo precious | on b dd of=/var/lib/images/vm-vda.raw bs=1M seek=100 conv=notrunc status=none
    sum=$(on b sha256sum /var/lib/images/vm-vda.raw)
    say a 0 discard --json vm
    [ "$(jq -c '[.status, (.removed | map(.path)), (.left_alone | map(.host, .path)), .error]' \
        "$WORK/out")" = '[0,["/var/lib/images/vm-vdb.qcow2"],["root@hostb","/var/lib/images/vm-vda.raw"],null]' ] || {
        cat "$WORK/out"
        failed "that is not what was to be left alone"
    }
    [ "$sum" = "$(on b sha256sum /var/lib/images/vm-vda.raw)" ] || failed "it has changed"
    on b rm /var/lib/images/vm-vda.raw
    nothing_left
}

try "from the source" from_the_source
try "each host alone" half_and_half
try "killed half-way" killed_itself
try "the guest is concerned" guest_concerned
try "after Ctrl-C" interrupted
try "written since" written_since
again
fault_end
