# What the lints share.  They run in the top directory, print file:line: what, and end 1
# when there was something to print.
# shellcheck shell=bash

found=0

# Say one violation.
bad() {
    printf '%s\n' "$*"
    found=1
}

# A reason, and a test that could not be made.
skip() {
    echo "$*"
    exit 77
}

requires() {
    command -v "$1" >/dev/null || skip "no $1 here"
}

# The C files of the program and, with "tests", also those of its tests.
sources() {
    local dirs=(src nbd-mirror)

    [ "${1:-}" != tests ] || dirs+=(tests examples)
    find "${dirs[@]}" -name '*.[ch]' 2>/dev/null | sort
}

# A C file without comments and with empty string literals, line for line.
strip() {
    perl -0777 -pe '
        s{("(?:[^"\\\n]|\\.)*"|\x27(?:[^\x27\\\n]|\\.)*\x27)|/\*.*?\*/|//[^\n]*}
         {defined $1 ? substr($1, 0, 1) x 2 : "\n" x ($& =~ tr/\n//)}gse' "$1"
}

# What the sources are compiled with.
flags() {
    env -u MAKEFLAGS -u MAKELEVEL make -s --no-print-directory flags DEV=1
}
