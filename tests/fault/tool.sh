#!/usr/bin/env bash
# snmigrate, its guard, or both are killed where the e2e tests do not; signals; a second one.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

EARLY=(--allow '^a /run/snmigrate/') # before there is a guard; the next move removes it

# The instants at which a second move is tried, in their order.
MOMENTS=(connect preflight prepare bulk rounds memory switch.suspended commit finish)

second() {
    local got=0
    on a "$REAL_BIN/snmigrate" "${MOVE[@]:1}" > "$WORK/second" 2>&1 || got=$?
    if [ $got -ne 3 ] || ! grep -q "another snmigrate is moving 'vm'" "$WORK/second"; then
        cat "$WORK/second"
        return 1
    fi
}

seconds() {
    local point
    for point in "${MOMENTS[@]}"; do
        await 60 reached "$(running_stderr)" "$point" || return 1
        second || { echo "at $point"; return 1; }
    done
    echo "   a second move was refused ${#MOMENTS[@]} times"
}

second_in_each() {
    local point spec=''
    for point in "${MOMENTS[@]}"; do spec+=${spec:+,}$point:delay-1500; done
    BUDGET=5000 # a refusal takes a second, also while the guest is suspended
    MOVE=(snmigrate --json -vv --max-downtime 5s --disks-to /var/lib/images vm root@hostb)
    faulty_attempt "$spec" seconds
    expect_status 0
    verdict
    go_home
}

#    what                        where                    fault               status  owner
cell "kill -9 while connecting"  connect:kill-self        -                   killed  source "${EARLY[@]}"
cell "kill -9 in preflight"      preflight:kill-self      -                   killed  source "${EARLY[@]}"
cell "kill -9 in prepare"        prepare:kill-self        -                   killed  source
cell "kill -9 when prepared"     prepare.done:kill-self   -                   killed  source
cell "kill -9 in rounds"         rounds:kill-self         -                   killed  source
cell "Ctrl-C in preflight"       preflight:delay-500      int_main            130     source
cell "Ctrl-C in prepare"         prepare:delay-500        int_main            130     source
cell "SIGTERM in bulk"           bulk:delay-1             "slowly signal_main TERM" 130 source
cell "SIGHUP in memory"          memory.loop:delay-1      "slowly signal_main HUP" 130 source
cell "SIGTERM at commit"         commit:delay-500         "signal_main TERM"  0       destination
cell "SIGHUP in the finish"      finish:delay-500         "signal_main HUP"   0       destination
try "both killed in prepare"     orphan prepare.done:kill-self,guard.begin:kill-self
try "both killed in rounds"      orphan rounds:kill-self,guard.begin:kill-self
try "guard killed before it resumes" orphan switch.suspended:kill-self,guard.resume:kill-self
try "guard killed after it resumed" orphan switch.suspended:kill-self,guard.resumed:kill-self
try "guard killed before COMMIT" orphan commit:kill-self,guard.forward:kill-self
try "guard killed after COMMIT"  orphan commit:kill-self,guard.arrived:kill-self
try "both killed in the finish"  orphan finish.told:kill-self,guard.begin:kill-self
try "a second move in every phase" second_in_each
fault_end
