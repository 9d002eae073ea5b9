#!/bin/bash
# What "make format" would change.
set -u
. tests/lint/lib.bash

requires clang-format
mapfile -t files < <(sources tests)
while read -r n file; do
    bad "$file: $n places are laid out in another way, see \"make format\""
done < <(clang-format --dry-run "${files[@]}" 2>&1 |
    sed -n 's/:[0-9]*:[0-9]*: warning: .*//p' | sort | uniq -c)
out=$(grep -nHP '\t| +$' "${files[@]}")
[ -z "$out" ] || bad "tab, or blanks at the end:
$out"
exit "$found"
