# shellcheck shell=bash
# lib-cells.sh - what the cells of tests/fault share, beyond e2e/lib-fault.sh
#
# MATRIX.md says which cell of the promise each of them is.  A FAULT here is called as in
# lib-fault.sh: in the background of the attempt, when its point has been reached.

# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib-fault.sh"

E2E_NAME=cells-$E2E_NAME # the lab's, which must not be that of an end-to-end test

# The first agent of an attempt gets the fault, the next ones work.
agent_wrapper() {
    cat << END
if [ "\$1" = agent ] && mv /run/agent-fault /run/agent-faulty 2> /dev/null; then
    SNMIGRATE_FAULT=\$(cat /run/agent-faulty)
    export SNMIGRATE_FAULT
fi
END
}

running_stderr() { echo "$WORK/$((ATTEMPTS + 1))/stderr"; }

# await SECONDS CMD...: until it is true
await() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "not in time: $*"; return 1; }
        sleep 0.1
    done
}

said() { grep -qsE "$1" "$(running_stderr)"; }
ended() { [ -e "$WORK/$((ATTEMPTS + 1))/status" ]; }

# at_end CMD...: when the attempt has ended, which it does by itself
at_end() {
    await 300 ended
    "$@"
}

# ---- faults ---------------------------------------------------------------------------

reboot_host() { lab reboot "$1"; }

stop_agent_for() {
    local pid
    pid=$(on b pgrep -n -f '^[^ ]*snmigrate agent') || return 1
    on b kill -STOP "$pid"
    sleep "$1"
    on b kill -CONT "$pid" || true # it may have been given up and killed
}

# link_cut_to HOST: packets towards it are lost, those from it arrive
link_cut_to() { lab link cut "$1"; }

# qmp COMMAND: to the guest's QEMU at the source, during a migration as well
qmp() { on a virsh -q qemu-monitor-command vm "{\"execute\":\"$1\"}" > /dev/null; }
press_power() { qmp system_powerdown; }
press_reset() { qmp system_reset; }

# ---- disks that fail ---------------------------------------------------------------------

# disks_can_fail: from here on, fail_writes and fail_reads have something to tell
disks_can_fail() {
    local shim=$LAB_DIR/fail-io.so
    cc -shared -fPIC -O2 -Wall -Wextra -o "$shim" "$(dirname "${BASH_SOURCE[0]}")/fail-io.c" ||
        failed "cannot compile fail-io.c"
    printf '#!/bin/sh\nLD_PRELOAD=%s exec /usr/bin/qemu-nbd "$@"\n' "$shim" > "$LAB_BIN/qemu-nbd"
    printf '#!/bin/sh\nLD_PRELOAD=%s exec %s/qemu-odd-ram "$@"\n' "$shim" "$E2E_SRC" \
        > "$LAB_DIR/qemu-fails"
    chmod 755 "$LAB_BIN/qemu-nbd" "$LAB_DIR/qemu-fails"
    on a mount --bind "$LAB_DIR/qemu-fails" /usr/bin/qemu-system-x86_64
    reset # for a guest on such a QEMU
}

# fail_writes ERRNO: of the writers at the destination, until the attempt has ended
fail_writes() {
    on b sh -c "echo $1 > /run/fail-writes"
    at_end on b rm -f /run/fail-writes
}

# fail_reads: of the source's images, and only reads larger than any of the guest's
fail_reads() {
    on a sh -c 'echo 5 > /run/fail-reads'
    at_end on a rm -f /run/fail-reads
}

# ---- attempts ------------------------------------------------------------------------------

# said_in_attempt WORDS: of the attempt that has ended
said_in_attempt() {
    grep -qE "$1" "$ATTEMPT/stderr" || failed "it does not say: $1"
}

# saying WORDS CELL STEPS...: for "try": the cell, and it says so in the attempt
saying() {
    local words=$1
    shift
    faulty_attempt "$1" "$2"
    said_in_attempt "$words"
    expect_end "$3"
    link_back
    verdict "${@:5}"
    [[ $(where_is) =~ ^($4)$ ]] || failed "the guest is: $(where_is), expected: $4"
    [ "$(where_is)" = destination ] || again
    go_home
}

# recovered: by hand, on the source, from whatever the attempt left; its JSON is what the judge reads
recovered() {
    local got=0
    rm -f "$ATTEMPT/status"
    on a snmigrate recover --json -v > "$ATTEMPT/json" 2>> "$ATTEMPT/stderr" || got=$?
    jq -r '"   \(.found.source) / \(.found.destination) / \(.found.journal): \(.did)"' \
        "$ATTEMPT/json"
    [ $got -eq 0 ] || failed "recover: exit status $got"
}

# orphan SPEC: snmigrate and its guard are killed, and "recover" has the rest
orphan() {
    faulty_attempt "$1" -
    expect_end killed
    recovered
    verdict --budget none
    case $(where_is) in
        source) again ;;
        destination) ;;
        *) failed "the guest is: $(where_is)" ;;
    esac
    go_home
}
