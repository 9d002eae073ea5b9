#!/bin/bash
# --json: an object per line, the result last; every field is in the manual page.
# timeout: 60
set -euo pipefail

command -v jq > /dev/null || { echo "no jq here"; exit 77; }
fake=$SNM_BUILD/tools/snmigrate-fake
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export FAKE_MS=3000 FAKE_UNDO_MS=10 LC_ALL=C.UTF-8

failed() {
    echo "FAILED: $*"
    tail -v -n 3 "$tmp/out" "$tmp/err"
    exit 1
}

# run WANTED-STATUS ARGUMENT...: into $tmp/out and $tmp/err
run() {
    local wanted=$1 status=0
    shift
    "$fake" --json "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || status=$?
    [ "$status" = "$wanted" ] || failed "status $status, not $wanted: $*"
}

# of the last object
result() { tail -n 1 "$tmp/out" | jq -e "$1" > /dev/null || failed "result: not $1"; }

# Every line is an object, the result is the last, progress comes in the order of phases.
run 0 web01 root@hostb
jq -es 'all(type == "object" and has("type"))' "$tmp/out" > /dev/null || failed "not objects"
jq -es 'map(.type) | .[-1] == "result" and (.[:-1] | index("result") | not)' "$tmp/out" \
    > /dev/null || failed "the result is not the last"
jq -es '["connect", "preflight", "prepare", "bulk", "rounds", "memory", "switch", "commit",
    "finish"] as $order | map(select(.type == "progress") | .phase as $p | $order | index($p)) |
    length > 3 and . == sort and all(. != null)' "$tmp/out" > /dev/null || failed "phases"
[ ! -s "$tmp/err" ] || failed "something on stderr"

# The types of all fields, and that there are no others.
types='with_entries(.value |= type)'
jq -es "map(select(.type == \"progress\" and .phase == \"memory\"))[0] | $types == {
    type: \"string\", phase: \"string\", domain: \"string\", destination: \"string\",
    elapsed_ms: \"number\", round: \"number\", disks: \"array\", ram: \"object\",
    sent: \"number\", sent_rate: \"number\", ratio: \"number\", rtt_us: \"number\",
    predicted_pause_ms: \"number\", budget_ms: \"number\", eta_ms: \"number\",
    rate_limit: \"number\", guest_write_us: \"null\", held: \"boolean\",
    trend: \"string\", decision: \"string\", why: \"string\", cpus_held: \"number\" }" "$tmp/out" > /dev/null || failed "progress"
for gauge in .disks[0] .ram; do
    jq -es "map(select(.type == \"progress\" and .phase == \"memory\"))[0] | $gauge | $types == {
        name: \"string\", size: \"number\", total: \"number\", done: \"number\",
        dirty: \"number\", hot: \"number\", rate: \"number\", dirty_rate: \"number\", limit: \"null\" }" "$tmp/out" \
        > /dev/null || failed "$gauge"
done
jq -es "map(select(.type == \"finding\"))[0] | $types == { type: \"string\",
    level: \"string\", code: \"string\", what: \"string\", next: \"string\" }" "$tmp/out" \
    > /dev/null || failed "finding"
result "$types"' == { type: "string", status: "number", check: "boolean",
    guest_location: "string", guest_state: "string", domain: "string", uuid: "string",
    source: "string", destination: "string", id: "string", pause_ms: "number",
    budget_ms: "number", elapsed_ms: "number", rounds: "number", retries: "number", redials: "number", disk_bytes: "number",
    pause: "object", forecast: "object", forecast_at_ms: "number", arrival: "object",
    ram_bytes: "number", sent: "number", received: "number", kept: "null", verified: "object", disks: "array", left: "array",
    notes: "array", error: "null" }'
result '.disks[0] | with_entries(.value |= type) == { target: "string",
    source_path: "string", destination_path: "string", format: "string", size: "number",
    verified: "null" }'

# Every field is in the manual page.
page=$(sed -n '/^\.Sh JSON/,/^\.Sh ENV/p' src/cli/snmigrate.1 | grep '^\.\(It \)\?Cm')
for key in $(jq -r '.. | objects | keys[]' "$tmp/out" | sort -u); do
    grep -qw -- "$key" <<< "$page" || failed "$key is not in src/cli/snmigrate.1"
done

# Status and location agree, whatever happened.
export FAKE_MS=60
for pair in 0:destination 3:source 4:source 5:nowhere 6:destination 7:unknown 8:source; do
    FAKE_STATUS=${pair%:*} run "${pair%:*}" web01 hostb
    result ".status == ${pair%:*} and .guest_location == \"${pair#*:}\""
done
FAKE_STATUS=4 run 4 web01 hostb
result '.error | .kind == "sys" and (.what | contains("No space left")) and .next != ""'
FAKE_STATUS=6 run 6 web01 hostb
result '.left | length == 1'

# Blockers, one finding each, before the result.
FAKE_STATUS=3 run 3 --check web01 hostb
jq -es 'map(select(.type == "finding" and .level == "blocker")) | length == 2' "$tmp/out" \
    > /dev/null || failed "blockers"
result '.check and .status == 3'

# -q: no progress.
run 0 -q web01 hostb
jq -es 'all(.type != "progress")' "$tmp/out" > /dev/null || failed "-q: progress"

# Names from elsewhere are valid UTF-8 without control characters.
FAKE_NAME=$'a\e[2J\xff"\\' run 0 web01 hostb
result '.domain == "a\\x1b[2J\\xff\"\\"'
iconv -f UTF-8 -t UTF-8 "$tmp/out" > /dev/null || failed "not UTF-8"

# A reader that goes away ends neither the move nor changes its status.
export FAKE_MS=600
status=0
{ "$fake" --json web01 hostb 2> "$tmp/err" || echo $? > "$tmp/status"; } | head -n 1 > "$tmp/out"
[ ! -e "$tmp/status" ] || failed "status $(< "$tmp/status") without a reader"
grep -q "could not be written" "$tmp/err" || failed "nothing said about the reader"
echo "ok"
