# SPDX-License-Identifier: BSD-3-Clause
"""By which of its interfaces a front end reaches whom: workers of its own node by the bridge that pods are on, others by the
network between nodes. Each front end is asked itself, and packets have to cross all of it.
"""
import json
import re

from lethe_site import wait_for
from netns import NetError

OWN, OTHERS = "cni0", "eth0"
PORT, MOVES_S = 9473, 30
COUNT = re.compile(r'^lethe_steer_tunnel_packets_total\{interface="([^"]+)",direction="([^"]+)"\} (\d+)$', re.M)


class Interfaces:
    def __init__(self, site, watch):
        self.master, self.watch = site.lab.namespaces["master"], watch

    def _ask(self, front, path):
        return self.master.run(["curl", "-sSf", "-m", "10", "http://%s:%d%s" % (front.ip, PORT, path)]).stdout

    def _rows(self, front):
        """{worker: what that front end says of it}"""
        return {w["name"]: w for w in json.loads(self._ask(front, "/v1/ask/workers"))["workers"]}

    def _wrong(self, fronts, workers):
        out = []
        for front in fronts:
            try:
                rows = self._rows(front)
            except (NetError, ValueError, KeyError) as e:
                return ["%s: %s" % (front.name, e)]
            for w in workers:
                want, row = OWN if w.node == front.node else OTHERS, rows.get(w.name)
                if not row:
                    out.append("%s of %s does not know %s of %s" % (front.name, front.node, w.name, w.node))
                elif (row["via"], row["address"], row["interface"]) != ("tunnel", w.ip, want):
                    out.append("%s of %s reaches %s (%s) of %s by %s at %s, not by %s" % (
                        front.name, front.node, w.name, w.ip, w.node, row["interface"], row["address"], want))
                elif row["state"] != "healthy" or not row["in_table"]:
                    out.append("%s is %s for %s, and %sin its table" % (
                        w.name, row["state"], front.name, "" if row["in_table"] else "not "))
        return out

    def _moved(self, fronts, workers):
        """Packets so far: of each interface, of each worker, both ways; a key tells of what."""
        said = {}
        for front in fronts:
            said.update({"%s, %s, %s" % (front.name, i, way): int(n) for i, way, n in COUNT.findall(self._ask(front, "/metrics"))})
            said.update({"%s, %s, %s" % (front.name, name, way): row[way] for name, row in self._rows(front).items()
                         for way in ("packets_to", "packets_from") if name in [w.name for w in workers]})
        return said

    def check(self):
        """Under traffic. A sentence; a NetError says what is not so."""
        fronts, workers = self.watch.pods("steer"), self.watch.pods("nf")
        alone = [f.node for f in fronts if len({w.node == f.node for w in workers}) < 2]
        if not fronts or alone:
            raise NetError("nothing is shown by workers that are all on one node: %s" % {w.name: w.node for w in workers})
        wait_for(lambda: not self._wrong(fronts, workers), MOVES_S,
                 lambda: "each worker to be reached by its interface: " + "; ".join(self._wrong(fronts, workers)), 0.3)
        before, still = self._moved(fronts, workers), []
        want = {"%s, %s, %s" % (f.name, i, way) for f in fronts for i in (OWN, OTHERS) for way in ("from", "to")}
        if not want <= set(before):
            raise NetError("there are no counts of %s" % sorted(want - set(before)))

        def all_moved():
            now = self._moved(fronts, workers)
            still[:] = [what for what, n in before.items() if now.get(what, 0) <= n]
            return not still
        wait_for(all_moved, MOVES_S, lambda: "packets of " + "; ".join(still), 0.3)
        return "reached by %s, workers of its own node: %d; by %s, others: %d" % (
            OWN, sum(w.node == f.node for f in fronts for w in workers), OTHERS, sum(w.node != f.node for f in fronts for w in workers))
