#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Question "nat_failover": what do connections through a NAT notice when a primary of its state dies or
stops? The same workers over Lethe's store and over a real Redis Cluster.

    clients ── steering, three NAT workers ── servers          tests/net/network.py
                     └── store: 4 nodes, 3 shards of 2 copies  |  Redis: 3 masters, 3 replicas

512 TCP connections that say a numbered line every second, 160 UDP flows of which 40 are paced (a packet
each 10 ms: the ruler for gaps), and short flows that come and go: --churn new mappings a second of each protocol, on one
external address whose ports are scarce. Per event a random primary gets SIGKILL, or SIGSTOP for some seconds; the gap
is the longest hole over the paced flows. The next event waits until all copies are there again and every connection
has its answer (or is given up): else TCP's tries, ever further apart, might each meet another event.

In the end: broken, TCP connections that were reset, closed, answered wrongly or silent for 15 s. Lost, live flows
(TCP or UDP, short ones too) that were seen under a second outside end point: their mapping was gone. Doubled, outside end
points that two live flows had at a time. The last two are read from the packets on both sides of the NAT, all of them
(nat_sniff). Errors of a short flow's own (failed) may be a lost packet of its handshake.

Needs root. One thread; leaves nothing behind (tests/net/netns.py).
"""
import collections
import os
import random
import sys
import time

import report  # which knows where tests/net is
import nat_check
import netns
import network
import traffic
from elsewhere import REDIS_NODES, REDIS_PORT, RedisSite
from gap import Gaps
from lethe_site import Site, wait_for
from netns import NetError
from report import quantile

KINDS = {"kill": "kill -9", "stop": "SIGSTOP"}
WORKERS = ["w1", "w2", "w3"]
STORES = ["store-a", "store-b", "store-c", "store-d"]
SHARDS = 3
SCARCE = dict(external=1, nat44="    tcp_reset_s: 10\n    port_rest_s: 1\n")
EVENT_S = {"kill": 6, "stop": 9}
SET_UP_S = 25


class Ours(Site):
    def __init__(self, lab, programs, timeout_ms):
        super().__init__(lab, programs, shards=SHARDS, failure_timeout_ms=timeout_ms, stores=STORES, etcd=True,
                         **SCARCE)
        self.said = "%d nodes, %d shards of 2 copies each, views in one etcd, failure_timeout_ms %d" % (
            len(STORES), SHARDS, timeout_ms)

    def victim(self, rng):
        return self.primary(rng.randrange(SHARDS))

    def succeeded(self, name):
        """Others are the primaries of what was its."""
        return all(self.leader(rows) not in (None, name) for rows in self.replicas())

    def again(self, name):
        self.start_store(name)

    def whole(self):
        return self.caught_up()


class Theirs(RedisSite):
    def __init__(self, lab, programs, timeout_ms):
        super().__init__(lab, programs, failure_timeout_ms=timeout_ms, stores=[], **SCARCE)
        self.said = ("3 masters + 3 replicas, cluster-node-timeout 1000, no append-only file (a replica takes "
                     "over, nothing is read from disk)")

    def answering(self):
        return [n for n in range(REDIS_NODES) if self.instances["r%d" % n].running()
                and self.instances["r%d" % n].state != "paused"]

    def nodes(self, number):
        """CLUSTER NODES of one, as [(instance, flags, link state, has slots)]."""
        fields = [line.split() for line in self.redis_cli(REDIS_PORT + number, "cluster", "nodes").splitlines()]
        return [("r%d" % (int(f[1].split("@")[0].rsplit(":", 1)[1]) - REDIS_PORT), f[2].split(","), f[7],
                 len(f) > 8) for f in fields if len(f) > 7 and "@" in f[1]]

    def masters(self, number):
        return sorted(name for name, flags, _, slots in self.nodes(number)
                      if "master" in flags and slots and not {"fail", "fail?"} & set(flags))

    def victim(self, rng):
        return rng.choice(wait_for(lambda: self.masters(self.answering()[0]), 10, "Redis to tell its masters"))

    def succeeded(self, name):
        return all(len(self.masters(n)) == SHARDS and name not in self.masters(n) and
                   "cluster_state:ok" in self.redis_cli(REDIS_PORT + n, "cluster", "info")
                   for n in self.answering())

    def again(self, name):
        self.start_redis(int(name[1:]))

    def whole(self):
        def well(n):
            seen, info = self.nodes(n), self.redis_cli(REDIS_PORT + n, "info", "replication")
            linked = ("master_link_status:up" in info and "master_sync_in_progress:0" in info) \
                if "role:slave" in info else "connected_slaves:1" in info and "state=online" in info
            return linked and len(seen) == REDIS_NODES and all(
                link == "connected" and not {"fail", "fail?", "handshake"} & set(flags)
                for _, flags, link, _ in seen)
        return len(self.answering()) == REDIS_NODES and all(well(n) for n in range(REDIS_NODES))


PEERS = {  # key: (site, failure time-out in ms, name)
    "redis": (Theirs, 200, "Redis Cluster"),
    "store": (Ours, 200, "store, failure_timeout_ms 200"),
    "store_slow": (Ours, 1000, "store, failure_timeout_ms 1000"),
}


def settle(site, lines):
    wait_for(lambda: site.whole() and not lines.status()["late"], 60, lambda: (
        "all copies, and an answer to every connection; see " + site.lab.logs))


def one_event(site, gaps, kind, rng, stop_s):
    """Its victim, and the gap in ms."""
    name = site.victim(rng)
    gaps.prepare(None)
    if kind == "kill":
        site.kill(name)
        gap = gaps.measure(60)
        wait_for(lambda: site.succeeded(name), 60, lambda: "a successor of %s; see %s" % (name, site.lab.logs))
        site.again(name)
        return name, gap
    site.pause(name)
    try:
        time.sleep(stop_s)  # the event itself
        gap = gaps.measure(60)
        wait_for(lambda: site.succeeded(name), 60, lambda: "a successor of %s; see %s" % (name, site.lab.logs))
    finally:
        site.resume(name)
    return name, gap


def mappings(capture):
    """What the packets tell: flows seen, lost mappings, doubled end points."""
    flows, missed = capture.flows()
    seen = nat_check.check(flows)
    inside = {f.name for f in flows if f.side == "i" and f.named}
    outer = {}
    for f in flows:
        if f.side == "o" and f.name in inside:
            outer.setdefault(f.name, set()).add(f.source)
    return {"flows": seen["flows"], "mappings_lost": sum(len(points) > 1 for points in outer.values()),
            "mappings_doubled": len(seen["shared"]), "doubled": seen["shared"][:10], "reused": seen["reused"],
            "packets_missed": missed}


def drops(site):
    """Packets that the workers dropped, by reason."""
    found = collections.Counter()
    for name in WORKERS:
        for key, value in (site.stats(name) or {}).items():
            if key.startswith("lethe_worker_drops_total{") and value:
                found[key.split('"')[1]] += value
    return dict(found)


def measure(site, name, options):
    site.bring_up(WORKERS)
    capture = nat_check.Capture(site.lab, site.programs)
    lines, udp = traffic.Lines(site.lab, options.connections), traffic.Udp(site.lab)
    lines.wait_opened(60)
    udp.wait_mapped()
    churn = traffic.Churn(site.lab, options.churn)
    gaps, rng = Gaps(site, udp), random.Random(options.seed)
    found = {"gaps": {kind: [] for kind in options.kinds}, "broken_after": []}
    for i in range(options.events):
        for kind in options.kinds:
            settle(site, lines)
            victim, gap = one_event(site, gaps, kind, rng, options.stop_s)
            found["gaps"][kind].append(gap)
            found["broken_after"].append(lines.status()["broken"])
            print("%s: %s %d of %d (%s): gap %d ms, %d connections broken so far" % (
                name, KINDS[kind], i + 1, options.events, victim, gap, lines.status()["broken"]),
                file=sys.stderr, flush=True)
    settle(site, lines)
    dropped = drops(site)
    tcp, datagrams, short = lines.finish(), udp.finish(), churn.finish()
    found.update(mappings(capture), drops=dropped, connections=tcp["opened"], broken=tcp["broken"],
                 reasons=tcp["reasons"][:5], slowest_ms=tcp["slowest_ms"], udp_remapped=datagrams["remapped"],
                 udp_wrong=datagrams["wrong"], short_flows=2 * short["begun"], short_failed=short["failed"])
    return found


def run_peer(key, options):
    make, timeout_ms, name = PEERS[key]
    with netns.Lab(os.path.join(options.out, "nat_failover", key)) as lab:
        network.build(lab, STORES if make is Ours else [])
        traffic.start_servers(lab)
        site = make(lab, options.programs, timeout_ms)
        try:
            return dict(measure(site, name, options), name=name, said=site.said)
        finally:
            site.close()


# --- what it found ---------------------------------------------------------------------------------

COUNTS = ("connections", "broken", "udp_remapped", "udp_wrong", "mappings_lost", "mappings_doubled", "flows",
          "reused", "short_flows", "short_failed", "packets_missed", "slowest_ms")


def cases_of(found):
    cases = []
    for f in found.values():
        for kind, gaps in f["gaps"].items():
            cases.append({"name": "%s, %s" % (f["name"], KINDS[kind]), "metric": "gap", "unit": "ms",
                          "median": quantile(gaps, 0.5), "min": min(gaps), "max": max(gaps), "events": len(gaps),
                          "values": gaps})
        cases.append(dict({"name": f["name"], "metric": "over all events", "reasons": f["reasons"],
                           "doubled": f["doubled"], "drops": f["drops"]}, **{k: f[k] for k in COUNTS}))
    return cases


def ratios_of(found):
    ratios = {}
    for key, f in found.items():
        for kind in f["gaps"]:
            if key != "redis" and "redis" in found:
                ratios["redis_gap_over_%s_gap_p50_%s" % (key, kind)] = \
                    quantile(found["redis"]["gaps"][kind], 0.5) / quantile(f["gaps"][kind], 0.5)
    return ratios


def tell(found, options, seconds):
    ratios = ratios_of(found)
    print("\nA NAT whose state loses a primary: gaps\n")
    print("  %-44s %7s %10s %10s %10s" % ("", "events", "p50 ms", "min ms", "max ms"))
    for f in found.values():
        for kind, gaps in f["gaps"].items():
            print("  %-44s %7d %10d %10d %10d" % ("%s, %s" % (f["name"], KINDS[kind]), len(gaps),
                                                  quantile(gaps, 0.5), min(gaps), max(gaps)))
    print("\nover all of these events\n")
    print("  %-34s %11s %9s %8s %8s %9s %9s %12s" % (
        "", "connections", "broken", "flows", "lost", "doubled", "short", "of these bad"))
    for f in found.values():
        print("  %-34s %11d %9d %8d %8d %9d %9d %12d" % (
            f["name"], f["connections"], f["broken"], f["flows"], f["mappings_lost"], f["mappings_doubled"],
            f["short_flows"], f["short_failed"]))
    print()
    for name, value in ratios.items():
        print("  %-46s %8.1f" % (name, value))
    notes = ["%s: %s" % (f["name"], f["said"]) for f in found.values()]
    notes += ["%s: packets dropped by the workers: %s" % (f["name"], ", ".join(
        "%s %d" % pair for pair in sorted(f["drops"].items())) or "none") for f in found.values()]
    notes += ["lost: flows under a second outside end point; doubled: end points that two live flows had; both from "
              "the packets; SIGSTOP for %g s" % options.stop_s,
              "%d new mappings a second of each protocol; seed %d, %d s in all" % (options.churn, options.seed, seconds)]
    report.write("nat_failover", options.out, options.events, cases_of(found), ratios, notes)


def options_of(argv):
    p = report.failover_options(__doc__, 10, 1, list(KINDS))
    p.add_argument("--connections", type=int, default=512)
    p.add_argument("--churn", type=int, default=60, help="short flows a second (default: %(default)s)")
    p.add_argument("--stop-s", type=float, default=3.0, help="length of a SIGSTOP (default: %(default)s)")
    return p.parse_args(argv)


def main(argv):
    options = options_of(argv)
    netns.require_root_and_tools(["ip", "ethtool", "etcd", "curl", "iperf3", "dnsmasq", "redis-server", "redis-cli"])
    os.makedirs(options.out, exist_ok=True)
    started = time.monotonic()
    expected = len(options.peers) * (SET_UP_S + options.events * sum(EVENT_S[k] for k in options.kinds))
    report.announce("nat_failover", options, expected)
    found = {key: run_peer(key, options) for key in options.peers}
    tell(found, options, time.monotonic() - started)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NetError as e:
        sys.exit("nat_failover: %s" % e)
