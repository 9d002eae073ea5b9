#!/usr/bin/env bash
# A running move is asked how far it is, given another bandwidth, pause and latency, kept in
# step by --hold until it is told to switch, and aborted; what a killed one left is no
# obstacle.
# timeout: 300
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

# begin VM OPTION...: a move in the background, of which "ended" is told
begin() {
    local vm=$1
    shift
    ATTEMPTS=$((ATTEMPTS + 1))
    ATTEMPT=$WORK/$ATTEMPTS
    mkdir "$ATTEMPT"
    lab snapshot-state "$vm" "$ATTEMPT/before"
    (
        status=0
        lab run a snmigrate --json "$@" "$vm" root@hostb \
            > "$ATTEMPT/json" 2> "$ATTEMPT/stderr" || status=$?
        echo "$status" > "$ATTEMPT/status"
    ) &
    mover=$!
}

ended() {
    wait $mover
    echo "-- the move -> $(< "$ATTEMPT/status")"
    json_is_sound
}

# ask WANTED-STATUS ARGUMENT...: another snmigrate on host a, into $WORK/out and $WORK/err
ask() {
    local wanted=$1 status=0
    shift
    lab run a snmigrate "$@" > "$WORK/out" 2> "$WORK/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || {
        cat "$WORK/out" "$WORK/err"
        failed "snmigrate $*: status $status, not $wanted"
    }
}

says() { grep -qF -- "$2" "$WORK/$1" || { cat "$WORK/$1"; failed "no \"$2\" in $1"; }; }
# of the newest status
field() { jq -r "$1" "$WORK/out"; }
is() { lab run a snmigrate status --json "$1" 2> /dev/null | jq -e "$2" > /dev/null; }
sent() { lab run a snmigrate status --json "$1" | jq -r .sent; }

lab_begin
lab vm create vm --disk raw:200M:30M --disk qcow2:64M:8M --mem 128 --ram 8M \
    --write 1M --dirty 1M
lab vm create two --disk raw:200M:40M --mem 128 --ram 8M --write 1M --dirty 1M
for vm in vm two; do lab vm wait $vm; done

echo "== nothing runs"
ask 0 status
says out "no domain is being moved"
ask 0 status --json
[ ! -s "$WORK/out" ] || failed "something is said"
for words in "status vm" "set vm bandwidth=none" "switch vm" "abort vm"; do
    # shellcheck disable=SC2086
    ask 3 $words
    says err "no move of 'vm' is running on this host"
done

echo "== a slow move, held"
begin vm --disks-to /var/lib/images --bandwidth 16Mbit --hold
within 60 is vm '.phase == "bulk"'
uuid=$(lab run a virsh -q domuuid vm)
ask 0 status
says out "vm: copying disks"
ask 0 status --json "$uuid"
holds "its name, uuid and limit are told" \
    "$(field '[.type, .domain, .uuid, .bandwidth, .hold] | join(" ")')" = \
    "status vm ${uuid// /} 2000000 true"
ask 3 status two
ask 2 set vm bandwidth=400Mbit speed=3
says err "What can be set"
is vm '.bandwidth == 2000000' || failed "a bad command changed something"

# However busy the machine is, it cannot send more than it may.
begun=$(date +%s%N) bytes=$(sent vm)
sleep 3
bytes=$(($(sent vm) - bytes)) took=$(($(date +%s%N) - begun))
echo "$((bytes * 1000000 / (took / 1000))) bytes per second"
holds "it sends something" "$bytes" -gt 0
holds "it keeps to the limit" $((bytes * 1000)) -le $((took * 22 / 10))
ask 0 set vm bandwidth=400Mbit max-downtime=2s guest-latency=500ms
within 10 is vm '.bandwidth == 50000000 and .rate_limit > 0 and .budget_ms == 2000'
within 60 is vm '.held'
ask 0 status vm
says out "held: waiting for 'snmigrate switch'"
within 20 is vm '.guest_write_us > 0' # measured every few seconds
ask 0 set vm guest-latency=none bandwidth=none
says out "held"

echo "== it stays in step"
round=$(lab run a snmigrate status --json vm | jq .round)
further() { is vm ".round > $round and .held and .phase == \"rounds\""; }
within 60 further

echo "== and is told to switch"
ask 0 switch vm
says out "vm: running on hostb (destination)"
ended
moved --disks off --budget 2000
holds "the other pause was allowed" "$(result .budget_ms)" = 2000
ask 3 status vm
old_disks_away vm

echo "== a killed move left something; then one is aborted"
uuid=$(lab run a virsh -q domuuid two)
left=/run/snmigrate/00000000000000000000000000000001
lab run a sh -c "mkdir -m 700 $left && : > $left/${uuid// /}.ctl"
ask 0 status
says err "${uuid// /}: its snmigrate was killed"
journal=/var/lib/snmigrate/00000000000000000000000000000001
lab run a sh -c "mkdir -m 700 $journal && cat > $journal/journal" <<< \
    '{"step":"prepared","time":"2026-11-22T11:00:00Z","role":"src","name":"two"}'
ask 3 status two
says err "snmigrate recover two"
lab run a rm -r $journal
begin two --disks-to /var/lib/images --bandwidth 4Mbit
within 60 is two '.phase == "bulk"'
! lab run a test -e $left || failed "what the killed one left is still there"
ask 3 switch two
says err "not held"
ask 0 abort two
says out "two: running on hosta (source)"
ended
expect_status 130
judge
ask 0 status
says out "no domain is being moved"
