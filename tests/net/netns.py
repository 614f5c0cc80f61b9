# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces and processes that leave nothing behind.

A namespace has no name in /run/netns: a sleeping process holds it, and the kernel removes it, with
its interfaces, when that process is gone. Every process started here dies with its starter
(PR_SET_PDEATHSIG), so that Ctrl-C, an exception and even a kill -9 of the starter clean up. What
the kernel cannot clean (a process that lost its death signal, a folder of sockets) is written to a
ledger, which the next run reads before it starts.

Owner: one thread, the main one: a death signal is tied to the thread that started the process.
"""
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class NetError(Exception):
    """Something outside is wrong; the text is for a person."""


PACKAGES = {"etcd": "etcd-server", "nft": "nftables"}  # where another name than the tool's


def require_root_and_tools(tools):
    """Exits with a sentence unless we are root and every tool is there."""
    if os.geteuid() != 0:
        sys.exit("network namespaces need root: run me as root (sudo)")
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [t for t in tools if not shutil.which(t)]
    if missing:
        sys.exit("these programs are missing: %s; ./setup.sh installs them" % ", ".join(
            "%s (Debian package %s)" % (t, PACKAGES[t]) if t in PACKAGES else t for t in missing))
    _provide("/proc/self/ns/net", "/proc", b"proc")
    _provide("/sys/devices/system/cpu", "/sys", b"sysfs")


def _provide(needed, where, kind):
    """A fresh chroot has neither /proc nor /sys: mounts one for this process and its children."""
    if os.path.exists(needed):
        return
    if _libc.unshare(CLONE_NEWNS) == 0:
        _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None)  # fails harmlessly in a chroot
        _libc.mount(kind, where.encode(), kind, 0, None)
    if not os.path.exists(needed):
        sys.exit("%s is not mounted here, and cannot be: mount -t %s none %s" % (
            where, kind.decode(), where))


def enter(namespace_fd):
    """Moves the calling thread into a namespace."""
    if _libc.setns(namespace_fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def die_with(parent):
    """For a forked child: dies when its parent does."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _start_time(pid):
    """The kernel's start time of a process: with the pid, its name for ever. None: gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        return None


def parse_source(text):
    """"/proc/PID/ns/net=10.1.1.10-10.1.1.41": a namespace's descriptor and a list of addresses."""
    path, addresses = text.split("=")
    first, last = addresses.split("-")
    base, low = first.rsplit(".", 1)
    high = last.rsplit(".", 1)[1]
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return fd, ["%s.%d" % (base, i) for i in range(int(low), int(high) + 1)]


def running(command):
    """Processes that were started by these words."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                if f.read().split(b"\0")[:-1] == [w.encode() for w in command]:
                    found.append(int(pid))
        except OSError:
            continue
    return found


class Ledger:
    """What must be removed if we cannot do it ourselves: a file of JSON lines."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._clean_earlier_run()
        self._file = open(path, "w")

    def _clean_earlier_run(self):
        try:
            with open(self.path) as f:
                entries = [json.loads(line) for line in f if line.endswith("\n")]
        except (OSError, ValueError):
            return
        for e in entries:
            if "starter" in e and _start_time(e["starter"]) == e["start"]:
                raise NetError("another run (process %d) is using %s; wait for it, or stop it"
                               % (e["starter"], os.path.dirname(self.path)))
        for e in entries:
            if "pid" in e and _start_time(e["pid"]) == e["start"]:
                os.kill(e["pid"], signal.SIGKILL)
            for pid in running(e.get("command", [])) if e.get("command") else []:
                os.kill(pid, signal.SIGKILL)
            if "folder" in e and os.path.basename(e["folder"]).startswith("lethe-"):
                shutil.rmtree(e["folder"], ignore_errors=True)

    def _write(self, entry):
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def note_starter(self):
        self._write({"starter": os.getpid(), "start": _start_time(os.getpid())})

    def note_process(self, pid):
        self._write({"pid": pid, "start": _start_time(pid)})

    def note_command(self, command):
        """Of a process that somebody else starts: its words name it alone, by a path in our folder."""
        self._write({"command": command})

    def note_folder(self, folder):
        self._write({"folder": folder})

    def close(self):
        self._file.close()
        os.unlink(self.path)


class Process:
    """A child with a log file, in a namespace."""

    def __init__(self, name, popen, log):
        self.name, self.popen, self.log = name, popen, log
        self.pid = popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, and wait until the kernel has taken it down."""
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self, timeout_s=10):
        """SIGTERM; returns the exit status, or None when it had to be killed."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_kb(self):
        """Resident memory and hugepages, in kB."""
        kb = {}
        with open("/proc/%d/smaps_rollup" % self.pid) as f:
            for line in f:
                part = line.split()
                if len(part) == 3 and part[2] == "kB":
                    kb[part[0].rstrip(":")] = int(part[1])
        return kb["Rss"] + kb.get("Private_Hugetlb", 0) + kb.get("Shared_Hugetlb", 0)


