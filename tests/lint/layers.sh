#!/bin/bash
# Includes go one way:
#   cli -> migrate -> { tunnel, virt, nbd-mirror } -> base
#   cli -> agent   -> { tunnel, virt, nbd-mirror } -> base
set -u
. tests/lint/lib.bash

declare -A may=(
    [base]="base"
    [nbd-mirror]="nbd-mirror base"
    [tunnel]="tunnel base"
    [virt]="virt base"
    [agent]="agent tunnel virt nbd-mirror base"
    [migrate]="migrate tunnel virt nbd-mirror base"
    [cli]="cli migrate agent tunnel virt nbd-mirror base"
)
# Libraries that belong to one folder.
declare -A owner=([libvirt]=virt [libxml]=virt [nghttp2]=tunnel [zstd.h]=tunnel)

while IFS=: read -r file nr line; do
    layer=${file#src/} layer=${layer%%/*}
    name=${line#*[\"<]} name=${name%%[\">]*}
    top=${name%%/*}
    if [ -z "${may[$layer]:-}" ]; then
        bad "$file:$nr: folder $layer is in no layer"
    elif [[ $line == *\<* ]]; then
        [ "${owner[$top]:-$layer}" = "$layer" ] ||
            bad "$file:$nr: <$name> belongs to ${owner[$top]}/"
    elif [ "$top" = "$name" ]; then
        bad "$file:$nr: \"$name\" is written without its folder"
    elif [[ " ${may[$layer]} " != *" $top "* ]]; then
        bad "$file:$nr: $layer/ may not include $name"
    fi
done < <(sources | xargs -r grep -nHE '^[[:blank:]]*#[[:blank:]]*include')
exit "$found"
