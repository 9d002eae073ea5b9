#!/usr/bin/env bash
# Move one VM, for a maintenance window: look first whether it can move; if it turns out
# that the guest writes too fast for a short pause, try once more with a longer one.
#
#     move-one-vm.sh DOMAIN DESTINATION [OPTION OF SNMIGRATE...]
#     move-one-vm.sh web01 root@hostb --disks-to /srv/vm
#
# PAUSE (300ms) and LONGER_PAUSE (2s) are the pauses to allow.  The exit status is that of
# snmigrate(1); the last line says where the guest is.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,/^set/s/^# \?//p' "$0" >&2
    exit 2
fi
domain=$1 destination=$2
shift 2
pause=${PAUSE:-300ms} longer_pause=${LONGER_PAUSE:-2s}

# Nothing is changed by this; all that is in the way is listed at once.
snmigrate --check --progress none "$@" -- "$domain" "$destination"

status=0
snmigrate "$@" --max-downtime "$pause" -- "$domain" "$destination" || status=$?
if [ "$status" -eq 8 ]; then
    echo "It does not converge with $pause; once more with $longer_pause."
    status=0
    snmigrate "$@" --max-downtime "$longer_pause" -- "$domain" "$destination" || status=$?
fi
exit "$status"
