#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Only programs that need DPDK or verbs link them: looks into every program of a build.
#   links.sh BUILD verbs|no-verbs      no-verbs: nobody may, and RDMA was not there to build with
# A new program that needs one of them is named here.
set -u
may_verbs='^(lethe-store|lethe-store-planted|lethe-nf|operations|fence_test|[a-z_]*verbs[a-z_]*)$'
may_dpdk='^(lethe-nf|lethe-steer|pass_worker|nat_bench)$'
[ "$2" = no-verbs ] && may_verbs='^$'

seen=0 verbs=0 status=0
complain() { # program, what
  echo "$1 links $2; only programs that need it may: see may_... in tests/links.sh" >&2
  status=1
}
while read -r program; do
  needed=$(readelf -dW "$program" 2>/dev/null) || continue
  seen=$((seen + 1))
  name=${program##*/}
  if grep -qE 'NEEDED.*(libibverbs|librdmacm)' <<<"$needed"; then
    verbs=$((verbs + 1))
    [[ $name =~ $may_verbs ]] || complain "$program" RDMA
  fi
  # DPDK is linked statically.
  if grep -qE 'NEEDED.*librte_' <<<"$needed" || readelf -sW "$program" | grep -q ' rte_eal_init$'; then
    [[ $name =~ $may_dpdk ]] || complain "$program" DPDK
  fi
done < <(find "$1" -mindepth 1 \( -name CMakeFiles -o -name without-rdma \) -prune -o \
              -type f -perm -u+x ! -name '*.sh' ! -name '*.py' -print)
if [ $seen = 0 ] || { [ "$2" = verbs ] && [ $verbs = 0 ]; }; then
  echo "$1: $seen programs, $verbs with RDMA: this test sees nothing" >&2
  status=1
fi
echo "$seen programs, $verbs of them with RDMA"
exit $status
