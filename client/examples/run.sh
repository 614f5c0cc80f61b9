#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs a program against a store of its own: starts lethe-store on a free port,
# appends its address to the program's arguments, ends the store afterwards.
#   run.sh LETHE_STORE PROGRAM [ARGUMENT...]
# Exit status: the program's, or 1 if the store did not start or end well.
store=$1
shift
log=$(mktemp) || exit 1
"$store" --standalone --listen 127.0.0.1:0 2>"$log" &
pid=$!
trap 'kill -KILL $pid 2>/dev/null; rm -f "$log"' EXIT

port=
tries=0
while [ -z "$port" ] && [ $tries -lt 200 ] && kill -0 $pid 2>/dev/null; do
  port=$(sed -n 's/.* port=\([0-9][0-9]*\).*/\1/p' "$log" | head -n 1)
  [ -n "$port" ] || sleep 0.05
  tries=$((tries + 1))
done
if [ -z "$port" ]; then
  echo "the store did not start:" >&2
  cat "$log" >&2
  exit 1
fi

"$@" "127.0.0.1:$port"
status=$?
kill -TERM $pid
wait $pid || { echo "the store did not end well:" >&2; cat "$log" >&2; status=1; }
exit $status
