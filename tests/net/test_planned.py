#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Planned changes lose nothing and reorder nothing within a flow, under 2 000 live connections.

A control run without a change comes first: what is lost after one that lost nothing was lost by the change. Then
`lethe scale` 1 -> 4 -> 1, again and again, a restart, other NFs' configuration worker by worker, and autoscaling over
a load curve; then kill -9 of the controller and of etcd. Pressed, there are always flows with packets in flight and
more right behind them (flow_pulse.c): without hold-and-marker nearly every change reorders some.
"""
import collections
import json
import os
import statistics
import threading
import time
from datetime import datetime

import scene
from controlled_site import ControlledSite
from lethe_site import Control
from pulse import Pulse

UDP, TCP = 800, 1200
PACE = 60                         # pulses a second, always
PRESS = [100000, 20000, 4000]     # packets a second; the next one when a control run lost something
SLOW = 20000                      # at most, while workers stand still again and again: windows stay open
CURVE = 10000                     # at the top of the load curve
CONTROL_S = 5.0
CURVE_S = 1.5                     # for each of the two loads that the marks are put between
LOOK_S = 0.005
COUNTED = ("drop", "held", "hold", "absences", "resteered", "pauses")
EDGES = "steer, of what came to its edges, not taken up"
DECISIONS = ("scale", "autoscale", "site")  # kinds of events after which workers are started


class Served(threading.Thread):
    """When did each worker that was not there at the last `begin` send its first packet on?"""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.known, self.last, self.first, self.over = path, None, {}, {}, False
        self.start()

    def begin(self):
        self.known, self.first = None, {}

    def run(self):
        while not self.over:
            try:
                with Control(self.path) as c:
                    while not self.over:
                        self.look(c.ask("workers")["workers"])
                        time.sleep(LOOK_S)
            except (OSError, ValueError, KeyError):
                time.sleep(LOOK_S)

    def look(self, workers):
        if self.known is None:
            self.known = {w["name"]: w["incarnation"] for w in workers}
        for w in workers:
            name, sent = w["name"], w["packets_from"]
            new = w["incarnation"] and w["incarnation"] != self.known.get(name)
            if new and name not in self.first and sent != self.last.get(name, sent):
                self.first[name] = time.time()
            self.last[name] = sent


class Phases:
    """Drives the traffic through one change after another, and keeps what was counted."""

    def __init__(self, lab, site, checks, pulse):
        self.lab, self.site, self.checks, self.pulse = lab, site, checks, pulse
        self.press, self.rows = PRESS[0], []
        self.served = Served(site.socket_of("steer"))
        self.read = 0                # of steering's log

    # --- what may have dropped something -----------------------------------------------------

    def counters(self):
        """Every counter of drops and of holding, by name."""
        found = {}
        for name in ["steer"] + [w["name"] for w in (self.site.status() or {"workers": []})["workers"]]:
            for key, value in (self.site.stats(name) or {}).items():
                if isinstance(value, int) and any(w in key for w in COUNTED):
                    found[name + " " + key] = value
                if key == "lethe_steer_rx_packets_total":
                    found[EDGES] = -value
        for name, ns in self.lab.namespaces.items():
            text = ns.run(["sh", "-c", "cd /proc/net; cat dev; echo; cat snmp netstat; echo; cat softnet_stat"]).stdout
            self.count_kernel(name, *(part.splitlines() for part in text.split("\n\n")), found)
        return found

    @staticmethod
    def count_kernel(name, dev, totals, softnet, found):
        for line in dev[2:]:
            port, numbers = line.split(":")
            n = [int(x) for x in numbers.split()]
            found["%s %s dropped" % (name, port.strip())] = n[3] + n[11]
            if name == "steer" and port.strip() in ("inside", "outside"):
                found[EDGES] += n[1]
        for head, line in zip(totals[::2], totals[1::2]):
            for key, value in zip(head.split()[1:], line.split()[1:]):
                if any(w in key for w in ("Errors", "Discards", "NoRoutes", "Drop", "Overflow")) and name != "steer":
                    found["%s %s%s" % (name, head.split()[0], key)] = int(value)
        for cpu, line in enumerate(softnet):
            found["kernel's queue of cpu %d dropped" % cpu] = int(line.split()[1], 16)

    def explain(self, before, counts):
        after = self.counters()
        if not any(counts[way]["lost"] for way in ("up", "down")):
            after.pop(EDGES, None)  # what is just under way makes it differ
        grown = {k: v - before.get(k, 0) for k, v in sorted(after.items()) if v != before.get(k, 0)}
        self.checks.say("        what grew meanwhile: " + (", ".join("%s %d" % i for i in grown.items()) or "no counter of drops"))
        for example in counts["examples"]:
            self.checks.say("        " + example)

    # --- a phase ------------------------------------------------------------------------------

    def run(self, name, change, press=None, judge=True, slow=False):
        """change() under traffic; its row. judge: nothing may be lost or reordered; broken may nothing be, ever.
        slow: the workers there are stand still for most of the time, a few milliseconds each."""
        before = self.counters()
        self.holds()
        last = self.site.api("GET", "/v1/events?after=999999999")[1].get("next", 0)
        self.served.begin()
        if slow:
            press = min(self.press, SLOW)
            self.pulse.slow([w["pid"] for w in self.site.status()["workers"]])
        self.pulse.press(self.press if press is None else press)
        said = change() or ""
        self.pulse.slow([])
        first = dict(self.served.first)
        counts = self.pulse.drain(name.replace(" ", "_"))
        row = self.row(name, counts)
        row.update(self.held(), **self.first_served(last, first))
        self.rows.append(row)
        good = not (row["lost"] or row["reordered"] or row["duplicated"])
        if not good:
            self.explain(before, counts)
        self.checks.check("%s: nothing broken" % name if not judge else
                          "%s: nothing lost, reordered, broken" % name, row["broken"] == 0 and (good or not judge),
                          ", ".join("%s %s" % i for i in row.items() if i[0] != "phase") + (": " + said if said else ""))
        return row

    @staticmethod
    def row(name, counts):
        ways = (counts["up"], counts["down"])
        row = {"phase": name, "seconds": counts["seconds"]}
        row.update({k: sum(w[k] for w in ways) for k in ("sent", "lost", "reordered", "duplicated")})
        row["reordered"] += counts["tcp"]["out_of_order"]
        row.update(broken=counts["broken"], slowest_ms=max(w["slowest_ms"] for w in ways),
                   hole_ms=counts["hole_ms"] and counts["hole_ms"]["longest"], tcp_slowest_ms=counts["tcp"]["slowest_ms"])
        return row

    def holds(self):
        """What steering's log says of the holds since the last call: packets, ms, what ended it."""
        with open(os.path.join(self.site.run_dir, "log", "steer.log")) as f:
            f.seek(self.read)
            text = f.read()
        text = text[:text.rfind("\n") + 1]
        self.read += len(text.encode())
        lines = [json.loads(line) for line in text.splitlines() if '"hold ended"' in line]
        return [(h["packets"], h["us"] / 1000, h["cause"]) for h in lines]

    def held(self):
        holds = self.holds()
        row = {"held": sum(h[0] for h in holds), "hold_ms": round(max((h[1] for h in holds), default=0), 1)}
        other = collections.Counter(h[2] for h in holds if h[2] != "marker")
        return dict(row, ended_by=dict(other)) if other else row

    def first_served(self, last, first):
        """From the decision to the first packet that each new worker sent on, in ms."""
        events = {e["seq"]: e for e in self.site.events()}
        took = []
        for ready in (e for e in events.values() if e["kind"] == "ready" and e["seq"] > last):
            start = events.get(ready["because"], ready)
            decided = [e for e in events.values() if last < e["seq"] < start["seq"] and e["kind"] in DECISIONS]
            if ready["subject"] in first:
                took.append(round(1000 * (first[ready["subject"]] - seconds((decided or [start])[-1]["time"]))))
        return {"first_served_ms": sorted(took)} if took else {}

    def table(self):
        """What was measured, phases of one name together."""
        self.checks.say("%-22s %5s %8s %5s %9s %6s %8s %8s %10s  %s" % (
            "phase", "times", "packets", "lost", "reordered", "held", "hold ms", "hole ms", "slowest ms",
            "ms to the first packet"))
        for name in dict.fromkeys(r["phase"] for r in self.rows):
            rows = [r for r in self.rows if r["phase"] == name]
            first = sorted(x for r in rows for x in r.get("first_served_ms", []))
            most = [max((r[k] for r in rows if r[k] is not None), default=None)
                    for k in ("hold_ms", "hole_ms", "slowest_ms")]
            self.checks.say("%-22s %5d %8d %5d %9d %6d %8s %8s %10s  %s" % (
                name, len(rows), *(sum(r[k] for r in rows) for k in ("sent", "lost", "reordered", "held")),
                *("-" if m is None else "%.1f" % m for m in most),
                "%d to %d, median %d" % (first[0], first[-1], statistics.median(first)) if first else ""))
        with open(os.path.join(self.lab.folder, "planned.json"), "w") as f:
            json.dump({"connections": self.pulse.connections, "press": self.press, "phases": self.rows}, f, indent=1)


