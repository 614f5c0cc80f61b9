# SPDX-License-Identifier: BSD-3-Clause
"""How each fault is done, when it had an effect, how it is healed, when all is well again.

A fault is a generator, a step of its lane (lanes.py); `record` tells what became of it. *Effective* is measured, never
assumed: see `EFFECTS`.
"""
import os
import select
import signal
import time

from chaos_site import CONTROLLERS, EDGES, STORES, WORKERS, Filler  # finds tests/net, too
import network
from lanes import Firewall, Lanes, pause, slow_cable, until
from observe import Background, Etcd, alive, process_state

EFFECTS = {
    "kill -9": "the victim had worked since its start, and the kernel says that it is dead",
    "stop, short": "it stood in state T all the time, and used no processor",
    "stop, long": "it stood in state T all the time, and used no processor",
    "restart": "another process of that name serves; the earlier one ended as ordered",
    "drain": "it ended as ordered, and what it did was taken over",
    "cut off": "the firewall's counter says that packets were dropped",
    "one way": "the firewall's counter says that packets were dropped",
    "replicas cut": "the firewall's counter says that packets were dropped",
    "replicas one way": "the firewall's counter says that packets were dropped",
    "loss": "the firewall's counter says that packets were dropped",
    "delay": "frames were carried late, and some overtook others",
    "disk full": "a write failed with ENOSPC, or etcd raised its alarm",
    "clock step": "the program read a stepped clock",
}
RECOVER_S = Lanes.RECOVER_S


