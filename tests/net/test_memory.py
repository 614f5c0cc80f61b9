#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A worker's memory does not know how many flows there are: at 100 and at 200 000 distinct mappings
resident memory and hugepages differ by less than 2 MB.

Both times the worker forwards the same number of packets, after a warm-up that uses all of its buffers; only
the number of flows differs.
"""
import network
import scene
from lethe_site import wait_for
from traffic_server import ECHO_PORT

FEW, MANY = 100, 200_000
PORTS_PER_SOURCE = 400
RATE_PPS = 15_000
RING_SLOTS = 4096              # more than any ring of the worker has
DIFFERENCE_MAX_KB = 2048
FIRST_SOURCE = "10.1.128.0"
NOWHERE = "192.0.2.200"


def generate(lab, programs, flows, packets, rate_pps=RATE_PPS, to=(NOWHERE, 9)):
    router = lab.namespaces["client-router"]
    router.run([programs + "/tests/net/flow_gen", "inside", lab.namespaces["steer"].mac("inside"),
                FIRST_SOURCE, str(PORTS_PER_SOURCE), str(flows), str(packets), str(rate_pps),
                to[0], str(to[1])])


def warm_up(lab, site):
    """Packets both ways, until every buffer of every ring has been used: a page that was never touched
    is in no figure."""
    echo = (network.SERVERS["s2"], ECHO_PORT)
    for side in ("inside", "outside"):
        name = 'lethe_worker_side_tx_packets_total{side="%s"}' % side
        start = site.wait_stats("w1")[name]
        while site.wait_stats("w1")[name] < start + RING_SLOTS:
            generate(lab, site.programs, FEW, RING_SLOTS, 3000, echo)


def reach(lab, site, checks, mappings):
    """Sends rounds over the flows until all have a mapping: some packets of a burst may be lost."""
    for sent in range(1, 7):
        generate(lab, site.programs, mappings, MANY)
        have = site.mappings()
        if have >= mappings:
            break
    checks.check("%d mappings" % mappings, have >= mappings, "%d after %d rounds of %d packets" % (
        have, sent, MANY), site.instances["w1"].process.log)
    wait_for(lambda: site.wait_stats("w1")["lethe_worker_in_flight"] == 0, 10, "the worker to be idle")
    return site.instances["w1"].process.memory_kb()


def act(lab, site, checks):
    lab.namespaces["outside-router"].ip("route add blackhole " + NOWHERE)
    lab.namespaces["client-router"].ip("route add blackhole 10.1.128.0/17")
    site.bring_up(["w1"])
    warm_up(lab, site)
    few = reach(lab, site, checks, FEW)
    many = reach(lab, site, checks, MANY)
    checks.check("memory at %d and at %d mappings" % (FEW, MANY), abs(many - few) < DIFFERENCE_MAX_KB,
                 "%d kB and %d kB" % (few, many))


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, external=8)
