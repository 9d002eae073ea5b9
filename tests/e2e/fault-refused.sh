#!/usr/bin/env bash
# What cannot work is refused before anything is changed, on a host that is not there, must
# not be entered or is in use; a directory that fills up ends a move that had begun.
# timeout: 720
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

fault_begin --disk raw:64M:24M --disk qcow2:64M:8M

TO=(--json --disks-to /var/lib/images)
IMAGES=/var/lib/images

# refused WHAT STATUS WORDS OPTION...: the move ends at once; WORDS: what is said of it
refused() {
    local what=$1 status=$2 words=$3 got=0
    shift 3
    on a "$REAL_BIN/snmigrate" "${TO[@]}" "$@" > "$WORK/json" 2> "$WORK/stderr" || got=$?
    if [ $got -ne "$status" ] || ! grep -qE "$words" "$WORK/stderr" ||
        [ "$(tail -n 1 "$WORK/json" | jq -r .guest_location)" != source ]; then
        cat "$WORK/json" "$WORK/stderr"
        failed "$what: exit status $got, expected $status and: $words"
    fi
    echo "ok   $what -> $status: $(grep -oEm 1 "$words" "$WORK/stderr")"
}

# client FILE KNOWN_HOSTS KEY: an ssh configuration for host b
client() {
    cat > "$1" << END
Host hostb
    HostName 10.77.0.2
    User root
    IdentityFile $3
    IdentitiesOnly yes
    UserKnownHostsFile $2
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
END
}

wrong_keys() {
    local ssh=$LAB_DIR/ssh
    ssh-keygen -q -t ed25519 -N '' -f "$WORK/stranger"
    echo "10.77.0.2 $(cut -d' ' -f1,2 "$WORK/stranger.pub")" > "$WORK/changed_hosts"
    sed 's/^[^ ]*,//' "$ssh/known_hosts" > "$WORK/known_hosts"
    client "$WORK/stranger.conf" "$WORK/known_hosts" "$WORK/stranger"
    client "$WORK/changed.conf" "$WORK/changed_hosts" "$ssh/user_key"
}

no_agent() {
    mv "$LAB_BIN/snmigrate" "$LAB_BIN/away"
    if on b sh -c 'command -v snmigrate' > /dev/null; then
        echo "skip an agent that is not installed: this machine has another snmigrate"
    else
        refused "agent not installed" 9 "snmigrate is not installed on hostb" vm root@hostb
    fi
    mv "$LAB_BIN/away" "$LAB_BIN/snmigrate"
}

# Before the move: nothing is written, nobody waits, all of it is one attempt to the judge.
refusals() {
    attempt vm snmigrate "${TO[@]}" vm root@nowhere.invalid
    expect_status 9
    wrong_keys
    refused "no such host" 9 "cannot connect to nowhere.invalid.*resolve" vm root@nowhere.invalid
    refused "port closed" 9 "cannot connect to hostb.*refused" vm ssh://root@hostb:1
    refused "key rejected" 9 "cannot connect to hostb.*denied" \
        --ssh "ssh -F $WORK/stranger.conf" vm root@hostb
    refused "host key changed" 9 "cannot connect to hostb.*HAS CHANGED" \
        --ssh "ssh -F $WORK/changed.conf" vm root@hostb
    no_agent
    echo "somebody's" > "$LAB_DIR/b/images/vm-vdb.qcow2"
    refused "existing file" 3 "vm-vdb.qcow2.*exists" vm root@hostb
    [ "$(< "$LAB_DIR/b/images/vm-vdb.qcow2")" = "somebody's" ] || failed "it was overwritten"
    rm "$LAB_DIR/b/images/vm-vdb.qcow2"
    on b mount -t tmpfs -o size=16m,mode=755 small $IMAGES
    refused "directory too small" 3 "the disks hold .*, and the file system of $IMAGES.* has .* free" vm root@hostb
    on b umount $IMAGES
    verdict
}

# In a directory that has room as the move begins.
fill() { on b sh -c "dd if=/dev/zero of=$IMAGES/filler bs=1M 2> /dev/null || true"; }

full_on_the_way() {
    on b mount -t tmpfs -o size=64m,mode=755 small $IMAGES
    faulty_attempt bulk:delay-1 "slowly fill"
    on b rm -f $IMAGES/filler
    expect_status 4
    grep -q 'error: .*No space left' "$ATTEMPT/stderr" || failed "it does not say why"
    [ -z "$(on b ls -A $IMAGES)" ] || failed "left in the directory: $(on b ls -A $IMAGES)"
    on b umount $IMAGES
    verdict --budget 0
}

second() { refused "second move of vm" 3 "another snmigrate is moving 'vm'" vm root@hostb; }

# It is what repeats the command after the full directory, too.
second_meanwhile() {
    faulty_attempt bulk:delay-3000 second
    if too_busy "$(< "$ATTEMPT/status")" "$ATTEMPT/stderr"; then
        again
    else
        expect_status 0
        verdict
    fi
}

try "refused at once" refusals
try "the directory fills up in bulk" full_on_the_way
try "a second move of the same VM" second_meanwhile
fault_end
