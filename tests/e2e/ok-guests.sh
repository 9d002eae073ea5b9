#!/usr/bin/env bash
# Guests of all kinds arrive as they were: one that does nothing, with the same paths on
# both hosts; one that writes and discards on two disks and dirties its memory; one that is
# paused; one that is transient.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

on_b() { lab run b virsh -q "$@"; }

lab_begin
lab vm create idle --disk raw:64M:8M --disk qcow2:64M:8M --mem 128 --ram 8M
lab vm create busy --disk raw:300M:30M --disk qcow2:314573312:30M --ram 16M \
    --write 10M --dirty 20M --discard
lab vm create still --disk raw:64M:8M --disk qcow2:64M:8M --mem 128 --ram 8M --write 4M
for vm in idle busy still; do lab vm wait $vm; done

echo "== idle; no options: the disks keep their paths, the domain its settings"
lab run a virsh -q autostart idle > /dev/null
move idle
moved --compare
holds "it is still started at boot" "$(on_b dominfo idle | grep -c '^Autostart: *enable')" = 1
holds "its definition is saved" -s "$LAB_DIR/a/var-lib/snmigrate/$(result .uuid)-$(result '.id[:8]').xml"
old_disks_away idle

echo "== busy; at the end it is powered off, and the last operation must be there"
move busy --disks-to /var/lib/images
moved --disks off
holds "it was paused for a while" "$(result .pause_ms)" -gt 0
holds "both disks were copied" "$(result .disk_bytes)" -ge $((60 * MIB))
old_disks_away busy

echo "== paused; named by uuid, a URL and an ssh command"
lab run a virsh -q suspend still
move still --ssh "ssh -F '$(lab ssh-config)'" --disks-to /var/lib/images \
    "$(lab run a virsh -q domuuid still)" ssh://root@hostb:22
moved --compare
holds "it says so" "$(result .guest_state)" = paused
holds "and has seen no pause" "$(result .pause_ms)" = null
on_b resume still
beats=$(lab console b still | grep -c '^beat') || true
goes_on() { [ "$(lab console b still | grep -c '^beat')" -ge $((beats + 4)) ]; }
within 30 goes_on
complete still b a

echo "== transient"
lab vm create passing --no-start --disk raw:64M:8M --mem 128 --ram 8M --write 4M
lab run a virsh -q dumpxml passing > "$WORK/passing.xml"
lab run a virsh -q undefine passing > /dev/null
lab run a virsh -q create "$WORK/passing.xml" > /dev/null
lab vm wait passing
move passing --disks-to /var/lib/images
expect_status 0
judge_but "FAIL I7 the domain is not persistent on b"
