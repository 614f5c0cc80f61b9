# SPDX-License-Identifier: BSD-3-Clause
"""A site kept by lethe-controller whose programs each have a network of their own, a clock of their own, and one disk.

    client-router ─ [edge bridge] ─ inside  steer  outside ─ [edge bridge] ─ outside-router
                                        nf-1 nf-2 nf-3 (memif)
    management bridge:  store-a store-b store-c  nf-1 ...  controller-1 -2  etcd  h1 h2 (history)

The controller starts programs as on one host; what it starts is a wrapper (`programs/`) that moves into
the instance's namespace and gives it the clock of `shim.c`. Every cable that can be made slow has a spare
way round it: a pair of interfaces `x-...`, `y-...`, the second of them in the bridge, between which and the cable
`chaos_relay` carries frames. Run folder and etcd's data are small file systems of their own, in a mount namespace
of the test: nothing of it is left behind.
"""
import ctypes
import errno
import json
import mmap
import os
import shutil
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "net"))
import network  # noqa: E402
from controlled_site import ControlledSite  # noqa: E402
from lanes import way_round  # noqa: E402
from lethe_site import Instance  # noqa: E402
from netns import CLONE_NEWNS, MS_REC_PRIVATE, NetError, _libc  # noqa: E402

MS_BIND, MS_REC = 4096, 16384

STORES = ["store-a", "store-b", "store-c"]
WORKERS = ["nf-%d" % i for i in range(1, 7)]
CONTROLLERS = ["controller-1", "controller-2"]
EDGES = {"client link": ("client-router", "inside"), "server link": ("outside-router", "outside")}
RUN_DISK_BYTES, ETCD_DISK_BYTES = 128 << 20, 512 << 20
ETCD_QUOTA_BYTES = 12 << 20     # its alarm is raised beyond


class Shim:
    """What an instance is told of its clock and disk: struct chaos_shim of shim.c."""
    LAYOUT = struct.Struct("=qQQQ")

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(self.LAYOUT.size))
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), self.LAYOUT.size)

    def step(self, seconds):
        self.memory[:8] = struct.pack("=q", int(seconds * 1e9))

    def stepped_reads(self):
        return self.LAYOUT.unpack(self.memory[:])[2]

    def no_space(self):
        return self.LAYOUT.unpack(self.memory[:])[3]


