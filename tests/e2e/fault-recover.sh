#!/usr/bin/env bash
# snmigrate and its guard are killed together, hosts reboot, somebody starts what he should
# not: "snmigrate recover" brings the guest to one owner, says where, and removes what was
# left; the next move of it then succeeds.
# timeout: 900
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

# What is looked at here is not the pause, and a busy machine must not end the move.
BUDGET=5000
MOVE=(snmigrate --json -vv --max-downtime 5s --disks-to /var/lib/images vm root@hostb)

# ---- steps ---------------------------------------------------------------------------

cut_and_kill() { link_cut; kill_both; }
cut_and_kill_all() { link_cut; kill_agent; kill_both; }

# starts_with_host YES|NO: the domain, at the source
starts_with_host() {
    [ "$(on a virsh dominfo vm | awk '/^Autostart/ { print $2 }')" = "$1" ] ||
        failed "autostart at the source is not: $1"
}

state_of() { on "$1" virsh -q domstate vm 2> /dev/null | head -n 1; }
is_state() { [ "$(state_of "$1")" = "${2//-/ }" ]; }
expect_state() {
    wait_until 10 "is_state $1 ${2// /-}" || failed "the guest is $(state_of "$1") on $1, expected $2"
}

# abandon POINT [FAULT]: a move that reaches POINT, where both are killed
abandon() {
    faulty_attempt "$1" "${2:-kill_both}"
    expect_status 137
    rm "$ATTEMPT/status"
    ! on a pgrep -f '^/proc/self/exe guard' > /dev/null || failed "the guard lives"
}

# The agent that has lost its source has ended; of a dead one sshd may be left.
agent_away() { wait_until 20 agent_gone || failed "the agent is still there"; }

# recover HOST STATUS LOCATION DID [ARG...]: its JSON is what the judge reads
recover() {
    local host=$1 status=$2 location=$3 did=$4 got=0
    shift 4
    on "$host" snmigrate recover --json -v "$@" > "$ATTEMPT/json" 2>> "$ATTEMPT/stderr" || got=$?
    jq -r '"   \(.status): \(.found.source) / \(.found.destination) / \(.found.journal): " +
        "\(.did), \(.guest_location) \(.guest_state)"' "$ATTEMPT/json"
    if [ $got -ne "$status" ] || ! jq -es --arg l "$location" --arg d "$did" --argjson s "$status" \
        'length == 1 and (.[0] | .status == $s and .guest_location == $l and (.did | test($d)))' \
        "$ATTEMPT/json" > /dev/null; then
        cat "$ATTEMPT/json"
        failed "recover: exit status $got, expected $status, $location, '$did'"
    fi
}

nothing_left() {
    local host
    for host in a b; do
        [ "$(on $host snmigrate recover)" = "Nothing to recover on this host." ] ||
            failed "recover finds something on $host again"
    done
}

# The guest goes on, and the same command moves it.
at_source() {
    nothing_left
    link_back
    verdict --budget none
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    again
    go_home
}

at_destination() {
    nothing_left
    verdict --budget none
    [ "$(where_is)" = destination ] || failed "the guest is: $(where_is)"
    go_home
}

# booted_anew: it moves, and then goes: what it counts on its console began anew, which the
# judge of its next moves would not know
booted_anew() {
    vm_ready
    attempt vm "${MOVE[@]}"
    too_busy "$(< "$ATTEMPT/status")" "$ATTEMPT/stderr" || expect_status 0
    reset
}

# ---- cells ---------------------------------------------------------------------------

in_bulk() {
    abandon bulk:delay-1 "slowly kill_both"
    recover a 0 source kept
    at_source
}

in_memory() {
    abandon memory.loop:delay-1 "slowly kill_both"
    recover a 0 source "kept|resumed"
    at_source
}

# stopped: libvirt resumes a guest that QEMU had stopped by itself, and leaves one that
# snmigrate had suspended
stopped() { is_state a paused || on a virsh -q suspend vm; }

after_suspend() {
    on a virsh -q autostart vm
    abandon switch.suspended:delay-3000
    agent_away
    stopped
    starts_with_host disable
    recover a 0 source resumed
    expect_state a running
    starts_with_host enable
    on a virsh -q autostart vm --disable
    at_source
}

