#!/usr/bin/env bash
# An agent that means harm: whatever it answers, or does not answer, the guest runs on at the
# source, is never paused for longer than allowed, and the move says the truth.
# timeout: 1200
# shellcheck source=tests/e2e/lib-fault.sh
. "$(dirname "$0")/lib-fault.sh"

# Instead of the wrapper that fails: one that lies.
agent_wrapper() {
    cat << END
[ "\$1" != agent ] || [ ! -e /run/agent-lie ] || exec $REAL_BIN/tools/agent-lies "\$(cat /run/agent-lie)"
END
}

fault_begin --disk raw:64M:16M --disk qcow2:64M:8M

# lie LIE STATUS WORDS: the move ends with STATUS and says WORDS; then all is as it was
lie() {
    echo "== $1"
    try "$1" lie_steps "$@"
}

liar_gone() { ! on b pgrep -x agent-lies > /dev/null; }

lie_steps() {
    on b sh -c "echo '$1' > /run/agent-lie"
    attempt vm "${MOVE[@]}" "${OPTS[@]}"
    on b sh -c 'rm /run/agent-lie; pkill -CONT -x agent-lies || true'
    wait_until 30 liar_gone || failed "the agent did not end with its link"
    expect_status "$2"
    grep -qE "error: .*($3)" "$ATTEMPT/stderr" || failed "it does not say: $3"
    grep -m 1 'error: ' "$ATTEMPT/stderr" | cut -c 1-200
    ! grep -qP '[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80\xae' "$ATTEMPT"/{stderr,json} ||
        failed "it draws on the terminal"
    [ "$(where_is)" = source ] || failed "the guest is: $(where_is)"
    verdict "${@:4}"
}

liar_there() { on b pgrep -x agent-lies > /dev/null; }

# Ctrl-C while nothing but the end of the link would end the waiting.
interrupted() {
    on b sh -c "echo mute:libvirt > /run/agent-lie"
    { wait_until 60 liar_there && sleep 2 && int_main; } &
    attempt vm "${MOVE[@]}"
    on b rm /run/agent-lie
    wait_until 30 liar_gone || failed "the agent did not end with its link"
    expect_status 130
    verdict
}

# Nothing agrees, whatever is copied again: it is said, and what is there is right.
never_alike() {
    on b sh -c "echo other:digest > /run/agent-lie"
    attempt vm "${MOVE[@]}"
    on b rm /run/agent-lie
    expect_status 0
    grep -q 'warn verify: vda: .* differed' "$ATTEMPT/stderr" || failed "it does not say so"
    [ "$(tail -n 1 "$ATTEMPT/json" | jq .verified.repaired)" -gt 0 ] || failed "nothing was repaired"
    verdict
    go_home
}

#   lie                    status what is said of it
lie types:agent            3 'member .* is array'
more lie huge:check             3 'more than .* bytes'
more lie deep:check        3 'JSON: '
lie escapes:check          3 'drawn'
more lie mute:check        3 'POST /check: '
lie mute:libvirt           9 'cannot connect to libvirt on hostb'
more lie noise:libvirt     9 'cannot connect to libvirt on hostb'
more try "interrupted while a libvirt is mute" interrupted
more lie other:PUT              4 'answered for another disk'
more lie fewer:PUT         4 'another number of disks'
more lie claims=guest:PUT  4 'so it is said'
lie noise:disk             4 'disk vda'
lie noise:digest           4 'not a record of an answer'
more lie counts:digest          4 'it is of more than was asked for'
more lie fewer:digest           4 'the digest at .*: it is missing'
more with "--retries 0" lie mute:digest 4 'no digest came for 5 minutes'
more try "digests that never agree" never_alike
more lie mute:disk         4 'disk vda'
more lie counts:ram-limit       4 'lost the link'
more lie mute:ram          8 'does not converge' # after a minute
lie claims=unresolved:close 4 'so it is said'
more lie mute:close        4 'would have lasted'
# Nobody can be told to tidy up before it goes on; the next move does.
lie stop:close             4 'would have lasted' --resumable
try "the same command, and no lie" again
fault_end
