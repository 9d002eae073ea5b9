#!/usr/bin/env bash
# Guests with QEMU's guest agent: one whose clock is an hour behind has it set on arrival; one
# whose agent stands still is moved all the same, and that is said.
# timeout: 300
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

# behind HOST NAME: by how many seconds the guest's clock is, as it said last
behind() {
    echo $(($(date +%s) - $(lab console "$1" "$2" | awk '$1 == "time" { t = $2 } END { print t }')))
}

# A guest on a busy machine may say nothing for some seconds.
is_right() { [ "$(behind b vm)" -lt 60 ]; }

lab_begin
lab vm create vm --agent --disk raw:64M:16M --mem 192 --ram 8M --write 1M --cmdline clock=3600
lab vm wait vm --for '^time'
holds "its clock is an hour behind" "$(behind a vm)" -gt 3500
move vm --disks-to /var/lib/images --set-time --remove-source-disks
moved
holds "it was set: $(result '.arrival.failed')" \
    "$(result '[.arrival.done[] | select(test("clock"))] | length')" = 1
within 20 is_right
echo "ok   its clock is right"
lab run b virsh -q dumpxml vm | grep -q org.qemu.guest_agent.0 || failed "the channel is gone"
complete vm b a

lab vm create vm2 --agent --disk raw:64M:16M --mem 192 --ram 8M --write 1M --cmdline agent=stopped
lab vm wait vm2 --for '^beat'
move vm2 --disks-to /var/lib/images --set-time --remove-source-disks
moved
holds "announced" "$(result '.arrival.done | length')" = 1
holds "its clock is not set: $(result '.arrival.failed[0]')" \
    "$(result '.arrival.failed | length == 1 and (.[0] | test("clock not set: .*agent"))')" = true
holds "nothing is left to do" "$(result '.left | length')" = 0
complete vm2 b a
