#!/bin/bash
# Signals: the first one cancels and is undone, further ones do not end it in the middle.
# timeout: 60
set -euo pipefail

fake=$SNM_BUILD/tools/snmigrate-fake
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C.UTF-8 FAKE_UNDO_MS=500

failed() {
    echo "FAILED: $*"
    head -v "$tmp/out" "$tmp/err"
    exit 1
}

# said TEXT: wait until it is on stderr
said() {
    for ((i = 0; i < 300; i++)); do
        ! grep -qF -- "$1" "$tmp/err" || return 0
        sleep 0.1
    done
    failed "it never said \"$1\""
}

# Start it in the background, until it copies.  Not by "&" alone, which would have the shell
# ignore SIGINT for it.
begin() {
    : > "$tmp/err"
    env --default-signal=INT "$fake" web01 hostb > "$tmp/out" 2> "$tmp/err" < /dev/null &
    pid=$!
    said "copying disks"
}

# ended WANTED-STATUS
ended() {
    local status=0
    wait "$pid" || status=$?
    [ "$status" = "$1" ] || failed "status $status, not $1"
}

export FAKE_MS=20000
for sig in INT TERM HUP; do
    begin
    kill -s "$sig" "$pid"
    said "interrupted: ending the move, web01 goes on running here"
    ended 130
    [ "$(tail -n 1 "$tmp/out")" = "web01: running on hosta (source)" ] || failed "last line"
done

begin
kill -s INT "$pid"
said "interrupted: ending"
kill -s INT "$pid"
said "ending, please wait"
kill -s TERM "$pid"
ended 130

# Too late to go back: it goes on to the end.
export FAKE_MS=8000
begin
said "tidying up"
kill -s INT "$pid"
ended 0

# Ctrl-Z is refused: a stopped snmigrate could leave the guest paused.
export FAKE_MS=1500
begin
kill -s TSTP "$pid"
said "a move cannot be stopped"
ended 0
echo "ok"
