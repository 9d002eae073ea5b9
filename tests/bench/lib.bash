# shellcheck shell=bash
# lib.bash - what the parts of the bench share:  . "$(dirname "$0")/lib.bash"
#
#   samples_begin PART        where the samples of this run go; says on what it runs
#   interleave RUNS METHOD... prints "RUN METHOD" lines, every other run backwards, so that
#                             what drifts on the machine meets all alike
#   sample JSON-OBJECT        one sample; it has .group, .method, .run, .ok
#   table GROUP METRIC...     medians, extremes and ratios of a group's samples.  METRIC is
#                             "KEY:LABEL:SCALE:DIGITS"; ratios are to the first method's
#   samples_end METHOD...     the status of the part
#   usr_tar BYTES             so much of this machine's /usr, files as every system has them
BENCH_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BENCH_BUILD=${SNM_BUILD:-$(cd "$BENCH_SRC/../.." && pwd)/build/release}
SAMPLES=

# The machine, and what was measured on it.
machine() {
    local commit
    commit=$(git -C "$BENCH_SRC" rev-parse --short HEAD 2> /dev/null) || commit=unknown
    git -C "$BENCH_SRC" diff --quiet HEAD 2> /dev/null || commit+=+changes
    jq -nc --arg part "$1" --arg date "$(date -u +%FT%TZ)" --arg commit "$commit" \
        --arg cpu "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" \
        --argjson cpus "$(nproc)" --arg kernel "$(uname -r)" \
        --arg qemu "$(qemu-system-x86_64 --version | sed -n '1s/.*version //p')" \
        --arg libvirt "$(libvirtd --version | sed 's/.* //')" \
        --arg load "$(cut -d' ' -f1-3 /proc/loadavg)" \
        '{type: "machine"} + $ARGS.named'
}

samples_begin() {
    mkdir -p "$BENCH_BUILD/bench"
    SAMPLES=$BENCH_BUILD/bench/$(date +%Y%m%d-%H%M%S)-$1.jsonl
    machine "$1" > "$SAMPLES"
    jq -r '"\(.part), \(.date), commit \(.commit); \(.cpus) x \(.cpu); Linux \(.kernel)," +
        " QEMU \(.qemu), libvirt \(.libvirt); load \(.load)"' "$SAMPLES"
}

interleave() {
    local runs=$1 run i
    shift
    for ((run = 1; run <= runs; run++)); do
        for ((i = 1; i <= $#; i++)); do
            if ((run % 2)); then echo "$run ${!i}"; else
                local j=$(($# + 1 - i))
                echo "$run ${!j}"
            fi
        done
    done
}

usr_tar() {
    { tar -C / -cf - usr/bin usr/lib usr/share 2> /dev/null || true; } | head -c "$1"
}

sample() { jq -c '{type: "sample"} + .' <<< "$1" >> "$SAMPLES"; }

table() {
    local group=$1
    shift
    echo
    echo "$group"
    # jq wants what is not an option last
    jq -rs --arg group "$group" -f "$BENCH_SRC/table.jq" "$SAMPLES" --args "$@" |
        column -t -s '|' -R 2,3,4,5,6,7,8,9,10,11,12 | sed 's/^/  /; s/ *$//'
}

# The part's last words; its status is 0 when each METHOD... had a good sample.
samples_end() {
    echo
    echo "samples: $SAMPLES"
    [ "$(jq -s 'map(select(.ok) | .method) | unique | length' "$SAMPLES")" -eq $# ]
}
