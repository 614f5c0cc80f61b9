# SPDX-License-Identifier: BSD-3-Clause
"""How each fault of the cluster is done, when it had an effect, how it is healed, when all is well again.

A fault is a generator, a step of its lane (tests/chaos/lanes.py); `record` tells what became of it. *Effective* is measured,
never assumed: see `EFFECTS`. Processes of pods are found by the control groups of our own nodes, never by name.
"""
import os
import select
import signal
import time

import chaos_plan
from chaos_observe import container, processes, restarts
from chaos_plan import AGENTS, LINKS, PLANE, PODS
from lanes import Firewall, Stuck, pause, slow_cable, until
from observe import alive, process_state

EFFECTS = {
    "delete": "its processes are gone, ended as told, and another pod takes its place",
    "delete by force": "its processes are gone, and another pod takes its place",
    "kill -9": "the victim had worked, and the kernel says that it is dead",
    "stop": "it stood in state T all the time, and used no processor",
    "stop, long": "it stood in state T all the time, and used no processor",
    "roll out": "kubectl says that it is done, and no earlier pod is left",
    "scale": "there are as many as was said, another number than before",
    "drain": "kubectl says that it is done, and only steering was left on the node",
    "cut off": "frames had come from the node, and none did meanwhile, or the filter counted what it dropped",
    "cut off, long": "the same",
    "loss": "the filter's counter says that frames were dropped",
    "delay": "frames were carried late, and some overtook others",
}
WORKLOADS = {"nf": "deployment/nf", "store": "statefulset/store", "etcd": "statefulset/etcd", "steer": "daemonset/steer",
             "controller": "deployment/controller"}
WORKERS_LEAST, WORKERS_MOST = 2, 5
ROLL_OUT_S, DRAIN_S = 240, 240


