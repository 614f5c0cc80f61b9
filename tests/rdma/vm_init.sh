#!/bin/busybox sh
# SPDX-License-Identifier: BSD-3-Clause
# The first process of the machine that vm.sh boots: modules, the host's files,
# soft-RoCE, the command, power off.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for m in /modules/*; do
  $b insmod "$m" || echo "vm: cannot load $m"
done
options=trans=virtio,version=9p2000.L,msize=262144
$b mount -t 9p -o $options,ro,cache=loose host /host || $b poweroff -f
for d in proc sys dev; do $b mount --move /$d /host/$d; done
for d in tmp run mnt dev/shm; do
  $b mkdir -p /host/$d 2>/dev/null
  $b mount -t tmpfs tmpfs /host/$d
done
$b mkdir -p /host/mnt/out
$b mount -t 9p -o $options out /host/mnt/out || $b poweroff -f

$b cat >/host/run/machine <<'MACHINE'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root OUT=/mnt/out
ulimit -l unlimited
ip link set lo up
for i in '' 1; do
  ip link add rxe_nd$i type dummy
  ip addr add 10.8.${i:-0}.1/24 dev rxe_nd$i
  ip link set rxe_nd$i up
  rdma link add rxe${i:-0} type rxe netdev rxe_nd$i || echo "vm: no rxe${i:-0}" >&2
done
if grep -q '^exec /bin/bash -i' $OUT/command; then
  exec setsid sh -c 'exec </dev/ttyS0 >/dev/ttyS0 2>&1; . $OUT/command'
fi
bash $OUT/command >$OUT/stdout 2>$OUT/stderr </dev/null
echo $? >$OUT/status
sync
MACHINE
$b chroot /host /bin/sh /run/machine
$b poweroff -f
