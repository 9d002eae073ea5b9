#!/usr/bin/env bash
# A process is killed, or its user presses Ctrl-C: the guest has one owner at once, and the
# same command run again moves it.
# timeout: 720
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

S=switch.suspended:delay-500
R=switch.released:delay-300

#    what                        where                    fault               status  owner
cell "Ctrl-C in bulk"            bulk:delay-1              "slowly int_main"  130     source
more cell "Ctrl-C in rounds"          rounds:delay-300          int_main           130     source
cell "Ctrl-C in memory"          memory.loop:delay-1       "slowly int_main"  130     source
cell "kill -9 in bulk"           bulk:delay-1              "slowly kill_main" killed  source
cell "kill -9 in memory"         memory.loop:delay-1       "slowly kill_main" killed  source
cell "kill -9 after the suspend" switch.suspended:kill-self -                 killed  source
cell "kill -9 at commit"         commit:kill-self          -                  killed  destination
more cell "Ctrl-C after the suspend" $S                    int_main           130     source
more cell "Ctrl-C after the release" $R                    int_main           0       destination
more cell "kill -9 before the release" switch.release:kill-self -             killed  source
more cell "kill -9 after the release" switch.released:kill-self -             killed  "source|destination"
more cell "kill -9 after commit" commit.done:kill-self     -                  killed  destination
more cell "kill -9 at the finish" finish:kill-self         -                  killed  destination
more cell "SIGSTOP after the suspend" switch.suspended:stop -                 killed  source
fault_end
