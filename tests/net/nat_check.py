# SPDX-License-Identifier: BSD-3-Clause
"""Did two live mappings ever share (protocol, external address, external port)?

Answered from packets: nat_sniff (C) watches both sides of the NAT and names each flow by a token that
no NAT changes, so that the inside end point behind every outside packet is known. Two inside end points
may use one outside end point only one after the other; and an inside end point keeps its outside end
point as long as it sends (RFC 4787, REQ-1 endpoint-independent mapping, REQ-2 paired or not).
"""
import os
import signal
import subprocess

import network
import traffic
from lethe_site import wait_for
from netns import NetError
from traffic_server import ECHO_PORT


class Flow:
    def __init__(self, line):
        (self.side, self.proto, src, src_port, dst, dst_port, token, first, last, packets) = line
        self.source = (self.proto, src, int(src_port))
        self.name = (self.proto, dst, int(dst_port), token)
        self.named = token != "0" * 16 and (self.proto == "tcp" or int(dst_port) == ECHO_PORT)
        self.first, self.last, self.packets = int(first), int(last), int(packets)


class Capture:
    """Runs nat_sniff over a site's NAT from now until flows() is called."""

    def __init__(self, lab, programs, inside=("client-router", "inside"), outside=("outside-router", "outside")):
        """inside, outside: namespace and interface on either side."""
        sides = [word for name, interface in (inside, outside) for word in (lab.namespaces[name].path(), interface)]
        self.process = lab.spawn("nat_sniff", [programs + "/tests/net/nat_sniff", *sides], stdout=subprocess.PIPE, nice=-10)

        def watching():
            if not self.process.alive():
                raise NetError("the sniffer ended: see " + self.process.log)
            with open(self.process.log) as f:
                return "watching" in f.read()
        wait_for(watching, 10, "the sniffer; see " + self.process.log)

    def flows(self):
        self.process.signal(signal.SIGTERM)
        lines = self.process.popen.communicate(timeout=60)[0].decode().splitlines()
        if not lines or self.process.popen.returncode != 0:
            raise NetError("the sniffer failed: see " + self.process.log)
        dropped = int(lines[0].split()[1])
        return [Flow(line.split()) for line in lines[1:]], dropped


def check(flows, external=tuple(network.EXTERNAL_ADDRESSES)):
    """{"flows", "outside_end_points", "unmatched", "reused", "shared": [...], "moved": [...]}"""
    inside = {f.name: f for f in flows if f.side == "i" and f.named}
    outside = [f for f in flows if f.side == "o" and f.named]
    external = set(external)
    matched = [(inside[f.name], f) for f in outside if f.name in inside]
    by_outer, by_inner = {}, {}
    for i, o in matched:
        by_outer.setdefault(o.source, []).append((o.first, o.last, i.source))
        by_inner.setdefault(i.source, []).append((o.first, o.last, o.source))
    return {"flows": len(matched), "outside_end_points": len(by_outer),
            "unmatched": len(outside) - len(matched),
            "not_external": sum(1 for o in outside if o.source[1] not in external),
            "reused": sum(1 for uses in by_outer.values() if len({u[2] for u in uses}) > 1),
            "shared": overlaps(by_outer), "moved": overlaps(by_inner)}


def judge(capture, checks, more_than=0):
    """Ends the capture: nothing was shared, and it saw more flows than so many. checks: scene.Checks, or as it has them."""
    flows, missed = capture.flows()
    seen = check(flows)
    checks.check("capture", missed == 0 and seen["flows"] > more_than and seen["unmatched"] == seen["not_external"] == 0,
                 "%d flows over %d outside end points, %d of them used by several in turn; %d without an inside packet, "
                 "%d packets missed" % (seen["flows"], seen["outside_end_points"], seen["reused"], seen["unmatched"], missed))
    checks.check("no outside end point shared by live mappings, in packets", not seen["shared"],
                 "; ".join(seen["shared"][:5]))
    checks.check("no inside end point changed its outside end point", not seen["moved"], "; ".join(seen["moved"][:5]))


class Clients:
    """Connections and UDP flows through a site's NAT, their packets captured on both sides of it."""

    def __init__(self, lab, site, connections, **how):
        """how: as of traffic.Lines."""
        self.lab, self.site = lab, site
        self.capture = Capture(lab, site.programs)
        self.lines, self.udp = traffic.Lines(lab, connections, **how), traffic.Udp(lab)
        self.lines.wait_opened(60)
        self.udp.wait_mapped()

    def finish(self, checks, dump=True):
        """None of them broke, and nothing was shared. dump: nor is it in the store's content, which nat_dump reads."""
        checks.result("connections", self.lines.finish())
        checks.result("UDP flows", self.udp.finish())
        judge(self.capture, checks, self.lines.count)
        if dump:
            self.check_content(checks)

    def check_content(self, checks):
        done = self.lab.namespaces["store-a"].run(
            [self.site.programs + "/tests/net/nat_dump", "-c", self.site.config], check=False)
        log = os.path.join(self.lab.logs, "nat_dump.log")
        with open(log, "w") as f:
            f.write(done.stdout + done.stderr)
        checks.check("no outside end point shared by live mappings, in the store", done.returncode == 0,
                     (done.stdout + done.stderr).strip().split("\n")[-1], log)


def overlaps(uses_by_point):
    """End points that were used by two others at overlapping times."""
    found = []
    for point, uses in uses_by_point.items():
        uses.sort()
        until, user = -1, None
        for first, last, by in uses:
            if user is not None and by != user and first <= until:
                found.append("%s %s:%d: %s and %s" % (*point, user, by))
            if last >= until:
                until, user = last, by
    return found
