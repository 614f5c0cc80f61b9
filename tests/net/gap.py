# SPDX-License-Identifier: BSD-3-Clause
"""Gaps: the longest hole over at least 32 paced UDP flows that crossed the victim just before.

Which flows cross a worker is steering's to say (`where`), for both directions: the two directions of
a flow meet different workers on the two sides of a NAT, and either may be the victim. So before each
fault the flows that cross the victim are chosen and paced, and only then it happens. With --spray every
flow crosses every worker. That there are not enough of them is an error, not a gap of 0.
"""
import time

from lethe_site import Control, wait_for
from netns import NetError

FLOWS_LEAST = 32
FLOWS_PACED = 40


class Gaps:
    def __init__(self, site, udp):
        self.site, self.udp = site, udp

    def crossing(self, victim):
        """Numbers of the flows that cross a worker; None: all of them."""
        reply = self.udp.ask("flows")
        if victim is None or self.site.spray:
            return [f[0] for f in reply["flows"]]
        server = reply["server"].replace(":", " ")
        found = []
        with Control(self.site.socket_of("steer")) as steer:
            for number, inner, outer in reply["flows"]:
                out = steer.ask("where udp %s %s" % (inner.replace(":", " "), server))
                back = steer.ask("where udp %s %s" % (server, outer.replace(":", " ")))
                if "error" in out:
                    raise NetError("steering, asked where a flow goes: " + out["error"])
                if victim in (out.get("name"), back.get("name")):
                    found.append(number)
        return found

    def prepare(self, victim):
        """Paces enough flows that cross the victim; returns how many."""
        flows = self.crossing(victim)
        if len(flows) < FLOWS_LEAST:
            raise NetError("only %d UDP flows cross %s, %d are needed to measure a gap"
                           % (len(flows), victim, FLOWS_LEAST))
        self.udp.ask("pace", flows=flows[:FLOWS_PACED])
        wait_for(lambda: min(self.udp.ask("paced")["answers"].values()) >= 10, 20,
                 "the paced UDP flows to be answered; see " + self.udp.process.log, 0.05)
        self.udp.ask("mark")
        return len(flows[:FLOWS_PACED])

    def recovered(self, answers=20):
        """True when every paced flow has been answered that often since the count began."""
        holes = self.udp.ask("holes")["holes"].values()
        return all(n >= answers for _, n in holes) and holes

    def measure(self, timeout_s=20):
        """Waits until all paced flows are answered again; the longest hole in ms."""
        self.udp.ask("count")
        wait_for(self.recovered, timeout_s, "every paced UDP flow to be answered after the fault; see "
                 + self.udp.process.log, 0.05)
        return self.longest()

    def longest(self):
        return max(hole for hole, _ in self.udp.ask("holes")["holes"].values())


class Faults:
    """Kills and pauses, each with its gap, as summary.json lists them."""

    def __init__(self, site, gaps, started, on_event=lambda text, kind, earlier=None: None):
        self.site, self.gaps, self.started, self.on_event = site, gaps, started, on_event
        self.kills = []
        self.shown = None        # the event that the running fault is

    def _note(self, what, victim, flows, packets, kind="fault"):
        entry = {"what": what, "victim": victim, "at_s": round(time.monotonic() - self.started, 2),
                 "gap_ms": None, "flows": flows, "packets_before": packets}
        self.kills.append(entry)
        self.shown = self.on_event(what, kind)
        return entry

    def kill(self, *names, what=""):
        """kill -9 of an instance, or of several at once, a worker first; waits until every flow is
        served again. what: for people, what it was."""
        name = names[0]
        worker = self.site.instances[name].kind == "worker"
        packets = None
        if worker:
            wait_for(lambda: self.site.forwarded(name) > 0, 15,
                     "%s to forward a packet: its kill would not count" % name)
        flows = self.gaps.prepare(name if worker else None)
        if worker:
            packets = self.site.forwarded(name)
        entry = self._note("kill -9 " + " and ".join(names) + what, name, flows, packets)
        for victim in names:
            self.site.kill(victim)
        return self._measured(entry)

    def during(self, what, act):
        """The gap of whatever act() does, over flows of every worker."""
        flows = self.gaps.prepare(None)
        entry = self._note(what, None, flows, None, "info")
        act()
        return self._measured(entry)

    def pause(self, name, seconds):
        """SIGSTOP, and SIGCONT after some seconds."""
        flows = self.gaps.prepare(name)
        entry = self._note("SIGSTOP %s for %g s" % (name, seconds), name, flows,
                           self.site.forwarded(name))
        self.site.pause(name)
        try:
            time.sleep(seconds)  # the fault itself, not a wait for anything
        finally:
            self.site.resume(name)
        return self._measured(entry)

    def _measured(self, entry):
        entry["gap_ms"] = self.gaps.measure()
        self.on_event("gap %d ms over %d flows" % (entry["gap_ms"], entry["flows"]), "good",
                      self.shown)
        return entry