def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def control(phases):
    """Without a change nothing is lost; if it is, this machine is too busy for so much, and less is tried."""
    for press in PRESS:
        phases.press = press
        rows = [phases.run("control" + (", slow" if slow else ""), lambda: time.sleep(CONTROL_S),
                           judge=press == PRESS[-1], slow=slow) for slow in (False, True)]
        if not any(r["lost"] or r["reordered"] for r in rows):
            return True
        phases.checks.say("        the control run lost or reordered some: once more, pressed less")
    return False


def lethe(phases, *words):
    code, out, err = phases.site.lethe(*words)
    phases.checks.check("lethe " + " ".join(words), code == 0, (out + err).strip() if code else "")


def scale(phases, replicas, slow):
    def change():
        lethe(phases, "scale", "nf=%d" % replicas)
        phases.site.wait_ready(replicas)
    now = len(phases.site.status()["workers"])
    phases.run("scale %d -> %d%s" % (now, replicas, ", slow" if slow else ""), change, slow=slow)


def restart(phases, name):
    def change():
        lethe(phases, "restart", name)
        phases.site.wait_ready(4)
    phases.run("restart of one of 4", change, slow=True)


def replace(phases):
    """Another configuration of the NFs: one more worker starts, then the old one leaves."""
    site = phases.site
    path = os.path.join(phases.lab.folder, "other.yaml")

    def change():
        site.write_config(path, nat44="    quiet: true\n")
        lethe(phases, "up", path)
        site.wait_status(lambda s: s["groups"][0]["outdated"] == 0 and s["groups"][0]["running"] == 1, 40,
                         "the worker to be replaced")
        site.wait_ready(1)
    phases.run("other configuration", change, slow=True)


