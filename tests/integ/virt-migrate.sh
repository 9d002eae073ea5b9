#!/usr/bin/env bash
# vdom_migrate between two libvirts: RAM through a relay of a Unix socket, the destination
# paused and defined, the source gone.
# timeout: 120
. "$(dirname "$0")/virt.bash"

SOCKET=/run/libvirt/snmigrate-test/ram.tunnelmigrate.dest.m1

command -v socat > /dev/null || skip "no socat here"
lab_begin ${LAB_UP:-}
lab vm create m1 --disk raw:8M --disk qcow2:8M
lab vm wait m1
cp "$LAB_DIR"/a/images/* "$LAB_DIR/b/images/" # nothing writes: no --write rate
for host in a b; do
    lab run "$host" sh -c "mkdir ${SOCKET%/*} && chown libvirt-qemu ${SOCKET%/*}"
done
echo "exec ssh root@hostb socat - UNIX-CONNECT:$SOCKET" > "$WORK/relay" # no ':' in EXEC
lab run a socat "UNIX-LISTEN:$SOCKET" "EXEC:sh $WORK/relay" &
lab run a timeout 10 sh -c "until test -S $SOCKET; do sleep 0.05; done" || failed "no relay"

live migrate m1 qemu+ssh://root@hostb/system "$SOCKET"
[ "$(lab where m1)" = none ] || failed "m1 is left somewhere"
lab events show | grep -E ' [ab] m1 ' | cut -d' ' -f2-
