#!/bin/bash
# The top directory holds what it holds; a new entry is a decision, made here.
set -u
. tests/lint/lib.bash

allowed=' src nbd-mirror tests examples Makefile README.md CHANGELOG build '
for f in *; do
    [[ $allowed == *" $f "* ]] || bad "$f: not one of$allowed"
done
exit "$found"
