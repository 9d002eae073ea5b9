# shellcheck shell=bash
# e2e.sh - what an end-to-end test sources:  . "$(dirname "$0")/../lab/e2e.sh"
#
#   lab_begin [lab up options]   a lab of the test's own, events recorded, taken down at exit;
#                                $LAB_UP: more options, from whoever runs the test
#   attempt VM CMD...            state before; CMD on host a; status, stdout, stderr kept
#   judge [invariants options]   the invariants after the attempt; ends the test if one fails
#   expect_status N              of the attempt
#   lab ...                      tests/lab/lab of this lab
#
# $WORK is a directory of the test's own, $ATTEMPT that of the newest attempt: before/,
# status, json (stdout), stderr, after/.  A failing test shows what there is.
set -euo pipefail

E2E_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
E2E_NAME=$(basename "$0" .sh)
ATTEMPTS=0
ATTEMPT=

skip() { echo "$*"; exit 77; }
failed() { echo "FAILED: $*"; exit 1; }

lab() { "$E2E_SRC/lab" "$@"; }

requires_lab() {
    local cmd
    [ "$(id -u)" -eq 0 ] || skip "the lab needs root"
    for cmd in libvirtd virsh qemu-system-x86_64 qemu-img sshd ip tc nsenter jq cpio cc xmllint; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$cmd" > /dev/null || skip "$cmd is not installed"
    done
    unshare --mount --uts --net --pid --fork true 2> /dev/null || skip "no namespaces"
}

# What a reader of the log wants to see first.
evidence_show() {
    local file
    for file in "$ATTEMPT"/{stderr,json} "$LAB_DIR"/[ab]/log-libvirt/qemu/*.log \
        "$LAB_DIR"/[ab]/libvirtd.out; do
        [ -s "$file" ] || continue
        echo "== $file"
        tail -n 20 "$file"
    done
    echo "== events"
    lab events show | tail -n 40
}

lab_end() {
    local status=$?
    trap - EXIT
    [ $status -eq 0 ] || evidence_show || true
    lab down || true
    exit $status
}

lab_begin() {
    requires_lab
    export LAB_NAME=${LAB_NAME:-$E2E_NAME-$$}
    LAB_DIR=$(lab dir)
    WORK=$LAB_DIR/work
    trap lab_end EXIT
    trap 'exit 1' HUP INT TERM
    # shellcheck disable=SC2086 # several
    lab up ${LAB_UP:-} "$@"
    mkdir "$WORK"
    lab events start
}

attempt() {
    local vm=$1 status=0
    shift
    ATTEMPTS=$((ATTEMPTS + 1))
    ATTEMPT=$WORK/$ATTEMPTS
    mkdir "$ATTEMPT"
    lab snapshot-state "$vm" "$ATTEMPT/before"
    lab run a "$@" > "$ATTEMPT/json" 2> "$ATTEMPT/stderr" || status=$?
    echo "$status" > "$ATTEMPT/status"
    echo "-- $* -> $status"
}

expect_status() {
    [ "$(< "$ATTEMPT/status")" = "$1" ] ||
        failed "exit status $(< "$ATTEMPT/status"), expected $1"
}

judge() { "$E2E_SRC/invariants" --dir "$ATTEMPT" "$@" || failed "an invariant does not hold"; }
