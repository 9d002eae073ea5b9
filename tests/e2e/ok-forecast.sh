#!/usr/bin/env bash
# --check --forecast says how a move would go and leaves nothing behind, whatever ends it;
# the move then shows what it foresaw, what its pause consisted of, and greets the guest.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

NIC="<interface type='bridge'><source bridge='br7'/><model type='virtio'/></interface>"
qmp() { lab run a virsh qemu-monitor-command guest "{\"execute\": \"$1\"}"; }

# Of bitmaps, exports and sockets of ours in the guest's QEMU.
left_in_qemu() {
    { qmp query-block; qmp query-block-exports; lab run a ls /var/lib/libvirt/qemu/domain-*-guest; } |
        grep -c 'snm-' || true
}

# forecast STATUS OPTION...: what it says is in $WORK/json
forecast() {
    local status=$1 got=0
    shift
    lab run a snmigrate --json -q --check --forecast 2s --disks-to /var/lib/images "$@" \
        guest root@hostb > "$WORK/json" 2> "$WORK/stderr" || got=$?
    holds "exit status $status: $*" "$got" = "$status"
    holds "nothing is left of it" "$(left_in_qemu)" = 0
}

says() { jq -es "map(select(.type == \"forecast\"))[0] | $1" "$WORK/json" > /dev/null && echo "ok $1"; }

# forecast_ended_by SIGNAL STATUS: in the middle of watching
forecast_ended_by() {
    local status=0
    # shellcheck disable=SC2016 # expanded on the host
    lab run a sh -c 'snmigrate -q --check --forecast 60s --disks-to /var/lib/images guest \
        root@hostb 2> /dev/null & pid=$!
        until virsh qemu-monitor-command guest "{\"execute\": \"query-block\"}" | grep -q snm-; do
            sleep 0.2; done
        kill -$0 $pid; wait $pid' "$1" || status=$?
    holds "SIG$1: status $2" "$status" = "$2"
}

lab_begin
for host in a b; do lab run $host sh -c 'ip link add br7 type bridge && ip link set br7 up'; done
lab run b mount -t sysfs sysfs /sys # its own interfaces, not the machine's
lab vm create guest --no-start --disk raw:128M:64M --disk qcow2:64M:8M --mem 160 --ram 8M \
    --write 4M --dirty 4M
lab vm xml guest | sed "s,</devices>,$NIC&," > "$WORK/guest.xml"
lab run a virsh -q define "$WORK/guest.xml" > /dev/null
lab vm start guest
lab vm wait guest

echo "== a forecast"
forecast 0
says '.converges and .total_ms > 1000 and .pause_ms > 0 and .pause_ms <= .budget_ms'
says '.data > 60000000 and .data < 100000000 and .sent > .data / 2'
says '.memory > 8000000 and .memory < 170000000'
says '.disk_writes.rate > 200000 and .ram_writes.rate > 0 and .disk_rate > 0'

echo "== one that says no, and what would help"
forecast 8 --max-downtime 20ms
says '(.converges | not) and .needs_downtime_ms >= 500 and .pause_ms > 20'
holds "it is said loudly" "$(grep -c 'would not converge' "$WORK/stderr")" = 1

echo "== ended before its time"
forecast_ended_by INT 130
holds "nothing is left of it" "$(left_in_qemu)" = 0
forecast_ended_by KILL 137
holds "something is left" "$(left_in_qemu)" -gt 0
forecast 0

echo "== the move"
move guest --disks-to /var/lib/images --set-time
moved --disks none
holds "the steps of the pause are all of it" \
    "$(result '[.pause[]] | add')" = "$(result .pause_ms)"
holds "the last round, the death and the resume took their time" \
    "$(result '.pause | has("last_round") and has("source_dead") and .resume + .load + .source_dead > 0')" = true
holds "it foresaw" "$(result '.forecast.converges and .forecast_at_ms > 0')" = true
holds "announced" "$(result '.arrival.done | length')" = 1
holds "no agent sets the clock" \
    "$(result '.arrival.failed | length == 1 and (.[0] | contains("agent"))')" = true
frames() { [ "$(lab run b ip -s -j link show master br7 | jq '.[0].stats64.rx.packets')" -gt 5 ]; }
within 15 frames # of the five that QEMU sends by itself when it has loaded
complete guest b a