class Faults:
    def __init__(self, run):
        self.run, self.lab, self.cluster, self.plane = run, run.lab, run.cluster, run.cluster.plane
        self.seen, self.thought = run.observer, (None, None, 0, False)

    # --- who -----------------------------------------------------------------------------------

    def choose(self, fault):
        """(name, for people), once there is somebody to choose; generator."""
        victim, lot = fault.pair.victim, fault.which
        if victim in PODS:
            app = PODS[victim]
            yield from until(lambda: self.whole([app]), self.run.RECOVER_S, lambda: "pods of %s before the next fault of them\n%s" % (
                app, self.run.told()))
            if fault.pair.kind in ("roll out", "scale"):
                return WORKLOADS[app], victim
            pods = self.seen.pods(app)
            least = min(restarts(p) for p in pods)       # who is restarted often waits longer each time
            if fault.pair.kind == "kill -9":
                pods = [p for p in pods if restarts(p) == least]
            return pods[int(lot * len(pods))]["metadata"]["name"], victim
        if victim in PLANE:
            return PLANE[victim], victim
        if victim == "node" or victim == "node link":
            yield from until(lambda: self.whole(), self.run.RECOVER_S, lambda: "all to be whole before a fault of a node\n" + self.run.told())
        names = [n.name for n in self.cluster.nodes]
        names = names[int(lot * len(names)):] + names[:int(lot * len(names))]
        if fault.pair.kind == "cut off, long":            # the one that can be missed, if there is one
            names.sort(key=lambda n: not self.other_can_go_on(n))
        if fault.pair.kind == "drain":                    # there has to be something on it
            names.sort(key=lambda n: not self.on(n))
        return names[0], victim

    def on(self, node):
        """Kinds of the pods on a node that a drain takes away."""
        return {p["metadata"]["labels"]["app"] for p in self.seen.pods() if p["spec"].get("nodeName") == node} - {"steer"}

    def pod(self, name):
        found = [p for p in self.seen.pods() if p["metadata"]["name"] == name]
        if not found or not container(found[0]):
            raise Stuck("%s is not there any more, or does not run" % name)
        return found[0]

    def node_of(self, pod):
        return self.node(pod["spec"]["nodeName"])

    def node(self, name):
        return next(n for n in self.cluster.nodes if n.name == name)

    # --- what ------------------------------------------------------------------------------------

    def hit(self, fault, record):
        """The fault from its beginning to where it is healed; generator."""
        kind, victim, name = fault.pair.kind, fault.pair.victim, record["name"]
        if victim in AGENTS:
            how = self.kill_agent if kind == "kill -9" else self.stop_agent
        elif victim in PLANE:
            how = self.kill_plane if kind == "kill -9" else self.stop_plane
        elif victim in LINKS:
            how = {"cut off": self.cut, "cut off, long": self.cut, "loss": self.loss, "delay": self.delay}[kind]
        else:
            how = {"delete": self.delete, "delete by force": self.delete, "kill -9": self.kill, "stop": self.stop,
                   "roll out": self.roll_out, "scale": self.scale, "drain": self.drain}[kind]
        yield from how(name, fault, record)

    def kubectl(self, *words, wait_s=60):
        """As a person types it; generator: its exit status."""
        p = self.lab.spawn("kubectl", [self.plane.programs + "/kubectl", "--kubeconfig", self.plane.config, *words],
                           self.plane.namespace, env={"HOME": self.plane.folder})
        status = yield from until(lambda: (p.popen.poll(),) if not p.alive() else None, wait_s,
                                  "`kubectl %s`; see %s" % (" ".join(words), p.log))
        return status[0]

    # --- pods and containers ---------------------------------------------------------------------------

    def delete(self, name, fault, record):
        force = fault.pair.kind == "delete by force"
        pod = self.pod(name)
        uid, node = pod["metadata"]["uid"], self.node_of(pod)
        pids = processes(node, pod)
        self.run.expect([uid], "any" if force else "ends", record)
        status = yield from self.kubectl("-n", "lethe", "delete", "pod", name, "--wait=false",
                                         *(["--force", "--grace-period=0"] if force else []))
        record["status"] = status
        yield from until(lambda: not any(map(alive, pids)) and not self.is_there(uid), self.run.RECOVER_S,
                         "%s and its processes to be gone" % name)
        record["effective"] = status == 0 and bool(pids)

    def is_there(self, uid):
        """As far as is known: who cannot be asked has not said that it is gone."""
        return self.seen.said() is None or any(p["metadata"]["uid"] == uid for p in self.seen.pods())

    def kill(self, name, fault, record):
        pod = self.pod(name)
        cid, app = container(pod), PODS[fault.pair.victim]
        pids = processes(self.node_of(pod), pod, cid)
        worked = self.seen.forwarded(pod) > 0 if app in ("nf", "steer") else self.seen.says_ready(pod)
        self.run.killed.add(cid)
        fds = [os.pidfd_open(pid) for pid in pids]
        try:
            for fd in fds:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            for fd in fds:
                yield from until(lambda: select.select([fd], [], [], 0)[0], 10, "%s to die of SIGKILL" % name)
        finally:
            for fd in fds:
                os.close(fd)
        record["effective"] = worked and bool(pids)

    def stop(self, name, fault, record):
        pod = self.pod(name)
        yield from self.stand_still(processes(self.node_of(pod), pod, container(pod)), fault, record)

    def stand_still(self, pids, fault, record):
        stood = bool(pids)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield from until(lambda: all(process_state(p)[0] in ("T", None) for p in pids), 5, "processes to stand still")
            begun = [process_state(p)[1] for p in pids]
            until_s = time.monotonic() + fault.hold_s
            while time.monotonic() < until_s:
                yield
                stood &= all(process_state(p)[0] == "T" for p in pids)
            record["effective"] = stood and [process_state(p)[1] for p in pids] == begun
        finally:
            for pid in filter(alive, pids):
                os.kill(pid, signal.SIGCONT)

    def roll_out(self, workload, fault, record):
        earlier = {p["metadata"]["uid"] for p in self.seen.pods(PODS[fault.pair.victim])}
        self.run.expect(earlier, "ends", record)
        status = yield from self.kubectl("-n", "lethe", "rollout", "restart", workload)
        if status == 0:
            status = yield from self.kubectl("-n", "lethe", "rollout", "status", workload, "--timeout=%ds" % ROLL_OUT_S,
                                             wait_s=ROLL_OUT_S + 20)
        record["status"] = status
        yield from until(lambda: not any(map(self.is_there, earlier)), self.run.RECOVER_S, "earlier pods of %s to be gone" % workload)
        record["effective"] = status == 0

    def scale(self, workload, fault, record):
        before = self.run.wanted["nf"]
        others = [n for n in range(WORKERS_LEAST, WORKERS_MOST + 1) if n != before]
        count = others[int(fault.strength * len(others))]
        record["detail"] = "%d to %d" % (before, count)
        self.run.expect([p["metadata"]["uid"] for p in self.seen.pods("nf")], "ends", record)
        status = yield from self.kubectl("-n", "lethe", "scale", workload, "--replicas=%d" % count)
        self.run.wanted["nf"] = count
        since = time.monotonic()
        yield from until(lambda: self.seen.whole("nf", count, since), self.run.RECOVER_S, "%d workers" % count)
        record["effective"] = status == 0

    # --- nodes -----------------------------------------------------------------------------------------

    def drain(self, name, fault, record):
        record["detail"] = ", ".join(sorted(self.on(name)))
        self.run.expect([p["metadata"]["uid"] for p in self.seen.pods() if p["spec"].get("nodeName") == name
                         and p["metadata"]["labels"]["app"] in self.on(name)], "ends", record)
        try:
            record["status"] = yield from self.kubectl("drain", name, "--ignore-daemonsets", "--delete-emptydir-data",
                                                       "--timeout=%ds" % DRAIN_S, wait_s=DRAIN_S + 20)
            since = time.monotonic()
            yield from until(lambda: self.seen.said(since) and not self.on(name), 20, "pods of %s to be gone" % name)
            record["effective"] = record["status"] == 0
            yield from pause(fault.hold_s)
        finally:
            self.plane.kubectl("uncordon", name)

    def agent(self, name, victim):
        return self.node(name).agent_pid(victim)

    def kill_agent(self, name, fault, record):
        node, agent = self.node(name), fault.pair.victim
        yield from until(lambda: node.agent_pid(agent), 10, "%s of %s to be there" % (agent, name))
        os.kill(node.agent_pid(agent), signal.SIGKILL)
        starter = node.agents[agent]
        yield from until(lambda: not starter.alive(), 10, "%s of %s to die" % (agent, name))
        record["effective"] = True
        yield from pause(fault.hold_s)
        node.start_again(agent)

    def stop_agent(self, name, fault, record):
        node, agent = self.node(name), fault.pair.victim
        pid = yield from until(lambda: node.agent_pid(agent), 10, "%s of %s to be there" % (agent, name))
        try:
            yield from self.stand_still([pid], fault, record)
        finally:
            node.agents[agent].signal(signal.SIGCONT)     # who stands in front of it stopped when it did

    def kill_plane(self, name, fault, record):
        process = self.plane.processes[name]
        record["effective"] = process.alive()
        process.kill()
        try:
            yield from pause(fault.hold_s)
        finally:
            self.plane.start_again(name)

    def stop_plane(self, name, fault, record):
        yield from self.stand_still([self.plane.processes[name].pid], fault, record)

    # --- links -----------------------------------------------------------------------------------------

    def far_end(self, victim):
        """The namespace where the other end of a node's cable is, called as the node, in a bridge `lan`."""
        return self.lab.namespaces[{"eth0": "master", "inside": "clients", "outside": "servers"}[LINKS[victim]]]

    @staticmethod
    def both_ways(name, verdict):
        return [("ingress device " + name, verdict), ("egress device " + name, verdict)]

    def cut(self, name, fault, record):
        ns, hold_s = self.far_end(fault.pair.victim), fault.hold_s
        if fault.pair.kind == "cut off, long" and not self.other_can_go_on(name):
            hold_s = chaos_plan.CUT_SHORT_S
            record["short"] = True
        record["detail"] = ("short: what the other node lacks is here, " if record.get("short") else "") + (
            "no carrier" if fault.strength < 0.5 else "silent")
        if fault.strength < 0.5:
            yield from self.unplug(ns, name, hold_s, record)
            return
        wall = Firewall(ns, self.both_ways(name, "counter drop"), "netdev")
        try:
            yield from pause(hold_s)
        finally:
            record["dropped"] = wall.heal()
            record["effective"] = record["dropped"] > 0

    def unplug(self, ns, name, hold_s, record):
        def frames():
            return int(ns.run(["ip", "-s", "-o", "link", "show", name]).stdout.split("RX:")[1].split("\\")[1].split()[1])
        before = frames()
        yield from until(lambda: frames() > before, 20, "a frame from " + name)
        ns.ip("link set %s down" % name)
        try:
            down = frames()
            yield from pause(hold_s)
            record["effective"] = frames() == down
        finally:
            ns.ip("link set %s up" % name)

    def other_can_go_on(self, name):
        """etcd's majority and a copy of each shard are on the other node."""
        others = [n.name for n in self.cluster.nodes if n.name != name]
        members = [p for p in self.seen.ready("etcd") if p["spec"]["nodeName"] in others]
        held = set().union(*map(self.seen.held_by, others))
        workers = [p for p in self.seen.ready("nf") if p["spec"]["nodeName"] in others]
        return len(members) >= 2 and len(held) == self.run.shards and bool(workers)

    def loss(self, name, fault, record):
        permille = int(50 + 250 * fault.strength)
        record["detail"] = "%d %%" % (permille // 10)
        wall = Firewall(self.far_end(fault.pair.victim), self.both_ways(
            name, "numgen random mod 1000 < %d counter drop" % permille), "netdev")
        try:
            yield from pause(fault.hold_s)
        finally:
            record["dropped"] = wall.heal()
            record["effective"] = record["dropped"] > 0

    def delay(self, name, fault, record):
        yield from slow_cable(self.lab, self.run.site.programs, self.far_end(fault.pair.victim), name, "lan", fault, record)

    # --- well again ------------------------------------------------------------------------------------

    def whole(self, apps=None, since=0.0):
        """All pods are there and ready, by what was asked after `since`; every shard has its copies. Thought over again
        five times a second."""
        key = tuple(apps or self.run.apps), since
        if key != self.thought[:2] or time.monotonic() - self.thought[2] > 0.2:
            self.thought = *key, time.monotonic(), self._whole(*key)
        return self.thought[3]

    def _whole(self, apps, since):
        return all(self.seen.whole(a, self.run.wanted[a], since) for a in apps) and (
            "store" not in apps or (len(self.seen.copies(since)) == self.run.shards
                                    and set(self.seen.copies(since).values()) == {self.run.copies}))

    def recovered(self, fault, since):
        """A condition: everything that this fault broke is whole, by what was asked after `since`."""
        victim = fault.pair.victim
        if victim in PODS:
            return self.whole([PODS[victim]], since) and (victim not in ("worker", "steering") or self.run.udp_well())
        if victim in ("node", "node link"):
            return self.seen.nodes_ready(since) and self.whole(None, since) and self.run.udp_well()
        if victim in LINKS:
            return self.run.udp_well()
        return self.seen.nodes_ready(since) and self.seen.said(since) is not None

    def what_lacks(self, fault):
        return "all to be well after %s of %s:\n%s" % (fault.pair.kind, fault.pair.victim, self.run.told())
