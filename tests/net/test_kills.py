#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sixty counted kill -9 of random workers under 512 connections, every tenth together with a primary of
the store: nothing breaks, nothing is shared.

Three store replicas and etcd, three workers; the killed one is started again while the next victim is chosen among those that have
forwarded packets. Short flows come and go, and ports are scarce. Afterwards: 0 broken connections, and neither the
packets on both sides of the NAT (nat_check.py) nor the store's content (nat_dump) show two live mappings
with one (protocol, external address, external port).
"""
import os
import random

import nat_check
import scene
import traffic
from gap import Faults, Gaps
from lethe_site import wait_for

CONNECTIONS = 512
WORKERS = ["w1", "w2", "w3"]
STORES = ["store-a", "store-b", "store-c"]
CHURN_RATE = 60
# ports are given out again soon: few of them, and little rest
SCARCE = dict(external=1, nat44="    tcp_reset_s: 10\n    port_rest_s: 1\n")


def next_victim(site, rng):
    """A random worker that is healthy and has forwarded packets; another one must be left."""
    def choice():
        ready = [w for w in site.healthy() if site.forwarded(w) > 0]
        return rng.choice(sorted(ready)) if len(ready) >= 2 else None
    return wait_for(choice, 20, "two healthy workers that forward packets")


def kill_many(site, faults, checks, args):
    rng = random.Random(args.seed)
    for number in range(1, args.kills + 1):
        victim = next_victim(site, rng)
        store = site.primary(rng.randrange(site.shard_count)) if number % 10 == 0 else None
        fault = faults.kill(victim, store) if store else faults.kill(victim)
        if store:
            site.start_store(store)
            wait_for(site.caught_up, 30, lambda: "all copies after the kill of %s:\n%s" % (store, site.told()))
        site.start_worker(victim)
        checks.say("kill %2d: %s%s after %d packets, gap %d ms over %d flows" % (
            number, victim, " and %s, a primary," % store if store else "", fault["packets_before"], fault["gap_ms"], fault["flows"]))
        for name in WORKERS:
            if site.instances[name].state == "starting" and site.stats(name):
                site.instances[name].state = "running"
    for name in WORKERS:
        site.wait_worker(name)


def check_nat(lab, args, capture, checks):
    flows, dropped = capture.flows()
    seen = nat_check.check(flows)
    checks.check("capture", dropped == 0 and seen["flows"] > CONNECTIONS and seen["unmatched"] == 0
                 and seen["not_external"] == 0,
                 "%d flows over %d outside end points, %d of them used by several in turn; %d without "
                 "an inside packet, %d packets missed" % (
                     seen["flows"], seen["outside_end_points"], seen["reused"], seen["unmatched"],
                     dropped), capture.process.log)
    checks.check("no outside end point shared by live mappings, in packets", not seen["shared"],
                 "; ".join(seen["shared"][:5]))
    checks.check("no inside end point changed its outside end point", not seen["moved"],
                 "; ".join(seen["moved"][:5]))


def check_store(lab, site, args, checks):
    log = os.path.join(lab.logs, "nat_dump.log")
    dump = lab.namespaces["store-a"].run([os.path.abspath(args.build) + "/tests/net/nat_dump", "-c",
                                          site.config], check=False)
    with open(log, "w") as f:
        f.write(dump.stdout + dump.stderr)
    checks.check("no outside end point shared by live mappings, in the store",
                 dump.returncode == 0, (dump.stdout + dump.stderr).strip().split("\n")[-1], log)


def act(args, dump=check_store):
    """dump: looks at the state itself, None: nobody can."""
    def play(lab, site, checks):
        site.bring_up(WORKERS)
        capture = nat_check.Capture(lab, site.programs)
        lines, udp = traffic.Lines(lab, CONNECTIONS), traffic.Udp(lab)
        wait_for(lambda: lines.status()["opened"] == CONNECTIONS, 30,
                 "%d connections to open; see %s" % (CONNECTIONS, lines.process.log))
        wait_for(lambda: udp.ask("status")["mapped"] == udp.count, 20, "every UDP flow", 0.1)
        churn = traffic.Churn(lab, CHURN_RATE)
        checks.say("%d connections open, new flows come and go" % CONNECTIONS)
        faults = Faults(site, Gaps(site, udp), checks.started)
        kill_many(site, faults, checks, args)
        gaps = sorted(k["gap_ms"] for k in faults.kills)
        checks.check("kills", len(gaps) == args.kills, "%d counted; gap median %d ms, longest %d ms" % (
            len(gaps), gaps[len(gaps) // 2], gaps[-1]))
        checks.result("connections", lines.finish())
        checks.result("UDP flows", udp.finish())
        checks.result("short flows", churn.finish())
        check_nat(lab, args, capture, checks)
        if dump:
            dump(lab, site, args, checks)
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, kills=(60, "how many"))
    scene.play(arguments, act(arguments), stores=STORES, etcd=True, **SCARCE)
