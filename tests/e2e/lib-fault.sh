# shellcheck shell=bash
# lib-fault.sh - what the fault tests share:  . "$(dirname "$0")/lib-fault.sh"
#
#   fault_begin [VM OPTION...]   a lab, its agents able to fail, a running VM "vm" on a
#   cell WHAT POINT FAULT STATUS OWNER
#                                one attempt to move it with a fault at an instant: the
#                                invariants; then the same command again must succeed
#   more cell ...                only where SNM_FAULTS is "all"
#   with OPTIONS cell ...        with these options in the attempt with the fault
#   once cell ...                with nothing tried again, nor a lost link dialled again
#   try WHAT CMD...              something else that is tried as a cell is
#
# POINT is SNMIGRATE_FAULT's POINT:ACTION ("agent.X:ACTION": in the agent; "-": none).
# FAULT is a function of this file that is run when POINT has been reached ("-": ACTION is
# the fault); so ACTION is then "delay-1" (only says so) or a delay that holds the move
# there meanwhile.  STATUS is the exit status, "killed" when snmigrate itself is.
# OWNER: source, destination, off; "source|destination" where both are right.

# shellcheck source=tests/lab/e2e.sh
. "$(dirname "$0")/../lab/e2e.sh"

BUDGET=1000 # of the pause, in ms: there must be time to do something in it
MOVE=(snmigrate --json -vv --max-downtime "${BUDGET}ms" --disks-to /var/lib/images vm root@hostb)
# Only the way back: whatever pause it takes.
HOME_MOVE=(snmigrate --json -vv --max-downtime 10s --remove-source-disks
    --disks-to /var/lib/images vm root@hosta)
OPTS=() # more of the attempt with the fault
FAILED_CELLS=()
NOBODY=02:00:0a:4d:00:ff # whom a host sends to when the link is cut (lab/lib/net.sh)
REAL_BIN=${LAB_BIN:-${SNM_BUILD:-$(cd "$E2E_SRC/../.." && pwd)/build/release}}

# on HOST CMD...: as "lab run", in a tenth of its time
on() {
    local pid
    read -r pid _ < "$LAB_DIR/$1/pid"
    shift
    PATH=$LAB_BIN:$PATH "$LAB_DIR/host-ns" enter "$pid" "$@"
}

# ssh hands no environment to the agent: a script that the snmigrate of both hosts begins with.
agent_wrapper() {
    cat << END
[ "\$1" != agent ] || [ ! -e /run/agent-fault ] || {
    SNMIGRATE_FAULT=\$(cat /run/agent-fault)
    export SNMIGRATE_FAULT
}
END
}

# What a sanitizer's build has to say goes where it is found, whoever says it.
sanitizer_env() {
    case ${SNM_MODE:-} in
        asan) echo "export ASAN_OPTIONS='${ASAN_OPTIONS:-}:log_path=$REPORTS/asan'" ;;
        tsan) echo "export TSAN_OPTIONS='${TSAN_OPTIONS:-} log_path=$REPORTS/tsan exitcode=0'" ;;
    esac
}

# silent: no sanitizer has said anything
silent() {
    local file bad=
    for file in "$REPORTS"/?san.*; do
        [ -e "$file" ] || continue
        head -n 80 "$file"
        rm "$file"
        bad=1
    done
    [ -z "$bad" ] || failed "that is what a sanitizer said"
}

write_wrapper() {
    echo '#!/bin/sh'
    sanitizer_env
    agent_wrapper
    echo "exec $REAL_BIN/snmigrate \"\$@\""
}

fault_begin() {
    export LAB_NAME=${LAB_NAME:-$E2E_NAME-$$}
    LAB_BIN=$(lab dir)/bin || exit 1
    export LAB_BIN
    lab_begin
    REPORTS=$LAB_BIN/reports
    mkdir -p "$REPORTS"
    write_wrapper > "$LAB_BIN/snmigrate"
    chmod 755 "$LAB_BIN/snmigrate"
    VM=(--mem 160 --ram 1M --write 500K "$@")
    vm_create
}

