#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every store is replaced, one after another, by readiness alone, as a StatefulSet does it: nothing is lost.

Each life of a store is a pod: a namespace of its own with an address of its own, and nobody is told that. The site knows
the store by another address, a Service's, which is nowhere for a while when the pod is gone (packets to it vanish, as when
an endpoint lags), then with the next pod. Three stores keep two copies of each shard. The next one is told to stop
as soon as /readyz of the one before says 200. Ping and TCP go on all the time: 0 lost, 0 broken; no view ever
has fewer copies than it is to have.
"""
import json
import os
import re
import socket
import time

import network
import scene
import traffic
from lethe_site import Site, wait_for
from netns import NetError

WORKERS, STORES, COPIES = ["w1", "w2"], ["store-a", "store-b", "store-c"], 2
CONNECTIONS, PING_S, CONTROL_S = 32, 0.05, 1.0
NOWHERE_S = 0.5     # an address is nobody's for so long


class PodSite(Site):
    """Stores in namespaces that live as long as their process; what site.yaml names are addresses that move."""

    lives = 0

    def start_store(self, name):
        if name in self.lab.namespaces:
            self.remove(name)  # network.py's, which is to last
        self.lives += 1
        pod = self.pod(name)
        network.attach_to_management(self.lab, pod, "10.255.0.%d" % (40 + self.lives))
        i = self._start(name, "store", [self.programs + "/statestore/lethe-store", "-c", self.config, "--node", name,
                                        "--bind", "0.0.0.0"], pod)
        self.wait_answers(name)
        ns = self.lab.namespaces[pod]
        ns.ip("addr add %s/32 dev eth0" % network.STORES[name])
        for other in self.lab.namespaces.values():  # who has learned where it was asks anew, as of a Service's endpoints
            other.ip("neigh flush to %s" % network.STORES[name])
        return i

    def pod(self, name):
        return "%s-%d" % (name, self.lives)

    def remove_pod(self, name):
        """After its process: the cable is cut, as a node does it."""
        self.remove(next(n for n in self.lab.namespaces if n.startswith(name + "-")))

    def remove(self, namespace):
        ns = self.lab.namespaces.pop(namespace)
        ns.ip("link del eth0")
        ns.holder.kill()
        os.close(ns.fd)

    def fetch(self, name, path):
        """(status is 200, text) of a program's HTTP."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            try:
                s.connect(os.path.join(self.run_dir, name + ".metrics.sock"))
                s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
                head, _, body = s.makefile("rb").read().partition(b"\r\n\r\n")
            except OSError as e:
                return False, str(e)
        return b" 200 " in head.split(b"\r\n")[0], body.decode()

    def store_lost(self, worker):
        """How often it called the store out of reach."""
        text = wait_for(lambda: self.fetch(worker, "/metrics")[1], 10, "metrics of " + worker)
        return int(re.search(r"^lethe_worker_store_lost_total(?:{.*})? (\d+)$", text, re.M).group(1))

    def replace(self, name):
        """Its last word, and how long the whole took."""
        began = time.monotonic()
        status = self.stop(name)
        stopped = time.monotonic()
        if status != 0:
            raise NetError("%s: exit status %s by SIGTERM" % (name, status))
        self.remove_pod(name)
        time.sleep(NOWHERE_S)
        self.start_store(name)
        wait_for(lambda: self.fetch(name, "/readyz")[0], 30, lambda: "%s to be ready: %s\n%s" % (
            name, self.fetch(name, "/readyz")[1], self.told()))
        return stopped - began, time.monotonic() - stopped


class Pings:
    def __init__(self, lab):
        self.process = lab.spawn("ping", ["ping", "-n", "-D", "-i", str(PING_S), network.SERVERS["s2"]],
                                 lab.namespaces["c3"])

    def answers(self):
        with open(self.process.log) as f:
            return {int(n): float(ms) for n, ms in re.findall(r"icmp_seq=(\d+) .*time=([\d.]+)", f.read())}

    def goes_on(self):
        """The number of an answer that came just now."""
        last = max(self.answers(), default=0)
        wait_for(lambda: max(self.answers(), default=0) > last + 2, 20, "pings to be answered; see " + self.process.log)
        return max(self.answers())

    def lost(self, first, last):
        answers = self.answers()
        return [n for n in range(first, last + 1) if n not in answers], max(answers[n] for n in answers if first <= n <= last)


def views(site):
    """Copies in every view that any store told of: {(shard, epoch): copies}."""
    seen = {}
    for name in STORES:
        with open(site.instances[name].process.log) as f:
            for e in (json.loads(line) for line in f if '"view change"' in line):
                seen[int(e["shard"]), int(e["epoch"])] = int(e["copies"])
    return seen


def judge(site, checks, pings, what, first, last):
    lost, slowest = pings.lost(first, last)
    checks.check(what + ": no ping lost", not lost, "%d of %d%s; the slowest took %.0f ms" % (
        len(lost), last - first + 1, ": %s" % lost[:20] if lost else "", slowest), pings.process.log)


def act(lab, site, checks):
    site.bring_up(WORKERS)
    lines, pings = traffic.Lines(lab, CONNECTIONS, every_s=0.2), Pings(lab)
    lines.wait_opened()
    first = pings.goes_on()
    time.sleep(CONTROL_S)
    judge(site, checks, pings, "without a change", first, pings.goes_on())
    began, lost_before = views(site), {w: site.store_lost(w) for w in WORKERS}
    first = pings.goes_on()
    for name in reversed(STORES):
        stop_s, start_s = site.replace(name)
        checks.say("%s: gone %.2f s after SIGTERM, its successor ready %.2f s later" % (name, stop_s, start_s))
    judge(site, checks, pings, "all stores replaced", first, pings.goes_on())
    after = {key: copies for key, copies in views(site).items() if key not in began}
    few = ["shard %d epoch %d: %d" % (*key, copies) for key, copies in sorted(after.items()) if copies < COPIES]
    checks.check("every view had its copies", after and not few, "; ".join(few) or "%d views" % len(after), lab.logs)
    lost = {w: site.store_lost(w) - lost_before[w] for w in WORKERS}
    checks.say("how often workers called the store out of reach (a matter of time, so told and not judged): " + json.dumps(lost))
    checks.result("connections", lines.finish())


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=PodSite, stores=STORES, etcd=True, copies=COPIES)