class Faults:
    def __init__(self, run):
        self.run, self.lab, self.site, self.seen = run, run.lab, run.site, run.observer

    # --- who -----------------------------------------------------------------------------------

    def choose(self, fault):
        """(name, for people), once there is somebody to choose; generator."""
        victim, lot = fault.pair.victim, fault.which
        if victim in ("store primary", "store backup"):
            shard, role = int(lot * self.site.shard_count), victim.split()[1]
            names = yield from until(lambda: self.seen.caught_up() and self.seen.of_shard(shard, role), RECOVER_S,
                                     lambda: "shard %d to have a %s" % (shard, role))
            return names[0], "%s of shard %d" % (role, shard)
        if victim == "worker":
            def ready():
                at_work = [w for w in sorted(self.seen.table()) if self.seen.forwarded(w) > 0]
                return at_work if len(at_work) >= 2 else None
            names = yield from until(ready, RECOVER_S, "two workers that forward packets")
            return names[int(lot * len(names))], "worker"
        if victim == "steering":
            yield from until(lambda: self.seen.forwarded("steer") > 0, RECOVER_S, "steering to forward packets")
            return "steer", "steering"
        if victim == "controller":
            def active():
                pid = self.seen.leads()
                return next((n for n in CONTROLLERS if self.site.instances[n].running()
                             and self.site.instances[n].process.pid == pid), None)
            name = yield from until(active, RECOVER_S, "a controller that leads")
            return name, "active controller"
        if victim == "etcd":
            yield from until(lambda: self.seen.said("etcd"), RECOVER_S, "etcd to answer")
        return victim, victim

    def pid(self, name):
        i = self.site.instances.get(name)
        return i.process.pid if i else self.seen.processes().get(name)

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    # --- what ------------------------------------------------------------------------------------

    def hit(self, fault, record):
        """The fault from its beginning to where it is healed; generator."""
        name, kind = record["name"], fault.pair.kind
        how = {"kill -9": self.kill, "stop, short": self.stop, "stop, long": self.stop, "restart": self.restart,
               "drain": self.drain, "cut off": self.cut, "one way": self.cut, "replicas cut": self.cut,
               "replicas one way": self.cut, "loss": self.loss, "delay": self.delay,
               "clock step": self.step, "disk full": self.fill_etcd if name == "etcd" else self.fill}[kind]
        yield from how(name, fault, record)

    def own(self, name):
        """We started it ourselves, as an init system would."""
        return name == "etcd" or name in CONTROLLERS

    def start_again(self, name):
        self.back(name)
        if name == "etcd":
            self.site.start_etcd()
            self.site.instances["etcd"].state = "running"
        else:
            self.site.start_controller(name)

    def kill(self, name, fault, record):
        pid = self.pid(name)
        worked = self.own(name) or name in STORES or self.seen.forwarded(name) > 0
        self.run.expect_death(pid, "killed")
        fd = os.pidfd_open(pid)
        try:
            if self.own(name):
                self.site.instances[name].state = "killed"
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            yield from until(lambda: select.select([fd], [], [], 0)[0], 10, "%s to die of SIGKILL" % name)
        finally:
            os.close(fd)
        record["effective"], self.run.dead[pid] = worked, time.monotonic()
        if self.own(name):
            self.site.instances[name].process.popen.wait()
            self.gone(name)
            yield from pause(fault.hold_s)
            self.start_again(name)

    def gone(self, name):
        """Of etcd it is remembered: what status says of it is compared."""
        if name == "etcd":
            self.run.etcd_gone = (time.monotonic(), None)

    def back(self, name):
        if name == "etcd" and self.run.etcd_gone:
            self.run.etcd_gone = (self.run.etcd_gone[0], time.monotonic())

    def stop(self, name, fault, record):
        pid, stood = self.pid(name), True
        os.kill(pid, signal.SIGSTOP)
        try:
            yield from until(lambda: process_state(pid)[0] in ("T", None), 5, "%s to stand still" % name)
            begun = process_state(pid)[1]
            self.gone(name)
            until_s = time.monotonic() + fault.hold_s
            while time.monotonic() < until_s:
                yield
                stood &= process_state(pid)[0] == "T"
            record["effective"] = stood and process_state(pid)[1] == begun
        finally:
            self.back(name)
            if alive(pid):
                os.kill(pid, signal.SIGCONT)

    def order(self, *words, wait_s=60):
        """One of the command-line tool's orders, until it ends; generator: its exit status. Refused, because it was not
        possible just then, it is ordered again."""
        for _ in range(10):
            status = yield from self.order_once(words, wait_s)
            if status == 0:
                break
            yield from pause(0.5)
        return status

    def order_once(self, words, wait_s):
        p = self.site.lethe(*words)
        status = yield from until(lambda: (p.popen.poll(),) if p.popen.poll() is not None else None, wait_s,
                                  "`lethe %s`; see %s" % (" ".join(words), p.log))
        return status[0]

    def restart(self, name, fault, record):
        pid = self.pid(name)
        self.run.expect_death(pid, "ordered")
        if self.own(name):
            i = self.site.instances[name]
            i.state = "stopped"
            i.process.signal(signal.SIGTERM)
            status = yield from until(lambda: (i.process.popen.poll(),) if not i.process.alive() else None, 20,
                                      "%s to end by SIGTERM" % name)
            record["effective"] = status[0] == 0 or name == "etcd"
            self.gone(name)
            yield from pause(fault.hold_s)
            self.start_again(name)
            return
        status = yield from self.order("restart", name, *(["--force"] if name == "steer" else []))
        record["status"] = status
        yield from until(lambda: not alive(pid), RECOVER_S, "the earlier process of %s to end" % name)
        record["effective"] = status == 0

    def drain(self, name, fault, record):
        pid = self.pid(name)
        self.run.expect_death(pid, "ordered")
        status = yield from self.order("drain", name)
        yield from until(lambda: not alive(pid), RECOVER_S, "%s to be drained" % name)
        record["effective"] = status == 0
        yield from pause(fault.hold_s)
        again = ["start", name] if name in STORES else ["scale", "nf=%d" % self.site.replicas_wanted]
        status = yield from self.order(*again)
        record["effective"] &= status == 0

    # --- networks ------------------------------------------------------------------------------------

    def _filter(self, name, fault, verdict, both):
        """Rules at a victim's own end of its network, or at the router of an edge. One way: deaf or mute."""
        deaf = fault.strength < 0.5
        if name in EDGES:
            sides = ["oifname edge", "iifname edge"]
            rules = [("forward", "%s %s" % (s, verdict)) for s in (sides if both else [sides[deaf]])]
            return Firewall(self.lab.namespaces[EDGES[name][0]], rules)
        sides = [("input", "iif != lo"), ("output", "oif != lo")]
        if fault.pair.kind.startswith("replicas"):
            # and etcd: it cannot say so, and its clients still reach it
            peers = "{ %s }" % ", ".join([network.ETCD] + [network.STORES[n] for n in STORES if n != name])
            sides = [("input", "ip saddr " + peers), ("output", "ip daddr " + peers)]
        chosen = sides if both else [sides[0 if deaf else 1]]
        return Firewall(self.lab.namespaces[name], [(hook, "%s %s" % (s, verdict)) for hook, s in chosen])

    def _filtered(self, wall, fault, record, least):
        try:
            yield from pause(fault.hold_s)
        finally:
            record["dropped"] = wall.heal()
            record["effective"] = record["dropped"] >= least

    def cut(self, name, fault, record):
        one_way = fault.pair.kind.endswith("one way")
        if one_way:
            record["detail"] = "deaf" if fault.strength < 0.5 else "mute"
        wall = self._filter(name, fault, "counter drop", not one_way)
        yield from self._filtered(wall, fault, record, 1)

    def loss(self, name, fault, record):
        permille = int(50 + 250 * fault.strength)
        record["detail"] = "%d %%" % (permille // 10)
        wall = self._filter(name, fault, "numgen random mod 1000 < %d counter drop" % permille, True)
        yield from self._filtered(wall, fault, record, 1)

    def delay(self, name, fault, record):
        ns, cable, bridge = self.site.cable(name)
        yield from slow_cable(self.lab, self.site.build, ns, cable, bridge, fault, record)

    # --- clocks and disks ------------------------------------------------------------------------------

    def step(self, name, fault, record):
        """Seconds to hours, back or forth; and back again, once it was read. A worker says little while it lives: it is
        killed, and whoever takes its place begins under the stepped clock."""
        worker = fault.pair.victim == "worker"
        shims = [self.site.shims[n] for n in (WORKERS if worker else [name])]
        much = abs(2 * fault.strength - 1)
        seconds = round(5 * 1440 ** much, 1) * (1 if fault.strength >= 0.5 else -1)
        record["detail"] = "by %+g s" % seconds

        def reads():
            return sum(s.stepped_reads() for s in shims)
        before = reads()
        for s in shims:
            s.step(seconds)
        try:
            if worker:
                yield from self.kill(name, fault, record)
            deadline = min(time.monotonic() + fault.hold_s, self.run.until + 4)
            while time.monotonic() < deadline and reads() == before:
                yield
            record["effective"] = reads() > before
            yield from pause(0.5)
        finally:
            for s in shims:
                s.step(0)

    def fill(self, name, fault, record):
        """The disk of run folder and logs is full; the victim is killed, and has to come back when there is room.
        It is full until that was felt."""
        def refused():
            return sum(s.no_space() for s in self.site.shims.values())
        before, filler = refused(), Filler(self.site.run_disk)
        until_s = time.monotonic() + fault.hold_s
        self.run.disk_full = (time.monotonic(), None)
        try:
            filler.fill()
            yield from self.kill(name, fault, record)
            while time.monotonic() < until_s or (refused() == before and time.monotonic() < until_s + 5):
                filler.fill()
                yield
        finally:
            filler.heal()
            self.run.disk_full = (self.run.disk_full[0], time.monotonic())
            record["refused"] = refused() - before
            record["effective"] = record["refused"] > 0

    def fill_etcd(self, name, fault, record):
        """Values until its quota is used up; then it takes no writes until there is room, and the alarm is off."""
        etcd = Etcd(self.lab.namespaces["etcd"])
        work = Background(etcd.fill)
        try:
            raised = yield from until(lambda: work.ended() and [work.result()], 20, "etcd to raise its alarm")
            yield from pause(fault.hold_s)
        finally:
            heal = Background(Etcd(self.lab.namespaces["etcd"]).heal)
        yield from until(lambda: heal.ended() and heal.result(), 20, "etcd to have room again")
        record["effective"] = bool(raised[0])

    # --- well again ------------------------------------------------------------------------------------

    def recovered(self, fault, since):
        """A condition: everything that this lane breaks is whole, by what was asked after `since`."""
        lane = fault.pair.lane
        if lane == "store":
            return self.seen.caught_up(since) and self.run.history.served()
        if lane == "packets":
            said = self.seen.said("steer", since)
            return said and len(self.seen.table(since)) == self.site.replicas_wanted and self.run.udp_well()
        if lane == "clocks" and fault.pair.victim == "worker":
            return len(self.seen.table(since)) == self.site.replicas_wanted
        if lane == "clocks":
            return True
        if fault.pair.kind == "disk full" and fault.pair.victim != "etcd":
            return self.seen.caught_up(since) and len(self.seen.table(since)) == self.site.replicas_wanted
        if fault.pair.victim == "etcd":
            return self.seen.said("etcd", since) and self.seen.leads(since)
        return self.seen.leads(since) and all(self.site.instances[n].running() for n in CONTROLLERS)

    def what_lacks(self, fault):
        return "all to be well after %s of %s:\n%s" % (fault.pair.kind, fault.pair.victim, self.run.told())
