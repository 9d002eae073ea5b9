# shellcheck shell=bash
# lib-ok.sh - what the tests of moves that succeed have in common
#
#   move VM [OPTION...] [VM DESTINATION]
#                       attempt: snmigrate --json OPTION... from host a; what it wrote is
#                       looked at, too.  Without the last two: VM root@hostb
#   attempt_back VM CMD...  attempt, on host b
#   move_back VM [OPTION...]   as move, from host b to root@hosta
#   moved [judge options]   the attempt: exit status 0, and the invariants hold
#   judge_but LINE [judge options]   all invariants hold but this one, which is not
#                       made for what is tested here: it must fail
#   result FILTER       of jq, on the attempt's result line
#   holds WHAT TEST...  "ok WHAT" if "[ TEST... ]" is true, else the test fails
#   within SECONDS CMD  CMD is true in time
#   at_point POINT      waits until the coming attempt has reached this fault point
#   complete VM HOST FIRST-HOST   power it off on HOST; then its disks hold all that was
#                       acknowledged, to the last operation; it was born on FIRST-HOST
#   old_disks_away VM   remove what the move left at the source: what lies about is read
#                       by every further snapshot of the hosts
# shellcheck source=tests/lab/e2e.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lab/e2e.sh"

MIB=$((1 << 20))

move() {
    local vm=$1
    shift
    case ${!#} in
        *@host?*) attempt "$vm" snmigrate --json "$@" ;;
        *) attempt "$vm" snmigrate --json "$@" "$vm" root@hostb ;;
    esac
    json_is_sound
}

attempt_back() {
    local vm=$1 status=0
    shift
    ATTEMPTS=$((ATTEMPTS + 1))
    ATTEMPT=$WORK/$ATTEMPTS
    mkdir "$ATTEMPT"
    lab snapshot-state "$vm" "$ATTEMPT/before" --src b
    lab run b "$@" > "$ATTEMPT/json" 2> "$ATTEMPT/stderr" || status=$?
    echo "$status" > "$ATTEMPT/status"
    echo "-- on b: $* -> $status"
}

move_back() {
    local vm=$1
    shift
    attempt_back "$vm" snmigrate --json "$@" "$vm" root@hosta
    json_is_sound
}

# Every line is an object of a known type, time does not go back, the last is the result.
json_is_sound() {
    jq -es 'all(.[]; .type | IN("progress", "finding", "result"))
        and (map(.type == "result") | .[:-1] + [.[-1] | not] | any | not)
        and (map(.elapsed_ms | values) | . == sort)
        and (last.guest_location | type == "string")' \
        < "$ATTEMPT/json" > /dev/null || failed "the JSON output is not sound"
    [ "$(grep -c . "$ATTEMPT/json")" = "$(jq -rs length "$ATTEMPT/json")" ] ||
        failed "the JSON output has not one object per line"
    [ "$(result .status)" = "$(< "$ATTEMPT/status")" ] ||
        failed "JSON says status $(result .status)"
}

judge_but() {
    local line=$1
    shift
    ! (judge "$@") > "$ATTEMPT/verdict" || failed "not seen: $line"
    grep -vxF -e "$line" -e "FAILED: an invariant does not hold" "$ATTEMPT/verdict"
    [ "$(grep '^FAIL ' "$ATTEMPT/verdict")" = "$line" ] || failed "an invariant does not hold"
    echo "ok   as wanted: ${line#FAIL }"
}

result() { tail -n 1 "$ATTEMPT/json" | jq -r "$1"; }

moved() {
    expect_status 0
    judge "$@"
    echo "ok   pause $(result .pause_ms) ms, $(result .elapsed_ms) ms in all," \
        "$(result '.sent / 1048576 | floor') MiB sent"
}

holds() {
    local what=$1
    shift
    # shellcheck disable=SC2244 # a whole test
    [ "$@" ] || failed "$what: $*"
    echo "ok   $what"
}

within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || failed "not true in time: $*"
        sleep 0.2
    done
}

at_point() {
    local stderr=$WORK/$((ATTEMPTS + 1))/stderr end=$((SECONDS + 60))
    until grep -qs "point=$1 happens now" "$stderr"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

complete() {
    local vm=$1 host=$2 first=$3 second=b dev format file raw
    [ "$first" = a ] || second=a
    lab vm quiesce "$vm" --host "$host"
    lab vm disks "$vm" --host "$host" > "$WORK/disks"
    while read -r dev format file; do
        [[ $dev == vd* ]] || continue # a CD-ROM
        raw=$LAB_DIR/$host/images/${file#/var/lib/images/}
        if [ "$format" != raw ]; then
            qemu-img convert -f "$format" -O raw "$raw" "$WORK/raw"
            raw=$WORK/raw
        fi
        "$LAB_DIR/check-disk" --window 0 "$dev" "$raw" \
            "$LAB_DIR/"{"$first","$second"}"/log-libvirt/console/$vm.log" ||
            failed "something that $vm wrote is not on $dev"
    done < "$WORK/disks"
}

old_disks_away() {
    lab run a sh -c "rm -f /var/lib/images/$1-vd?.*"
}