vm_create() {
    lab vm create vm "${VM[@]}"
    lab vm wait vm
}

# after a start: its new READY is not the old one
vm_ready() {
    sleep 3
    wait_until 60 vm_beats || failed "the guest does not boot"
}

vm_beats() { lab console a vm | tail -n 3 | grep -q '^beat'; }

# ---- faults --------------------------------------------------------------------------

# The guard's command line is another.
main_pid() { on a pgrep -x -f '[^ ]*/snmigrate --json .*'; }
signal_main() { on a kill "-$1" "$(main_pid)"; }
int_main() { signal_main INT; }
kill_main() { signal_main KILL; }
stop_main() { signal_main STOP; }
kill_both() {
    on a sh -c 'kill -KILL $(pgrep -f "^/proc/self/exe guard") \
        $(pgrep -x -f "[^ ]*/snmigrate --json .*")'
}
kill_agent() { on b pkill -KILL -f '^[^ ]*snmigrate agent'; }
kill_writer() { on b pkill -KILL -o -x qemu-nbd; }
kill_qemu() { on "$1" pkill -KILL -f '^[^ ]*qemu-system-x86_64 -name guest=vm,'; }
kill_src_qemu() { kill_qemu a; }
kill_dst_qemu() { kill_qemu b; }
power_off() { on a virsh -q shutdown vm --mode acpi; }
link_cut() { lab link cut; }
# link_cut_for SECONDS
link_cut_for() {
    touch "$WORK/was-cut"
    link_cut
    sleep "$1"
    lab link restore
}
restart_src_libvirtd() { lab restart-libvirtd a; }
restart_dst_libvirtd() { lab restart-libvirtd b; }

# reached FILE POINT: it says so itself
reached() { grep -qs " fault: point=${2%%:*} happens now" "$1"; }

# inject FILE POINT FAULT: in the background of an attempt whose stderr FILE is
inject() {
    local end=$((SECONDS + 60))
    until reached "$1" "$2"; do
        [ $SECONDS -lt $end ] || { echo "point $2 was not reached"; return 1; }
        sleep 0.03
    done
    $3 || { echo "fault '$3' failed"; return 1; }
}

# slowly FAULT: what is copied takes seconds, and FAULT happens in the middle
slowly() {
    sleep 0.4
    "$@"
    lab link rate none
}

# copied: percent of the first disk that the first pass of the attempt has copied
copied() {
    tail -n 1 "$WORK/$((ATTEMPTS + 1))/json" |
        jq -r 'if .phase == "bulk" and .disks[0].total > 0
            then .disks[0].done * 100 / .disks[0].total | floor else 0 end' 2> /dev/null
}

# late PERCENT FAULT: when so much is copied
late() {
    local percent=$1 end=$((SECONDS + 60))
    shift
    until [ "$(copied)" -ge "$percent" ]; do
        [ $SECONDS -lt $end ] || { echo "not copied in time"; return 1; }
        sleep 0.1
    done
    "$@"
    lab link rate none
}

# ---- attempts ------------------------------------------------------------------------

faulty_attempt() {
    local point=$1 fault=$2 job='' env=() at_ms
    case $point in
        agent.*) on b sh -c "echo '$point' > /run/agent-fault" ;;
        -) ;;
        *) env=(env "SNMIGRATE_FAULT=$point") ;;
    esac
    case $fault in slowly*) lab link rate 60mbit ;; esac
    [ "$fault" = - ] || { inject "$WORK/$((ATTEMPTS + 1))/stderr" "$point" "$fault" & job=$!; }
    at_ms=$(date +%s%3N)
    attempt vm "${env[@]}" "${MOVE[@]}" "${OPTS[@]}"
    # once more, if that has kept it from the point
    if [ -z "$job" ] && too_busy "$(< "$ATTEMPT/status")" "$ATTEMPT/stderr" &&
        ! reached "$ATTEMPT/stderr" "$point"; then
        attempt vm "${env[@]}" "${MOVE[@]}" "${OPTS[@]}"
    fi
    echo "   took $(($(date +%s%3N) - at_ms)) ms;" \
        "$(grep -m 1 'snmigrate: error' "$ATTEMPT/stderr" || true)"
    [ -z "$job" ] || wait "$job" || failed "the fault could not be made"
    on b rm -f /run/agent-fault
}

