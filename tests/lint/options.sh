#!/bin/bash
# The options of "PROGRAM --help", of its manual page and those that README.md and
# CHANGELOG speak of are the same.
set -u
. tests/lint/lib.bash

# Options of other programs that our documents may speak of.
foreign='--no-install-recommends'

# Every --word.
words() {
    grep -oE -- '(^|[^-[:alnum:]])--[a-z][a-z0-9-]*' | grep -oE -- '--[a-z0-9-]+' | sort -u
}

# Those that a line begins with: the list of options, not the talk about them.
listed() {
    grep -E '^ *-' | sed 's/^ *//; s/  .*//' | words
}

checked=0 built=0 wanted=$foreign
for page in src/cli/snmigrate.1 nbd-mirror/nbd-mirror.1; do
    name=$(basename "$page" .1) program=$SNM_BUILD/$(basename "$page" .1)
    if [ ! -x "$program" ]; then
        echo "$name: not built"
        continue
    fi
    help=$("$program" --help) || bad "$name --help: status $?"
    built=$((built + 1))
    wanted+=" $(words <<<"$help" | tr '\n' ' ')"
    if [ ! -e "$page" ]; then
        echo "$page: not there"
        continue
    fi
    requires mandoc
    mandoc -T lint -W warning "$page" >&2 || bad "$page: see what mandoc says"
    text=$(mandoc -T ascii -O width=300 "$page" | col -b)
    while read -r o; do bad "$page: $o is in --help only"; done < <(
        comm -23 <(listed <<<"$help") <(listed <<<"$text"))
    while read -r o; do bad "$page: $o is in the page only"; done < <(
        comm -13 <(listed <<<"$help") <(listed <<<"$text"))
    checked=1
done
[ "$checked" = 1 ] || skip "no program with a manual page yet"

[ "$built" = 2 ] || exit "$found" # what the other one has is not known
for doc in README.md CHANGELOG src/cli/snmigrate.1 nbd-mirror/nbd-mirror.1; do
    [ -e "$doc" ] || continue
    while read -r o; do
        [[ " $wanted " == *" $o "* ]] || bad "$doc: $o is no option"
    done < <(case $doc in *.1) mandoc -T ascii "$doc" | col -b ;; *) cat "$doc" ;; esac | words)
done
exit "$found"
