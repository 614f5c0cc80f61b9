#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two front ends that share their workers (VXLAN), and do not agree about one of them.

                 ┌─ .1 steer ───┐
    ... router ──┤              ├── underlay (router) ── w1, w2, w3        each worker joined both
                 └─ .3 steer-2 ─┘

While both see the same they have the same table, without talking. Then the probes of one of them to w1 are lost, and
nothing else: it takes w1 out, the other one does not, and flows that pass both (ECMP, test_fronts.py) meet
different workers. 512 connections notice nothing, and no outside end point is shared.
"""
import random

import nat_check
import scene
import test_fronts
from gap import Gaps
from lethe_site import Control, wait_for
from test_tunnel import DEVICE, PORT, build_underlay

CONNECTIONS, ROUNDS, ASKED = 512, 2, 300
FRONTS = ["steer", "steer-2"]
WORKERS = ["w1", "w2", "w3"]
ENDS = {"steer": "10.9.0.1", "steer-2": "10.9.3.1", "w1": "10.9.1.1", "w2": "10.9.2.1", "w3": "10.9.4.1"}
PROBES_OF_W1 = ("table inet deaf { chain way { type filter hook forward priority 0; ip saddr %s ip daddr %s "
                "udp dport %d @th,224,16 0x88b5 counter drop; }; }" % (ENDS["steer-2"], ENDS["w1"], PORT))


class SharedSite(test_fronts.FrontsSite):
    def __init__(self, lab, build, **options):
        super().__init__(lab, build, **options)
        build_underlay(lab, ENDS, WORKERS)

    def write_config(self, path, **other):
        super().write_config(path, **other)
        tunnel = "tunnel: {address: %s, port: \"" + DEVICE % 2 + "\"}\n"
        with open(path) as f:
            text = f.read()
        text = text.replace("workers.secret}\nsteering:\n", "workers.secret, tunnel: {steering: [%s]}}\nsteering:\n  %s" % (
            ", ".join(ENDS[f] for f in FRONTS), tunnel % ENDS["steer"]))
        text = text.replace("    - name: steer-2\n", "    - name: steer-2\n      " + tunnel % ENDS["steer-2"])
        with open(path, "w") as f:
            f.write(text)

    def start_worker(self, name):
        return self._start(name, "worker", [self.programs + "/nf/lethe-nf", "-c", self.config, "--worker", name,
                                            "--tunnel", DEVICE % 0], name)

    def bring_up(self):
        self.bring_up_store()
        for name in FRONTS:
            self.start_front(name)
        for name in WORKERS:
            self.start_worker(name)
        for router in self.routers:
            router.watch(self.programs)
        for front in FRONTS:
            self.wait_members(front, WORKERS)
        self.wait_fronts(FRONTS)

    def wait_members(self, front, wanted):
        wait_for(lambda: sorted(self.healthy(front)) == wanted, 20, lambda: "%s to have %s, not %s; see %s" % (
            front, wanted, self.healthy(front), self.lab.logs))

    def workers_of(self, front, flows):
        with Control(self.socket_of(front)) as c:
            return [c.ask("where udp 10.1.1.10 %d 192.0.2.74 %d" % f)["name"] for f in flows]


def differing(site, rng):
    flows = [(rng.randrange(1024, 65536), rng.randrange(1, 1024)) for _ in range(ASKED)]
    a, b = (site.workers_of(f, flows) for f in FRONTS)
    return sum(x != y for x, y in zip(a, b))


def act(args):
    def play(lab, site, checks):
        rng, underlay = random.Random(args.seed), lab.namespaces["underlay"]
        site.bring_up()
        wait_for(lambda: differing(site, rng) == 0, 10, "both tables to be the same")
        checks.check("the same view, the same table", True, "%d flows asked of both" % ASKED)
        clients = nat_check.Clients(lab, site, CONNECTIONS, ramp=8)
        udp = clients.udp
        gaps = Gaps(site, udp)
        gaps.prepare(None)
        for number in range(1, ROUNDS + 1):
            udp.ask("mark")
            underlay.run(["nft", PROBES_OF_W1])
            site.wait_members("steer-2", ["w2", "w3"])
            apart, sure = differing(site, rng), sorted(site.healthy("steer"))
            udp.ask("count")
            wait_for(gaps.recovered, 20, "UDP flows to be answered while front ends disagree")
            underlay.run(["nft", "delete table inet deaf"])
            site.wait_members("steer-2", WORKERS)
            wait_for(lambda: differing(site, rng) == 0, 10, "both tables to be the same again")
            checks.check("disagreement %d" % number, apart > ASKED // 6 and sure == WORKERS,
                         "%d of %d flows had another worker at the other front end; longest hole %d ms" % (
                             apart, ASKED, gaps.longest()))
        clients.finish(checks)
        site.wait_same_digest()
    return play


if __name__ == "__main__":
    scene.TOOLS.append("nft")
    arguments = scene.arguments(__doc__)
    scene.play(arguments, act(arguments), site_class=SharedSite)
