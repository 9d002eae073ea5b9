#!/usr/bin/env bash
# A guest that writes faster than the link carries: --on-stall decides what comes of it, and
# nothing of what slowed it is left on either host.
# timeout: 900
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

SLOW_LINK=60mbit # 7 MB/s, and the guest writes 20

qmp() { lab run "$1" virsh -q qemu-monitor-command "$2" "{\"execute\":\"$3\"}"; }

# unslowed HOST VM: QEMU there has no limit on it
unslowed() {
    [ "$(qmp "$1" "$2" query-block | jq '[.return[].inserted | values
        | .group, (.bps, .bps_rd, .bps_wr | select(. > 0)) | values] | length')" = 0 ] ||
        failed "a disk of $2 is still slowed on $1"
    [ "$(qmp "$1" "$2" query-migrate-parameters |
        jq -c '.return | [."cpu-throttle-initial", ."cpu-throttle-increment",
            ."max-cpu-throttle", ."throttle-trigger-threshold"]')" = "$PARAMETERS" ] ||
        failed "the migration parameters of $2 are not as before on $1"
    echo "ok   $2 is not slowed on $1"
}

decided() { jq -es --arg d "$1" 'any(.[]; .decision == $d)' "$ATTEMPT/json" > /dev/null; }

lab_begin
lab vm create vm --disk raw:32M:4M --mem 160 --ram 4M --write 20M
lab vm wait vm
PARAMETERS=$(qmp a vm query-migrate-parameters |
    jq -c '.return | [."cpu-throttle-initial", ."cpu-throttle-increment",
        ."max-cpu-throttle", ."throttle-trigger-threshold"]')
lab link rate $SLOW_LINK

echo "== abort"
move vm --compress off --on-stall abort --disks-to /var/lib/images
expect_status 8
judge
holds "with the figures" "$(result .error.what | grep -c 'the guest writes .*/s')" -eq 1
unslowed a vm

echo "== throttle, and then the time is over"
move vm --compress off --max-downtime 1ms --timeout 50s --disks-to /var/lib/images
expect_status 8
judge
decided throttle || failed "nothing was slowed"
unslowed a vm

echo "== throttle"
# On a busy machine a pause may be longer than was thought, and is then taken back.
for ((i = 0; i < 3; i++)); do
    move vm --compress off --max-downtime 1s --disks-to /var/lib/images --remove-source-disks
    [ "$(< "$ATTEMPT/status")" = 4 ] || break
    grep -q 'error: the pause would have lasted' "$ATTEMPT/stderr" || break
    judge --budget 1000
    unslowed a vm
done
moved --budget 1000
decided throttle || failed "nothing was slowed"
unslowed b vm
lab link rate none
attempt_back vm snmigrate --json --max-downtime 10s --remove-source-disks vm root@hosta
expect_status 0

echo "== suspend"
lab link rate $SLOW_LINK
move vm --compress off --on-stall suspend --timeout 20s --disks-to /var/lib/images
pause=$(result .pause_ms)
moved --budget 30000
decided suspend || decided switch || failed "it went another way"
holds "it says so where it was longer ($pause ms)" \
    "$pause" -le 1300 -o "$(result '.notes[]' | grep -c on-stall)" -eq 1
unslowed b vm
