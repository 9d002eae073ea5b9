#!/bin/bash
# Every header compiles alone, and has a guard; the program's have that of their path.
set -u
. tests/lint/lib.bash

read -ra flags < <(flags)
check() {
    local h=$1 guard out

    guard=${h#src/}
    guard=SNM_$(echo "${guard#nbd-mirror/}" | tr 'a-z./-' 'A-Z___')
    case $h in nbd-mirror/*) guard=NBD_MIRROR_${guard#SNM_} ;; esac
    case $h in tests/* | examples/*) guard='[A-Z0-9_]+_H' ;; esac
    [ "$(grep -cE "^#(ifndef|define) $guard\$" "$h")" = 2 ] ||
        echo "$h:1: the guard is not $guard"
    # The declaration, because ISO C wants one and a header may have only macros.
    out=$(printf '#include "%s"\nextern int headers_lint;\n' "$h" |
        "${CC:-cc}" "${flags[@]}" -O0 -U_FORTIFY_SOURCE -fsyntax-only -x c - 2>&1) ||
        echo "$out"
}
mapfile -t headers < <(sources tests | grep '\.h$')

# As many at once as there are CPUs.
out=$(for h in "${headers[@]}"; do
    check "$h" &
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
done; wait)
[ -z "$out" ] || bad "$out"
exit "$found"
