#!/usr/bin/env bash
# The link between the hosts goes silent: the guest stays with the source, within the pause
# that was allowed, or goes forward; when the link is back the move goes on, or the same
# command does it.
# timeout: 1080
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

# The source is dead when the move has reached "commit", and only the destination can run
# the guest: no pause can be promised there.
# The user does not want to wait until it is back.
cut_then_int() {
    local end=$((SECONDS + 60))
    link_cut
    until grep -qs ' warn again: ' "$WORK/$((ATTEMPTS + 1))/stderr"; do
        [ $SECONDS -lt $end ] || { echo "the cut was not noticed"; return 1; }
        sleep 0.2
    done
    int_main
}

#    what                        where                      fault              status owner
more once cell "cut in bulk"          bulk:delay-1               "slowly link_cut"  4      source --resumable
once cell "cut after the suspend" switch.suspended:delay-300 link_cut          4      source --resumable
more with "--reconnect 4s" cell "cut for too long" bulk:delay-1  "slowly link_cut"  4      source --resumable
more cell "Ctrl-C while it is cut"    bulk:delay-1               "slowly cut_then_int" 130 source --resumable
more once cell "cut in rounds"   rounds:delay-300           link_cut           4      source --resumable
more once cell "cut in memory"   memory.loop:delay-1        "slowly link_cut"  4      source --resumable
more once cell "cut before the release" switch.release:delay-300 link_cut      4      source --resumable
more cell "cut for 3 s in bulk"       bulk:delay-1               "slowly link_cut_for 3"  0 destination
cell "cut for 15 s in bulk"      bulk:delay-1               "slowly link_cut_for 15" 0 destination
more cell "cut for 15 s in rounds"    rounds:delay-300           "link_cut_for 15"  0      destination
more cell "cut for 15 s in memory"    memory.loop:delay-1        "slowly link_cut_for 15" 0 destination
more cell "cut for 15 s, suspended"   switch.suspended:delay-300 "link_cut_for 15"  0      destination
more cell "cut for 3 s in memory" memory.loop:delay-1       "slowly link_cut_for 3"  0 destination
cell "cut for 5 s before COMMIT" commit:delay-300           "link_cut_for 5"   0      destination --budget none
fault_end