# Nobody says "recover": the same command does it first, and the guest, which ran, runs.
same_command() {
    on a virsh -q autostart vm
    abandon switch.suspended:delay-3000
    agent_away
    stopped
    on a snmigrate --check --disks-to /var/lib/images vm root@hostb > /dev/null 2> "$WORK/check" &&
        failed "a check does not see it"
    grep -q 'was killed and is open' "$WORK/check" || failed "a check does not say it"
    # not judged: to the judge the guest that the killed move left was paused before
    attempt vm "${MOVE[@]}"
    expect_status 0
    expect_state b running
    [ "$(on b virsh dominfo vm | awk '/^Autostart/ { print $2 }')" = enable ] ||
        failed "autostart is lost"
    on b virsh -q autostart vm --disable
    go_home
}

# Its user had paused it: it stays so.
after_suspend_of_paused() {
    on a virsh -q suspend vm
    abandon switch.suspended:delay-3000
    recover a 0 source kept
    expect_state a paused
    nothing_left
    verdict --budget none
    on a virsh -q resume vm
}

resume_and_kill() {
    on a virsh -q resume vm
    inject "$WORK/$((ATTEMPTS + 1))/stderr" switch.suspended kill_both
}

# It was paused as the move began, and its user has resumed it since: so it runs on.
resumed_in_bulk() {
    on a virsh -q suspend vm
    abandon bulk:delay-1000,switch.suspended:delay-3000 resume_and_kill
    agent_away
    stopped
    recover a 0 source resumed
    expect_state a running
    moves_once
}

suspend_and_kill() { on a virsh -q suspend vm; kill_main; }

# Its user paused it while the disks were copied: the guard leaves it so.
suspended_in_rounds() {
    faulty_attempt rounds:delay-1500 suspend_and_kill
    expect_end killed
    expect_state a paused
    nothing_left
    on a virsh -q resume vm
    moves_once
}

# Which of the two is not told: libvirt's own threads were in the middle of it.
after_release() {
    abandon switch.released:delay-300
    agent_away
    on a snmigrate recover --json > "$ATTEMPT/json" 2>> "$ATTEMPT/stderr" ||
        failed "recover: exit status $?"
    jq -r '"   \(.found.source) / \(.found.destination): \(.did)"' "$ATTEMPT/json"
    case $(where_is) in
        source) at_source ;;
        destination) at_destination ;;
        *) failed "the guest is: $(where_is)" ;;
    esac
}

source_dead() {
    abandon commit:delay-3000
    expect_state b paused
    recover a 0 destination "brought"
    at_destination
}

in_finish() {
    abandon finish:delay-3000
    expect_state b running
    recover a 0 destination "brought"
    at_destination
}

# While it is moved recover keeps its hands off, by name and without.
recover_meanwhile() {
    local got=0 host
    on a snmigrate recover vm > "$WORK/busy" 2>&1 || got=$?
    if [ $got -ne 3 ] || ! grep -q 'vm is being moved' "$WORK/busy"; then
        cat "$WORK/busy"
        return 1
    fi
    for host in a b; do
        on $host snmigrate recover > "$WORK/busy" || return 1
        grep -q '^vm: left alone' "$WORK/busy" || return 1
    done
}

while_it_moves() {
    faulty_attempt bulk:delay-4000 recover_meanwhile
    if too_busy "$(< "$ATTEMPT/status")" "$ATTEMPT/stderr"; then
        again
    else
        expect_status 0
        verdict
    fi
    go_home
}

# The only host that has all of it does not answer: nobody is started; later it goes on.
unreachable() {
    abandon commit:delay-3000 cut_and_kill
    recover a 7 unknown nothing
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    link_back
    recover a 0 destination brought
    at_destination
}

# Never released: it cannot run there, so it need not be asked.
unreachable_before() {
    abandon switch.suspended:delay-3000 cut_and_kill_all
    stopped
    recover a 0 source resumed
    expect_state a running
    link_back
    recover b 0 unknown removed --source-wins vm
    jq '.guest_location = "source"' "$ATTEMPT/json" > "$WORK/json" # the destination cannot know
    mv "$WORK/json" "$ATTEMPT/json"
    at_source
}

# The source lost its power after COMMIT could have been sent, or before all had come.
source_reboots() {
    on a virsh -q autostart vm
    abandon commit:delay-3000
    lab reboot a
    expect_state a 'shut off'
    recover a 0 destination brought
    on b virsh -q autostart vm --disable
    at_destination
}

source_reboots_in_memory() {
    abandon memory.loop:delay-1 "slowly kill_both"
    lab reboot a
    recover a 0 nowhere "gave up"
    nothing_left
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    echo 5 > "$ATTEMPT/status"
    verdict --budget none --disks off
    lab vm start vm
    booted_anew
}

