#!/bin/bash
# Ctrl-C ends the copy at once, whatever hangs.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit socat

size=$((64 << 20))
truncate -s $size a.raw b.raw
now_ms() {
    echo $(($(date +%s%N) / 1000000))
}

# interrupted SIGNAL: start a copy, let it begin to hang, send the signal.
interrupted() {
    local begun status=0 pid

    # A background job of a script ignores SIGINT, and cannot catch it then.
    env --default-signal=INT "$NBD_MIRROR" src dst >out.txt 2>err.txt &
    pid=$!
    sleep 0.7
    kill -0 $pid || die "it did not hang: $(cat err.txt)"
    begun=$(now_ms)
    kill -"$1" $pid
    wait $pid || status=$?
    [ $(($(now_ms) - begun)) -lt 2000 ] || die "it took $(($(now_ms) - begun)) ms"
    [ $status -eq 130 ] || die "status $status: $(cat err.txt)"
    grep -q 'cancelled' err.txt || die "$(cat err.txt)"
}

# hangs 'SRC ARGUMENTS' 'DST ARGUMENTS' SIGNAL
hangs() {
    # shellcheck disable=SC2086 # these are lists of words
    {
        serve_nbdkit src -r $1
        serve_nbdkit dst $2
    }
    interrupted "$3"
    stop src
    stop dst
}

slow() { # COMMAND
    echo "--filter=delay memory size=$size delay-$1=600"
}

hangs "$(slow read) --filter=noextents" "memory $size" INT
hangs "$(slow extents)" "memory $size" TERM
hangs "--filter=noextents pattern $size" "$(slow write)" INT
hangs "memory $size" "$(slow zero)" HUP
hangs "$(slow open)" "memory $size" INT

# Nobody answers at all.
serve_nbdkit dst memory $size
server src socat UNIX-LISTEN:src,fork PIPE
stop dst
server dst socat UNIX-LISTEN:dst,fork EXEC:"sleep 600"
interrupted INT
