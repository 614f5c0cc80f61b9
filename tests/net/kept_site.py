# SPDX-License-Identifier: BSD-3-Clause
"""A controlled site as an operator sees it: ordered about by `lethe`, its programs broken by hand.

The programs are the controller's, not ours: who they are is its status' to say. A thread reads that all the
time and keeps `instances` by it, so that whoever shows, kills and measures (view.py, gap.py) need not know
whose processes they are. One that ended without our doing is a crash; the controller's events tell.
"""
import os
import signal
import threading

from controlled_site import ControlledSite
from lethe_site import Instance, wait_for
from netns import NetError, _start_time

KINDS = {"workers": "worker", "stores": "store", "steering": "steering"}


class Stranger:
    """A process that is nobody's child here, by pid and start time."""

    def __init__(self, pid, log):
        self.pid, self.log, self.start, self.popen = pid, log, _start_time(pid), None

    def alive(self):
        return self.start is not None and _start_time(self.pid) == self.start

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        wait_for(lambda: not self.alive(), 10, "process %d to be taken down" % self.pid, 0.001)

    def stop(self, timeout_s=10):
        """SIGTERM. Its status is its parent's to know: 0 if it ends at all."""
        self.signal(signal.SIGTERM)
        wait_for(lambda: not self.alive(), timeout_s, "process %d to end" % self.pid)
        return 0


class KeptSite(ControlledSite):
    def __init__(self, lab, build, replicas=2, **options):
        super().__init__(lab, build, groups="groups: [{name: nf, replicas: %d, max: 6}]\n" % replicas, **options)
        self.killed_by_us, self.crashed = set(), {}
        self.ending = threading.Event()
        self.observer = threading.Thread(target=self._observe, daemon=True)
        self.observer.start()

    def lethe(self, *words, timeout_s=150):
        """What it says; a NetError when it does not end with 0. In the folder of site.yaml."""
        done = self.lab.namespaces["steer"].run([self.programs + "/orchestrator/cli/lethe", *words],
                                                cwd=self.lab.folder, check=False, timeout=timeout_s)
        if done.returncode != 0:
            raise NetError("lethe %s: %s" % (" ".join(words), done.stderr.strip() or done.stdout.strip()))
        return done.stdout

    # --- who is there ----------------------------------------------------------------------

    def _observe(self):
        while not self.ending.wait(0.25):
            self.look()

    def look(self):
        """Instances as the controller knows them now; the status, None without one."""
        status = self.status()
        if not status:
            return None
        self._see("controller", "controller", status["controller"]["pid"], True)
        there = {"controller"}
        for key, kind in KINDS.items():
            for p in status[key]:
                there.add(p["name"])
                self._see(p["name"], kind, p["pid"], p["state"] == "ready")
        for name, i in self.instances.items():
            if name not in there and i.kind == "worker" and not i.running():
                i.state = "stopped"
        for e in self.events(kind="exit"):
            if not e["detail"]["asked"] and e["detail"]["pid"] not in self.killed_by_us:
                self.crashed[e["subject"]] = e["cause"]
        return status

    def _see(self, name, kind, pid, ready):
        if kind == "controller":    # by its pid: who leads may be one that we started ourselves
            if any(i.process and i.process.pid == pid for i in self.instances.values()):
                return
            self.lab.ledger.note_process(pid)
        i = self.instances.setdefault(name, Instance(name, kind))
        if pid and (not i.process or i.process.pid != pid):
            i.process = Stranger(pid, os.path.join(self.run_dir, "log", name + ".log"))
            i.state, i.starts = "starting", i.starts + 1
        if i.state == "starting" and ready:
            i.state = "running"

    # --- breaking --------------------------------------------------------------------------

    def kill(self, name):
        self.killed_by_us.add(self.instances[name].process.pid)
        super().kill(name)

    def kill_controller(self, pid):
        self.kill(next(n for n, i in self.instances.items() if i.process and i.process.pid == pid))

    # --- the end ---------------------------------------------------------------------------

    def ended_early(self):
        self.look()
        return dict(self.crashed)

    def shut_down(self):
        self.ending.set()
        self.observer.join()
        self.lethe("down", "--force")
        wrong = {e["subject"]: e["cause"] for e in self.events(kind="exit")
                 if e["detail"]["asked"] and e["detail"]["exit_status"] not in (0, None)}
        for name, i in self.instances.items():
            if i.kind == "controller" and i.running() and i.process.stop(20) != 0:
                wrong[name] = "the controller did not end well"
        return wrong

    def close(self):
        self.ending.set()
        self.observer.join()
        super().close()
