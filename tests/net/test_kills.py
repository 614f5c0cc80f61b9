#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sixty counted kill -9 of random workers under 512 connections, every tenth together with a primary of
the store: nothing breaks, nothing is shared.

Three store replicas and etcd, three workers; the killed one is started again while the next victim is chosen among those that have
forwarded packets. Short flows come and go, and ports are scarce. Afterwards: 0 broken connections, and neither the
packets on both sides of the NAT (nat_check.py) nor the store's content (nat_dump) show two live mappings
with one (protocol, external address, external port).
"""
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


def act(args, dump=True):
    """dump: the state itself can be looked at, too."""
    def play(lab, site, checks):
        site.bring_up(WORKERS)
        clients = nat_check.Clients(lab, site, CONNECTIONS)
        churn = traffic.Churn(lab, CHURN_RATE)
        checks.say("%d connections open, new flows come and go" % CONNECTIONS)
        faults = Faults(site, Gaps(site, clients.udp), checks.started)
        kill_many(site, faults, checks, args)
        gaps = sorted(k["gap_ms"] for k in faults.kills)
        checks.check("kills", len(gaps) == args.kills, "%d counted; gap median %d ms, longest %d ms" % (
            len(gaps), gaps[len(gaps) // 2], gaps[-1]))
        checks.result("short flows", churn.finish())
        clients.finish(checks, dump)
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, kills=(60, "how many"))
    scene.play(arguments, act(arguments), stores=STORES, etcd=True, **SCARCE)
