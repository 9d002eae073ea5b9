#!/usr/bin/env bash
# --bandwidth and --timeout hold, --compress does as it is told, and neither snmigrate nor
# its agent needs more memory for a larger disk.
# timeout: 240
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

MEMORY_MAX=$((256 << 10)) # KiB
RATE=$((200000000 / 8))   # bytes per second

# "HOST KIB" of every snmigrate that is there, until killed; VmHWM is the most it ever had
memory_watch() {
    local host
    while sleep 0.2 && [ -d "$WORK" ]; do
        for host in a b; do
            # shellcheck disable=SC2016 # expanded on the host
            lab run $host sh -c 'for pid in $(pgrep -x snmigrate); do
                sed -n "s/^VmHWM:[^0-9]*\([0-9]*\).*/$0 \1/p" /proc/$pid/status
            done' $host 2> /dev/null || true
        done
    done
}

memory_max() { awk -v host="$1" '$1 == host && $2 > max { max = $2 } END { print max + 0 }' "$WORK/memory"; }

lab_begin
lab vm create slow --disk raw:200M:100M --mem 128 --ram 8M
lab vm create zeal --disk qcow2:64M:16M --mem 128 --ram 8M
lab vm create large --disk raw:2G:2G --disk qcow2:64M:16M --mem 128 --ram 8M --write 2M
for vm in slow zeal large; do lab vm wait $vm; done

echo "== --timeout: it stays where it is"
move slow --bandwidth 20Mbit --timeout 2s --disks-to /var/lib/images
expect_status 8
judge

echo "== --bandwidth 200Mbit"
before=$(lab link bytes)
move slow --bandwidth 200Mbit --disks-to /var/lib/images
moved
sent=$(($(lab link bytes | cut -d' ' -f1) - ${before% *})) ms=$(result .elapsed_ms)
holds "$sent bytes on the wire in $ms ms" "$sent" -le $((RATE / 1000 * ms * 11 / 10))
holds "which is what snmigrate says" $((sent * 100)) -le $(($(result .sent) * 110))
holds "some of it is used" $(($(result .sent) * 4)) -ge $((RATE / 1000 * (ms - 2500)))
old_disks_away slow

echo "== --compress off: nothing gets smaller"
move zeal --compress off --disks-to /var/lib/images
moved --compare
holds "all is sent as it is" \
    "$(result .sent)" -ge $(($(result .disk_bytes) + $(result .ram_bytes)))
plain=$(result .sent)
old_disks_away zeal

echo "== --compress 9"
lab run b snmigrate --json --remove-source-disks zeal root@hosta > "$WORK/home" ||
    failed "not moved back"
move zeal --compress 9 --disks-to /var/lib/images
moved --compare
holds "$(result .sent) bytes are sent, $plain without" \
    $(($(result .sent) * 100)) -lt $((plain * 85))
old_disks_away zeal

echo "== 2 GiB of data, in less than 256 MiB of memory"
: > "$WORK/memory"
memory_watch >> "$WORK/memory" & watch=$!
move large --disks-to /var/lib/images --remove-source-disks
kill $watch
wait $watch || true
moved
for host in a b; do
    most=$(memory_max $host)
    holds "snmigrate on $host needed $most KiB" "$most" -gt 1000 -a "$most" -lt $MEMORY_MAX
done
