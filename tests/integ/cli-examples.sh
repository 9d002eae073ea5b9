#!/bin/bash
# The examples, with a move that follows a script and a virsh that lists three domains.
# timeout: 60
set -euo pipefail

command -v jq > /dev/null || { echo "no jq here"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/bin"
ln -s "$SNM_BUILD/tools/snmigrate-fake" "$tmp/bin/snmigrate"
printf '#!/bin/sh\nprintf "web01\\nweb 02\\n-x\\n\\n"\n' > "$tmp/bin/virsh"
chmod +x "$tmp/bin/virsh"
export PATH=$tmp/bin:$PATH LC_ALL=C.UTF-8 FAKE_MS=60 FAKE_UNDO_MS=10

failed() {
    echo "FAILED: $*"
    head -v "$tmp/out" "$tmp/err"
    exit 1
}

# run WANTED-STATUS EXAMPLE ARGUMENT...: into $tmp/out and $tmp/err
run() {
    local wanted=$1 example=$2 status=0
    shift 2
    "examples/$example" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || failed "status $status, not $wanted: $example $*"
}

has() { grep -qF -- "$2" "$tmp/$1" || failed "no \"$2\" in $1"; }

run 0 drain-host.sh root@hostb --disks-to /srv/new
has out "web01: running on hostb, paused for 87 ms"
has out "web 02: running on hostb"
has out "-x: running on hostb"
FAKE_STATUS=3 run 3 drain-host.sh root@hostb
has err "-x cannot move"
has err "Nothing was moved."
FAKE_STATUS=4 run 4 drain-host.sh root@hostb
has err "web01 did not arrive"
[ ! -s "$tmp/out" ] || failed "it went on"
FAKE_STATUS=6 run 6 drain-host.sh root@hostb
has out "left to do: on hosta: virsh undefine -x"
run 2 drain-host.sh

run 0 move-one-vm.sh web01 root@hostb
has out "web01 can move to hostb."
has out "web01: running on hostb (destination)"
FAKE_STATUS=3 run 3 move-one-vm.sh web01 root@hostb
FAKE_STATUS=8 run 8 move-one-vm.sh web01 root@hostb
has out "once more with 2s"
run 2 move-one-vm.sh web01
echo "ok"
