#!/bin/bash
# The display on a terminal: live where it can be, plain where not, colours or none.
# timeout: 60
set -euo pipefail

command -v script > /dev/null || { echo "no script(1) here"; exit 77; }
fake=$SNM_BUILD/tools/snmigrate-fake
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C.UTF-8 FAKE_MS=1500 TERM=xterm
unset NO_COLOR COLUMNS
esc=$'\e'

failed() {
    echo "FAILED: $*"
    cat -v "$tmp/seen"
    exit 1
}

# on_terminal COMMAND: its terminal, as bytes, in $tmp/seen
on_terminal() {
    script -qec "stty rows 24 cols 80; $1" /dev/null < /dev/null > "$tmp/seen" ||
        failed "status $?: $1"
}
has() { grep -qF -- "$1" "$tmp/seen" || failed "no \"$1\""; }
hasnt() { ! grep -qF -- "$1" "$tmp/seen" || failed "there is \"$1\""; }

on_terminal "$fake web01 hostb"
has "${esc}[1mweb01" # bold
has "━"
has "${esc}[K"
has "web01: running on hostb (destination)"

NO_COLOR=1 on_terminal "$fake web01 hostb"
has "${esc}[K" # still redrawn in place
hasnt "${esc}[1m"

LC_ALL=C on_terminal "$fake web01 hostb"
has "#####"
hasnt "━"

TERM=dumb on_terminal "$fake web01 hostb"
hasnt "$esc"
has "] web01: copying disks"

on_terminal "$fake --progress plain web01 hostb"
hasnt "$esc"
has "] web01: copying disks"

on_terminal "$fake --json web01 hostb"
hasnt "$esc"

FAKE_NAME=$'e\e[5mvil' on_terminal "$fake web01 hostb"
hasnt "${esc}[5m"
has 'e\x1b[5mvil'
echo "ok"
