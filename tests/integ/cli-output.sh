#!/bin/bash
# What goes to stdout and what to stderr, and the exit statuses: with a move that follows a
# script (tests/tools/snmigrate-fake.c).
# timeout: 60
set -euo pipefail

fake=$SNM_BUILD/tools/snmigrate-fake
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export FAKE_MS=60 FAKE_UNDO_MS=10 LC_ALL=C.UTF-8

failed() {
    echo "FAILED: $*"
    head -v "$tmp/out" "$tmp/err"
    exit 1
}

# run WANTED-STATUS ARGUMENT...: into $tmp/out and $tmp/err
run() {
    local wanted=$1 status=0
    shift
    "$fake" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || failed "status $status, not $wanted: $*"
}

last_is() { [ "$(tail -n 1 "$tmp/$1")" = "$2" ] || failed "the last line is not: $2"; }
has() { grep -qF -- "$2" "$tmp/$1" || failed "no \"$2\" in $1"; }
empty() { [ ! -s "$tmp/$1" ] || failed "something in $1"; }

# The report is on stdout, its last line says where the guest is.
here="web01: running on hosta (source)"
there="web01: running on hostb (destination)"
run 0 web01 root@hostb
last_is out "$there"
has out "87 ms (300 ms allowed)"
for status in 4 8; do
    FAKE_STATUS=$status run "$status" web01 hostb
    last_is out "$here"
    has err "snmigrate: error: "
done
FAKE_STATUS=5 run 5 web01 hostb
last_is out "web01: runs nowhere: it has ended"
FAKE_STATUS=6 run 6 web01 hostb
last_is out "$there"
has out "Left to do:"
FAKE_STATUS=7 run 7 web01 hostb
has out "web01: unresolved"
FAKE_STATUS=3 run 3 web01 hostb
last_is out "$here; nothing was changed"
has err "2 blockers"
FAKE_STATUS=9 run 9 web01 hostb
last_is out "web01: nothing was changed"

# --progress none: stderr is for what is wrong.
run 0 --progress none web01 hostb
empty err

# --quiet: nothing on success, all on stderr else.
run 0 -q web01 hostb
empty out
empty err
FAKE_STATUS=4 run 4 -q web01 hostb
empty out
last_is err "snmigrate: $here"
FAKE_STATUS=6 run 6 --quiet web01 hostb
empty out
has err "virsh undefine web01"

# --check: its result is what was asked for, so it is on stdout.
run 0 --check --disks-to /srv/new web01 hostb
has out "web01 can move to hostb."
has out "/srv/new/web01-0.img (raw, 20.0 GiB)"
last_is out "$here; nothing was changed"
FAKE_STATUS=3 run 3 --check --progress none web01 hostb
has out "  2. the bridge br0"
empty err
FAKE_STATUS=3 run 3 --check -q web01 hostb
empty out
has err "  2. the bridge br0"

# Usage: status 2, and nothing on stdout.
for args in "" "web01" "--chek web01 hostb" "-qv web01 hostb"; do
    # shellcheck disable=SC2086
    run 2 $args
    empty out
    has err "snmigrate: error: "
done
run 0 --version
grep -qE '^snmigrate [0-9]+\.[0-9]+\.[0-9]+$' "$tmp/out" || failed "--version"
run 0 --help
has out "Usage: snmigrate [OPTIONS] DOMAIN DESTINATION"
empty err

# Words to a running move: usage errors come before anything is asked.
for args in "status a b" "status --bogus" "set" "set web01" "set web01 bandwidth" \
    "set web01 bandwidth=fast" "set web01 bandwidth=1Kbit" "set web01 speed=1" \
    "set web01 max-downtime=none" "set web01 max-downtime=2h" "switch" "switch a b" \
    "abort" "abort -x web01"; do
    # shellcheck disable=SC2086
    run 2 $args
    empty out
    has err "snmigrate: error: "
done
run 2 set web01 bandwith=1Mbit
has err "bandwidth, max-downtime, guest-latency"
run 0 switch --help
has out "Usage: snmigrate"
for word in status set switch abort; do
    run 0 -q -- $word hostb # a domain may bear these names, too
done

# The hidden words are words of their own only: domains may bear these names.
run 40 agent
run 41 guard
run 0 -q agent hostb
run 0 -q -- guard hostb

# Nobody reads the report: the status is about the guest all the same.
status=0
"$fake" --progress none web01 hostb > /dev/full 2> "$tmp/err" || status=$?
[ "$status" = 0 ] || failed "status $status with a full stdout"
has err "the report could not be written"

# A name from elsewhere cannot do anything to a terminal.
FAKE_STATUS=4 FAKE_NAME=$'e\e[2Jv\ril' run 4 web01 hostb
! grep -q $'[\e\r]' "$tmp/out" "$tmp/err" || failed "control characters"
has out 'e\x1b[2Jv\x0dil'
echo "ok"

# Another user than root is told nothing that is not so; help is for everybody.
chmod 755 "$tmp"
cp "$SNM_BUILD/snmigrate" "$tmp/other"
other() {
    local wanted=$1 status=0 as=()
    shift
    [ "$(id -u)" != 0 ] || as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    "${as[@]}" "$tmp/other" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || failed "status $status, not $wanted: $*"
}
for args in "web01 hostb" "--check web01 hostb" status "set web01 bandwidth=none" \
    "switch web01" "abort web01" recover list "discard web01" "verify web01"; do
    # shellcheck disable=SC2086
    other 3 $args
    has err "snmigrate: error: snmigrate must run as root"
done
other 0 --version
other 0 list --help
other 2 status a b

# recover: with nothing to do it says so, and a name that is not there is refused.
run 0 recover
last_is out "Nothing to recover on this host."
run 0 recover --quiet
empty out
empty err
run 3 recover web01
has err "no unfinished move of 'web01'"
run 2 recover --source-wins
has err "snmigrate: error: --source-wins and --destination-wins need a DOMAIN"
run 0 recover --help
has out "--destination-wins"

# list and discard.
run 0 list
last_is out "No move has left anything on this host."
run 0 list --json
empty out
run 0 list --help
has out "snmigrate discard"
for args in "list web01" "list --here" "discard" "discard web01 hostb" "discard --he web01"; do
    # shellcheck disable=SC2086
    run 2 $args
    empty out
    has err "snmigrate: error: "
done
run 3 discard web01
empty out
has err "no move of 'web01' has left anything"
run 3 discard --json web01
[ "$(jq -r '[.type, .status, .error.kind] | join(" ")' "$tmp/out")" = "discard 3 refused" ] ||
    failed "not the object of a refusal"
