#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Installs what Lethe needs on Debian 12 and is not there yet. Idempotent; `make`
# calls it. This is the one list of packages; beside each, what it is for.
#   setup.sh              to build, to run, and for most tests
#   setup.sh check        for `make check`
#   setup.sh kubernetes   for clusters with nodes, too
set -u

packages=(
  # building
  build-essential cmake ninja-build pkg-config
  clang-14 libclang-rt-14-dev llvm-14   # fuzzers (libFuzzer) and their coverage
  clang-format-14                       # make format
  # what the product stands on
  libdpdk-dev libnuma-dev libbsd-dev    # DPDK: workers and steering
  libxdp-dev libbpf-dev                 # its AF_XDP ports
  libibverbs-dev librdmacm-dev          # RDMA transports
  libhiredis-dev                        # Redis Cluster as a state store
  libuv1-dev                            # control threads
  libcyaml-dev libyaml-dev              # site.yaml
  libjansson-dev                        # JSON of control sockets and of etcd
  libmicrohttpd-dev                     # HTTP: metrics, probes, the controller
  libcurl4-openssl-dev etcd-server      # etcd, which keeps the views (Debian has it for amd64), and how to ask it
  libsodium-dev                         # keyed probes, authentication
  libmnl-dev                            # netlink: routes of lethe-nexthop
  # testing, with the real peers
  libcmocka-dev redis-server
  prometheus                            # promtool checks rules and metrics
  conntrackd conntrack                  # bench/conntrackd_failover.py: gateways that copy their connections
  spin                                  # checks the model of views and leases
  iproute2 ethtool nftables procps
  iperf3 curl dnsmasq-base bind9-dnsutils iputils-ping traceroute tcpdump
  qemu-system-x86 busybox-static kmod cpio zstd xz-utils # tests/rdma: a machine with soft-RoCE
  rdma-core ibverbs-providers
  file                                  # make package: which libraries a package needs
  systemd debootstrap                   # tests/package: units are verified; a clean root
  netcat-openbsd openssl                # asking control sockets, making keys, by hand
  python3
)
# What `make check` needs besides: `setup.sh check`.
judges=(
  golang-1.19-go golang-github-modern-go-reflect2-dev dpkg-dev # Kubernetes' own programs, from Debian's source
  buildah libcap2-bin python3-yaml      # images and manifests
)
command -v npm >/dev/null || judges+=(nodejs npm) # schemas of a current one; others' nodejs brings an npm of its own
# What `make check-k8s`, `make k8s-shell` and `make check-long` need besides these: `setup.sh kubernetes`.
nodes=(containerd runc containernetworking-plugins iptables)
case ${1:-} in
check) packages+=("${judges[@]}") ;;
kubernetes) packages+=("${judges[@]}" "${nodes[@]}") ;;
esac

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

. /etc/os-release 2>/dev/null || true
[ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ] ||
  say "this is ${PRETTY_NAME:-an unknown system}; Lethe is tested on Debian 12 only"
command -v dpkg-query >/dev/null || fail "no dpkg here: install by hand: ${packages[*]}"

missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} = 0 ] && exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null ||
    fail "these packages are missing and I am neither root nor is there sudo. As root: apt-get install ${missing[*]}"
  sudo=(sudo)
fi

say "installing ${#missing[@]} Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# redis-server, etcd, prometheus, conntrackd and containerd are started by tests, on ports of their own: Debian's services of these names
# are neither started now (a policy, unless there is one) nor at the next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  "${sudo[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
fi
"${sudo[@]}" apt-get update -q >"$log" 2>&1 || {
  tail -n 5 "$log" >&2
  fail "apt-get update failed (above): no network, or no package mirror in /etc/apt/sources.list?"
}
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
  tail -n 15 "$log" >&2
  fail "apt-get install failed (above). Mend that and run me again; I go on where I stopped."
}
rm -f "$log"
for service in redis-server etcd prometheus conntrackd containerd; do
  case " ${missing[*]} " in *" $service"*) ;; *) continue ;; esac
  command -v systemctl >/dev/null && "${sudo[@]}" systemctl disable "$service" >/dev/null 2>&1
done
say "done"
