#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two front ends side by side under 2 000 connections: each is killed and stopped in turn, and they disagree.

                             ┌─ .1 steer ── w1, w2 ── .1 ─┐
    hosts ── client router ──┤                            ├── outside router ── servers     one store
                             └─ .3 steer-2 ─ w3, w4 ─ .3 ─┘

Both routers spread flows over the front ends (ECMP, by addresses and ports), each for itself: the two
directions of a flow take the same front end or not, as it happens. Beside each router lethe-nexthop keeps
its route to those that serve. Workers of both front ends share nothing but the store.
"""
import os
import re

import nat_check
import network
import scene
from gap import Gaps
from lethe_site import Site, wait_for
from netns import NetError
from pulse import Pulse

CONNECTIONS, LINE_EVERY_S = 2000, 4.0
FRONTS = {"steer": ["w1", "w2"], "steer-2": ["w3", "w4"]}
INSIDE = {"steer": network.INSIDE_ADDRESS, "steer-2": "10.0.0.3"}
OUTSIDE = {"steer": network.OUTSIDE_ADDRESS, "steer-2": "198.51.100.3"}

MORE = """\
  more:
    - name: steer-2
      inside: {address: %s, next_hop: %s, port: "net_af_packet0,iface=%s,framecnt=4096,blocksz=65536"}
      outside: {address: %s, next_hop: %s, port: "net_af_packet1,iface=%s,framecnt=4096,blocksz=65536"}
