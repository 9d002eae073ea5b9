# shellcheck shell=bash
# inv-disks.sh - I3 and I4: what "invariants" (whose variables these are) says of the disks
# shellcheck disable=SC2154

# A device is that of the machine.
image() {
    case $2 in
        /dev/*) echo "$2" ;;
        *) echo "$labdir/$1/images/${2#/var/lib/images/}" ;;
    esac
}

virtual_size() { qemu-img info -U --output=json "$1" | jq '.["virtual-size"]'; }

allocated() { echo $(($(stat -c %b "$1") * 512)); }

# console_written HOST: bytes that the guest wrote while its console was on HOST; each boot
# counts from 0
console_written() {
    awk '/^beat .* written=/ { sub(/.*written=/, ""); sub(/ .*/, "")
            if (n++) sum += $0 + 0 >= last ? $0 - last : $0
            last = $0 + 0 }
        END { printf "%d\n", sum }' "$DIR/after/console.$1"
}

# The disks of the destination, beside those of the source when these are still there.
check_I3_disk() {
    local dev=$1 sfmt=$2 sfile=$3 dfmt=$4 dfile=$5 s d slack
    s=$(image "$src" "$sfile")
    d=$(image "$dst" "$dfile")
    [ -e "$s" ] || { skip "I3 $dev: the source's image is gone"; return; }
    if [ "$(virtual_size "$s")" = "$(virtual_size "$d")" ]; then
        ok "I3 $dev: virtual size $(virtual_size "$d")"
    else
        fail "I3 $dev: virtual size $(virtual_size "$d"), was $(virtual_size "$s")"
    fi
    # 1 % and 4 MiB for metadata, and what the guest wrote since
    slack=$(($(allocated "$s") / 100 + (4 << 20)))
    [ -n "$COMPARE" ] || slack=$((slack + $(console_written "$dst")))
    if [ "$(allocated "$d")" -le $(($(allocated "$s") + slack)) ]; then
        ok "I3 $dev: $(allocated "$d") bytes allocated, source $(allocated "$s")"
    else
        fail "I3 $dev: $(allocated "$d") bytes allocated, source only $(allocated "$s")"
    fi
    check_I3_format "$dev" "$dfmt" "$d"
    [ -n "$COMPARE" ] || { skip "I3 $dev: not compared (the guest goes on writing)"; return; }
    if qemu-img compare -U -f "$sfmt" -F "$dfmt" "$s" "$d" > "$DIR/after/compare.$dev" 2>&1; then
        ok "I3 $dev: equal on both hosts"
    else
        fail "I3 $dev: differs"
        evidence < "$DIR/after/compare.$dev"
    fi
}

check_I3_format() {
    [ "$2" != raw ] || return 0
    if qemu-img check -U -f "$2" "$3" > "$DIR/after/check.$1" 2>&1; then
        ok "I3 $1: qemu-img check"
    else
        fail "I3 $1: qemu-img check"
        evidence < "$DIR/after/check.$1"
    fi
}

check_I3() {
    local dev fmt file line
    [ "$owner" = "$dst" ] || { skip "I3 it is not on the destination"; return 0; }
    while read -r dev fmt file; do
        line=$(awk -v dev="$dev" '$1 == dev { print $2, $3 }' "$DIR/after/disks.$dst")
        if [ -z "$line" ]; then
            fail "I3 $dev: the destination's domain has no such disk"
            continue
        fi
        # shellcheck disable=SC2086
        check_I3_disk "$dev" "$fmt" "$file" $line
    done < "$DIR/before/disks.$src"
}

check_I4_disk() {
    local dev=$1 format=$2 file out window=4096
    file=$(image "$owner" "$3")
    [ "$DISKS" != off ] || window=0
    out=$DIR/after/check-disk.$dev
    # shellcheck disable=SC2094
    if { if [ "$format" = raw ]; then cat "$file"; else
        qemu-img convert -U -f "$format" -O raw "$file" "$DIR/after/raw" &&
            cat "$DIR/after/raw" && rm "$DIR/after/raw"; fi; } |
        "$labdir/check-disk" --window $window "$dev" - "$DIR/after/console.$src" \
            "$DIR/after/console.$dst" > "$out" 2>&1; then
        ok "I4 $(tail -n 1 "$out")"
    else
        fail "I4 $dev: check-disk:"
        evidence < "$out"
    fi
}

check_I4() {
    local dev format file
    while read -r dev format file; do
        check_I4_disk "$dev" "$format" "$file"
    done < "$DIR/after/disks.$owner"
}

# Read the disks of a guest that stands still; afterwards it is as it was.
check_disks() {
    case $owner in a | b) ;; *) skip "I3 I4 nobody owns the guest"; return ;; esac
    if [ -z "$COLLECTED" ] || [ "$DISKS" = none ]; then
        skip "I3 I4 disks are not read"
        return
    fi
    case $DISKS in
        off) "$LAB" vm quiesce "$name" --host "$owner" ;;
        suspend) [ "$state" != running ] || "$LAB" run "$owner" virsh -q suspend "$name" > /dev/null ;;
    esac
    # the consoles again: acknowledged until it stood still
    "$LAB" console a "$name" > "$DIR/after/console.a"
    "$LAB" console b "$name" > "$DIR/after/console.b"
    check_I3
    check_I4
    [ "$DISKS" != suspend ] || [ "$state" != running ] ||
        "$LAB" run "$owner" virsh -q resume "$name" > /dev/null
}
