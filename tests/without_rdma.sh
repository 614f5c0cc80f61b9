#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds where rdma-core and hiredis are not installed: pkg-config does not know them,
# their headers cannot be included. The summary of the configuration says so, the store
# and the unit tests are built, pass and link nothing of RDMA.
#   without_rdma.sh SOURCE BUILD
set -eu
source=$1 build=$2
rm -rf "$build"
mkdir -p "$build/hidden/infiniband" "$build/hidden/rdma" "$build/hidden/hiredis"
for header in infiniband/verbs.h rdma/rdma_cma.h hiredis/hiredis.h hiredis/async.h; do
  echo '#error "is not installed here"' >"$build/hidden/$header"
done
cat >"$build/hidden/pkg-config" <<'END'
#!/bin/sh
case "$*" in *libibverbs* | *librdmacm* | *hiredis*) exit 1 ;; esac
exec pkg-config "$@"
END
chmod +x "$build/hidden/pkg-config"

cd "$source"
PKG_CONFIG=$build/hidden/pkg-config cmake --preset dev -B "$build" -DCMAKE_C_FLAGS="-I$build/hidden" \
  >"$build/configure.log" 2>&1 || { cat "$build/configure.log"; exit 1; }
for line in 'lethe: no RDMA (packages libibverbs-dev librdmacm-dev): the verbs channel will NOT be built' \
            'lethe: no hiredis (package libhiredis-dev)'; do
  [ "$(grep -cF "$line" "$build/configure.log")" = 1 ] ||
    { echo "the summary of the configuration does not say once: $line" >&2; exit 1; }
done
cmake --build "$build" --target lethe-store unit_tests >"$build/build.log" 2>&1 ||
  { grep -B2 -A8 -E 'error|FAILED' "$build/build.log" | head -40; exit 1; }
"$source/tests/links.sh" "$build" no-verbs
ctest --test-dir "$build" -j2 --output-on-failure --no-tests=error -L unit -LE long
