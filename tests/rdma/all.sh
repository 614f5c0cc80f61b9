#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# In the machine of vm.sh: every test that needs RDMA, one after the other, in one boot.
#   all.sh BUILD_FOLDER      exit status: how many failed
b=$1
failed=0
try() {
  begun=$(date +%s)
  if timeout "${limit:-300}" "$@" >/tmp/out 2>&1; then word=ok; else word=FAILED; failed=$((failed + 1)); fi
  echo "$word $(($(date +%s) - begun)) s: $*"
  # lethe's log lines are for a test that failed
  grep -v '^{' /tmp/out
  if [ $word = FAILED ]; then grep '^{' /tmp/out | tail -n 200; fi
}
try "$b/common/channel_verbs_test"
try "$b/tests/rdma/fence_test"
try "$b/tests/rdma/reads_verbs_test"
[ ! -x "$b/tests/conformance/operations" ] || try "$b/tests/conformance/operations" verbs
[ ! -x "$b/tests/conformance/operations" ] || try "$b/tests/conformance/operations" verbs-one-sided
try "$b/tests/rdma/store_verbs_test" "$b/statestore/lethe-store"
try "$b/tests/rdma/failover_verbs_test" "$b/statestore/lethe-store"
try "$b/tests/rdma/nat_verbs_test"
[ ! -x "$b/nf/lethe-nf" ] || try "$b/tests/rdma/nf_verbs_test" "$b/statestore/lethe-store" "$b/nf/lethe-nf"
limit=420 # half a minute, two at most, unless others work here, too
try "$b/tests/rdma/onesided_verbs_test"
exit $failed
