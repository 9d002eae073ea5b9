#!/usr/bin/env bash
# What a move shows to others: nothing of the guest on the wire, nothing in arguments, logs
# and reports, no socket that another user can reach, no port; the agent and its writers run
# with less than they were given; a raw disk that looks like qcow2 stays raw.
# timeout: 300
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

command -v tcpdump socat setpriv > /dev/null || skip "tcpdump, socat or setpriv is not installed"

MARK=marker-$(od -An -tx8 -N24 /dev/urandom | tr -d ' \n')
RAM_MARK=ram$MARK DISK_MARK=disk$MARK ENV_MARK=env$MARK
NOBODY=65534

# shellcheck disable=SC2119
lab_begin
lab vm create vm --disk raw:64M:16M --mem 128 --ram 4M --cmdline "$RAM_MARK"
lab vm wait vm

# A disk whose guest has made a qcow2 header of its first bytes, with a host's file behind.
evil=$LAB_DIR/a/images/evil.img
qemu-img create -q -f qcow2 -u -b /etc/hostname -F raw "$evil" 1G
truncate -s 8M "$evil"
printf '%s' "$DISK_MARK" | dd of="$evil" bs=1 seek=$((5 << 20)) conv=notrunc status=none
cp "$evil" "$WORK/evil"
lab run a virsh -q attach-disk vm /var/lib/images/evil.img vdc --driver qemu --subdriver raw \
    --targetbus virtio --live --persistent > /dev/null

ports() { lab run "$1" ss -Hltn | awk '{print $4}' | sort; }
ports a > "$WORK/ports.a"
ports b > "$WORK/ports.b"

tcpdump_pid=
capture_start() {
    lab run b tcpdump -q -p -U -B 262144 -i eth0 -s 0 -w "$WORK/capture" 2> "$WORK/tcpdump" &
    tcpdump_pid=$!
    within 10 grep -qs 'listening on' "$WORK/tcpdump"
}

sockets() {
    lab run "$1" find /run/snmigrate /run/libvirt/snmigrate-* /var/lib/snmigrate -type s 2> /dev/null || true
}

# no_entry HOST: each socket of the move is there for root, and out of reach for others
no_entry() {
    local sock said n=0
    for sock in $(sockets "$1"); do
        said=$(lab run "$1" setpriv --reuid $NOBODY --regid $NOBODY --clear-groups \
            socat -u "UNIX-CONNECT:$sock" STDOUT 2>&1 < /dev/null) && failed "$sock lets others in"
        [[ $said == *"Permission denied"* ]] || failed "$sock: $said"
        n=$((n + 1))
    done
    echo "$n" > "$WORK/sockets.$1"
}

# locked_in WHAT PATTERN: every such process on b has lost what it does not need
locked_in() {
    local pid pids
    pids=$(lab run b pgrep -f "$2") || failed "no $1"
    for pid in $pids; do
        lab run b grep -E '^(NoNewPrivs|Seccomp):' "/proc/$pid/status" | tr -d '\t' | xargs
    done | sort -u > "$WORK/status"
    holds "$1 runs with no_new_privs and a filter" "$(< "$WORK/status")" = "NoNewPrivs:1 Seccomp:2"
}

# While it copies, which the link makes slow.
look() {
    within 60 grep -qs 'phase":"bulk"' "$WORK/1/json"
    locked_in "the agent" '^[^ ]*snmigrate agent'
    locked_in "its writer" '^qemu-nbd '
    no_entry a
    no_entry b
    holds "sockets were tried on a" "$(< "$WORK/sockets.a")" -ge 1
    holds "sockets were tried on b" "$(< "$WORK/sockets.b")" -ge 2
    for host in a b; do
        ports $host | diff "$WORK/ports.$host" - || failed "another port is open on $host"
        lab run $host sh -c 'cat /proc/[0-9]*/cmdline' 2> /dev/null | tr '\0' ' ' > "$WORK/argv.$host"
    done
    holds "arguments were looked at" "$(grep -ac 'snmigrate' "$WORK/argv.a")" -ge 1
    holds "none of them holds a secret" "$(cat "$WORK"/argv.? | grep -acE "$DISK_MARK|$ENV_MARK")" = 0
    # shellcheck disable=SC2016
    lab run b sh -c 'cat /proc/$(pgrep -f "^[^ ]*snmigrate agent")/environ' > "$WORK/environ"
    holds "nor the agent's environment" "$(grep -ac "$ENV_MARK" "$WORK/environ")" = 0
    lab link rate none
}

capture_start
lab link rate 30mbit
look > "$WORK/look" 2>&1 &
looker=$!
# Packed, a marker would not be seen even without ssh.
SECRET=$ENV_MARK move vm -vv --compress off --max-downtime 5s --disks-to /var/lib/images
wait $looker || { cat "$WORK/look"; failed "while it was copied"; }
cat "$WORK/look"
kill $tcpdump_pid
wait $tcpdump_pid || true
expect_status 0

echo "== on the wire"
holds "the capture has all that was sent" "$(stat -c %s "$WORK/capture")" -gt "$(result .sent)"
holds "ssh is seen in it" "$(grep -ac 'SSH-2.0-' "$WORK/capture")" -ge 1
holds "the marker was in what travelled" "$(grep -ac "$DISK_MARK" "$LAB_DIR/b/images/evil.img")" = 1
holds "nothing of the guest is" "$(grep -acE "$MARK" "$WORK/capture")" = 0

echo "== in what is said"
holds "no secret in the log and the report" "$(cat "$ATTEMPT"/{json,stderr} | grep -ac "$MARK")" = 0

echo "== the disk that looks like qcow2"
holds "it has arrived as it was" "$(cmp "$WORK/evil" "$LAB_DIR/b/images/evil.img" && echo same)" = same
for which in "" --inactive; do
    lab run b virsh -q dumpxml vm $which > "$WORK/xml"
    holds "and is raw${which:+ ($which)}" \
        "$(xmllint --xpath "string(//disk[target/@dev='vdc']/driver/@type)" "$WORK/xml")" = raw
    holds "with nothing behind it" \
        "$(xmllint --xpath "count(//disk[target/@dev='vdc']/backingStore/*)" "$WORK/xml")" = 0
done