# wait_until SECONDS CMD
wait_until() {
    local end=$((SECONDS + $1))
    until $2; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

guard_gone() { ! on a pgrep -f '^/proc/self/exe guard' > /dev/null; }

expect_end() {
    if [ "$1" = killed ]; then
        expect_status 137
        # it said nothing of the end, and the guard is left with the rest
        wait_until 30 guard_gone || failed "the guard is still there after 30 s"
        mv "$ATTEMPT/status" "$ATTEMPT/status.killed"
        mv "$ATTEMPT/json" "$ATTEMPT/json.killed"
    else
        expect_status "$1"
    fi
}

where_is() {
    case $(lab where vm) in
        a) echo source ;;
        b) echo destination ;;
        none) echo off ;;
        *) echo both ;;
    esac
}

verdict() {
    (judge --budget $BUDGET "$@") > "$ATTEMPT/verdict" && return
    cat "$ATTEMPT/verdict"
    exit 1
}

agent_gone() { ! on b pgrep -f '^[^ ]*snmigrate agent' > /dev/null; }

# link_back: after a cut; the agent has ended by itself, but TCP would keep its sshd for
# minutes, which is not the move's doing
link_back() {
    local state
    state=$(lab link state)
    if [ -e "$WORK/was-cut" ]; then
        rm "$WORK/was-cut"
        on b pkill -f '^sshd: root' || true
    fi
    [[ $state == *$NOBODY* ]] || return 0
    wait_until 15 agent_gone || failed "the agent did not notice that the link is dead"
    lab link restore
    on b pkill -f '^sshd: root' || true
}

# too_busy STATUS STDERR: the machine has no time for the tests, and the pause was kept to
too_busy() {
    [ "$1" -eq 4 ] && grep -q 'error: the pause would have lasted' "$2" &&
        echo "   the machine is too busy for the pause"
}

# go_home: back to a, where the next attempt begins
go_home() {
    local status=4 tries
    on a rm -f /var/lib/images/vm-vda.raw /var/lib/images/vm-vdb.qcow2
    for tries in 1 2 3; do
        status=0
        on b "${HOME_MOVE[@]}" > "$WORK/home.json" 2> "$WORK/home.stderr" || status=$?
        too_busy $status "$WORK/home.stderr" || break
    done
    [ $status -eq 0 ] || {
        grep -v 'debug control' "$WORK/home.stderr" | tail -n 60
        grep 'snmigrate: error' "$WORK/home.stderr" || true
        failed "not moved back in $tries tries"
    }
    on a sh -c 'rm -rf /var/lib/snmigrate/*.xml /var/lib/snmigrate/moved'
    on b sh -c 'rm -rf /var/lib/snmigrate/*.xml /var/lib/snmigrate/moved'
}

# again: nothing disturbs it
again() {
    local tries
    for tries in 1 2 3; do
        attempt vm "${MOVE[@]}"
        too_busy "$(< "$ATTEMPT/status")" "$ATTEMPT/stderr" || break
    done
    expect_status 0
    verdict
}

is_kept() {
    [ -n "$(awk '$2 == "kept"' "$ATTEMPT/after/kept.a")" ] || failed "it has not kept what was copied"
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
}

# stopped STATUS POINT FAULT: and what was copied is kept, and nothing else left
stopped() {
    lab link rate 200mbit
    faulty_attempt "$2" "$3"
    expect_end "$1"
    link_back
    verdict "${@:4}"
    is_kept
}

