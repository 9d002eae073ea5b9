# shellcheck shell=bash
# state.sh - write down what both hosts look like, as text files that can be compared
#
# DIR/meta                "name=.. src=.. state=.." (of the domain on src), "at_ns=.."
# DIR/inactive.xml        the domain's inactive XML on src (empty: not defined)
# DIR/disks.HOST          "DEV FORMAT FILE" of the domain there
# DIR/domains.HOST        "NAME STATE PERSISTENT UUID SHA256-OF-INACTIVE-XML" of every domain
# DIR/files.HOST          "TYPE PATH" of all that could be left behind
# DIR/sums.HOST           "SHA256 MODE OWNER PATH" of images that no running domain uses
# DIR/procs.HOST          names of processes that a move could leave behind
# DIR/block.HOST          what was done to the domain's QEMU: bitmaps, exports, throttles, jobs
# DIR/kept.HOST           "ID LAST-STEP PATH..." of moves with a journal: their images there
# DIR/events, console.HOST  copies

# What a move could leave behind runs under one of these names.
LITTER_PROCS='snmigrate|nbd-mirror|qemu-nbd|qemu-img|nbdcopy|nbdkit|ssh|sshd|socat'

state_domains() {
    local host=$1 name info
    virsh_on "$host" list --all --name | while read -r name; do
        [ -n "$name" ] || continue
        info=$(virsh_on "$host" dominfo "$name" 2> /dev/null) || continue
        echo "$name $(awk -F': *' '
            /^State/ { gsub(" ", "-", $2); state = $2 }
            /^Persistent/ { persistent = $2 }
            /^UUID/ { uuid = $2 }
            END { print state, persistent, uuid }' <<< "$info")" \
            "$(virsh_on "$host" dumpxml --inactive "$name" 2> /dev/null | sha256sum | cut -c 1-64)"
    done | sort
}

state_files() {
    host_exec "$1" sh -c '
        find /var/lib/images /var/lib/snmigrate /run/snmigrate -mindepth 1 \
            -printf "%y %p\n" 2> /dev/null
        find /run /var/lib/libvirt /var/log/libvirt /etc/libvirt /dev/shm -xdev \
            -name "*snm*" -not -path "/run/snmigrate*" -printf "%y %p\n" 2> /dev/null
        find /tmp /var/tmp -maxdepth 1 -name "*snmigrate*" -printf "%y %p\n" 2> /dev/null
    ' | sort -k 2 || true
}

state_kept() {
    host_exec "$1" sh -c 'for j in /var/lib/snmigrate/*/journal; do
        [ ! -e "$j" ] || { echo "@$j"; cat "$j"; }
    done' | awk -F/ '/^@/ { file = $5; next } { print file "\t" $0 }' |
        jq -Rrs 'split("\n") | map(select(. != "") | split("\t") | { id: .[0], e: (.[1] | fromjson? // {}) })
            | group_by(.id)[] | "\(.[0].id) \(.[-1].e.step // "torn") "
            + ([.[].e | select(.role == "dst") | .disks[].path] | join(" "))' || true
}

# images of running domains change by themselves
state_sums() {
    local host=$1 name busy=
    for name in $(virsh_on "$host" list --name --state-running --state-paused); do
        busy+=$(virsh_on "$host" domblklist "$name" | awk '{ print $2 }')$'\n'
    done
    find "$LAB_DIR/$host/images" -type f -printf '%m %u %p\n' | sort -k 3 |
        while read -r mode owner file; do
            path=/var/lib/images/${file#"$LAB_DIR/$host/images/"}
            ! grep -qxF "$path" <<< "$busy" || continue
            echo "$(sha256sum < "$file" | cut -c 1-64) $mode $owner $path"
        done
}

# The listening sshd, and sessions of others than the move, are in the list before as well.
state_procs() {
    host_exec "$1" ps -e -o stat=,comm= | awk '$1 !~ /^Z/ { print $2 }' |
        grep -xE "$LITTER_PROCS" | sort || true
}

qmp() { virsh_on "$1" qemu-monitor-command "$2" "{\"execute\":\"$3\"}" 2> /dev/null; }

# Only what differs from "nothing was done": so an untouched QEMU gives no line.
state_block() {
    local host=$1 name=$2
    [ "$(virsh_on "$host" domstate "$name" 2> /dev/null)" != 'shut off' ] || return 0
    qmp "$host" "$name" query-block | jq -r '.return[]? | .qdev as $q | .inserted // {} |
        (.["dirty-bitmaps"][]? | "bitmap \($q) \(.name)"),
        (select(((.bps // 0) + (.bps_wr // 0) + (.iops_wr // 0) + (.iops // 0)) > 0) |
            "throttle \($q) \(.bps) \(.bps_wr) \(.iops) \(.iops_wr)")' || true
    qmp "$host" "$name" query-block-exports | jq -r '.return[]? | "export \(.id)"' || true
    qmp "$host" "$name" query-block-jobs | jq -r '.return[]? | "job \(.device)"' || true
    virsh_on "$host" domjobinfo "$name" 2> /dev/null | awk '/^Job type:/ && $3 != "None" {
        print "domjob", $3 }' || true
}

state_meta() {
    local name=$1 src=$2
    echo "name=$name"
    echo "src=$src"
    echo "dst=$(other_host "$src")"
    echo "state='$(virsh_on "$src" domstate "$name" 2> /dev/null)'"
    echo "at_ns=$(now_ms)000000"
}

state_write() {
    local name=$1 dir=$2 src=$3 host
    mkdir -p "$dir"
    state_meta "$name" "$src" > "$dir/meta"
    virsh_on "$src" dumpxml --inactive --security-info "$name" > "$dir/inactive.xml" \
        2> /dev/null || true
    for host in a b; do
        cp "$(events_file "$host")" "$dir/events.$host" 2> /dev/null || : > "$dir/events.$host"
        cmd_console "$host" "$name" > "$dir/console.$host"
        VM_HOST=$host vm_disks "$name" > "$dir/disks.$host" 2> /dev/null || true
        state_domains "$host" > "$dir/domains.$host"
        state_procs "$host" > "$dir/procs.$host"
        state_files "$host" > "$dir/files.$host"
        state_sums "$host" > "$dir/sums.$host"
        state_block "$host" "$name" > "$dir/block.$host"
        state_kept "$host" > "$dir/kept.$host"
    done
    sort -n "$dir/events.a" "$dir/events.b" > "$dir/events"
}

cmd_snapshot_state() {
    local src=a
    [ $# -eq 2 ] || { [ $# -eq 4 ] && [ "$3" = --src ]; } ||
        die_usage "snapshot-state NAME DIR [--src a|b]"
    [ $# -eq 2 ] || src=$4
    check_host "$src"
    need_up
    [ ! -e "$2/meta" ] || die "$2 holds a state already"
    state_write "$1" "$2" "$src"
}
