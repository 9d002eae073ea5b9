#!/usr/bin/env bash
# The agent, a writer or the destination's QEMU dies, stands still or fails where the e2e
# tests do not hit it.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

HELD=switch.suspended:delay-300

# Not while libvirt makes it: that is waited for.
ram_flows() {
    on a virsh -q qemu-monitor-command vm '{"execute":"query-migrate"}' | grep -q '"active"'
}
stop_dst_qemu() {
    await 60 ram_flows && on b pkill -STOP -f '^[^ ]*qemu-system-x86_64 -name guest=vm,'
}

# The guest's own end, as far as we are concerned; but nobody shall think that it runs.
killed_in_finish() {
    faulty_attempt finish:delay-500 kill_dst_qemu
    expect_status 6
    said_in_attempt 'has ended since'
    [ "$(where_is)" = off ] || failed "the guest is: $(where_is)"
    reset
}

#    what                             where                      fault          status owner
cell "agent killed in preflight"      agent.check:kill-self      -              9 source
cell "agent killed in prepare"        agent.prepare:kill-self    -              4 source
cell "agent killed as RAM comes"      agent.ram:kill-self        -              0 destination
cell "agent killed as the writers end" agent.close:kill-self     -              0 destination
cell "agent killed when all is closed" agent.closed:kill-self    -              0 destination
cell "agent killed at the release"    agent.released:kill-self   -              4 source --resumable
cell "agent killed at COMMIT"         agent.committed:kill-self  -              0 destination --budget none
cell "agent killed as the guest runs" agent.running:kill-self    -              0 destination
cell "agent killed in the finish"     agent.finish:kill-self     -              0 destination
cell "agent stopped in bulk"          bulk:delay-1               "slowly stop_agent_for 14" 0 destination
cell "agent stopped in memory"        memory.loop:delay-1        "slowly stop_agent_for 14" 0 destination
cell "agent stopped after the suspend" $HELD                     "stop_agent_for 14" 0 destination
cell "agent slow at the release"      agent.released:delay-5000  -              4 source --resumable
cell "writer killed when prepared"    prepare.done:delay-300     kill_writer    0 destination
cell "writer killed in rounds"        rounds:delay-300           kill_writer    0 destination
cell "writer killed before it is closed" switch.copied:delay-300 kill_writer    0 destination
cell "QEMU of b killed at the release" agent.released:delay-500  kill_dst_qemu  4 source --resumable
cell "QEMU of b killed before COMMIT" commit:delay-500           kill_dst_qemu  5 off
cell "QEMU of b stands still in memory" memory.loop:delay-1      "slowly stop_dst_qemu" 8 source
try "QEMU of b killed in the finish"  killed_in_finish
fault_end
