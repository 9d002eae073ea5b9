#!/usr/bin/env bash
# What the move stands on is taken away: the agent, a writer, a QEMU, a libvirtd, the guest
# itself.  One owner at once; the move goes on where that can be, or the same command run
# again does it.
# timeout: 1200
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

BULK=bulk:delay-1
MEM=memory.loop:delay-1
HELD=switch.suspended:delay-500

#    what                             where fault                         status owner
cell "agent killed in bulk"           $BULK "slowly kill_agent"           0      destination
more cell "agent killed in rounds"         rounds:delay-300 kill_agent         0      destination
more cell "agent killed in memory"         $MEM  "slowly kill_agent"           0      destination
cell "agent killed after the suspend" $HELD kill_agent                    0      destination
cell "writer killed in bulk"          $BULK "slowly kill_writer"          0      destination
more cell "writer killed in memory"        $MEM  "slowly kill_writer"          0      destination
more cell "writer killed after the suspend" $HELD kill_writer                  0      destination
more cell "QEMU of b killed in memory"     $MEM  "slowly kill_dst_qemu"        0      destination
cell "QEMU of b killed when suspended" $HELD kill_dst_qemu                0      destination
more once cell "agent killed, not tried again" $BULK "slowly kill_agent"       4      source
more once cell "QEMU of b killed, not tried again" $HELD kill_dst_qemu         4      source
more once cell "writer killed, not tried again" $BULK "slowly kill_writer" 4     source
more cell "libvirtd of a restarts in bulk" $BULK "slowly restart_src_libvirtd" 0 destination
more cell "libvirtd of a restarts in memory" $MEM "slowly restart_src_libvirtd" 0 destination
more cell "libvirtd of a restarts, suspended" $HELD restart_src_libvirtd  0      destination
more cell "libvirtd of b restarts in bulk" $BULK "slowly restart_dst_libvirtd" 0 destination
more cell "libvirtd of b restarts in memory" $MEM "slowly restart_dst_libvirtd" 0 destination
more cell "QEMU of a killed in bulk"   $BULK "slowly kill_src_qemu"       5      off
more cell "QEMU of a killed in memory" $MEM "slowly kill_src_qemu"        5      off
more cell "power off in bulk"         $BULK "slowly power_off"            5      off
fault_end
