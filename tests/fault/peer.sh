#!/usr/bin/env bash
# The destination is another than it was: its host key changed, its agent speaks another
# protocol, it cannot run the guest after all, or it answers with rubbish past the release.
# timeout: 900
# shellcheck source=tests/fault/lib-cells.sh
. "$(dirname "$0")/lib-cells.sh"

# The agent lies as told in /run.
agent_wrapper() {
    cat << END
[ "\$1" != agent ] || [ ! -e /run/agent-lie ] || exec $REAL_BIN/tools/agent-lies "\$(cat /run/agent-lie)"
END
}

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

KNOWN=$LAB_DIR/ssh/known_hosts
HELD=switch.suspended:delay-300
UNTOLD=(--allow '^b /(var/lib|run)/(libvirt/)?snmigrate')

lose_link() { on b pkill -KILL -f '^sshd: root'; }

key_right() { cp "$WORK/known_hosts" "$KNOWN"; }
key_wrong() {
    cp "$KNOWN" "$WORK/known_hosts"
    ssh-keygen -q -t ed25519 -N '' -f "$WORK/stranger" <<< y > /dev/null
    echo "hostb,10.77.0.2 $(cut -d' ' -f1,2 "$WORK/stranger.pub")" > "$KNOWN"
    lose_link
}
# key_wrong_for SECONDS; key_wrong_to_end: another host seems to answer
key_wrong_for() { key_wrong; sleep "$1"; key_right; }
key_wrong_to_end() { key_wrong; at_end key_right; }

version_right() { on b rm -f /run/agent-lie; }
version_wrong() {
    on b sh -c 'echo counts:agent > /run/agent-lie'
    lose_link
}
# upgraded_for SECONDS; upgraded: the next agent there is of another version
upgraded_for() { version_wrong; sleep "$1"; version_right; }
upgraded() { version_wrong; at_end version_right; }

# QEMU there is replaced by one that starts nothing.
unfit() {
    on b mount --bind /bin/false /usr/bin/qemu-system-x86_64
    at_end on b umount /usr/bin/qemu-system-x86_64
}

other_version() {
    on b sh -c 'echo counts:agent > /run/agent-lie'
    attempt vm "${MOVE[@]}"
    version_right
    expect_status 3
    said_in_attempt 'speaks protocol'
    verdict
}

unfit_before() {
    on b mount --bind /bin/false /usr/bin/qemu-system-x86_64
    attempt vm "${MOVE[@]}"
    on b umount /usr/bin/qemu-system-x86_64
    expect_status 3
    verdict
}

# lies_at_commit LIE: until the agent that lies is gone
lies_at_commit() {
    on b sh -c "echo '$1' > /run/agent-lie"
    { await 120 said ' asking again' &&
        on b sh -c 'rm /run/agent-lie; pkill -KILL -x agent-lies'; } &
    attempt vm "${MOVE[@]}"
    wait $! || failed "it did not ask again"
    expect_status 0
    verdict --budget none
    go_home
}
lies() { # LIE STATUS OWNER [judge options]
    on b sh -c "echo '$1' > /run/agent-lie"
    attempt vm "${MOVE[@]}"
    version_right
    expect_status "$2"
    verdict "${@:4}"
    [ "$(where_is)" = "$3" ] || failed "the guest is: $(where_is)"
    [ "$3" = destination ] || again
    go_home
}

#    what                             where              fault                status owner
cell "key changed in prepare"         prepare:delay-300  key_wrong_to_end     4      source --resumable
cell "key changed in bulk, for a while" bulk:delay-1     "slowly key_wrong_for 6" 0  destination
with "--reconnect 6s" cell "key changed in bulk" bulk:delay-1 "slowly key_wrong_to_end" 4 source --resumable
with "--reconnect 6s" cell "key changed in memory" memory.loop:delay-1 "slowly key_wrong_to_end" 4 source --resumable
with "--reconnect 6s" cell "key changed, suspended" $HELD key_wrong_to_end    4      source --resumable
cell "key changed at commit, for a while" commit:delay-300 "key_wrong_for 5"  0      destination --budget none
cell "key changed in the finish"      finish:delay-2000  key_wrong_to_end     6      destination "${UNTOLD[@]}"
try "another version"                 other_version
with "--reconnect 10s" cell "upgraded in bulk" bulk:delay-1 "slowly upgraded" 4     source --resumable
cell "upgraded at commit, for a while" commit:delay-300  "upgraded_for 5"     0      destination --budget none
try "cannot run it: preflight"        unfit_before
cell "cannot run it: memory"          memory:delay-1000  unfit                4      source
try "rubbish to COMMIT"               lies_at_commit types:commit
try "rubbish to release"              lies claims=guest:release 0 destination
try "rubbish to finish"               lies types:finish 0 destination
try "no answer to finish"             lies mute:finish 6 destination "${UNTOLD[@]}"
fault_end