class Lab:
    """All namespaces and processes of a run. Use it in a `with`."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.logs = os.path.join(self.folder, "logs")
        os.makedirs(self.folder, exist_ok=True)
        self.ledger = Ledger(os.path.join(self.folder, "ledger"))  # refuses a second run here
        shutil.rmtree(self.logs, ignore_errors=True)
        os.makedirs(self.logs)
        self.ledger.note_starter()
        self.processes = []
        self.namespaces = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit("stopped by a signal"))
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # finish cleaning, however impatient one is
        for p in self.processes:
            p.signal(signal.SIGCONT)
            p.signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        for p in reversed(self.processes):
            try:
                p.popen.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                p.kill()
        for ns in self.namespaces.values():
            ns.holder.kill()
            os.close(ns.fd)
        self.processes, self.namespaces = [], {}
        self.ledger.close()

    def spawn(self, name, argv, namespace=None, nice=0, env=None, **streams):
        """Starts a process; its output goes to logs/<name>.log unless streams say else."""
        log = os.path.join(self.logs, name + ".log")
        starter = os.getpid()
        fd = namespace.fd if namespace else None

        def prepare():
            if fd is not None:
                enter(fd)
            die_with(starter)
            if nice:
                os.nice(nice)

        with open(log, "ab") as out:
            streams.setdefault("stdin", subprocess.DEVNULL)
            streams.setdefault("stdout", out)
            streams.setdefault("stderr", out)
            try:
                popen = subprocess.Popen(argv, preexec_fn=prepare, start_new_session=True,
                                         env=dict(os.environ, **(env or {})), **streams)
            except FileNotFoundError:
                raise NetError("%s is not there: build it first" % argv[0]) from None
        self.ledger.note_process(popen.pid)
        process = Process(name, popen, log)
        self.processes = [p for p in self.processes if p.alive()] + [process]
        return process

    def namespace(self, name):
        """A new network namespace with its loopback up."""
        holder = subprocess.Popen(["sleep", "infinity"], start_new_session=True,
                                  preexec_fn=_hold_new_namespace(os.getpid()))
        self.ledger.note_process(holder.pid)
        ns = Namespace(name, holder)
        self.namespaces[name] = ns
        ns.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        ns.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        ns.sysctl("net.ipv4.conf.all.rp_filter", 0)
        ns.sysctl("net.ipv4.conf.default.rp_filter", 0)
        ns.ip("link set lo up")
        return ns

    def veth(self, a, a_name, b, b_name):
        """A cable between two namespaces, both ends up, checksums made by software."""
        run(["ip", "link", "add", a_name, "netns", str(a.holder.pid), "type", "veth",
             "peer", "name", b_name, "netns", str(b.holder.pid)])
        for ns, name in ((a, a_name), (b, b_name)):
            ns.run(["ethtool", "-K", name, "tx", "off", "gro", "off"])
            ns.ip("link set %s up" % name)


def _hold_new_namespace(starter):
    def prepare():
        die_with(starter)
        if _libc.unshare(CLONE_NEWNET) != 0:
            os._exit(1)
    return prepare


def run(argv, preexec_fn=None, check=True, **options):
    """A short command; its error output becomes the NetError's text."""
    done = subprocess.run(argv, preexec_fn=preexec_fn, text=True, errors="replace",
                          stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if check and done.returncode != 0:
        raise NetError("%s: %s" % (" ".join(argv), (done.stderr or done.stdout).strip()))
    return done


class Namespace:
    def __init__(self, name, holder):
        self.name, self.holder = name, holder
        try:
            self.fd = os.open(self.path(), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise NetError("no network namespace %s: %s" % (name, e)) from None

    def path(self):
        return "/proc/%d/ns/net" % self.holder.pid

    def run(self, argv, **options):
        return run(argv, preexec_fn=lambda: enter(self.fd), **options)

    def ip(self, *commands):
        """`ip` commands, without the word ip, in one process."""
        done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True,
                              preexec_fn=lambda: enter(self.fd), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise NetError("in namespace %s: %s" % (self.name, done.stderr.strip()))

    def sysctl(self, key, value):
        """Silently nothing where the kernel lacks the key (no IPv6)."""
        path = "/proc/sys/" + key.replace(".", "/")
        self.run(["sh", "-c", "test ! -e %s || echo %s > %s" % (path, value, path)])

    def mac(self, interface):
        out = self.run(["ip", "-o", "link", "show", interface]).stdout
        return out.split("link/ether ")[1].split()[0]
