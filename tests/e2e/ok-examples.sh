#!/usr/bin/env bash
# The examples, for real: move-one-vm.sh moves a VM, drain-host.sh brings back what runs
# there and leaves what is off.
# timeout: 120
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

EXAMPLES=$E2E_SRC/../../examples

# said TEXT...: by the attempt, which writes no JSON
said() {
    local text
    mv "$ATTEMPT/json" "$ATTEMPT/stdout"
    for text; do
        grep -qF -- "$text" "$ATTEMPT/stdout" || {
            cat "$ATTEMPT/stdout" "$ATTEMPT/stderr"
            failed "it did not say: $text"
        }
        echo "ok   it said: $text"
    done
}

lab_begin
lab vm create busy --disk raw:64M:8M --disk qcow2:64M:8M --mem 128 --ram 8M --write 4M
lab vm create spare --host b --no-start --disk raw:16M --mem 128
lab vm wait busy

echo "== move-one-vm.sh"
attempt busy "$EXAMPLES/move-one-vm.sh" busy root@hostb --disks-to /var/lib/images
expect_status 0
said "busy can move to hostb" "busy: running on hostb (destination)"
judge
old_disks_away busy

echo "== drain-host.sh"
attempt_back busy "$EXAMPLES/drain-host.sh" root@hosta --disks-to /var/lib/images
expect_status 0
said "busy: running on hosta, paused for "
judge
holds "the other is off, on b" "$(lab vm state spare --host b | head -n 1)" = "shut off (unknown)"
attempt_back spare "$EXAMPLES/drain-host.sh" root@hosta
expect_status 0
said "No VM is running here."
