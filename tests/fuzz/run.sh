#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Runs every fuzz target for a fixed number of executions, from a fixed seed,
# over a copy of its committed corpus, and prints what that covered.
# The table stays in build/fuzz/run/coverage.txt.
#   tests/fuzz/run.sh [times]     times: multiplies the executions; default 1
# Exit status 1: a target crashed; its input is kept and named.
set -u
cd "$(dirname "$0")/../.." || exit 1
times=${1:-1}
build=build/fuzz
here=tests/fuzz
out=$build/run
rm -rf "$out" && mkdir -p "$out" || exit 1

if ! { cmake --preset fuzz && cmake --build --preset fuzz --target fuzzers; } >"$out/build.log" 2>&1; then
  tail -n 30 "$out/build.log"
  echo "the fuzz targets do not build; the whole log: $out/build.log" >&2
  exit 1
fi

# lines and branches of our sources that the run reached, as "87.1% 80.2%"
covered() { # target
  llvm-profdata-14 merge -sparse "$out/$1.profraw" -o "$out/$1.profdata" &&
    llvm-cov-14 export -summary-only -ignore-filename-regex="$here/" \
      -instr-profile="$out/$1.profdata" "$build/$here/$1" >"$out/$1.json" &&
    python3 -c '
import json, sys
t = json.load(open(sys.argv[1]))["data"][0]["totals"]
print("%.1f%% %.1f%%" % (t["lines"]["percent"], t["branches"]["percent"]))' "$out/$1.json"
}

status=0
exec > >(tee "$out/coverage.txt")
printf '%-12s %11s %7s %7s %9s %7s %9s %5s\n' \
  target executions seeds edges features lines branches s
fuzz() { # target, executions, options...
  local target=$1 runs=$(($2 * times)); shift 2
  mkdir "$out/$target"
  cp "$here/corpus/$target/"* "$out/$target/"
  local seeds began=$SECONDS
  seeds=$(find "$here/corpus/$target" -type f | wc -l)
  if ! LLVM_PROFILE_FILE="$out/$target.profraw" "$build/$here/$target" -runs="$runs" -seed=20 \
    -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$out/$target-" \
    "$@" "$out/$target" >"$out/$target.log" 2>&1; then
    echo "$target FAILED; what it said last ($out/$target.log):"
    grep -v '^#' "$out/$target.log" | tail -n 40
    status=1
    return
  fi
  local edges features
  edges=$(sed -n 's/^#.*DONE.* cov: \([0-9]*\) .*/\1/p' "$out/$target.log")
  features=$(sed -n 's/^#.*DONE.* ft: \([0-9]*\) .*/\1/p' "$out/$target.log")
  # shellcheck disable=SC2046 # two words
  printf '%-12s %11d %7d %7s %9s %7s %9s %5d\n' "$target" "$runs" "$seeds" "$edges" "$features" \
    $(covered "$target") $((SECONDS - began))
}

fuzz fuzz_wire 2000000 -max_len=1024
fuzz fuzz_packet 1000000 -max_len=700
fuzz fuzz_tunnel 1000000 -max_len=300
fuzz fuzz_site 200000 -max_len=1500 -dict=$here/site.dict
fuzz fuzz_views 400000 -max_len=700
fuzz fuzz_request 300000 -max_len=900
fuzz fuzz_ask 400000 -max_len=400
fuzz fuzz_kubernetes 200000 -max_len=1800
exit $status
