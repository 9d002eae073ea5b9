#!/bin/bash
# How long functions are: none over 100 lines, tables between clang-format off and on not
# counted.  Relies on the layout: "{" and "}" of a function stand alone at the margin.
set -u
. tests/lint/lib.bash

most=100
list=$(sources tests | grep '\.c$' | while read -r file; do
    awk -v file="$file" '
        /^\{$/ { name = last; at = FNR; lines = 0; table = 0; in_it = 1; next }
        /^\}$/ && in_it { print lines, file ":" at, name; in_it = 0 }
        in_it && /clang-format off/ { table = 1 }
        in_it && !table { lines++ }
        in_it && /clang-format on/ { table = 0 }
        /^[a-zA-Z_].*\(/ { last = $0; sub(/\(.*/, "", last); sub(/.*[ *]/, "", last) }
    ' "$file"
done | sort -rn)
[ -n "$list" ] || skip "no functions yet"

n=$(wc -l <<<"$list")
echo "$n functions; median $(sed -n "$((n / 2 + 1))p" <<<"$list" | cut -d' ' -f1) lines," \
    "90% up to $(sed -n "$((n / 10 + 1))p" <<<"$list" | cut -d' ' -f1); the longest:"
head -n 10 <<<"$list"
while read -r lines where name; do
    [ "$lines" -le "$most" ] || bad "$where: $name has $lines lines, over $most"
done <<<"$list"
exit "$found"
