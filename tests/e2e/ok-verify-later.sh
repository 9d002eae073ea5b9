#!/usr/bin/env bash
# A move that is over is verified: what the guest has written since is told from damage where
# --verify-later had it marked, and a byte that was spoilt is found; through QEMU, or with the
# guest off; nothing is left behind, not even by an agent that is killed.
# timeout: 420
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/lib-ok.sh"

SIZE=$((128 * MIB))

# verify WANTED-STATUS ARGUMENT...: on host a, into $WORK/out and $WORK/err
verify() {
    local wanted=$1 status=0
    shift
    lab run a snmigrate verify --json "$@" > "$WORK/out" 2> "$WORK/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || {
        cat "$WORK/out" "$WORK/err"
        failed "snmigrate verify $*: status $status, not $wanted"
    }
    [ "$(jq .status "$WORK/out")" = "$wanted" ] || failed "JSON says another status"
}

refused() {
    verify 3 "$2"
    grep -q "$1" "$WORK/err" || { cat "$WORK/err"; failed "not said: $1"; }
    echo "ok   refused: $(grep -oEm 1 "$1.*" "$WORK/err")"
}

found() { jq -r "$1" "$WORK/out"; }

# qmp VM COMMAND: on host b
qmp() { lab run b virsh -q qemu-monitor-command "$1" "{\"execute\":\"$2\"}"; }
exports() { qmp "$1" query-block-exports | jq '.return | length'; }
bitmaps() {
    qmp "$1" query-block | jq '[.return[].inserted["dirty-bitmaps"][]? | .name] | length'
}

nothing_but() {
    holds "$2 bitmaps and no export are in QEMU" \
        "$(bitmaps "$1") $(exports "$1")" = "$2 0"
    holds "no process is left" -z "$(for host in a b; do
        lab run $host pgrep -l 'qemu-nbd|snmigrate' || true
    done)"
}

# begin_verify VM: in the background; the exports are there, and stay for a while
begin_verify() {
    lab run a env SNMIGRATE_FAULT=verify.begun:delay-5000 snmigrate verify "$1" \
        > /dev/null 2> "$WORK/begun" &
    job=$!
    # shellcheck disable=SC2016 # eval expands it
    within 30 eval '[ "$(exports '"$1"')" != 0 ]'
}

# disturbed VM WANTED-STATUS HOST SIGNAL PATTERN
disturbed() {
    local status=0
    begin_verify "$1"
    lab run "$3" pkill "-$4" -f "$5"
    wait $job || status=$?
    holds "status $2" $status = "$2"
}

# arrived: as moved, with the bitmaps that were asked for
arrived() {
    expect_status 0
    judge_but 'FAIL I7 bitmap, export, throttle or job left on b:' --budget 1000
    echo "ok   pause $(result .pause_ms) ms; $(grep -o 'its writes are marked.*' "$ATTEMPT/stderr")"
}

# spoil VM BLOCK: one byte of the old image
spoil() {
    printf '\xa5' | dd of="$LAB_DIR/a/images/$1-vda.raw" bs=1 seek=$(($2 * 65536 + 4711)) \
        conv=notrunc,fsync status=none
}


lab_begin
lab vm create busy --disk raw:$SIZE:60M --disk qcow2:$SIZE:20M --mem 128 --ram 8M --write 2M
lab vm create quiet --disk raw:$SIZE:100M --mem 128 --ram 8M
lab vm wait busy
lab vm wait quiet

echo "== a guest that goes on writing, and is marked"
move busy -vv --verify full --verify-later --max-downtime 1s --disks-to /var/lib/images
arrived
holds "each disk has a digest" \
    "$(result '[.disks[].verified | select(.digest | test("^[0-9a-f]{32}$"))] | length')" = 2
sleep 3
verify 0 busy
holds "all was compared" "$(found '[.disks[].compared] | add')" = $((2 * SIZE))
holds "it has written" "$(found '[.disks[].written] | add')" -gt 0
holds "that differs from nothing else" "$(found '[.disks[].differing] | add')" = 0
nothing_but busy 2

echo "== a byte is spoilt, of a guest that writes nothing"
move quiet -vv --verify full --verify-later --max-downtime 1s --disks-to /var/lib/images
arrived
verify 0 quiet
holds "its digest is that of the move" "$(found '.disks[0].digest')" = \
    "$(result '.disks[0].verified.digest')"
spoil quiet 777
verify 6 quiet
holds "it is named" "$(found '.disks[0] | "\(.target) \(.where[0].offset) \(.where[0].length)"')" = \
    "vda $((777 * 65536)) 65536"
holds "and alone" "$(found '.disks[0].differing')" = 65536
lab run a snmigrate verify quiet > "$WORK/text" || true
grep -q 'them is damaged' "$WORK/text" || failed "it does not say what that means"
nothing_but quiet 1

echo "== an agent that is killed leaves an export, which the next one removes"
disturbed quiet 4 b KILL 'snmigrate agent$'
holds "an export is left" "$(exports quiet)" = 1
verify 6 quiet
nothing_but quiet 1

echo "== Ctrl-C"
disturbed busy 130 a INT '^snmigrate verify'
nothing_but busy 2

echo "== refused"
refused "no finished move of 'nobody'" nobody
begin_verify quiet
refused 'another snmigrate is moving' quiet
wait $job || true
mv "$LAB_DIR/a/images/quiet-vda.raw" "$WORK/away"
refused 'disk vda: /var/lib/images/quiet-vda.raw: No such file' quiet
mv "$WORK/away" "$LAB_DIR/a/images/quiet-vda.raw"
truncate -s +512 "$LAB_DIR/a/images/quiet-vda.raw"
refused 'disk vda has another size now' quiet
truncate -s $SIZE "$LAB_DIR/a/images/quiet-vda.raw"
lab run a sh -c 'virsh -q define /var/lib/snmigrate/$(virsh -c qemu+ssh://root@hostb/system \
    domuuid quiet | head -n 1)-*.xml && virsh -q start --paused quiet' > /dev/null
refused 'quiet is active on this host' quiet
lab run a sh -c 'virsh -q destroy quiet && virsh -q undefine quiet' > /dev/null

echo "== the guest is off: no bitmap, the images themselves"
lab vm destroy quiet --host b
verify 6 quiet
holds "read as images" "$(found '"\(.live) \(.marked)"')" = "false false"
holds "and it is found" "$(found '.disks[0].where[0].offset')" = $((777 * 65536))
lab vm start quiet --host b
verify 6 quiet
holds "nothing marks any more" "$(found '"\(.live) \(.marked) \(.disks[0].written)"')" = \
    "true false null"
lab run a snmigrate verify quiet > "$WORK/text" || true
grep -q 'bitmap is gone, so' "$WORK/text" || failed "it does not say that it cannot tell"
lab run a sed -i 's/"verify_later": *true/"verify_later":false/' \
    "/var/lib/snmigrate/moved/$(found .id)/journal"
verify 6 quiet
holds "a move that asked for no marks" "$(found .why)" = "the move was made without --verify-later"

echo "== discard leaves nothing"
holds "both are listed" "$(lab run a snmigrate list --json | jq -r .state | xargs)" = "moved moved"
lab run a snmigrate discard busy > /dev/null
lab run a snmigrate discard quiet > /dev/null
nothing_but busy 0
nothing_but quiet 0
holds "nothing is listed" -z "$(lab run a snmigrate list --json)"
holds "no record is left" -z "$(lab run a ls /var/lib/snmigrate/moved)"
complete busy b a