"""


class Router:
    """A router that spreads flows over the front ends, and its supervisor."""

    def __init__(self, lab, name, side, own, route, hops, second, edge):
        """second, edge: the namespace of the second front end, and its interface there."""
        self.lab, self.ns, self.name = lab, lab.namespaces[name], name
        self.side, self.route, self.hops = side, route, hops
        self.ns.ip("link set %s down" % side, "addr flush dev %s" % side, "link set %s name %s-1" % (side, side),
                   "link add %s type bridge" % side, "link set %s up" % side, "addr add %s/24 dev %s" % (own, side))
        lab.veth(self.ns, side + "-2", second, edge)
        self.ns.ip(*["link set %s-%d master %s up" % (side, i, side) for i in (1, 2)])
        self.ns.run(["ethtool", "-K", side, "tx", "off", "gro", "off"])
        self.ns.sysctl("net.ipv4.fib_multipath_hash_policy", 1)

    def watch(self, programs):
        argv = [programs + "/steering/lethe-nexthop", "--route", self.route, "--dev", self.side]
        self.process = self.lab.spawn("nexthop-" + self.side,
                                      argv + [a for hop in self.hops.values() for a in ("--via", hop)], self.ns)

    def fronts(self):
        """Front ends that its route has now."""
        out = self.ns.run(["ip", "route", "show", "exact", self.route]).stdout
        return {name for name, hop in self.hops.items() if re.search(r"via %s\b" % re.escape(hop), out)}

    def wait_fronts(self, wanted):
        wait_for(lambda: self.fronts() == set(wanted), 20, lambda: "the route of the %s to have %s, not %s; see %s" % (
            self.name, ", ".join(sorted(wanted)), ", ".join(sorted(self.fronts())), self.process.log))

    def ways(self, flows):
        """The front end that each (interface, source, its port, destination, its port) takes now, as the kernel says."""
        batch = os.path.join(self.lab.folder, "flows-" + self.side)
        with open(batch, "w") as f:
            for device, src, src_port, dst, dst_port in flows:
                f.write("route get %s from %s iif %s ipproto 17 sport %s dport %s\n" % (
                    dst, src, device, src_port, dst_port))
        found = re.findall(r" via (\S+)", self.ns.run(["ip", "-o", "-batch", batch]).stdout)
        if len(found) != len(flows):
            raise NetError("the %s does not say where %d flows go" % (self.name, len(flows)))
        names = {hop: name for name, hop in self.hops.items()}
        return [names[hop] for hop in found]


def routers(lab, second, edges):
    """The two routers between clients, front ends and servers."""
    return (Router(lab, "client-router", "inside", network.INSIDE_NEXT_HOP, "default", INSIDE, second, edges[0]),
            Router(lab, "outside-router", "outside", network.OUTSIDE_NEXT_HOP, network.EXTERNAL_PREFIX, OUTSIDE, second,
                   edges[1]))


def with_more(text, edges):
    """site.yaml with a second front end. Routers know both, so nobody answers ARP for external addresses."""
    more = MORE % (INSIDE["steer-2"], network.INSIDE_NEXT_HOP, edges[0], OUTSIDE["steer-2"], network.OUTSIDE_NEXT_HOP,
                   edges[1])
    return re.sub(r"serves: \[.*\]", "serves: []", text.replace("\nchain:", "\n" + more + "chain:"))


class FrontsSite(Site):
    def __init__(self, lab, build, **options):
        super().__init__(lab, build, **options)
        self.routers = self.inside, self.outside = routers(lab, lab.namespace("steer-2"), ("inside", "outside"))

    def write_config(self, path, **other):
        super().write_config(path, **other)
        with open(path) as f:
            text = with_more(f.read(), ("inside", "outside"))
        with open(path, "w") as f:
            f.write(text)

    def start_front(self, name):
        self._start(name, "steering", [self.programs + "/steering/lethe-steer", "-c", self.config, "--name", name], name)
        self.wait_answers(name)

    def start_worker(self, name):
        network.attach_to_management(self.lab, name, network.worker_address(name))
        front = next(f for f, workers in FRONTS.items() if name in workers)
        return self._start(name, "worker", [self.programs + "/nf/lethe-nf", "-c", self.config, "--worker", name] +
                           (["--front", front] if front != "steer" else []), name)

    def healthy(self, front=None):
        reply = [self.ask(f, "workers") or {} for f in ([front] if front else FRONTS)]
        return [w["name"] for r in reply for w in r.get("workers", []) if w["in_table"] and w["state"] == "healthy"]

    def wait_front(self, name):
        """Its workers are back, and both routers use it."""
        wait_for(lambda: set(self.healthy(name)) == set(FRONTS[name]), 20, "the workers of %s; see %s" % (
            name, self.lab.logs))
        self.wait_fronts(FRONTS)

    def wait_fronts(self, wanted):
        for router in self.routers:
            router.wait_fronts(wanted)

    def bring_up(self):
        self.bring_up_store()
        for front, workers in FRONTS.items():
            self.start_front(front)
            for name in workers:
                self.start_worker(name)
        for router in self.routers:
            router.watch(self.programs)
        for front, workers in FRONTS.items():
            for name in workers:
                self.wait_worker(name)
            self.wait_front(front)

    def packets(self, front):
        """Packets that it has had from each edge since it was started."""
        stats = self.wait_stats(front)
        return stats["lethe_steer_rx_packets_total"]


class FrontGaps(Gaps):
    """A flow crosses a front end if either router sends it there."""

    def ways(self):
        """{flow: (front end out, front end back)}, now."""
        reply = self.udp.ask("flows")
        server, port = reply["server"].split(":")
        out, back = [], []
        for _, inner, outer in reply["flows"]:
            host, inner_port = inner.split(":")
            out.append(("c" + host.split(".")[2], host, inner_port, server, port))
            back.append(("s2", server, port, *outer.split(":")))
        return dict(zip((f[0] for f in reply["flows"]), zip(self.site.inside.ways(out), self.site.outside.ways(back))))

    def crossing(self, victim):
        return [flow for flow, ways in self.ways().items() if victim is None or victim in ways]


def moved(before, after):
    return sum(before[flow] != after[flow] for flow in before)


def lose(site, gaps, checks, name, what, do, undo):
    """A front end falls silent; both routers turn from it, and back to it when it is there again."""
    packets, before = site.packets(name), gaps.ways()
    flows = gaps.prepare(name)
    carried = wait_for(lambda: site.packets(name) - packets, 10, "%s to carry packets: its loss would not count" % name)
    do()
    others = set(FRONTS) - {name}
    site.wait_fronts(others)
    gap = gaps.measure()
    changed = moved(before, gaps.ways())
    undo()
    site.wait_front(name)
    back = moved(before, gaps.ways())
    gaps.udp.ask("count")
    wait_for(gaps.recovered, 20, "every paced UDP flow to be answered after the return of " + name, 0.05)
    checks.check("%s of %s" % (what, name), carried > 0 and changed > 0,
                 "it had %d packets; gap %d ms over %d flows; %d of %d UDP flows took another way, %d a third one "
                 "afterwards" % (carried, gap, flows, changed, len(before), back))
    return gap


def restart(site, gaps, checks, pulse, name):
    """A front end that is told to end serves on until routers have turned from it: nothing is lost."""
    pulse.drain("before")
    gaps.prepare(name)
    status = site.stop(name)
    away = [router.fronts() for router in site.routers]
    site.start_front(name)
    site.wait_front(name)
    gaps.udp.ask("count")
    wait_for(gaps.recovered, 20, "every paced UDP flow to be answered after the restart of " + name, 0.05)
    counts = pulse.drain("restart_of_" + name)
    ways = (counts["up"], counts["down"])
    sums = {k: sum(w[k] for w in ways) for k in ("sent", "lost", "reordered", "duplicated")}
    checks.check("restart of " + name, status == 0 and sums["lost"] == counts["broken"] == 0 and sums["sent"] > 0 and
                 all(a == set(FRONTS) - {name} for a in away), "ended with %s; packets %s; longest hole %d ms" % (
                     status, sums, gaps.longest()))


def disagree(lab, site, gaps, checks, lines):
    """The two front ends, and the two routers, see different things for a while."""
    answers = lines.status()["answers"]
    gaps.prepare(None)
    # one front end sprays, the other one keeps to its table
    site.ask("steer", "spray on")
    gaps.udp.ask("count")
    wait_for(gaps.recovered, 20, "UDP flows to be answered while steer sprays")
    # it has one of its two workers left; the other front end has all
    site.pause("w1")
    wait_for(lambda: site.healthy("steer") == ["w2"], 20, "steer to take w1 out")
    gaps.udp.ask("count")
    wait_for(gaps.recovered, 20, "UDP flows to be answered without w1")
    # one router hears steer-2, and the other does not
    site.inside.ns.run(["nft", "table inet deaf { chain in { type filter hook input priority 0; "
                        "ip saddr %s icmp type echo-reply drop; }; }" % INSIDE["steer-2"]])
    site.inside.wait_fronts(["steer"])
    gaps.udp.ask("count")
    wait_for(gaps.recovered, 20, "UDP flows to be answered while the routers disagree")
    both = site.outside.fronts()
    site.inside.ns.run(["nft", "delete table inet deaf"])
    site.resume("w1")
    site.ask("steer", "spray off")
    site.wait_front("steer")
    wait_for(lambda: lines.status()["answers"] >= answers + lines.status()["opened"], 20, "lines to go on meanwhile")
    checks.check("disagreement", both == set(FRONTS), "one front end sprays, one has lost a worker, one router does "
                 "not use the other front end; longest hole %d ms" % gaps.longest())


def act(args):
    def play(lab, site, checks):
        site.bring_up()
        clients = nat_check.Clients(lab, site, args.connections, every_s=LINE_EVERY_S, ramp=8)
        gaps = FrontGaps(site, clients.udp)
        had = {f: site.packets(f) for f in FRONTS}
        ways = list(gaps.ways().values())
        apart = sum(out != back for out, back in ways)
        checks.check("both front ends carry", min(had.values()) * 4 > max(had.values()) and 0 < apart < len(ways),
                     "%d connections; packets so far %s; of %d UDP flows %d go and come by different ones" % (
                         args.connections, had, len(ways), apart))
        found = []
        for name in FRONTS:
            def start_again(front=name):
                site.start_front(front)
            found.append(lose(site, gaps, checks, name, "kill -9", lambda: site.kill(name), start_again))
        for name in FRONTS:
            found.append(lose(site, gaps, checks, name, "SIGSTOP", lambda: site.pause(name), lambda: site.resume(name)))
        cut = site.outside
        found.append(lose(site, gaps, checks, "steer-2", "outside cable", lambda: cut.ns.ip("link set outside-2 down"),
                          lambda: cut.ns.ip("link set outside-2 up")))
        disagree(lab, site, gaps, checks, clients.lines)
        pulse = Pulse(lab, site.programs, 96, 16)
        pulse.pace(60)
        restart(site, gaps, checks, pulse, "steer")
        last = pulse.finish()
        checks.check("numbered flows", last["broken"] == 0, str(last["broken"]))
        checks.say("gaps, ms: %s" % found)
        clients.finish(checks)
        site.wait_same_digest()
    return play


if __name__ == "__main__":
    scene.TOOLS.append("nft")
    arguments = scene.arguments(__doc__, connections=(CONNECTIONS, "how many"))
    scene.play(arguments, act(arguments), site_class=FrontsSite)
