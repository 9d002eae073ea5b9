#!/bin/bash
# SRC and DST may be files and commands: their servers are started, believed when they fail,
# and gone afterwards.  And the options that say how to copy: --rate, --no-zero, --dry-run.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit qemu-nbd qemu-img jq openssl

mkdir tmp
export TMPDIR=$PWD/tmp # the private directories of sockets go here
size=$((20 << 20))
scatter a.raw $size 31
qemu-img convert -q -f raw -O qcow2 a.raw a.qcow2

# No server that was handed a socket, and no socket.
left() {
    local p

    [ -z "$(ls tmp)" ] || die "left: $(ls tmp)"
    for p in $(grep -lzx "TMPDIR=$TMPDIR" /proc/[0-9]*/environ 2>/dev/null); do
        ! grep -qzx LISTEN_FDS=1 "$p" || die "left: $(tr '\0' ' ' <"${p%environ}cmdline")"
    done
}

# --- files ---

# Never guessed, never made by accident.
mirror_fails 2 "src: a.raw is no socket" a.raw b.raw
grep -q -- '--src-format=raw or qcow2' err.txt || die "no next step"
mirror_fails 2 "dst: there is no file b.raw" --src-format=raw --dst-format=raw a.raw b.raw
grep -q -- '--create makes it' err.txt || die "no next step"
mirror_fails 2 "src: there is no file c.raw" --src-format=raw --dst-format=raw c.raw b.raw
mirror_fails 1 "dst: cannot connect: cannot connect to nowhere" --src-format=raw a.raw nowhere
mirror_fails 2 "src: tmp is no file" --src-format=raw tmp b.raw
[ ! -e b.raw ] || die "b.raw was made"

for from in raw qcow2; do
    for to in raw qcow2; do
        rm -f b.img
        mirror -q --verify --src-format=$from --dst-format=$to --create a.$from b.img
        same $from a.$from $to b.img
        mirror_fails 2 "dst: b.img exists" --src-format=$from --dst-format=$to --create \
            a.$from b.img
        # Over what is there, and with absolute names.
        qemu-io -f $to -c "write -q -P 0xa5 0 $size" b.img
        mirror -q --src-format=$from --dst-format=$to "$PWD/a.$from" "$PWD/b.img"
        same $from a.$from $to b.img
        left
    done
done
cp a.raw 'nbd:odd,name'
mirror -q --src-format=raw --dst-format=raw 'nbd:odd,name' b.img 2>err.txt &&
    die "b.img is a qcow2 of another size"
truncate -s $size c.raw
mirror -q --src-format=raw --dst-format=raw 'nbd:odd,name' c.raw
cmp a.raw c.raw

# What cannot be opened: the words of qemu-nbd, and the exit status.  A file that was made
# goes again.
mirror_fails 1 "src: qemu-nbd ended with status 1" --src-format=qcow2 --dst-format=raw --create a.raw d.raw
grep -q 'not in qcow2 format' err.txt || die "$(cat err.txt)"
[ ! -e d.raw ] || die "d.raw was made"
serve_nbdkit src -r --filter=error file a.raw error-pread=EIO error-pread-rate=100%
mirror_fails 1 "src: read of" --dst-format=qcow2 --create src d.qcow2
[ ! -e d.qcow2 ] || die "half a copy is left"
stop src
mirror_fails 1 "dst: qemu-img" --src-format=raw --dst-format=nonsense --create a.raw d.raw
[ ! -e d.raw ] || die "d.raw was made"
left

# --- commands ---

rm -f b.raw
truncate -s $size b.raw
mirror -q --verify [ qemu-nbd -r -f qcow2 a.qcow2 ] [ qemu-nbd -f raw b.raw ]
cmp a.raw b.raw
noise 32 $size >b.raw
mirror -q -C 3 -- [ nbdkit -r file a.raw ] [ qemu-nbd -t -e 3 -f raw b.raw ]
cmp a.raw b.raw
noise 33 4096 | put b.raw 5000000
mirror -q --repair --no-copy [ qemu-nbd -t -r -f raw a.raw ] [ qemu-nbd -t -f raw b.raw ]
cmp a.raw b.raw
mirror --json [ nbdkit -r pattern $size ] [ nbdkit memory $size ] -C 2 >result.json
[ "$(jq .connections result.json)" = 2 ] || die "$(cat result.json)"
serve_nbdkit dst file b.raw
mirror -q [ nbdkit -r --filter=exportname file a.raw exportname=in exportname-strict=true ] \
    dst --src-export=in
stop dst

