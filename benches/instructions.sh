#!/usr/bin/env bash
# Counts the instructions of one call, by function, with valgrind's callgrind: they repeat (nearly) exactly, so they compare
# versions where times cannot. What spins is left out: the functions below run once a call.
#
#   benches/instructions.sh [CALLS]        default 1000
#
# Needs valgrind. The counts of the present version stand in PERFORMANCE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
calls=${1:-1000}
command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind"; exit 1; }
binary=$(cargo bench --quiet --bench instructions --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "the bench was not built"; exit 1; }
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# Function as callgrind names it | what it is
functions='
Link::call|caller: slot, encoding, ring
LinkWaiter as ringmain::pipe::Waiter>::route|caller: takes the reply apart, finds its slot
call::read_reply|caller: checks and decodes the reply
Dispatcher::dispatch|main: the whole message
Receiver::handler|main: finds the handler
check::check_args|main: checks the arguments
args::decode_args|main: decodes them
Link::reply|main: encodes the reply, ring
envelope::split|both: takes the header apart
envelope::begin|both: writes a header
Link::push|both: into the ring
'
for kind in add echo send; do
  valgrind --quiet --tool=callgrind --fair-sched=yes --callgrind-out-file="$out" "$binary" "$kind" "$calls" >/dev/null 2>&1
  printf '\n%s: instructions of one, of %s\n' "$kind" "$calls"
  callgrind_annotate --inclusive=yes --threshold=100 "$out" >"$out.txt" 2>/dev/null
  while IFS='|' read -r function what; do
    [ -n "$function" ] || continue
    # A function stands there once a source file that was inlined into it: the largest is the whole.
    total=$({ grep -F "$function" "$out.txt" || true; } | sed -E 's/^ *([0-9,]+) .*/\1/; s/,//g' | sort -n | tail -n 1)
    [ -z "$total" ] || printf '  %7d  %-22s %s\n' "$((total / calls))" "${function##*::}" "$what"
  done <<<"$functions"
  rm -f "$out.txt"
done
