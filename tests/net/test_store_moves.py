#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A quarter of all hash slots, and pool indexes, move between two shards under full write load, and primaries die
in the middle of it: not one operation fails, nothing is lost.

Three replicas, two copies of each shard, clients that write to 64 hash slots. Slots 0 to 63 go from shard 0 to shard 1
and the source's primary is killed meanwhile; then back, and the destination's is. Then indexes of a pool are lent.
"""
import time

import scene
import store_scene
from lethe_site import wait_for
from netns import NetError

STORES = ["store-a", "store-b", "store-c"]
FIRST, LAST = 0, 63
LENT = 512
POOL = "history.ports"
TRIES = 8
# what a store may answer and the txn have failed: a guard of its own, an index that is taken
FINE = {"OK", "CONFLICT", "LIMIT"}


class Moves:
    def __init__(self, lab, site, clients, checks):
        self.lab, self.site, self.clients, self.checks = lab, site, clients, checks

    def moved(self, to):
        """How many of the slots are owned by shard `to`, as its primary says."""
        leader = self.site.leader(self.site.replicas()[to])
        runs = (self.site.ask(leader, "map") or {}).get("slots", []) if leader else []
        return sum(max(0, min(r["last"], LAST) - max(r["first"], FIRST) + 1)
                   for r in runs if r["shard"] == to)

    def order(self, what, shard):
        """Tells a shard's primary; again if it changed meanwhile."""
        answer = None

        def ordered():
            nonlocal answer
            answer = self.site.ask(self.site.primary(shard), what) or {}
            return answer if "result" in answer or "already" in answer.get("error", "") else None
        try:
            wait_for(ordered, 20, "shard %d to take the order `%s`" % (shard, what))
        except NetError as e:
            raise NetError("%s; its last answer: %s; see %s" % (e, answer, self.lab.logs)) from None

    def all_moved(self, source, to):
        """Until all are there; what a dead primary had been told, the next one is told again."""
        ordered = 0

        def there():
            nonlocal ordered
            n = self.moved(to)
            if n == LAST - FIRST + 1:
                return True
            if time.monotonic() > ordered + 2:
                self.order("move %d-%d %d" % (FIRST, LAST, to), source)
                ordered = time.monotonic()
            return False
        wait_for(there, 60, "slots %d to %d to be at shard %d; see %s" % (FIRST, LAST, to, self.lab.logs))

    def move_and_kill(self, source, to, victim_shard):
        """The fail-over is in the middle: some slots had moved when the primary died, and not all."""
        for attempt in range(1, TRIES + 1):
            self.clients.history.ask("mark move")
            self.order("move %d-%d %d" % (FIRST, LAST, to), source)
            victim = self.site.leader(self.site.replicas()[victim_shard])
            wait_for(lambda: self.moved(to) > attempt, 30, "the first slots to move", 0.001)
            self.site.kill(victim)
            wait_for(lambda: self.site.leader(self.site.replicas()[victim_shard]) not in (None, victim), 20,
                     "another primary of shard %d; see %s" % (victim_shard, self.lab.logs))
            n = self.moved(to)
            self.all_moved(source, to)
            self.site.start_store(victim)
            wait_for(self.site.caught_up, 30, "all copies after the kill of %s; see %s" % (
                victim, self.lab.logs))
            if n <= LAST - FIRST:
                break
            self.all_moved(to, source)  # it was too late: once more
        gap = self.clients.history.ask("gap")
        self.checks.check("slots %d-%d from shard %d to shard %d" % (FIRST, LAST, source, to), n <= LAST - FIRST,
                          "kill -9 of %s, primary of shard %d, when %d of %d had moved; gap %.0f ms" % (
                              victim, victim_shard, n, LAST - FIRST + 1, gap["gap_ms"]))

    def lend(self, source, to):
        """Free indexes of a pool change hands, while others are taken and freed."""
        free = [rows[self.site.leader(rows)]["pool_free"] for rows in self.site.replicas()]
        self.clients.history.ask("mark lend")
        self.order("lend %s %d %d %d" % (POOL, LENT, to, source), source)

        def lent():
            now = [rows[self.site.leader(rows)]["pool_free"] for rows in self.site.replicas()]
            return now[source] <= free[source] - LENT * 3 / 4 and now[to] >= free[to] + LENT * 3 / 4 and now
        now = wait_for(lent, 30, "%d indexes to go from shard %d to shard %d; see %s" % (
            LENT, source, to, self.lab.logs))
        self.checks.check("%d pool indexes from shard %d to shard %d" % (LENT, source, to), True,
                          "free indexes %s before, %s after" % (free, now))
        self.clients.history.ask("gap")


def act(args):
    def play(lab, site, checks):
        site.bring_up_store()
        clients = store_scene.Clients(lab, site, slots=64, clients=2, rate=args.rate, seed=args.seed,
                                      operations=4000000)
        clients.history.ask("mark start")
        wait_for(clients.history.served, 20, "the first writes; see " + clients.log)
        moves = Moves(lab, site, clients, checks)
        moves.move_and_kill(0, 1, 0)
        moves.move_and_kill(1, 0, 0)
        moves.lend(0, 1)
        same = site.wait_same_digest()
        checks.check("all replicas have one content", True, ", ".join(
            "shard %d: %s at %d" % (i, digest, position) for i, (position, digest) in enumerate(same)))
        told = clients.finish(checks)
        failed = {k: n for k, n in told["by_status"].items() if k not in FINE}
        checks.check("no operation failed", not failed and told["asked"] == told["told"] and
                     told["unknown"] == 0, "%d asked, %d answered; %s" % (
                         told["asked"], told["told"], failed or told["by_status"]))
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, rate=(3000, "operations a second, of each client process"))
    store_scene.play(arguments, act(arguments), STORES)
