#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make run`, `make check` and `make check-long` do once the dev build is there.
#   run.sh demo        the demo: exit status is its verdict
#   run.sh chaos       everything of a site broken on purpose (tests/chaos)
#   run.sh k8s         the manifests on a cluster of two nodes
#   run.sh chaos-k8s   everything of such a cluster broken on purpose (tests/k8s)
#   run.sh check       sanitizer builds of the unit and simulator tests, the fuzzers,
#                      then every test of the dev build; ends with ctest's summary. Kubernetes' programs,
#                      if they are not there yet, are built meanwhile (tests/k8s/binaries.sh)
#   run.sh check-long  the same, with the tests labelled `long`
set -u
cd "$(dirname "$0")/.." || exit 1

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "network namespaces need root: run me as root, or install sudo" >&2; exit 1; }
  as_root=(sudo -E)
fi

build() { # preset, target...
  local preset=$1; shift
  cmake --preset "$preset" >"build/configure-$preset.log" 2>&1 || { cat "build/configure-$preset.log"; exit 1; }
  cmake --build --preset "$preset" --target "$@" >"build/build-$preset.log" 2>&1 ||
    { tail -n 40 "build/build-$preset.log"; exit 1; }
}

sanitized() { # preset, target, label regex
  echo "== $1: $2"
  build "$1" "$2"
  ctest --test-dir "build/$1" -j2 --output-on-failure --no-tests=error -L "$3" -LE long
}

# Kubernetes' programs, which k8s.manifests asks for: built beside the sanitizers' builds, unless they are there.
start_kubernetes() { # plane, or nothing: all
  mkdir -p build
  set -m        # a process group: all of it ends with us
  "${as_root[@]}" nice tests/k8s/binaries.sh "$@" >/dev/null 2>build/kubernetes.log &
  kubernetes=$!
  set +m
  trap '[ -z "$kubernetes" ] || kill -- "-$kubernetes" 2>/dev/null' EXIT
  trap 'exit 130' INT TERM HUP
}

wait_kubernetes() {
  kill -0 "$kubernetes" 2>/dev/null && echo "== Kubernetes' programs are being built: $(tail -n 1 build/kubernetes.log)"
  wait "$kubernetes"
  local done=$?
  kubernetes=
  [ $done = 0 ] || cat build/kubernetes.log >&2
  return $done
}

case "${1:-}" in
demo)
  shift
  exec "${as_root[@]}" python3 tests/net/demo.py --build build/dev "$@"
  ;;
chaos)
  shift
  exec "${as_root[@]}" python3 tests/chaos/chaos.py --build build/dev "$@"
  ;;
k8s)
  shift
  exec "${as_root[@]}" python3 tests/k8s/test_cluster.py --build build/release --run build/k8s "$@"
  ;;
chaos-k8s)
  shift
  exec "${as_root[@]}" python3 tests/k8s/chaos.py --build build/release "$@"
  ;;
check | check-long)
  leave_out='fuzz|long' programs=plane
  [ "$1" = check-long ] && leave_out=fuzz programs=
  status=0
  start_kubernetes $programs
  export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp ${TSAN_OPTIONS:-}"
  sanitized asan unit_tests 'unit|sim' || status=1
  sanitized tsan thread_tests threads || status=1
  echo "== fuzzers, with their coverage"
  ctest --test-dir build/dev -V --no-tests=error -L fuzz || status=1
  wait_kubernetes || status=1
  echo "== dev: all other tests"
  "${as_root[@]}" ctest --test-dir build/dev -j2 --output-on-failure --no-tests=error -LE "$leave_out" || status=1
  [ $status = 0 ] || echo "FAILED: see above" >&2
  exit $status
  ;;
*)
  echo "usage: tests/run.sh demo|chaos|k8s|chaos-k8s|check|check-long" >&2
  exit 2
  ;;
esac
