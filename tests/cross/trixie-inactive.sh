#!/usr/bin/env bash
# Since version 10 QEMU answers nothing but reads on an export whose node it has made
# inactive, as it does when it stops the guest for the end of a migration: "block status"
# gives EPERM.  The round that meets this activates the node again and is copied anew.
# timeout: 1500
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/../e2e/lib-ok.sh"
# shellcheck source=tests/cross/cross.bash
. "$(dirname "$0")/cross.bash"

PAUSE=12000 # of the guest, in ms, is allowed: the faults wait until QEMU is done with RAM

# inactive WHAT VM POINT: a move that waits at POINT, between export and "block status"
inactive() {
    echo "== $1"
    attempt "$2" env "SNMIGRATE_FAULT=$3" snmigrate --json -vv --max-downtime ${PAUSE}ms \
        --disks-to /var/lib/images "$2" root@hostb
    grep -E 'disks:|switch:|fault:' "$ATTEMPT/stderr"
    expect_status 0
    holds "both nodes were inactive and activated again" \
        "$(grep -c 'activating it again' "$ATTEMPT/stderr")" = 2
    judge --budget $PAUSE --disks off
    old_disks_away "$2"
}

userlands trixie trixie
lab_begin
versions
lab vm create calm --mem 128 --disk raw:64M:8M --disk qcow2:64M:8M --ram 1M --write 2M
lab vm create busy --mem 128 --disk raw:64M:8M --disk qcow2:64M:8M --ram 16M --write 4M \
    --dirty 20M
lab vm wait calm
lab vm wait busy

# The third export is that of the first round beside memory; QEMU then stops by itself.
inactive "in a round: QEMU has stopped the guest" calm copy.exported:delay-5000:3
# snmigrate stops the guest, and QEMU comes to the end of RAM.
inactive "in the last round" busy switch.exported:delay-3000
