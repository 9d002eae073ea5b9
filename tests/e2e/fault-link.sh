#!/usr/bin/env bash
# The link between the hosts goes silent: the guest stays with the source, within the pause
# that was allowed, or goes forward; when the link is back the same command moves it.
# timeout: 720
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

# The source is dead when the move has reached "commit", and only the destination can run
# the guest: no pause can be promised there.
cut_for_5s() {
    link_cut
    sleep 5
    lab link restore
}

#    what                        where                      fault              status owner
cell "cut in bulk"               bulk:delay-1               "slowly link_cut"  4      source
cell "cut in rounds"             rounds:delay-300           link_cut           4      source
cell "cut in memory"             memory.loop:delay-1        "slowly link_cut"  4      source
cell "cut after the suspend"     switch.suspended:delay-300 link_cut           4      source
more cell "cut before the release" switch.release:delay-300 link_cut           4      source
cell "cut for 5 s before COMMIT" commit:delay-300           cut_for_5s         0      destination --budget none
fault_end