class Filler:
    """A file that takes what a disk has left, and what becomes free; on demand."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "filler")
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def fill(self):
        for block in (bytes(1 << 20), bytes(4096)):
            try:
                while os.write(self.fd, block):
                    pass
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise

    def heal(self):
        os.ftruncate(self.fd, 0)
        os.close(self.fd)
        os.unlink(self.path)


def mount_private_disk(folder, size_bytes):
    if _libc.mount(b"none", folder.encode(), b"tmpfs", 0, b"size=%d,mode=0755" % size_bytes) != 0:
        raise NetError("no tmpfs on %s: %s" % (folder, os.strerror(ctypes.get_errno())))


def private_mounts():
    """What is mounted from now on is seen by this process and its children only. In a chroot / may be no mount: then the
    folder of temporary files is made one, where all of ours are."""
    tmp = tempfile.gettempdir().encode()
    if _libc.unshare(CLONE_NEWNS) != 0 or (
            _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0
            and (_libc.mount(tmp, tmp, None, MS_BIND | MS_REC, None) != 0
                 or _libc.mount(b"none", tmp, None, MS_REC_PRIVATE, None) != 0)):
        raise NetError("no mount namespace: " + os.strerror(ctypes.get_errno()))


class ChaosSite(ControlledSite):
    def __init__(self, lab, build, replicas=3, store_program=None, **options):
        self.disks = tempfile.mkdtemp(prefix="lethe-chaos-")
        lab.ledger.note_folder(self.disks)
        self.etcd_data, run = os.path.join(self.disks, "e"), os.path.join(self.disks, "r")
        for folder, size in ((self.etcd_data, ETCD_DISK_BYTES), (run, RUN_DISK_BYTES)):
            os.mkdir(folder)
            mount_private_disk(folder, size)
        self.run_disk, self.build, self.shims = run, os.path.abspath(build), {}
        tempfile.tempdir, before = run, tempfile.tempdir
        try:
            programs = os.path.join(lab.folder, "programs")
            super().__init__(lab, build, groups="groups: [{name: nf, replicas: %d, max: 5}]\n"
                             "controller: {programs: \"%s\"}\n" % (replicas, programs), **options)
        finally:
            tempfile.tempdir = before
        self.replicas_wanted = replicas
        self.keys.update(
            nodes="\n".join("    - {name: %s, listen: \"%s:7400\"}" % (n, network.STORES[n]) for n in STORES),
            views="  etcd: [\"%s:2379\"]\n  copies: 2\n%s" % (network.ETCD, options.get("store", "")))
        self.write_config(self.config)
        self._attach()
        self._write_programs(programs, store_program)

    # --- the network ----------------------------------------------------------------------

    def _attach(self):
        for number, name in enumerate(CONTROLLERS):
            network.attach_to_management(self.lab, name, "10.255.0.%d" % (7 + number))
        network.attach_to_management(self.lab, "etcd", network.ETCD)
        for number, name in enumerate(WORKERS, 1):
            network.attach_to_management(self.lab, name, "10.255.0.%d" % (10 + number))
        bridge = self.lab.namespaces["management"]
        for name in STORES + WORKERS + CONTROLLERS + ["etcd"]:
            way_round(bridge, name, "br0")
        for router, interface in EDGES.values():
            self._bridge_edge(self.lab.namespaces[router], interface)

    def _bridge_edge(self, ns, interface):
        """The router's address moves to a bridge, in which the cable to steering is."""
        link = json.loads(ns.run(["ip", "-j", "addr", "show", interface]).stdout)[0]
        address = [a for a in link["addr_info"] if a["family"] == "inet"][0]
        routes = json.loads(ns.run(["ip", "-j", "route", "show", "dev", interface]).stdout)
        ns.sysctl("net.ipv4.conf.all.arp_ignore", 1)  # the way round has no address, and answers for none
        ns.ip("link add edge type bridge", "link set edge address %s" % link["address"],
              "link set %s master edge" % interface, "addr flush dev %s" % interface, "link set edge up",
              "addr add %s/%d dev edge" % (address["local"], address["prefixlen"]),
              *["route add %s via %s" % (r["dst"], r["gateway"]) for r in routes if "gateway" in r])
        way_round(ns, interface, "edge")

    def cable(self, victim):
        """(namespace of its far end, interface, bridge) of whoever's network it is."""
        if victim in EDGES:
            router, interface = EDGES[victim]
            return self.lab.namespaces[router], interface, "edge"
        return self.lab.namespaces["management"], victim, "br0"

    # --- the programs ---------------------------------------------------------------------

    def _write_programs(self, folder, store_program):
        os.makedirs(os.path.join(folder, "ns"), exist_ok=True)
        shims = os.path.join(folder, "shim")
        os.makedirs(shims, exist_ok=True)
        for name in STORES + WORKERS + ["steer"] + CONTROLLERS:
            self.shims[name] = Shim(os.path.join(shims, name))
            link = os.path.join(folder, "ns", name)
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(self.lab.namespaces[name].path(), link)
        paths = {"lethe-store": store_program or self.build + "/statestore/lethe-store",
                 "lethe-nf": self.build + "/nf/lethe-nf", "lethe-steer": self.build + "/steering/lethe-steer"}
        for name, program in paths.items():
            if not os.access(program, os.X_OK):
                raise NetError("%s is not there: build it first" % program)
            with open(os.path.join(folder, name), "w") as f:
                f.write(self._wrapper(folder, program))
                os.fchmod(f.fileno(), 0o755)

    def _wrapper(self, folder, program):
        return ("#!/bin/sh\n# the program in the namespace and with the clock of its instance\n"
                "case \" $* \" in *\" --check \"*|*\" --explain \"*) exec %(program)s \"$@\";; esac\n"
                "name=steer last=\n"
                "for word; do\n"
                "  case \"$last\" in --node|--worker|--name) name=$word;; esac\n"
                "  last=$word\n"
                "done\n"
                "export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0\n"  # killed programs leak nothing
                "export LD_PRELOAD=%(build)s/tests/chaos/libchaos_shim.so LETHE_CHAOS_SHIM=%(folder)s/shim/$name\n"
                "exec nsenter --net=%(folder)s/ns/$name %(program)s \"$@\"\n"
                % {"program": program, "build": self.build, "folder": folder})

    def start_etcd(self):
        client, peer = "http://%s:2379" % network.ETCD, "http://127.0.0.1:2380"
        return self._start("etcd", "etcd", [
            "etcd", "--name", "etcd", "--data-dir", os.path.join(self.etcd_data, "data"), "--quota-backend-bytes",
            str(ETCD_QUOTA_BYTES), "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "etcd=" + peer], "etcd")

    def start_controller(self, name):
        env = {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0",
               "LD_PRELOAD": self.build + "/tests/chaos/libchaos_shim.so",
               "LETHE_CHAOS_SHIM": os.path.join(self.lab.folder, "programs/shim", name)}
        i = self.instances.get(name)
        if i and i.running():
            raise NetError("%s is running already" % name)
        process = self.lab.spawn(name, [self.build + "/orchestrator/lethe-controller", "-c", self.config],
                                 self.lab.namespaces[name], env=env)
        i = self.instances.setdefault(name, Instance(name, "controller"))
        i.process, i.state, i.starts = process, "running", i.starts + 1
        return i

    def lethe(self, *words):
        """The command-line tool: a Process whose output is in its log."""
        return self.lab.spawn("lethe-" + words[0], [self.build + "/orchestrator/cli/lethe", "-c", self.config, *words])

    def close(self):
        super().close()
        for folder in (self.etcd_data, self.run_disk):
            _libc.umount2(folder.encode(), 2)  # MNT_DETACH
        shutil.rmtree(self.disks, ignore_errors=True)
