#!/bin/bash
# The command line: what is refused, what is printed.
. "$(dirname "$0")/lib/mirror.bash"
requires nbdkit jq

mirror_fails 2 "SRC and DST are needed"
mirror_fails 2 "SRC and DST are needed" one
mirror_fails 2 "SRC and DST are needed, and no more: three" one two three
mirror_fails 2 "SRC and DST are needed, and no more: three" -- one two three
mirror_fails 2 "a command is written [ COMMAND ARGUMENTS ]" one [ two
mirror_fails 2 "a command is written [ COMMAND ARGUMENTS ]" [ ] two
mirror_fails 2 "--rate" --rate=fast one two
mirror_fails 2 "--dst-zero writes no zeroes, --no-zero all" -z --no-zero one two
mirror_fails 2 "--no-copy needs --verify or --repair" --no-copy one two
mirror_fails 2 "--no-copy leaves nothing for --bitmap" --no-copy --verify -B b one two
mirror_fails 2 "--dry-run copies nothing to compare" -n --verify one two
mirror_fails 2 "--create needs --dst-format" --create one two
mirror_fails 2 "the command knows the format" --src-format=raw [ one ] two
mirror_fails 2 "no such option" --nonsense one two
mirror_fails 2 "no such option" -Z one two
mirror_fails 2 "its value is missing" one two --bitmap
mirror_fails 2 "--connections: 0 is no number from 1 to 16" -C 0 one two
mirror_fails 2 "--connections: 17 is no number from 1 to 16" -C 17 one two
mirror_fails 2 "--requests: 1000 is no number" --requests=1000 one two
mirror_fails 2 "--request-size: 100000 is no power of two" --request-size=100000 one two
mirror_fails 2 "--request-size: 64M is no power of two from" --request-size=64M one two
mirror_fails 2 "--connections" -C nine one two

mirror --version | grep -qE '^nbd-mirror [0-9]+\.[0-9]+' || die "--version"
mirror --help >help.txt
grep -q '^  -C, --connections=N ' help.txt || die "--help"
mirror --help >/dev/full 2>/dev/null && die "a full stdout is no success"

head -c 3000000 /dev/urandom >a.raw
truncate -s 5000000 a.raw
truncate -s 5000000 b.raw
serve_nbdkit src -r file a.raw
serve_nbdkit dst file b.raw

mirror --json -C 4 --request-size=128K --destination-is-zero src dst >out.txt 2>err.txt
[ ! -s err.txt ] || die "$(cat err.txt)"
jq -e '.result == "ok" and .size == 5000000 and .data + .skipped == 5000000 and
       .zeroed == 0 and .requests > 20 and .connections == 4 and .seconds > 0' \
    out.txt >/dev/null || die "$(cat out.txt)"

mirror src dst >out.txt
grep -qE '^4.8 MiB copied in .*: .* data, .* zeroed, 0 B skipped$' out.txt ||
    die "$(cat out.txt)"
mirror -q --progress src dst >out.txt 2>err.txt
[ ! -s out.txt ] && [ ! -s err.txt ] || die "-q is not quiet"
mirror --progress src dst >out.txt 2>err.txt
grep -q '100 %  4.8 MiB of 4.8 MiB' err.txt || die "$(cat err.txt)"
mirror src dst >/dev/full 2>err.txt && die "a full stdout is no success"
mirror -v -q src dst 2>err.txt

# Exports by name.
stop src
stop dst
serve_nbdkit src -r --filter=exportname file a.raw exportname=in exportname-strict=true
serve_nbdkit dst --filter=exportname file b.raw exportname=out exportname-strict=true
mirror_fails 1 "src: NBD handshake" --export=out src dst
mirror -q --src-export=in --dst-export=out src dst
mirror -q -x out --src-export=in src dst
cmp a.raw b.raw
