#!/bin/bash
# The agent as ssh starts it: only the link writes to its stdout, whoever talks to it, and
# it ends with its peer or by a signal.
# timeout: 60
set -euo pipefail

tmp=$(mktemp -d)
agent=
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    [ -z "$agent" ] || kill -KILL "$agent" 2> /dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT

failed() {
    echo "FAILED: $*"
    od -c "$tmp/out" | head -5
    cat "$tmp/err"
    exit 1
}

# said TEXT: wait until it is on stderr
said() {
    for ((i = 0; i < 100; i++)); do
        ! grep -qF -- "$1" "$tmp/err" || return 0
        sleep 0.1
    done
    failed "it never said \"$1\""
}

# The start of a server's HTTP/2 connection is a SETTINGS frame: type 4, stream 0.
speaks_http2() {
    [ "$(od -An -tx1 -j3 -N6 "$tmp/out" | tr -d ' ')" = 040000000000 ] ||
        failed "its stdout does not begin with SETTINGS"
    ! grep -qaE 'dst (error|warn|info|debug)' "$tmp/out" || failed "log lines on stdout"
}

# Nobody there.
"$SNM_BUILD/snmigrate" agent < /dev/null > "$tmp/out" 2> "$tmp/err" && failed "status 0"
grep -q 'dst ' "$tmp/err" || failed "it did not say why"

# Somebody who speaks something else.
printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' |
    "$SNM_BUILD/snmigrate" agent > "$tmp/out" 2> "$tmp/err" && failed "status 0"
[ ! -s "$tmp/out" ] || speaks_http2

# A peer that stays: stdin and stdout are the link's alone, and signals end it.
mkfifo "$tmp/in"
for signal in TERM HUP INT; do
    : > "$tmp/err" # what the agent before said must not be taken for this one's
    env --default-signal=INT "$SNM_BUILD/snmigrate" agent \
        < "$tmp/in" > "$tmp/out" 2> "$tmp/err" &
    agent=$!
    exec 3> "$tmp/in"
    # The preface and an empty SETTINGS frame (RFC 9113, 3.4).
    printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0' >&3
    said "greeting -> open"
    for fd in 0 1; do
        [ "$(readlink "/proc/$agent/fd/$fd")" = /dev/null ] || failed "descriptor $fd"
    done
    kill -"$signal" "$agent"
    for ((i = 0; i < 100; i++)); do
        kill -0 "$agent" 2> /dev/null || break
        sleep 0.1
    done
    ! kill -0 "$agent" 2> /dev/null || failed "SIG$signal does not end it"
    exec 3>&-
    wait "$agent" && failed "status 0 after SIG$signal"
    agent=
    grep -q "by a signal" "$tmp/err" || failed "it did not say why it ended"
    speaks_http2
done

# Any HTTP/2 client can talk to it.
command -v socat curl > /dev/null || { echo "ok, without curl and socat"; exit 0; }
socat "UNIX-LISTEN:$tmp/sock" "EXEC:$SNM_BUILD/snmigrate agent" 2> "$tmp/err" &
for ((i = 0; i < 100; i++)); do
    [ ! -S "$tmp/sock" ] || break
    sleep 0.1
done
curl -sS --http2-prior-knowledge --unix-socket "$tmp/sock" http://agent/agent > "$tmp/out"
grep -q '"protocol":' "$tmp/out" || failed "no answer to curl"
wait
echo "ok"
