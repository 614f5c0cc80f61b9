#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make bench` does once the release build is there: every question, each a
# table here and build/bench/<question>.json. Arguments go to every bench.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/bench
status=0
for question in store nat; do
  build/release/bench/${question}_bench "$@" || status=1
done
exit $status
