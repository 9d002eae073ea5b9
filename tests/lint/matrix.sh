#!/bin/bash
# tests/fault/MATRIX.md: each cell of its promise has a test, and each test that it names is
# there.
set -u
. tests/lint/lib.bash

matrix=tests/fault/MATRIX.md
[ -e "$matrix" ] || skip "no $matrix"

# section NAME: the rows of the table below "## NAME", without its head
section() {
    awk -v name="## $1" '
        /^## / { on = $0 == name; rows = 0 }
        on && /^\|/ && ++rows > 2 { print }' "$matrix"
}

# fields ROW: what is between its bars, a line each
fields() {
    sed -E 's/^\| *//; s/ *\|$//; s/ *\| */\n/g' <<<"$1"
}

# "FAULT|PHASE" of every cell of the promise that is not empty; P2 and P3 share a column.
phases=(P0 P1 "P2 P3" P4 P5 P6 P7 P8)
promised=$(section "The promise" | while IFS= read -r row; do
    mapfile -t cell < <(fields "$row")
    for i in "${!phases[@]}"; do
        [ -n "${cell[i + 1]:-}" ] || continue
        for phase in ${phases[i]}; do echo "${cell[0]}|$phase"; done
    done
done | sort)
[ -n "$promised" ] || bad "$matrix: no promise"

# The same of the tests' table, whose second column may name several phases.
tested=$(section "The tests" | while IFS= read -r row; do
    mapfile -t cell < <(fields "$row")
    for phase in ${cell[1]}; do echo "${cell[0]}|$phase"; done
done | sort)
while read -r cell; do bad "$matrix: not tested: ${cell/|/ in }"; done < <(
    comm -23 <(uniq <<<"$promised") <(uniq <<<"$tested"))
while read -r cell; do bad "$matrix: not promised: ${cell/|/ in }"; done < <(
    comm -13 <(uniq <<<"$promised") <(uniq <<<"$tested"))

# there TEST: "SCRIPT: CELL", "unit/NAME: FUNCTION", or a file of tests/ without .sh, .c
cells=$(tests/fault/run -l)
there() {
    local file=${1%%: *} name=${1#*: }
    case $1 in
    unit/*": "*) grep -qsw "$name" "tests/unit/test_${file#unit/}.c" ;;
    unit/*) [ -e "tests/unit/test_${1#unit/}.c" ] ;;
    fuzz/*) [ -e "tests/fuzz/fuzz_${1#fuzz/}.c" ] ;;
    */*) [ -e "tests/$1.sh" ] ;;
    *) grep -qxF "$1" <<<"$cells" ;;
    esac
}

# Tests stand in backquotes, in the last column; a row without one says why ("none: ...").
named=0
while IFS= read -r row; do
    last=$(fields "$row" | tail -n 1)
    mapfile -t tests < <(grep -oE '`[^`]+`' <<<"$last" | tr -d '`')
    [ ${#tests[@]} -gt 0 ] || [[ $last == none:* ]] || bad "$matrix: no test: $row"
    for test in "${tests[@]}"; do
        named=$((named + 1))
        there "$test" || bad "$matrix: no such test: $test"
    done
done < <(section "The tests"; section "Scenarios of libvirt and QEMU")
echo "$(uniq <<<"$promised" | wc -l) cells, $named tests named, $(wc -l <<<"$cells") cells in scripts"
exit "$found"
