#!/usr/bin/env bash
# The link is cut for a moment or for good, in both directions or in one, where the e2e tests
# do not cut it.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

UNTOLD=(--allow '^b /(var/lib|run)/(libvirt/)?snmigrate')

# Past the release the destination keeps the paused guest until it is told: the next move of
# it does that.
cut_at_release() {
    with "--retries 0 --reconnect 0s" faulty_attempt agent.released:delay-300 link_cut
    expect_status 4
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    link_back
    again
    go_home
}

#    what                          where                    fault             status owner
cell "cut for 2 s in preflight"    preflight:delay-300      "link_cut_for 2"  0      destination
cell "cut for 2 s in prepare"      prepare:delay-300        "link_cut_for 2"  0      destination
cell "cut for 2 s in rounds"       rounds:delay-300         "link_cut_for 2"  0      destination
cell "cut for 2 s, suspended"      switch.suspended:delay-300 "link_cut_for 2" 0     destination
# Within the pause, or it would be taken back.
with "--max-downtime 5s" cell "cut for 2 s, released" switch.released:delay-100 "link_cut_for 2" 0 destination --budget none
cell "cut for 2 s in the finish"   finish:delay-2000        "link_cut_for 2"  0      destination
cell "cut in preflight"            preflight:delay-300      link_cut          9      source
cell "cut in prepare"              prepare:delay-300        link_cut          4      source --resumable
once cell "cut towards a in bulk"  bulk:delay-1             "slowly link_cut_to a" 4 source --resumable
once cell "cut towards b in bulk"  bulk:delay-1             "slowly link_cut_to b" 4 source --resumable
once cell "cut towards a, suspended" switch.suspended:delay-300 "link_cut_to a" 4    source --resumable
once cell "cut towards b in memory" memory.loop:delay-1     "slowly link_cut_to b" 4 source --resumable
try "cut at the release"           cut_at_release
cell "cut in the finish"           finish:delay-2000        link_cut          6      destination "${UNTOLD[@]}"
fault_end