# gone_on BYTES: the same command; it may copy so much
gone_on() {
    local moved
    again
    moved=$(tail -n 1 "$ATTEMPT/json" | jq .disk_bytes)
    echo "   copied $((moved >> 20)) MiB again"
    grep -q 'resume: going on from an earlier try' "$ATTEMPT/stderr" || failed "it began anew"
    [ "$moved" -le "$1" ] || failed "too much was copied again"
}

cell_steps() {
    local point=$1 fault=$2 status=$3 owner=$4
    shift 4
    faulty_attempt "$point" "$fault"
    expect_end "$status"
    link_back
    verdict "$@"
    [[ $(where_is) =~ ^($owner)$ ]] || failed "the guest is: $(where_is), expected: $owner"
    case $(where_is) in
        source) again ;;
        off) lab vm start vm; vm_ready; again ;;
    esac
    go_home
}

cell_evidence() {
    local dir host
    (silent) || true
    dir=$(find "$WORK" -maxdepth 1 -name '[0-9]*' | sort -V | tail -n 1)
    echo "-- $dir: stderr"
    grep -Ev 'debug (link|control|tunnel)' "$dir/stderr" | tail -n 60
    echo "-- events"
    lab events show | awk -v since="$(sed -n 's/^at_ns=//p' "$dir/before/meta")" '$1 > since' |
        tail -n 30
    for host in a b; do
        echo "-- QEMU on $host"
        grep '^[0-9]' "$LAB_DIR/$host/log-libvirt/qemu/vm.log" | tail -n 5 || true
    done
}

# reset: what a failed cell left is gone
reset() {
    local host
    lab link restore
    lab link rate none
    for host in a b; do
        on $host sh -c 'pkill -KILL -x snmigrate; rm -f /run/agent-fault
            virsh -q destroy vm; virsh -q undefine vm
            sleep 0.5
            ! grep -q "^small /var/lib/images " /proc/mounts || umount /var/lib/images
            rm -rf /var/log/libvirt/console/vm.log /var/lib/images/vm-* /var/lib/images/.snm* /var/lib/snmigrate/* /run/snmigrate/*
            ' > /dev/null 2>&1 || true
    done
    vm_create
}

# try WHAT CMD...: all are tried; fault_end says how it went
try() {
    local what=$1 status
    shift
    wanted "$what" || return 0
    local begun=$SECONDS
    set +e
    (
        set -e
        "$@"
        silent
    )
    status=$?
    set -e
    ATTEMPTS=$(find "$WORK" -maxdepth 1 -name '[0-9]*' | wc -l)
    echo "   $((SECONDS - begun)) s"
    [ $status -ne 0 ] || return 0
    FAILED_CELLS+=("$what")
    cell_evidence || true # of what there is
    reset
}

cell() {
    wanted "$1" || return 0
    echo "== $1: $2 $3"
    try "$1" cell_steps "${@:2}"
}

# with OPTIONS CELL...
with() {
    read -ra OPTS <<< "$1"
    shift
    "$@"
    OPTS=()
}

# once CELL...: with nothing tried again
once() { with "--retries 0 --reconnect 0s" "$@"; }

# only_with_all: no cell of the script is in every run
only_with_all() { [ "${SNM_FAULTS:-}" = all ] || skip "with SNM_FAULTS=all"; }

# more CELL...: not in every run, but with SNM_FAULTS=all
more() { [ "${SNM_FAULTS:-}" != all ] || "$@"; }

fault_end() {
    [ ${#FAILED_CELLS[@]} -eq 0 ] && return
    printf 'FAILED: %s\n' "${FAILED_CELLS[@]}"
    exit 1
}

# wanted NAME: among those that SNM_CELLS asks for, an extended regular expression
wanted() { [[ $1 =~ ${SNM_CELLS:-} ]]; }
