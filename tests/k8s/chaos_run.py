# SPDX-License-Identifier: BSD-3-Clause
"""One run on the cluster: lanes of faults beside each other, clients, what must hold all the time."""
import collections
import json
import os
import re
import time

import chaos_plan
from chaos_faults import Faults
from chaos_observe import Observer, groups, is_ready, processes
from lanes import Lanes, way_round
from lethe_site import wait_for
from netns import NetError
from observe import memory_mb
from site_traffic import Traffic

SAMPLE_S, LOOK_S, MEMORY_S, SAY_S = 0.5, 0.2, 2.0, 15.0
PACED = 8                    # UDP flows that measure gaps: the machine has other things to do
REST_MS = 1500               # a connection that waits longer is waited for before anything stands still again
PATIENT_S = 5.0              # who waits longer for its turn has precedence: a node's turn needs everybody else's rest
LIE_S, SLOW_S = 20.0, 40.0   # so long may Kubernetes call ready what is not; call unready what is
STATUS_S = 30
AFTER_S = 20.0               # and is asked again so long after a fault of what tells it
EVICTED = ("nf", "controller")   # begin elsewhere when their node is silent for long
MEMORY_PART = 0.9            # of a container's limit


class Run(Lanes):
    NAMES, RECOVER_S = chaos_plan.LANES, 120

    def __init__(self, args, lab, cluster, site, apps):
        """apps: {kind of pods: how many}."""
        super().__init__(args)
        self.lab, self.cluster, self.site = lab, cluster, site
        self.apps, self.wanted = list(apps), dict(apps)
        self.copies = 1 if args.planted else 2
        self.samples, self.waiting, self.lies = [], {}, {}
        self.killed, self.expected = set(), {}      # containers; pods: "any" end, or an orderly one ("ends")
        self.memory_most_mb, self.memory_limit_mb = collections.Counter(), {}
        self.untold_until = 0.0                     # till then Kubernetes cannot know who is ready
        self.due = dict.fromkeys(("look", "sample", "memory"), 0.0)
        self.due["say"] = time.monotonic() + SAY_S
        self.observer = self.traffic = None
        self.end_told = {}

    # --- up ------------------------------------------------------------------------------------

    def bring_up(self):
        for name in ("master", "clients", "servers"):
            ns = self.lab.namespaces[name]
            ns.sysctl("net.ipv4.conf.all.arp_ignore", 1)   # the way round has no address, and answers for none
            for n in self.cluster.nodes:
                way_round(ns, n.name, "lan")
        self.observer = Observer(self.cluster, self.apps)
        self.faults = Faults(self)
        self.shards = None

        def shards():
            found = [self.observer.figure(p, "lethe_store_role") for p in self.observer.pods("store")]
            self.shards = len({re.search(r'shard="[^"]*"', k).group(0) for labels in found for k in labels})
            return self.shards and self.faults.whole()
        wait_for(shards, 90, lambda: "all to be whole before the first fault\n" + self.told(), 0.2)
        self.observer.ended.clear()
        self.traffic = Traffic(self.site)
        self.traffic.start(tcp=self.args.connections, udp=48, churn=5, pings=2)
        self.traffic.udp.ask("pace", flows=list(range(PACED)))
        self.said_broken = set()
        self.say("%s; %d shards; %d connections, UDP flows, short flows, echoes" % (
            ", ".join("%d %s" % (n, a) for a, n in self.wanted.items()), self.shards, self.args.connections))

    def told(self):
        return "held: %s\ncopies: %s\nprograms say ready: %s\nnot ready: %s\n%s" % (
            sorted(+self.held), self.observer.copies(0.0), {p["metadata"]["name"]: self.observer.says_ready(
                p, time.monotonic() - 5) for p in self.observer.pods()},
            "; ".join(map(self.why_not, self.observer.unready(time.monotonic() - 5))) or "none", self.site.what_is())

    def why_not(self, pod):
        """A pod that is not ready: what it says itself, and what happened to it, the whole of it in the run's folder."""
        name = pod["metadata"]["name"]
        events = self.cluster.kubectl("-n", "lethe", "get", "events", "-o", "wide", "--sort-by=.lastTimestamp", "--request-timeout=5s",
                                      "--field-selector", "involvedObject.name=" + name, check=False)
        with open(os.path.join(self.lab.logs, "events-" + name), "w") as f:
            f.write(events.stdout or events.stderr)
        return "%s is %sready for Kubernetes, and answered \"%s\": see readyz-%s and events-%s in %s" % (
            name, "" if is_ready(pod) else "not ", self.observer.words(pod)[:300], name, name, self.lab.logs)

    # --- the lanes -----------------------------------------------------------------------------

    def rested(self):
        return self.traffic.lines.status()["waiting_ms"] < REST_MS

    def allowed(self, pair):
        """As of Lanes, but who waits for long is waited for."""
        since = time.monotonic()
        self.waiting[pair.lane] = since, pair
        try:
            while time.monotonic() < self.until:
                before_us = any(lane != pair.lane and at < since and time.monotonic() - at > PATIENT_S
                                and (p.wants | p.holds) & pair.holds for lane, (at, p) in self.waiting.items())
                if not before_us and not any(self.held[t] > 0 for t in pair.wants | pair.holds) and (
                        not pair.rest or self.rested()):
                    return True
                yield
            return False
        finally:
            del self.waiting[pair.lane]

    def expect(self, uids, how, record):
        """These pods may end until the fault is over."""
        self.expected.update(dict.fromkeys(uids, how))
        record["pods"] = list(uids)

    def begin(self, fault, record):
        self.current[fault.lane] = record
        self.records.append(record)

    def end(self, fault, record):
        self.current.pop(fault.lane, None)
        now = time.monotonic()
        record["ended"] = now
        gaps = self.traffic.gaps(record["began"])
        record["gap_ms"], record["tcp_ms"] = gaps["udp_ms"], gaps["tcp_ms"]
        self.judge()
        for uid in set(record.pop("pods", ())) & {p["metadata"]["uid"] for p in self.observer.pods()}:
            self.expected.pop(uid, None)           # whoever was left may not end from now on
        if {"node", "agent", "plane"} & fault.pair.holds:
            self.untold_until = now + AFTER_S
        self.say("%-8s %-15s %-19s %-26s %s %6.2f s, well after %s, gap UDP %5d ms, TCP %5d ms%s" % (
            fault.lane, record["kind"], record["what"], record["name"], "ok  " if record["effective"] else "NONE",
            (record["healed"] or now) - record["began"],
            "%6.2f s" % (record["recovered"] - record["healed"]) if record["recovered"] else "never",
            record["gap_ms"], record["tcp_ms"], "; " + record["detail"] if "detail" in record else ""))

    def udp_well(self):
        return self.traffic.udp.ask("status")["silent"] == 0

    # --- what must hold all the time ---------------------------------------------------------------

    def watch(self):
        now = time.monotonic()
        for what, every_s, act in (("look", LOOK_S, self.look), ("sample", SAMPLE_S, self.sample),
                                   ("memory", MEMORY_S, self.memory), ("say", SAY_S, self.progress)):
            if now >= self.due[what]:
                self.due[what] = now + every_s
                act()

    def look(self):
        self.judge()
        now = time.monotonic()
        untold, there = self.untold(), set()
        for pod in self.observer.pods():
            uid, app = pod["metadata"]["uid"], pod["metadata"].get("labels", {}).get("app")
            if app not in self.observer.programs:
                continue
            there.add(uid)
            by_kubernetes, by_itself = is_ready(pod), self.observer.says_ready(pod, now - 10)
            if untold or by_kubernetes == by_itself or pod["metadata"].get("deletionTimestamp"):
                self.lies.pop(uid, None)
                continue
            since = self.lies.setdefault(uid, (now, by_kubernetes))
            if since[1] != by_kubernetes:
                self.lies[uid] = now, by_kubernetes
            elif now - since[0] > (LIE_S if by_kubernetes else SLOW_S):
                self.violation("readiness", "%s is %sready for Kubernetes, but says of itself that it is %s, for %.0f s: %s" % (
                    pod["metadata"]["name"], "" if by_kubernetes else "not ", "not" if by_kubernetes else "", now - since[0],
                    self.why_not(pod)))
                self.lies[uid] = now, by_kubernetes
        for uid in set(self.lies) - there:
            del self.lies[uid]

    def untold(self):
        """Nobody can tell Kubernetes who is ready; workers of a node that is silent for long are told to end."""
        return time.monotonic() < self.untold_until or any(self.held[t] > 0 for t in ("node", "agent", "plane"))

    def judge(self):
        """Containers that ended: all but those that we ended, or that were told to and did so in order."""
        while self.observer.ended:
            e = self.observer.ended.popleft()
            how = self.expected.get(e.uid, "ends" if e.gone and e.app in EVICTED and self.untold() else None)
            fine = e.id in self.killed or how == "any" or (how == "ends" and e.code == 0) or self.place_was_taken(e)
            if fine and e.reason != "OOMKilled":
                continue
            log = self.cluster.kubectl("-n", "lethe", "logs", e.pod, "--previous", "--tail=5", check=False).stdout
            self.violation("a container ended by itself" if how is None else "a container did not end in order",
                           "%s of %s: exit code %s, %s%s; its log: %s" % (
                               e.container, e.pod, e.code, e.reason, ", its pod was deleted" if e.gone else "",
                               " | ".join(log.splitlines())[-1500:]))

    def place_was_taken(self, e):
        """Deleted by force, a front end serves on for a moment. The next one on its node finds interfaces and ports taken then,
        ends with status 1, and is started again."""
        return e.app == "steer" and e.code == 1 and any(
            r["kind"] == "delete by force" and r["victim"] == "steering" and r["began"] <= e.at <= r.get("ended", e.at)
            for r in self.records)

    def memory(self):
        for pod in self.observer.pods():
            app = pod["metadata"].get("labels", {}).get("app")
            node = next((n for n in self.cluster.nodes if n.name == pod["spec"].get("nodeName")), None)
            if app not in self.wanted or not node:
                continue
            mb = max(map(memory_mb, processes(node, pod)), default=0)
            self.memory_most_mb[app] = max(self.memory_most_mb[app], round(mb))
            limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "")
            if limit.endswith("Mi") and mb > MEMORY_PART * int(limit[:-2]) * 1.048576:
                self.violation("memory", "%s has %d MB of its %s" % (pod["metadata"]["name"], mb, limit))

    def sample(self):
        lines, udp = self.traffic.lines.status(), self.traffic.udp.ask("status")
        s = {"at_s": self.at(), "answers": lines["answers"], "late": lines["late"], "waiting_ms": lines["waiting_ms"],
             "broken": lines["broken"], "udp": udp["received"], "silent": udp["silent"], "wanted": dict(self.wanted),
             "ready": {a: len(self.observer.ready(a)) for a in self.apps} if self.observer.said() else None}
        self.samples.append(s)
        for text in self.traffic.broken():
            if text not in self.said_broken and not re.match(r"and \d+ more|a UDP flow had no answer", text):
                self.said_broken.add(text)
                self.violation("traffic", text)
            elif text.startswith("a UDP flow had no answer") and "silence" not in self.said_broken:
                self.said_broken.add("silence")
                self.violation("traffic", text)
        if self.args.planted and self.violations:
            self.until = 0.0                       # it is caught

    def progress(self):
        lines = self.traffic.lines.status()
        self.say("— %d faults, %d effective; %d connections, %d broken, %d late; %d violations; now: %s" % (
            len(self.records), sum(r["effective"] for r in self.records), lines["live"], lines["broken"], lines["late"],
            len(self.violations), ", ".join("%s of %s" % (r["kind"], r["name"]) for r in self.current.values()) or "nothing"))

    # --- the end -------------------------------------------------------------------------------------

    def finish(self):
        """Everything is whole; the traffic ends; verdicts."""
        since = time.monotonic()
        try:
            wait_for(lambda: self.faults.whole(None, since) and self.observer.nodes_ready(since), self.RECOVER_S,
                     lambda: "all to be whole at the end\n" + self.told(), 0.2)
        except NetError as e:
            self.violation("the end", str(e))
        self.judge()
        if "controller" in self.apps:
            self.status()
        sentences, self.end_told = self.traffic.stop()
        for text in sentences:
            if text not in self.said_broken:
                self.violation("traffic", text)
        self.say("the traffic's end: %s" % ", ".join("%s %s" % (v, k) for k, v in self.end_told.items()))
        self.leftovers()

    def status(self):
        """In peace `lethe status` knows the workers that there are."""
        def same():
            said = self.cluster.kubectl("-n", "lethe", "exec", "deploy/controller", "--", "lethe", "status", "-o", "json", check=False).stdout
            try:
                told["workers"] = sorted(w["name"] for w in json.loads(said)["workers"])
            except (ValueError, KeyError) as e:
                told["workers"] = "%s: %s" % (e, said[-300:])
            return told["workers"] == [p["metadata"]["name"] for p in self.observer.pods("nf")]
        told = {}
        try:
            wait_for(same, STATUS_S, "`lethe status` to tell of the workers that there are", 1)
            self.say("`lethe status` and the apiserver agree")
        except NetError:
            self.violation("status", "`lethe status` tells of the workers %s, the apiserver of %s" % (
                told, [p["metadata"]["name"] for p in self.observer.pods("nf")]))

    def leftovers(self):
        """Of pods that are gone nothing runs on."""
        def left():
            return ["%s on %s: processes %s" % (uid, n.name, processes(n, uid)) for n in self.cluster.nodes
                    for uid in groups(n) - {p["metadata"]["uid"] for p in self.observer.pods()}]
        try:
            wait_for(lambda: not left(), 60, "nodes to be rid of pods that are gone", 0.5)
            self.say("nothing is left of pods that are gone")
        except NetError:
            self.violation("leftovers", "of pods that are gone: " + "; ".join(left()))

    def stop(self):
        if self.observer:
            self.observer.stop()
            self.observer.write(self.lab.logs)
