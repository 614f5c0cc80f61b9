# SPDX-License-Identifier: BSD-3-Clause
"""Traffic through a site on a cluster, all the time, whatever happens to it.

    namespace `clients`, 32 addresses ──▶ front ends of both nodes (ECMP by ports) ──▶ namespace `servers`, two addresses

TCP connections kept open, a numbered line a second each, its answer checked; UDP flows, some of them paced, which measure
gaps; short flows that come and go; echoes, twenty a second from each of PINGERS addresses, whose losses are counted. Packets on
both sides are captured, so that at the end it is known whether an outside end point ever had two users. All but the echoes are
the programs of tests/net, whose silence is *broken* only after PATIENCE_S: TCP waits longer than any fault here lasts.

Nothing here knows which pod or node a flow crosses: routers and steering choose. Owner: the thread that made it; it reads
in threads of its own.
"""
import collections
import ipaddress
import json
import re
import subprocess
import sys
import threading
import time

import nat_check
import network
import traffic
from kubernetes_site import CLIENT, EXTERNAL, SERVER
from lethe_site import wait_for
from traffic_server import LINE_PORT

CLIENTS = 32                  # addresses, from CLIENT on
PINGERS, PING_EVERY_S = 6, 0.05
PACED = 12                    # UDP flows that send every 10 ms
PATIENCE_S = 75               # of a connection without an answer; above the longest cut and TCP's pause after it
LATE_MS = 1500                # a line that is asked for so long still waits for something
SEEN_S = 900                  # how far back gaps() looks


def listens(process, address, port):
    """In the namespace of the process, whoever does."""
    want = "%08X:%04X" % (int.from_bytes(ipaddress.ip_address(address).packed, sys.byteorder), port)
    with open("/proc/%d/net/tcp" % process.pid) as f:
        return any(line.split()[1] == want and line.split()[3] == "0A" for line in f)


class Lines(traffic.Lines):
    """Also knows how long somebody waited, and when."""

    def __init__(self, *args, **options):
        self.waits = collections.deque(maxlen=2 * SEEN_S)      # (when, ms)
        super().__init__(*args, **options)

    def _read(self):
        for line in self.process.popen.stdout:
            self.latest = json.loads(line)
            self.waits.append((time.monotonic(), self.latest.get("waiting_ms", 0)))


class Pings:
    """Echoes from several addresses: what was lost of them since a mark."""

    def __init__(self, lab, sources):
        self.answered = [set() for _ in sources]
        self.last = [(0, None)] * len(sources)                 # (number, when)
        self.processes = []
        for i, source in enumerate(sources):
            p = lab.spawn("ping-%d" % i, ["ping", "-n", "-i", str(PING_EVERY_S), "-I", source, SERVER], lab.namespaces["clients"],
                          stdout=subprocess.PIPE)
            self.processes.append(p)
            threading.Thread(target=self._read, args=(i, p), daemon=True).start()

    def _read(self, i, process):
        for line in process.popen.stdout:
            m = re.search(rb"bytes from .*icmp_seq=(\d+) ", line)
            if m:
                self.answered[i].add(int(m.group(1)))
                self.last[i] = max(self.last[i][0], int(m.group(1))), time.monotonic()

    def goes_on(self, timeout_s, answers=10):
        """So many more answers for each; a mark: the last number of each."""
        want = [len(a) + answers for a in self.answered]
        wait_for(lambda: all(len(a) >= n for a, n in zip(self.answered, want)), timeout_s,
                 "pings of all addresses to be answered again", 0.05)
        return [number for number, _ in self.last]

    def lost(self, first, last):
        """How many of how many between two marks; the later one is a moment ago."""
        asked = sum(b - a for a, b in zip(first, last))
        return asked - sum(sum(a < n <= b for n in list(there)) for there, a, b in zip(self.answered, first, last)), asked

    def stop(self):
        for p in self.processes:
            p.stop()


