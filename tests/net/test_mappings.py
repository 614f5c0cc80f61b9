#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""60 000 mappings through one external address, which has 64 512 ports: none is refused.

Which hash slot a mapping falls into is chance, and so many slots have more mappings than ports of their own: they borrow
from others, across shards, too.
"""
import network
import scene
from lethe_site import wait_for
from test_memory import NOWHERE, generate

MAPPINGS = 60_000
RATE_PPS = 8_000


def refused(site):
    """Packets dropped for want of a port, and txns that found none."""
    stats = site.stats("w1") or {}
    drops = sum(v for k, v in stats.items() if "ports_exhausted" in k)
    return drops, sum(rows[site.leader(rows)]["exhausted"] for rows in site.replicas() if site.leader(rows))


def act(lab, site, checks):
    lab.namespaces["outside-router"].ip("route add blackhole " + NOWHERE)
    lab.namespaces["client-router"].ip("route add blackhole 10.1.128.0/17")
    site.bring_up(["w1"])
    for sent in range(1, 9):  # some packets of a round may be lost
        generate(lab, site.programs, MAPPINGS, MAPPINGS, RATE_PPS)
        wait_for(lambda: site.wait_stats("w1")["lethe_worker_in_flight"] == 0, 30, "the worker to be idle")
        have = site.mappings()
        checks.say("round %d: %d mappings; refused: %d packets, %d txns" % (sent, have, *refused(site)))
        if have >= MAPPINGS:
            break
    checks.check("%d mappings through one address" % MAPPINGS, have == MAPPINGS, "%d after %d rounds" % (
        have, sent), site.instances["w1"].process.log)
    drops, _ = refused(site)
    checks.check("none refused", drops == 0, "%d packets dropped for want of a port" % drops,
                 site.instances["w1"].process.log)


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, external=1, stores=network.PAIR)
