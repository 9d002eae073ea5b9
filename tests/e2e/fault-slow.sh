#!/usr/bin/env bash
# snmigrate ends, in whatever way, while it has slowed the guest: the guest is as fast as it
# was, on either host, whoever has to see to it.
# timeout: 600
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"
only_with_all

qmp() { on "$1" virsh -q qemu-monitor-command vm "{\"execute\":\"$2\"}"; }

speed() {
    qmp "$1" query-block | jq -c '[.return[].inserted | values
        | [.bps, .bps_rd, .bps_wr, .iops, .iops_rd, .iops_wr, .bps_wr_max, .group]]'
    qmp "$1" query-migrate-parameters | jq -c '.return | [."cpu-throttle-initial",
        ."cpu-throttle-increment", ."max-cpu-throttle", ."throttle-trigger-threshold"]'
}

as_fast() {
    [ "$(speed a)" = "$SPEED" ] || failed "the guest is still slowed: $(speed a)"
    echo "   it is as fast as before"
}

limits() {
    on a virsh -q blkdeviotune vm vda --write-bytes-sec "$1" --write-bytes-sec-max "$2" --live
}
no_limits() { limits 0 0; }

# slowed POINT FAULT STATUS: as cell, in a move over a slow link
slowed() {
    SPEED=$(speed a)
    lab link rate 60mbit
    faulty_attempt "$1" "$2"
    lab link rate none
    expect_end "$3"
    verdict
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    as_fast
    no_limits # they would move with the guest, and the invariants know of none
    again
    go_home
}

fault_begin --disk raw:32M:4M --write 20M
MOVE+=(--compress off)

limits_cell() {
    limits 30000000 50000000
    slowed slow.disk.done:delay-3000 kill_main killed
}
echo "== killed with a slowed disk that has limits of its own"
more try "limits of its own" limits_cell
echo "== interrupted"
more try "interrupted" slowed slow.disk.done:delay-3000 int_main 130
more try "killed just before" slowed slow.disk:kill-self - killed
fault_end
