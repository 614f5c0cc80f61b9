# SPDX-License-Identifier: BSD-3-Clause
"""Lanes of faults beside each other, of whatever is broken: a site (run.py), a cluster (tests/k8s/chaos_run.py).

A fault is a generator: it yields while it waits, so that lanes go on beside each other in one thread, the one that
may start processes. Whose turn it is the schedule of the seed says (plan.py), when it may begin the tags of what goes on.
"""
import collections
import json
import signal
import subprocess
import time

import plan
from netns import NetError

TICK_S, BETWEEN_S = 0.02, 0.4


class Stuck(Exception):
    """Something that was promised did not happen in time."""


def pause(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield


def until(condition, timeout_s, what):
    """Waits; returns the condition's value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Stuck("waited %g s in vain for %s" % (timeout_s, what() if callable(what) else what))
        yield


class Firewall:
    """A table of a namespace's packet filter, with counters."""
    number = 0

    def __init__(self, ns, rules, family="ip"):
        """rules: (hook, match and verdict). A hook of the family netdev names its device, too."""
        Firewall.number += 1
        self.ns, self.table = ns, "%s chaos%d" % (family, Firewall.number)
        lines = ["add table " + self.table]
        for hook in sorted({h for h, _ in rules}):
            lines.append("add chain %s %s { type filter hook %s priority 0; }" % (self.table, hook.split()[0], hook))
        for hook, rule in rules:
            lines.append("add rule %s %s %s" % (self.table, hook.split()[0], rule))
        ns.run(["nft", "\n".join(lines)])

    def dropped(self):
        out = json.loads(self.ns.run(["nft", "-j", "list", "table", *self.table.split()]).stdout)
        return sum(e["counter"]["packets"] for r in out["nftables"] if "rule" in r
                   for e in r["rule"]["expr"] if "counter" in e)

    def heal(self):
        dropped = self.dropped()
        self.ns.run(["nft", "delete", "table", *self.table.split()])
        return dropped


def way_round(ns, cable, bridge):
    """A pair of interfaces beside a cable that is in a bridge: for slow_cable()."""
    ns.ip("link add x-%s type veth peer name y-%s" % (cable, cable), "link set y-%s master %s" % (cable, bridge),
          "link set x-%s up" % cable, "link set y-%s up" % cable)


def slow_cable(lab, build, ns, cable, bridge, fault, record):
    """Frames of a cable in a bridge go the way round, late and out of order, as strong as the fault says; generator."""
    delay_ms, jitter_ms = int(5 + 20 * fault.strength), int(5 + 30 * fault.which)
    record["detail"] = "%d to %d ms" % (delay_ms, delay_ms + jitter_ms)
    ns.ip("link set %s nomaster" % cable)  # first, so that no frame goes both ways
    relay = lab.spawn("relay-" + cable, [
        build + "/tests/chaos/chaos_relay", ns.path(), cable, "x-" + cable, str(delay_ms), str(jitter_ms),
        str(int(fault.which * 1e6))], stdout=subprocess.PIPE, nice=-5)
    try:
        yield from pause(fault.hold_s)
    finally:
        relay.signal(signal.SIGTERM)
        out = relay.popen.communicate(timeout=10)[0]
        ns.ip("link set %s master %s" % (cable, bridge),  # and who was learnt behind the way round is not there now
              "link set y-%s type bridge_slave fdb_flush" % cable)
    told = json.loads(out) if out else {"frames": 0, "reordered": 0}
    record["relayed"] = told
    record["effective"] = told["frames"] >= 10 and told["reordered"] >= 1


class Lanes:
    """What a run of faults is. A subclass has `faults` (choose, hit, recovered, what_lacks), `watch`, `begin`, `end`,
    and may have the others."""
    NAMES, RECOVER_S = plan.LANES, 40

    def __init__(self, args):
        self.args, self.started, self.until = args, time.monotonic(), 0.0
        self.records, self.violations, self.current = [], [], {}
        self.held = collections.Counter()      # tags of what goes on

    # --- words ---------------------------------------------------------------------------------

    def at(self, when=None):
        return round((when or time.monotonic()) - self.started, 2)

    def say(self, text):
        print("%7.1f s  %s" % (self.at(), text), flush=True)

    def violation(self, what, text):
        self.violations.append({"at_s": self.at(), "what": what, "text": text})
        self.say("VIOLATION  %s: %s" % (what, text))

    def told(self):
        """How all is, when something was waited for in vain."""
        return ""

    # --- the lanes -----------------------------------------------------------------------------

    def go_on(self, seconds):
        """Faults for so long, then until the last of them is over."""
        self.until = time.monotonic() + seconds
        self.faults_from = self.at()
        lanes = {name: self.lane(name) for name in self.NAMES if any(p.lane == name for p in self.args.pairs)}
        while lanes:
            begun = time.monotonic()
            for name in list(lanes):
                try:
                    next(lanes[name])
                except StopIteration:
                    del lanes[name]
            self.watch()
            time.sleep(max(0.001, TICK_S - (time.monotonic() - begun)))
        self.faults_to = self.at()

    def lane(self, name):
        for fault in plan.schedule(self.args.seed, name, self.args.pairs):
            for _ in range(2):                 # once more if it had no effect
                if not (yield from self.allowed(fault.pair)):
                    return
                self.held.update(fault.pair.holds)
                try:
                    record = yield from self.one(fault)
                except (Stuck, NetError, OSError) as e:
                    self.violation("%s of %s" % (fault.pair.kind, fault.pair.victim), "%s\n%s" % (e, self.told()))
                    return
                finally:
                    self.held.subtract(fault.pair.holds)
                yield from self.after(record)
                yield from pause(BETWEEN_S)
                if record["effective"]:
                    break

    def allowed(self, pair):
        """Waits until it may begin; False: the time is over."""
        while time.monotonic() < self.until:
            if not any(self.held[t] > 0 for t in pair.wants | pair.holds) and (not pair.rest or self.rested()):
                return True
            yield
        return False

    def rested(self):
        """Traffic has forgotten the last standstill."""
        return True

    def one(self, fault):
        """A fault from its choice to the moment when all is well; generator. Its record is in self.records."""
        pair = fault.pair
        name, what = yield from self.faults.choose(fault)
        record = {"lane": fault.lane, "number": fault.number, "kind": pair.kind, "victim": pair.victim, "name": name,
                  "what": what, "hold_s": fault.hold_s, "effective": False, "began": time.monotonic(), "healed": None,
                  "recovered": None, "gap_ms": None}
        flows = yield from self.prepare_gap(record)
        record["flows"], record["began"] = flows, time.monotonic()
        self.begin(fault, record)
        try:
            yield from self.faults.hit(fault, record)
            record["healed"] = time.monotonic()
            yield from until(lambda: self.faults.recovered(fault, record["healed"]), self.RECOVER_S,
                             lambda: self.faults.what_lacks(fault))
            record["recovered"] = time.monotonic()
        except (Stuck, NetError, OSError, ValueError) as e:
            self.violation("%s of %s (%s)" % (pair.kind, pair.victim, name), str(e))
        finally:
            self.end(fault, record)
        return record

    def prepare_gap(self, record):
        """The number of flows that measure; generator."""
        return None
        yield

    def after(self, record):
        """What is looked at after each fault; generator."""
        return
        yield
