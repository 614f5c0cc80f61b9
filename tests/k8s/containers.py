# SPDX-License-Identifier: BSD-3-Clause
"""Into pods' containers, from the machine that their nodes are on.

Nodes' processes are this machine's, in process-id namespaces of their own (nodes.py), so /proc tells of each, and signals reach
it; the runtime tells which container a process is of by its control group. Pids here are this machine's.
"""
import os
import re
import signal
import stat
import subprocess
import sys

from lethe_site import wait_for
from netns import NetError, die_with, run

CGROUPS = "/sys/fs/cgroup"
# Children of the container's first process that it never made, each ended: "1" for each that was given to it.
ORPHANS = """
import os
kept = []
for i in range(%d):
    r, w = os.pipe()
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.close(w)
            os.read(r, 1)                 # until nobody holds the other end: its parent is dead, and we were told
            os.write(tells, b"%%d" %% os.getppid())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(r); os.close(w); os.close(tells)
    kept.append(told)
print(" ".join(os.read(t, 16).decode() for t in kept))
"""
# In the control group that is named: takes memory until somebody is killed.
HOG = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as f:
    f.write(str(os.getpid()))
kept = []
while True:
    kept.append(bytearray(b"x") * (1 << 20))
"""


def status(pid):
    """Of /proc/PID/status, word by word; None: it is gone."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except OSError:
        return None


def children(pid):
    """Zombies, too."""
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/children" % (pid, task)) as f:
            found += [int(p) for p in f.read().split()]
    return found


def executable(pid):
    return os.readlink("/proc/%d/exe" % pid)


class Container:
    """The only one of a pod, as it runs now: another one after a restart."""

    def __init__(self, pod):
        self.pod, self.name = pod, pod["metadata"]["name"]
        told = pod["status"]["containerStatuses"][0]
        self.restarts = told["restartCount"]
        self.id = told["containerID"].split("//")[1]
        first = [p for p in self.processes() if status(p)["NSpid"].split()[-1] == "1"]
        if len(first) != 1:
            raise NetError("%s: no first process of container %s" % (self.name, self.id))
        self.pid = first[0]

    def processes(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cgroup" % pid) as f:
                    if self.id in f.read() and os.path.exists("/proc/%s/exe" % pid):
                        found.append(int(pid))
            except OSError:
                continue
        return found

    def inside(self, argv, kinds="n", **options):
        """A program of this machine in namespaces of the container: n the network, p process ids."""
        return run(["nsenter", "-t", str(self.pid), *["-" + k for k in kinds], *argv], **options)

    def orphans(self, count):
        """Ids of the parent of each, when it had lost its own."""
        return self.inside([sys.executable, "-c", ORPHANS % count], "p").stdout.split()

    def zombies(self):
        told = [status(p) for p in children(self.pid)]
        return [s["Name"] for s in told if s and s["State"].startswith("Z")]

    def path(self, where):
        return "/proc/%d/root%s" % (self.pid, where)

    def mounts(self):
        """Mount point -> options."""
        with open("/proc/%d/mounts" % self.pid) as f:
            return {line.split()[1]: line.split()[3].split(",") for line in f}

    def written_files(self):
        """Ordinary files that it holds open for writing, or that stand where it may write; not doorbells, which are memory."""
        found = set()
        for fd in os.listdir("/proc/%d/fd" % self.pid):
            try:
                to = os.readlink("/proc/%d/fd/%s" % (self.pid, fd))
                ordinary = stat.S_ISREG(os.stat("/proc/%d/fd/%s" % (self.pid, fd)).st_mode)
                with open("/proc/%d/fdinfo/%s" % (self.pid, fd)) as f:
                    flags = int(re.search(r"flags:\s+([0-7]+)", f.read()).group(1), 8)
            except OSError:
                continue
            if ordinary and to.startswith("/") and not to.startswith(("/dev/", "/memfd:")) and flags & os.O_ACCMODE:
                found.add(to)
        root = self.path("")
        for at, _, names in os.walk(root + "/run/lethe"):
            found |= {os.path.join(at, n)[len(root):] for n in names if os.path.isfile(os.path.join(at, n))}
        return sorted(f for f in found if not f.endswith(".bell"))

    def signal(self, number):
        os.kill(self.pid, number)

    def gone(self, timeout_s):
        wait_for(lambda: status(self.pid) is None or status(self.pid)["State"].startswith("Z"), timeout_s,
                 "%s's first process to end" % self.name, 0.05)

    def memory_group(self):
        with open("/proc/%d/cgroup" % self.pid) as f:
            for line in f:
                _, kinds, path = line.rstrip("\n").split(":", 2)
                if "memory" in kinds.split(","):
                    return CGROUPS + "/memory" + path
                if not kinds and os.path.exists(CGROUPS + "/cgroup.controllers"):
                    return CGROUPS + path
        raise NetError("%s has no control group for memory" % self.name)

    def out_of_memory(self, timeout_s=60):
        """Its limit is reached, and it is the one who has to go."""
        with open("/proc/%d/oom_score_adj" % self.pid, "w") as f:
            f.write("1000")
        starter = os.getpid()
        hog = subprocess.Popen([sys.executable, "-c", HOG, self.memory_group()], preexec_fn=lambda: die_with(starter),
                               stderr=subprocess.DEVNULL)
        try:
            self.gone(timeout_s)
        finally:
            hog.send_signal(signal.SIGKILL)
            hog.wait()

    def fill(self, folder):
        """The volume there, to its end or to four times what its size may be: bytes."""
        path, much = os.path.join(self.path(folder), "filler"), 0
        try:
            with open(path, "wb", buffering=0) as f:
                while much < 64 << 20:
                    much += f.write(b"x" * (1 << 20))
        except OSError:
            pass
        return much