class Traffic:
    """site: a KubernetesSite whose pods are ready; its lab owns the processes."""

    def __init__(self, site):
        self.lab, self.programs = site.lab, site.programs
        self.said, self.seen = [], None                        # sentences that are final; what packets told

    def start(self, tcp=200, udp=50, churn=5, pings=PINGERS):
        """Returns when every connection is open and every flow was answered."""
        first = ipaddress.ip_address(CLIENT)
        clients, servers = self.lab.namespaces["clients"], self.lab.namespaces["servers"]
        clients.ip(*["addr replace %s/32 dev lo" % (first + i) for i in range(CLIENTS)])
        servers.ip(*["addr replace %s/32 dev lo" % a for a in network.SERVERS.values()])
        for end in (clients, servers):
            end.sysctl("net.ipv4.fib_multipath_hash_policy", 1)
        for name, address in network.SERVERS.items():
            p = self.lab.spawn(name + "-server", traffic.python("traffic_server.py", address), servers, nice=-5)
            wait_for(lambda p=p, address=address: listens(p, address, LINE_PORT), 60, "%s to listen; see %s" % (name, p.log))
        sources = ["--from", "%s=%s-%s" % (clients.path(), first, first + CLIENTS - 1)]
        self.tcp, self.began = tcp, time.monotonic()
        self.capture = nat_check.Capture(self.lab, self.programs, ("clients", "lan"), ("servers", "lan"))
        self.lines = Lines(self.lab, tcp, deadline_s=PATIENCE_S, servers=list(network.SERVERS.values()), sources=sources)
        self.udp = traffic.Udp(self.lab, udp, sources=sources)
        self.pings = Pings(self.lab, [str(first + i) for i in range(pings)])
        wait_for(lambda: self.lines.status()["opened"] + self.lines.status()["broken"] >= tcp, 60,
                 "%d connections to open; see %s" % (tcp, self.lines.process.log), 0.1)
        self.udp.wait_mapped(30)
        self.udp.ask("pace", flows=list(range(min(PACED, udp))))
        self.churn = traffic.Churn(self.lab, churn, sources=sources) if churn else None
        self.pings.goes_on(30)

    # --- at any moment --------------------------------------------------------------------------

    def broken(self):
        """Sentences; none: nothing broke since the start."""
        lines, udp, out = self.lines.status(), self.udp.ask("status"), list(self.said)
        if not self.lines.process.alive():
            out.append("the client of TCP connections ended: see " + self.lines.process.log)
        out += ["TCP connection %(from)s broke at its line %(line)d: %(reason)s" % r for r in lines["reasons"]]
        if lines["broken"] > len(lines["reasons"]):
            out.append("and %d more TCP connections" % (lines["broken"] - len(lines["reasons"])))
        if udp["wrong"]:
            out.append("%d UDP answers came to another flow" % udp["wrong"])
        if udp["remapped"]:
            out.append("%d times a UDP flow had another outside end point than before" % udp["remapped"])
        if udp["quiet_ms"] > 1000 * PATIENCE_S:
            out.append("a UDP flow had no answer for %.1f s" % (udp["quiet_ms"] / 1000))
        return out

    def broken_count(self):
        """Connections, and what UDP flows suffered."""
        udp = self.udp.ask("status")
        return (self.lines.status()["broken"] + udp["wrong"] + udp["remapped"] + (udp["quiet_ms"] > 1000 * PATIENCE_S) +
                (not self.lines.process.alive()))

    def gaps(self, since):
        """Longest standstill that ended after a moment (time.monotonic()) or goes on, in ms: of a paced UDP flow; of an answer to
        a line, looked at twice a second."""
        tcp = max((ms for when, ms in list(self.lines.waits) if when >= since), default=0)
        return {"udp_ms": self.udp.ask("since", at=since)["hole_ms"], "tcp_ms": min(tcp, 1000 * (time.monotonic() - self.began))}

    def goes_on(self, timeout_s=90):
        """Until everything is answered again, all of it; a mark for lost()."""
        def all_well():
            lines = self.lines.status()
            return self.udp.ask("status")["silent"] == 0 and lines["waiting_ms"] < LATE_MS
        deadline = time.monotonic() + timeout_s
        mark = self.pings.goes_on(timeout_s)
        wait_for(all_well, max(1, deadline - time.monotonic()), lambda: "all traffic to go on: %s, %s" % (
            {k: self.lines.status()[k] for k in ("live", "broken", "waiting_ms")}, self.udp.ask("status")), 0.1)
        return mark

    def lost(self, first, last):
        """Echoes between two marks of goes_on(), ten answers after the later one."""
        self.pings.goes_on(60)
        return self.pings.lost(first, last)

    # --- the end ----------------------------------------------------------------------------------

    def stop(self):
        """Ends it; (sentences as of broken(), what packets tell: a dict of counts)."""
        self.said = self.broken()
        lines, udp = self.lines.finish(), self.udp.finish()
        if not lines["ok"] and not self.said:
            self.said.append("TCP: " + lines["why"])
        if not udp["ok"] and not self.said:
            self.said.append("UDP: " + udp["why"])
        short = self.churn.finish() if self.churn else None
        if short and not short["ok"]:
            self.said.append("no short flow was ever answered: see " + short["log"])
        self.pings.stop()
        seen = self.seen or self._packets()
        return self.said, dict(seen, tcp=lines["kept"], answers=lines["answers"], udp_packets=udp["received"],
                               short=(short or {}).get("begun", 0), short_answered=(short or {}).get("answered", 0))

    def end_capture(self):
        """From here on packets are damaged, and what they say of whose they are is not believed: no more of them are judged."""
        self.seen = self._packets()

    def _packets(self):
        flows, dropped = self.capture.flows()
        seen = nat_check.check(flows, [str(a) for a in ipaddress.ip_network(EXTERNAL)])
        self.said += ["two live flows had one outside end point: " + s for s in seen["shared"][:5]]
        self.said += ["an inside end point changed its outside one: " + s for s in seen["moved"][:5]]
        if seen["flows"] < self.tcp or seen["unmatched"] or seen["not_external"]:
            self.said.append("captured packets: %(flows)d flows, %(unmatched)d without their inside, %(not_external)d not of the "
                             "NAT's addresses" % seen)
        if dropped:
            self.said.append("%d packets were not captured: nothing is proved" % dropped)
        return {"flows": seen["flows"], "outside_end_points": seen["outside_end_points"], "reused": seen["reused"]}
