#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A worker's memory does not know how many flows there are: at 100 and at 200 000 distinct mappings
resident memory and hugepages differ by less than 2 MB.

Both times the worker forwards the same number of packets; only the number of flows differs.
"""
import network
import scene
from lethe_site import wait_for

FEW, MANY = 100, 200_000
PORTS_PER_SOURCE = 400
RATE_PPS = 15_000
DIFFERENCE_MAX_KB = 2048
FIRST_SOURCE = "10.1.128.0"
NOWHERE = "192.0.2.200"


def generate(lab, programs, flows, packets):
    router = lab.namespaces["client-router"]
    router.run([programs + "/tests/net/flow_gen", "inside", lab.namespaces["steer"].mac("inside"),
                FIRST_SOURCE, str(PORTS_PER_SOURCE), str(flows), str(packets), str(RATE_PPS), NOWHERE])


def reach(lab, site, checks, mappings):
    """Sends rounds over the flows until all have a mapping: some packets of a burst may be lost."""
    for sent in range(1, 7):
        generate(lab, site.programs, mappings, MANY)
        have = site.mappings()
        if have >= mappings:
            break
    checks.check("%d mappings" % mappings, have >= mappings, "%d after %d rounds of %d packets" % (
        have, sent, MANY), site.instances["w1"].process.log)
    wait_for(lambda: site.stats("w1")["lethe_worker_in_flight"] == 0, 10, "the worker to be idle")
    return site.instances["w1"].process.memory_kb()


def act(lab, site, checks):
    lab.namespaces["outside-router"].ip("route add blackhole " + NOWHERE)
    lab.namespaces["client-router"].ip("route add blackhole 10.1.128.0/17")
    site.bring_up(["w1"])
    few = reach(lab, site, checks, FEW)
    many = reach(lab, site, checks, MANY)
    checks.check("memory at %d and at %d mappings" % (FEW, MANY), abs(many - few) < DIFFERENCE_MAX_KB,
                 "%d kB and %d kB" % (few, many))


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, external=8)