def busy(phases, press):
    """Median busy fraction of the one worker under a load, in permille."""
    phases.pulse.press(press)
    seen, until = [], time.monotonic() + CURVE_S
    while time.monotonic() < until:
        time.sleep(0.1)
        figures = phases.site.status()["workers"][0]["figures"]
        seen += [figures["busy_permille"]]
    phases.pulse.drain("busy")
    return statistics.median(seen[len(seen) // 3:])


def curve(phases):
    """Load goes up: the group grows. Load goes down: it shrinks to one worker again."""
    site, checks = phases.site, phases.checks
    phases.pulse.order("rulers off")
    low, high = busy(phases, 0), busy(phases, CURVE)
    marks = [low + (high - low) * part for part in (0.65, 0.4)]
    checks.check("busy follows the load", high > 1.5 * low, "%d and %d permille: marks at %d and %d" % (
        low, high, *marks))

    def workers(s):
        return s["groups"][0]["ready"] or 0

    def grow():
        lethe(phases, "autoscale", "nf", "on", "--busy-high", "%.1f" % (marks[0] / 10), "--busy-low",
              "%.1f" % (marks[1] / 10), "--queue", "0", "--drops", "0", "--up-hold", "0.3", "--down-hold", "0.4",
              "--cooldown", "0.3")
        site.wait_status(lambda s: workers(s) >= 2, 40, "the group to grow")
        # as many as it wants: nothing is starting
        s = site.wait_status(lambda s: workers(s) == s["groups"][0]["replicas"] == len(s["workers"]), 30,
                             "what autoscaling started to be ready")
        return "%d workers" % workers(s)

    def shrink():
        site.wait_status(lambda s: s["groups"][0]["replicas"] == 1, 40, "the group to shrink")
        site.wait_ready(1)

    phases.pulse.order("rulers on")
    phases.run("autoscale, load up", grow, press=CURVE)
    phases.pulse.order("rulers off")
    phases.run("autoscale, load down", shrink, press=0)
    phases.pulse.order("rulers on")
    lethe(phases, "autoscale", "nf", "off")
    site.wait_ready(1)
    why = [e["cause"] for e in site.events(kind="autoscale")]
    checks.check("autoscaling says why", len(why) >= 2, "; ".join(why))


def kills(phases):
    """Off the data path: kill -9 of the controller and of etcd breaks nothing."""
    site = phases.site

    def controller():
        site.kill("controller-1")
        site.start_controller("controller-2")
        site.wait_ready(1)

    def etcd():
        site.kill("etcd")
        site.wait_status(lambda s: not s["etcd"]["reachable"], 15, "status to say that etcd is away")
        site.start_etcd()
        site.wait_status(lambda s: s["etcd"]["reachable"], 20, "etcd to be back")
    pids = site.pids()
    phases.run("kill -9, controller", controller, press=CURVE, judge=False)
    phases.run("kill -9, etcd", etcd, press=CURVE, judge=False)
    phases.checks.check("every program went on", site.pids() == pids)


def changes(phases):
    for cycle in range(cycles):
        scale(phases, 4, cycle > 0)
        if cycle == 0:
            restart(phases, "nf-2")
        scale(phases, 1, cycle > 0)
    replace(phases)
    curve(phases)


def act(lab, site, checks):
    site.start_etcd()
    site.start_controller("controller-1")
    site.wait_ready(1, 40)
    pulse = Pulse(lab, site.programs, UDP, TCP)
    checks.say("the site is up, %d connections are open" % pulse.connections)
    pulse.pace(PACE)
    phases = Phases(lab, site, checks, pulse)
    if checks.check("without a change nothing is lost", control(phases), "else no change could be judged"):
        changes(phases)
        kills(phases)
    last = pulse.finish()
    checks.check("every connection was answered to the end", last["broken"] == 0, json.dumps(last["tcp"]))
    phases.served.over = True
    phases.table()


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, cycles=(3, "how often 1 -> 4 -> 1"))
    cycles = arguments.cycles
    scene.play(arguments, act, site_class=ControlledSite, failure_timeout_ms=1000)