# As libvirt would have started it, had the move not turned that off.
source_reboots_with_autostart() {
    on a virsh -q autostart vm
    abandon memory.loop:delay-1 "slowly kill_both"
    lab reboot a
    expect_state a 'shut off'
    recover a 0 source "booted it again"
    starts_with_host enable
    on a virsh -q autostart vm --disable
    nothing_left
    verdict --budget none
    booted_anew
}

# A power cut there: the guest is off, and the source does not start.
destination_reboots() {
    abandon finish:delay-3000
    lab reboot b
    recover a 6 destination brought
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    nothing_left
    reset
}

# The destination alone: it waits for the source, unless an operator knows better.
destination_alone() {
    abandon commit:delay-3000
    agent_away
    recover b 7 unknown nothing
    expect_state b paused
    recover b 0 destination finished --destination-wins vm
    expect_state b running
    recover a 0 destination brought
    at_destination
}

# The operator gives the source's paused guest up for the complete one.
destination_wins() {
    abandon switch.suspended:delay-3000
    agent_away
    stopped
    recover a 7 unknown nothing --destination-wins vm
    expect_state a paused
    recover a 0 source resumed
    at_source
}

# Both were resumed by hand.
split_brain() {
    abandon commit:delay-3000
    agent_away
    on b virsh -q resume vm
    on a virsh -q start vm
    recover a 7 unknown nothing
    recover a 7 unknown nothing --source-wins vm
    recover a 7 unknown nothing --destination-wins vm
    expect_state a running
    expect_state b running
    on a virsh -q destroy vm
    recover a 0 destination brought --destination-wins vm
    [ "$(where_is)" = destination ] || failed "the guest is: $(where_is)"
    nothing_left
    reset
}

# Without a definition at the source there is nothing that a power cut leaves of it there.
transient() {
    on a virsh -q undefine vm
    ! on a virsh -q list --all --persistent --name | grep -q . || failed "it is not transient"
}

# moves_once: what the judge says of a guest that is to be defined does not fit this one
moves_once() {
    nothing_left
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    link_back
    attempt vm "${MOVE[@]}"
    too_busy "$(< "$ATTEMPT/status")" "$ATTEMPT/stderr" || expect_status 0
    reset
}

transient_after_suspend() {
    transient
    abandon switch.suspended:delay-3000
    agent_away
    stopped
    recover a 0 source resumed
    expect_state a running
    moves_once
}

transient_source_dead() {
    transient
    abandon commit:delay-3000
    expect_state b paused
    recover a 0 destination brought
    expect_state b running
    nothing_left
    reset
}

transient_source_reboots() {
    transient
    abandon commit:delay-3000
    lab reboot a
    recover a 0 destination brought
    expect_state b running
    nothing_left
    reset
}

power_cut() { sleep 1; lab reboot a; }

# The journal does not say that it has ended here, and libvirt knows nothing of it any more.
transient_source_reboots_released() {
    transient
    abandon switch.released:delay-5000 power_cut
    expect_state b paused
    recover a 7 unknown nothing
    expect_state b paused
    recover a 0 destination brought --destination-wins vm
    expect_state b running
    nothing_left
    reset
}

transient_source_reboots_in_memory() {
    transient
    abandon memory.loop:delay-1 "slowly kill_both"
    lab reboot a
    recover a 0 nowhere "gave up"
    grep -q 'vm was transient: virsh create' "$ATTEMPT/json" ||
        failed "it does not say how it is started"
    nothing_left
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    reset
}

try "killed after the suspend" after_suspend
try "the same command after the suspend" same_command
try "killed when the source is dead" source_dead
try "while it is moved" while_it_moves
more try "killed in bulk" in_bulk
more try "killed in memory" in_memory
more try "killed in the finish" in_finish
more try "killed after the suspend of a paused guest" after_suspend_of_paused
more try "killed after the release" after_release
more try "destination unreachable" unreachable
more try "destination unreachable, never released" unreachable_before
more try "source reboots at commit" source_reboots
more try "source reboots in memory" source_reboots_in_memory
more try "source reboots in memory, autostart" source_reboots_with_autostart
more try "destination reboots in the finish" destination_reboots
more try "the destination alone" destination_alone
more try "a word that does not help" destination_wins
more try "split brain" split_brain
more try "resumed in bulk, killed after the suspend" resumed_in_bulk
more try "suspended in rounds, killed" suspended_in_rounds
more try "transient, killed after the suspend" transient_after_suspend
more try "transient, killed when the source is dead" transient_source_dead
more try "transient, source reboots at commit" transient_source_reboots
more try "transient, source reboots after the release" transient_source_reboots_released
more try "transient, source reboots in memory" transient_source_reboots_in_memory
fault_end
