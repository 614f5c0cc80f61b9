#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make bench` does once the release build is there: every question, or those
# named, each a table here and build/bench/<question>.json. README.md says what each
# asks and what may follow a program's name.
#
#   bench/run.sh [--quick] [QUESTION...]
#
# --quick: shows that all of it works; its figures are worth little.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/bench
bin=build/release/bench

# question; seconds it takes, and quickly; its command; what makes it quick
questions="
store          130  14  $bin/store_bench                 | --runs 1 --seconds 0.1
replication     35   5  $bin/replication_bench           | --runs 1 --writes 20000
memory          20   3  $bin/memory_bench                | --runs 1 --entries 200000
alloc           25   2  $bin/alloc_bench                 | --runs 1 --allocs 20000
timers          90  20  $bin/timers_bench                | --live 100000 --limit 5
store_failover 540  60  bench/store_failover.py          | --quick
nat_failover   600 120  bench/nat_failover.py            | --quick
conntrackd_failover 420 100 bench/conntrackd_failover.py | --quick
idle           120  45  bench/idle.py                    | --runs 1
nat            160  20  $bin/nat_bench                   | --runs 1 --packets 200000
"

quick=
if [ "${1:-}" = --quick ]; then
  quick=1
  shift
fi
chosen=${*:-$(awk 'NF {print $1}' <<<"$questions")}
total=0
for question in $chosen; do
  row=$(awk -v q="$question" '$1 == q' <<<"$questions")
  if [ -z "$row" ]; then
    echo "run.sh: no question '$question'; there are:" $(awk 'NF {print $1}' <<<"$questions") >&2
    exit 2
  fi
  read -r _ slow fast _ <<<"$row"
  [ $quick ] && slow=$fast
  total=$((total + slow))
done
echo "bench: $(wc -w <<<"$chosen") questions, about $((total / 60)) min $((total % 60)) s"
status=0
for question in $chosen; do
  row=$(awk -v q="$question" '$1 == q' <<<"$questions")
  read -r _ _ _ command <<<"${row%%|*}"
  # shellcheck disable=SC2086
  $command ${quick:+${row##*|}} || status=1
done
exit $status
