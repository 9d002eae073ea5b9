#!/usr/bin/env bash
# Move all running VMs of this host to another one, one after another.  All are checked
# before the first is moved; the first that does not arrive ends it.
#
#     drain-host.sh DESTINATION [OPTION OF SNMIGRATE...]
#     drain-host.sh root@hostb --disks-to /srv/vm --bandwidth 2Gbit
#
# Run again, it goes on with those that are still here.  Needs jq.  Exit status: 0 none is
# left here; 3 some cannot move, and nothing was done; 6 none is left here, but there is
# something to do by hand, listed; else that of the move that failed, as in snmigrate(1).
set -euo pipefail

if [ $# -lt 1 ]; then
    sed -n '2,/^set/s/^# \?//p' "$0" >&2
    exit 2
fi
destination=$1
shift

# Names may hold anything but newlines; -- protects those that begin with a dash.
mapfile -t domains < <(virsh list --name --state-running | sed '/^$/d')
if [ "${#domains[@]}" -eq 0 ]; then
    echo "No VM is running here."
    exit 0
fi

blocked=0
for domain in "${domains[@]}"; do
    snmigrate --check --quiet "$@" -- "$domain" "$destination" || blocked=1
done
if [ "$blocked" -ne 0 ]; then
    echo "Nothing was moved." >&2
    exit 3
fi

left=0
for domain in "${domains[@]}"; do
    status=0
    result=$(snmigrate --json --quiet "$@" -- "$domain" "$destination" | tail -n 1) || status=$?
    if [ "$(jq -r '.guest_location' <<< "${result:-null}")" != destination ]; then
        echo "$domain did not arrive at $destination; stopping here." >&2
        exit "$((status != 0 ? status : 1))"
    fi
    jq -r '"\(.domain): \(.guest_state) on \(.destination), paused for \(.pause_ms) ms, "
        + "\(.sent / 1048576 | floor) MiB sent in \(.elapsed_ms / 1000 | floor) s",
        (.left[] | "  left to do: \(.)")' <<< "$result"
    [ "$status" -ne 6 ] || left=6
done
exit "$left"
