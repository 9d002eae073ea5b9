# shellcheck shell=bash
# events.sh - who ran when: the recorders (events.c) and what follows from their lines

events_file() { echo "$LAB_DIR/$1/events"; }

events_recorder() {
    host_exec "$1" setsid -f "$LAB_DIR/events" "$1" < /dev/null >> "$(events_file "$1")" \
        2> /dev/null
}

events_connected() { grep -qs ' - CONNECTED ' "$(events_file "$1")"; }

events_stop() {
    local host
    for host in a b; do host_exec "$host" pkill -x events || true; done
}

events_start() {
    local host
    events_stop
    for host in a b; do
        : > "$(events_file "$host")"
        events_recorder "$host"
    done
    for host in a b; do
        wait_until 10 events_connected "$host" || die "no events from host $host"
    done
}

# events_rejoin HOST: record again after all of the host's processes died
events_rejoin() {
    [ ! -e "$(events_file "$1")" ] || events_recorder "$1"
}

# events_note HOST EVENT: a line of our own, such as REBOOT
events_note() {
    [ ! -e "$(events_file "$1")" ] ||
        echo "$(now_ms)000000 $1 - $2 -" >> "$(events_file "$1")"
}

events_show() { sort -n "$(events_file a)" "$(events_file b)"; }

cmd_events() {
    case ${1:-} in
        start) need_up; events_start ;;
        stop) need_up; events_stop ;;
        show) events_show | grep -v ' QMP_[^SR]' ;;
        raw) events_show ;;
        *) die_usage "events start|stop|show|raw" ;;
    esac
}

# pauses NAME: one line per pause, oldest first: MS FROM_HOST TO_HOST START_NS END_NS
# QEMU's own STOP and RESUME where they were heard, else libvirt's events.
pauses() {
    events_show | awk -v name="$1" '
        $3 != name { next }
        $4 == "QMP_STOP" || $4 == "SUSPENDED" {
            if (!paused) { paused = 1; from = $2; t = $1 }
            next
        }
        $4 == "QMP_RESUME" || $4 == "RESUMED" {
            if (paused) printf "%d %s %s %s %s\n", ($1 - t) / 1000000, from, $2, t, $1
            paused = 0
        }'
}

cmd_pause_of() {
    [ $# -ge 1 ] || die_usage "pause-of NAME [--all|--max]"
    case ${2:-} in
        '') pauses "$1" | tail -n 1 | cut -d' ' -f1 ;;
        --all) pauses "$1" ;;
        --max) pauses "$1" | cut -d' ' -f1 | sort -n | tail -n 1 ;;
        *) die_usage "pause-of NAME [--all|--max]" ;;
    esac
}

cmd_where() {
    local host runs=
    [ $# -eq 1 ] || die_usage "where NAME"
    need_up
    for host in a b; do
        [ "$(virsh_on "$host" domstate "$1" 2> /dev/null)" != running ] || runs+=$host
    done
    case $runs in
        ab) echo both ;;
        '') echo none ;;
        *) echo "$runs" ;;
    esac
}
