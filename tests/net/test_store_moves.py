#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A quarter of all hash slots, and indexes of a pool, move between two shards under full write load, and
primaries die in the middle of it: not one operation fails, nothing is lost.

Three replicas, two copies of each shard, clients that write to every hash slot, allocate and free. Shard 0 lends
indexes to shard 1 and its primary is killed meanwhile; once more, and the borrower's is. Then slots 0 to 63, with their part of the
pool, go from shard 0 to shard 1 and the source's primary is killed; then back, and the destination's is.
"""
import time

import scene
import store_scene
from lethe_site import wait_for
from netns import NetError

STORES = ["store-a", "store-b", "store-c"]
FIRST, LAST = 0, 63
TRIES = 4
SLOTS = 256                    # that the clients use: all, so that lender and borrower both give out indexes
PORTS = 50                     # percent of what they ask is the pool
LENT = 600                     # indexes, by one order
BORROWED = 100                 # allocations of such ones, at the least
BALLAST = 500                  # further entries of each of them, so that a move takes its time
# what a store may answer and the txn have failed: a guard of its own, an index that is taken
FINE = {"OK", "CONFLICT", "LIMIT"}


class Moves:
    def __init__(self, lab, site, clients, checks):
        self.lab, self.site, self.clients, self.checks = lab, site, clients, checks

    def owned(self, shard):
        """How many of the slots a shard owns, as its primary says; None: it has none."""
        leader = self.site.leader(self.site.replicas()[shard])
        runs = (self.site.ask(leader, "map") or {}).get("slots") if leader else None
        return runs and sum(max(0, min(r["last"], LAST) - max(r["first"], FIRST) + 1)
                            for r in runs if r["shard"] == shard)

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
            if self.owned(to) == LAST - FIRST + 1:
                return True
            if time.monotonic() > ordered + 2:
                self.order("move %d-%d %d" % (FIRST, LAST, to), source)
                ordered = time.monotonic()
            return False
        wait_for(there, 60, "slots %d to %d to be at shard %d; see %s" % (FIRST, LAST, to, self.lab.logs))

    def lent(self, shard):
        """How many indexes the slots of a shard have lent, as its primary says; None: it has none."""
        rows = self.site.replicas()[shard]
        leader = self.site.leader(rows)
        return rows[leader]["pool_lent"] if leader else None

    def pool_lent(self, name, shard):
        return sum(row["pool_lent"] for row in self.site.shards(name) if row["shard"] == shard)

    def all_lent(self, source, to, until):
        """Until so many are; what a dead primary had been told, the next one is told again."""
        seen, since = None, time.monotonic()

        def there():
            nonlocal seen, since
            lent, now = self.lent(source), time.monotonic()
            if lent is not None and lent >= until:
                return True
            if lent is None or lent != seen:
                seen, since = lent, now
            elif now > since + 2:
                self.order("lend history.ports %d %d %d" % (until - lent, to, source), source)
                since = now
            return False
        wait_for(there, 60, "%d indexes of shard %d to be lent; see %s" % (until, source, self.lab.logs))

    def lend_and_kill(self, source, to, victim_shard):
        """The fail-over is in the middle, if one of some tries meets it: a loan takes a millisecond."""
        for _ in range(TRIES):
            self.clients.history.ask("mark lend")
            before = self.lent(source)
            victim = self.site.primary(victim_shard)
            self.order("lend history.ports %d %d %d" % (LENT, to, source), source)
            leader = self.site.primary(source)
            wait_for(lambda: self.pool_lent(leader, source) > before, 20, "the first indexes to be lent", 0.0005)
            self.site.kill(victim)
            wait_for(lambda: self.lent(source) is not None, 20, "shard %d to have a primary" % source, 0.001)
            some = (self.lent(source) or 0) - before
            self.all_lent(source, to, before + LENT)
            self.site.start_store(victim)
            wait_for(self.site.caught_up, 30, lambda: "all copies after the kill of %s:\n%s" % (
                victim, self.site.told()))
            if some < LENT:
                break
        gap = self.clients.history.ask("gap")
        self.checks.check("%d indexes lent by shard %d to shard %d" % (LENT, source, to),
                          (self.lent(source) or 0) - before >= LENT, "kill -9 of %s, primary of shard %d, when %d had been; then %d; gap %.0f ms"
                          % (victim, victim_shard, some, self.lent(source) - before, gap["gap_ms"]))

    def borrowed(self):
        """The clients are given indexes of other slots than they ask, and free them."""
        wait_for(lambda: self.clients.history.status()["borrowed"] >= BORROWED, 30,
                 "%d allocations of lent indexes; see %s" % (BORROWED, self.clients.log))

    def move_and_kill(self, source, to, victim_shard):
        """The fail-over is in the middle: some slots had moved when the primary died, and not all."""
        for _ in range(TRIES):
            self.clients.history.ask("mark move")
            self.order("move %d-%d %d" % (FIRST, LAST, to), source)
            victim = self.site.primary(victim_shard)
            some = wait_for(lambda: (self.owned(to) or 0) // 4 * 4, 30, "the first slots to move", 0.001)
            self.site.kill(victim)
            self.all_moved(source, to)
            self.site.start_store(victim)
            wait_for(self.site.caught_up, 30, lambda: "all copies after the kill of %s:\n%s" % (
                victim, self.site.told()))
            if some <= (LAST - FIRST + 1) / 2:  # or it may have been over when the kill came
                break
            self.all_moved(to, source)  # it was too late: once more
        gap = self.clients.history.ask("gap")
        self.checks.check("slots %d-%d from shard %d to shard %d" % (FIRST, LAST, source, to), some <= LAST - FIRST,
                          "kill -9 of %s, primary of shard %d, when %d or more of %d had moved; gap %.0f ms"
                          % (victim, victim_shard, some, LAST - FIRST + 1, gap["gap_ms"]))


def act(args):
    def play(lab, site, checks):
        site.bring_up_store()
        clients = store_scene.Clients(lab, site, slots=SLOTS, clients=2, rate=args.rate, seed=args.seed,
                                      ports=PORTS, operations=4000000)
        checks.check("%d entries" % (SLOTS * BALLAST), clients.history.ask("fill %d" % BALLAST, 70)["ok"])
        clients.history.ask("mark start")
        wait_for(clients.history.served, 20, "the first writes; see " + clients.log)
        moves = Moves(lab, site, clients, checks)
        moves.lend_and_kill(0, 1, 0)
        moves.lend_and_kill(0, 1, 1)
        moves.borrowed()
        moves.move_and_kill(0, 1, 0)
        moves.move_and_kill(1, 0, 0)
        same = site.wait_same_digest()
        checks.check("all replicas have one content", True, ", ".join(
            "shard %d: %s at %d" % (i, digest, position) for i, (position, digest) in enumerate(same)))
        checks.check("every one of the %d entries is there" % (SLOTS * BALLAST),
                     clients.history.ask("look %d" % BALLAST, 70)["ok"], "", clients.log)
        told = clients.finish(checks)
        checks.check("lent indexes are given out", told["borrowed"] >= BORROWED, "%d times" % told["borrowed"])
        failed = {k: n for k, n in told["by_status"].items() if k not in FINE}
        checks.check("no operation failed", not failed and told["asked"] == told["told"] and
                     told["unknown"] == 0, "%d asked, %d answered; %s" % (
                         told["asked"], told["told"], failed or told["by_status"]))
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, rate=(3000, "operations a second, of each client process"))
    store_scene.play(arguments, act(arguments), STORES)
