#!/bin/bash
# Shell scripts, found by their first line, as shellcheck sees them.
set -u
. tests/lint/lib.bash

requires shellcheck
mapfile -t files < <(find .ci tests examples -type f -print0 2>/dev/null |
    xargs -0 -r grep -lIE -m 1 '^#!/(usr/)?bin/(env )?(ba)?sh' | sort)
[ "${#files[@]}" -gt 0 ] || skip "no scripts"
# SC1091: files that are sourced by a path shellcheck cannot know; they are checked too.
# SC2317: functions that only a trap or another function's argument calls.
shellcheck -x -S warning -e SC1091,SC2317 "${files[@]}" || found=1
exit "$found"