mirror_fails 1 "src: no-such-program ended with status 127" [ no-such-program -x ] b.raw \
    --dst-format=raw
mirror_fails 1 "dst: qemu-nbd ended with status 1" --src-format=raw a.raw \
    [ qemu-nbd -f qcow2 a.raw ]
mirror_fails 1 "src: cannot connect: true has ended" [ true ] [ nbdkit memory 20M ]
left

# The status of a server that is not 0 is a failure, even after the copy.
cat >liar <<'EOF'
#!/bin/bash
(LISTEN_PID=$BASHPID exec nbdkit -f memory 20M) & # the socket is for that pid
trap 'kill $!; wait; exit 7' TERM
wait
EOF
chmod +x liar
mirror_fails 1 "dst: ./liar ended with status 7" --src-format=raw a.raw [ ./liar ]
left

# --- an end in the middle ---

# interrupted SIGNAL STATUS ARGUMENTS...
interrupted() {
    local signal=$1 wanted=$2 status=0 pid

    shift 2
    env --default-signal=INT "$NBD_MIRROR" "$@" >out.txt 2>err.txt &
    pid=$!
    wait_for 20 copying
    kill -"$signal" $pid
    wait $pid || status=$?
    [ $status -eq "$wanted" ] || die "status $status: $(cat err.txt)"
}
copying() { # more has been written than qemu-img does
    [ -e d.raw ] && [ "$(allocated d.raw)" -gt 300000 ]
}
for signal in INT TERM HUP; do
    interrupted $signal 130 --rate=1M --src-format=raw --dst-format=raw --create a.raw d.raw
    [ ! -e d.raw ] || die "half a copy is left"
    left
done
interrupted KILL 137 --rate=1M --src-format=raw --dst-format=raw --create a.raw d.raw
gone() { # the servers end by themselves; of the rest nobody was left to tidy
    ! (rm -rf tmp/* && left) 2>&1 | grep -q left
}
wait_for 10 gone
rm -rf tmp/* d.raw

# --- how to copy ---

# A limit: 20 MiB at 10 MiB/s take at least a second, zeroes none.
rm -f b.raw
truncate -s $size b.raw
noise 34 $size >full.raw
begun=$(date +%s%N)
mirror -q --rate=10M --src-format=raw --dst-format=raw full.raw b.raw
took=$((($(date +%s%N) - begun) / 1000000))
[ $took -ge 1700 ] || die "$took ms: that is faster than the limit"
cmp full.raw b.raw

# No holes, and no zeroing command: a server that cannot zero is not asked to.
rm -f b.raw
truncate -s $size b.raw
serve_nbdkit src -r file a.raw
serve_nbdkit dst --filter=error file b.raw error-zero=EIO error-zero-rate=100%
mirror_fails 1 "dst: write zeroes of" src dst
stop src # nbdkit 1.32 may die of a client that leaves with reads in flight
serve_nbdkit src -r file a.raw
mirror --json --no-zero src dst >result.json
[ "$(jq '.data' result.json)" = $size ] || die "$(cat result.json)"
[ "$(allocated b.raw)" -ge $size ] || die "there are holes in b.raw"
cmp a.raw b.raw
stop dst
stop src

# --dry-run: 3 MiB of data, 2 MiB of zeroes, the rest holes; nothing is changed or made.
qemu-img create -q -f qcow2 -o preallocation=off s.qcow2 20M
qemu-io -f qcow2 -c "write -q -P 1 1M 3M" -c "write -q -z 8M 2M" s.qcow2
serve_qemu src --read-only --format=qcow2 --allocation-depth s.qcow2
noise 35 $size >b.raw
cp b.raw before.raw
serve_nbdkit dst --filter=error file b.raw error-pwrite=EIO error-zero=EIO error-rate=100%
mirror --dry-run --json src dst >result.json
jq -e '.result == "ok" and .size == 20971520 and .data == 3145728 and
    .zero + .holes == 17825792 and .clean == 0 and .extents' result.json >/dev/null ||
    die "$(cat result.json)"
mirror -n src dst >out.txt
grep -q '^20.0 MiB would be copied: 3.0 MiB data, .* zero, .* holes$' out.txt ||
    die "$(cat out.txt)"
cmp b.raw before.raw
mirror -q -n --src-format=qcow2 --dst-format=raw --create s.qcow2 e.raw
[ ! -e e.raw ] || die "--dry-run made a file"
cp s.qcow2 t.qcow2
mirror -q -n --src-format=qcow2 --dst-format=qcow2 s.qcow2 t.qcow2
cmp s.qcow2 t.qcow2 || die "--dry-run changed a file"
left
