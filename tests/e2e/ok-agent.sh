#!/usr/bin/env bash
# A guest with the channel of a guest agent that does not answer: it moves, there and back,
# and its clock is not set, which is said.
# timeout: 300
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

lab_begin
lab vm create vm --agent --disk raw:64M:16M --mem 160 --ram 8M --write 1M
lab vm wait vm

# unset: it was tried, and that nobody answers is no failure
unset_and_said() {
    holds "announced" "$(result '.arrival.done | length')" = 1
    holds "its clock is not set: $(result '.arrival.failed[0]')" \
        "$(result '.arrival.failed | length == 1 and (.[0] | test("clock not set: .*agent"))')" = true
    holds "nothing is left to do" "$(result '.left | length')" = 0
}

move vm --disks-to /var/lib/images --set-time --remove-source-disks
moved
unset_and_said
lab run b virsh -q dumpxml vm | grep -q org.qemu.guest_agent.0 || failed "the channel is gone"
move_back vm --disks-to /var/lib/images --set-time
moved
unset_and_said
complete vm a a
