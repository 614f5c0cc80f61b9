#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Runs a command on a machine that has RDMA: Debian's kernel in QEMU, with rdma_rxe
# (soft-RoCE, RoCE v2) on a dummy network device. Needs no hardware, no KVM, no root.
#
#   vm.sh run COMMAND...   one boot; the host's files are there, read-only, under the same
#                          paths; stdout and stderr come back, and the exit status
#   vm.sh shell            an interactive shell in it; ctrl-a x ends it
#   vm.sh prepare          only fetch the kernel and make the initramfs (cached)
#
# In the machine: rxe0 on rxe_nd (10.8.0.1/24), rxe1 on rxe_nd1 (10.8.1.1/24); /tmp, /run
# and /dev/shm are its own; $OUT is a folder that outlives it (host: VM_OUT, if set).
# VM_TIMEOUT: seconds until it is given up (600). VM_CPUS (2), VM_MEMORY (1G).
# Exit status: the command's; 124 time is over; 125 the machine did not work.
# The kernel is unpacked, not installed, into ${XDG_CACHE_HOME:-~/.cache}/lethe/vm.
set -u
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lethe/vm
fail() { echo "vm.sh: $*" >&2; exit 125; }
usage() { sed -n 's/^# \{0,1\}//;3,15p' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage

for tool in qemu-system-x86_64 cpio zstd xz depmod busybox dpkg-deb; do
  command -v $tool >/dev/null || fail "$tool is not installed; ./setup.sh installs what is needed"
done

# --- the kernel ---------------------------------------------------------------------------

# The stock kernel, not the cloud one: only it has RXE and 9P.
kernel_package() {
  apt-cache depends linux-image-amd64 2>/dev/null |
    sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}

unpack_kernel() {
  local package=$1 to=$2 vmlinuz offset
  echo "vm.sh: fetching $package (about 70 MB), once" >&2
  mkdir -p "$to/deb" && cd "$to/deb" || fail "cannot write to $to"
  apt-get download -q "$package" >download.log 2>&1 ||
    { cat download.log >&2; fail "cannot download $package; is there a Debian mirror?"; }
  dpkg-deb -x ./*.deb . || fail "cannot unpack $package"
  vmlinuz=$(ls boot/vmlinuz-*)
  # The ELF inside boots in half the time: its xz payload begins with this.
  offset=$(LC_ALL=C grep -obUaP '\xFD7zXZ\x00' "$vmlinuz" | head -n 1 | cut -d: -f1)
  [ -n "$offset" ] || fail "$vmlinuz holds no xz payload"
  tail -c +$((offset + 1)) "$vmlinuz" | xz -dc --single-stream 2>/dev/null >"$to/vmlinux"
  [ -s "$to/vmlinux" ] || fail "cannot unpack $vmlinuz"
  cd "$to" || exit 125
}

# --- the initramfs ---------------------------------------------------------------------------

# Modules in the order they are to be loaded, with what they depend on.
# crc32_generic stands in nobody's list of dependencies; without it rdma link add
# fails with "No such file or directory".
modules_of() {
  local root=$1 version=$2 m
  for m in virtio_pci 9pnet_virtio 9p crc32_generic rdma_ucm rdma_rxe dummy veth af_packet; do
    modprobe -d "$root" -S "$version" --show-depends $m | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++'
}

make_initramfs() {
  local to=$1 root=$1/deb version tree n=0 m
  version=$(basename "$root"/lib/modules/*)
  depmod -b "$root" "$version" || fail "depmod failed"
  tree=$(mktemp -d) || exit 125
  mkdir -p "$tree"/{bin,modules,proc,sys,dev,host,out}
  cp "$(command -v busybox)" "$tree/bin/busybox" || fail "no busybox"
  while read -r m; do
    cp "$m" "$tree/modules/$(printf %03d $n)-$(basename "$m")" || fail "no $m"
    n=$((n + 1))
  done < <(modules_of "$root" "$version")
  [ $n -gt 8 ] || fail "only $n kernel modules found"
  cp "$here/vm_init.sh" "$tree/init"
  chmod 755 "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet) >"$to/initramfs.new" || fail "cpio failed"
  rm -rf "$tree"
  mv "$to/initramfs.new" "$to/initramfs"
}

prepare() {
  local package
  package=$(kernel_package)
  # Without the package lists (or a network), what is cached does.
  [ -n "$package" ] || package=$(cd "$cache" 2>/dev/null && ls -d linux-image-* | sort -V | tail -n 1)
  [ -n "$package" ] || fail "apt does not know linux-image-amd64; run apt-get update"
  machine=$cache/$package
  mkdir -p "$cache" && exec 9>"$cache/lock" || fail "cannot write to $cache"
  flock 9
  if [ ! -s "$machine/vmlinux" ]; then
    rm -rf "$machine.new"
    unpack_kernel "$package" "$machine.new"
    mv "$machine.new" "$machine"
  fi
  if [ ! -s "$machine/initramfs" ] || [ "$here/vm_init.sh" -nt "$machine/initramfs" ] ||
    [ "$here/vm.sh" -nt "$machine/initramfs" ]; then
    make_initramfs "$machine"
  fi
  flock -u 9
}

# --- running ---------------------------------------------------------------------------------

boot() {
  local serial=$1
  shift
  timeout -k 5 "${VM_TIMEOUT:-600}" qemu-system-x86_64 -accel tcg -cpu max \
    -smp "${VM_CPUS:-2}" -m "${VM_MEMORY:-1G}" -M q35 -nodefaults -no-user-config -display none \
    -no-reboot -serial "$serial" -kernel "$machine/vmlinux" -initrd "$machine/initramfs" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr clocksource=hpet random.trust_cpu=on" \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -fsdev local,id=out,path="$out",security_model=none -device virtio-9p-pci,fsdev=out,mount_tag=out "$@"
}

here=$(cd "$(dirname "$0")" && pwd) || exit 125
machine=''
case $1 in
--help | -h) usage ;;
prepare) prepare; exit 0 ;;
run) [ $# -ge 2 ] || usage ;;
shell) ;;
*) usage ;;
esac
verb=$1
shift
prepare
out=${VM_OUT:-$(mktemp -d)}
[ -n "${VM_OUT:-}" ] || trap 'rm -rf "$out"' EXIT
mkdir -p "$out" || exit 125
rm -f "$out/status"
{ echo "cd '$PWD'"; [ "$verb" = shell ] || printf '%q ' "$@"; echo; } >"$out/command"
if [ "$verb" = shell ]; then
  echo 'exec /bin/bash -i' >>"$out/command"
  boot mon:stdio
  exit 0
fi
boot "file:$out/console" </dev/null
rc=$?
cat "$out/stdout" 2>/dev/null
cat "$out/stderr" >&2 2>/dev/null
if [ -s "$out/status" ]; then exit "$(cat "$out/status")"; fi
if [ $rc = 124 ]; then
  echo "vm.sh: not done after ${VM_TIMEOUT:-600} s" >&2
  tail -n 20 "$out/console" >&2
  exit 124
fi
tail -n 20 "$out/console" >&2
fail "the machine ended without an answer; its console is above"
