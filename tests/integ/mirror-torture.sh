#!/bin/bash
# Small disks made from 64 seeds, with servers and options as the seeds say.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit qemu-nbd openssl

pick() { # one of the arguments
    local all=("$@")

    echo "${all[RANDOM % $#]}"
}

serve_any() { # NAME FILE: some server
    local name=$1 file=$2 before=() after=() min

    if [ $((RANDOM % 3)) -eq 0 ]; then
        serve_qemu "$name" --format=raw --discard=unmap "$file"
        return
    fi
    with() { # FILTER PARAMETERS...: sometimes
        [ $((RANDOM % 4)) -eq 0 ] || return 0
        before+=("--filter=$1")
        after+=("${@:2}")
    }
    with noextents
    with multi-conn multi-conn-mode=disable
    with nozero "zeromode=$(pick none emulate)"
    with error error-zero=EINVAL error-zero-rate=30%
    min=$(pick 512 4096 65536)
    with blocksize-policy "blocksize-minimum=$min" blocksize-preferred=65536 \
        "blocksize-maximum=$(pick 65536 1048576)" blocksize-error-policy=error
    [ $((RANDOM % 5)) -ne 0 ] || before+=(--no-sr)
    serve_nbdkit "$name" "${before[@]}" file "$file" "${after[@]}"
}

for seed in {1..64}; do
    RANDOM=$seed
    size=$(((RANDOM % 120 + 1) * 65536))
    scatter a.raw $size "$seed"
    RANDOM=$seed
    options=(-C "$(pick 1 2 4 16)" -R "$(pick 1 3 16 64)"
        "--request-size=$(pick 64K 128K 1M 4M)")
    rm -f b.raw
    if [ $((RANDOM % 2)) -eq 0 ]; then
        truncate -s $size b.raw
        options+=(--dst-zero)
    else
        noise $((seed + 1000)) $size >b.raw
    fi
    serve_any src a.raw
    serve_any dst b.raw
    mirror -q "${options[@]}" src dst || die "seed $seed: ${options[*]}"
    stop src
    stop dst
    cmp a.raw b.raw || die "seed $seed: ${options[*]}"
done
