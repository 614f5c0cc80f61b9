#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Faults of a real store in a seeded order, under load: nothing acknowledged is lost.

Four replicas, two copies of each shard, a real etcd, clients in three namespaces. Each fault hits the primary or a
backup of a shard, etcd, or a client: kill -9 and a new start, SIGSTOP and SIGCONT, and partitions: both ways (from
everybody, or from the other replicas alone), deaf (nothing comes in), mute (nothing goes out). Between two faults every
shard has all its copies again, so the last copy is never taken, but in the last step, which says so: there
the store must refuse until somebody accepts the loss in so many words.
"""
import os
import random
import signal
import time
from collections import Counter

import network
import scene
import store_scene
from lethe_site import wait_for

STORES = ["store-a", "store-b", "store-c", "store-d"]
KINDS = ["kill -9", "SIGSTOP", "cut off", "deaf", "mute"]
VICTIMS = ["primary", "backup", "etcd", "client"]
FAILURE_TIMEOUT_MS = 200
LEASE_MS = store_scene.LEASE_TIMEOUTS * FAILURE_TIMEOUT_MS
WORDS = "in-these-words-data-may-be-lost"


def order(rng):
    """(kind, victim, how long, which) for ever: every pair once in twenty, no two alike in a row."""
    while True:
        kinds, victims = rng.sample(KINDS, len(KINDS)), rng.sample(VICTIMS, len(VICTIMS))
        for i in range(len(kinds) * len(victims)):
            victim = victims[i % len(victims)]
            timeouts = (0.5, 2, 5, store_scene.LEASE_TIMEOUTS + 2) if victim == "client" else (0.5, 2, 5)
            yield (kinds[i % len(kinds)], victim, rng.choice(timeouts) * FAILURE_TIMEOUT_MS / 1000,
                   rng.random())


class Chaos:
    def __init__(self, lab, site, clients, checks):
        self.lab, self.site, self.clients, self.checks = lab, site, clients, checks
        self.firewall = store_scene.Cut(lab)
        self.done = Counter()
        self.gaps = []

    def choose(self, victim, which):
        """The name of whom it hits, and for people, what that is."""
        if victim == "etcd":
            return "etcd", "etcd"
        if victim == "client":
            names = self.clients.names
            return names[int(which * len(names))], "client"
        shard = int(which * self.site.shard_count)
        if victim == "primary":
            return self.site.primary(shard), "primary of shard %d" % shard
        name = wait_for(lambda: self.site.backups(shard), 10, "shard %d to have a backup" % shard)[0]
        return name, "backup of shard %d" % shard

    def process(self, name):
        """(send a signal, start again) of whoever it is."""
        if name in self.clients.names:
            pid = self.clients.pid(name)
            return lambda number: os.kill(pid, number), lambda: self.clients.respawn(name)
        instance = self.site.instances[name]
        start = self.site.start_etcd if name == "etcd" else lambda: self.site.start_store(name)
        return instance.process.signal, start

    def hit(self, kind, name, hold_s, which):
        """The fault, from its beginning to its end; sleeps are the fault itself."""
        if kind == "kill -9":
            if name in self.clients.names:
                send, again = self.process(name)
                send(signal.SIGKILL)
            else:
                if name in STORES:  # a busy machine suspects the innocent: it may be the last copy just now
                    wait_for(lambda: self.site.has_other_copies(name), 30, lambda: (
                        "%s to hold no last copy:\n%s" % (name, self.site.told())))
                self.site.kill(name)
                again = self.process(name)[1]
            time.sleep(hold_s)
            again()
        elif kind == "SIGSTOP":
            send, _ = self.process(name)
            send(signal.SIGSTOP)
            try:
                time.sleep(hold_s)
            finally:
                send(signal.SIGCONT)
        else:
            peers = None
            if kind == "cut off" and name in STORES and which * 1000 % 2 < 1:
                peers = [network.STORES[n] for n in STORES if n != name]
            self.firewall.cut(name, kind != "mute", kind != "deaf", peers)
            try:
                time.sleep(hold_s)
            finally:
                self.firewall.heal(name)

    def recovered(self):
        return self.site.caught_up() and self.clients.history.served() and self.clients.history.ready()

    def fault(self, kind, victim, hold_s, which):
        name, what = self.choose(victim, which)
        self.clients.history.ask("mark " + kind)
        self.hit(kind, name, hold_s, which)
        self.clients.history.ask("point")
        wait_for(self.recovered, 30, lambda: "all copies and all clients after %s of %s (%s): %s\n%s"
                 % (kind, what, name, self.clients.history.status(), self.site.told()))
        gap = self.clients.history.ask("gap")
        self.done[kind, victim] += 1
        self.gaps.append((gap["gap_ms"], kind, victim))
        self.checks.say("%-8s %-19s %-8s %4d ms   gap %5.0f ms, %d writes" % (
            kind, what, name, hold_s * 1000, gap["gap_ms"], gap["writes"]))

    def report(self):
        def cell(kind, victim):
            gaps = sorted(g for g, k, v in self.gaps if (k, v) == (kind, victim))
            return "%d: %4.0f, %4.0f" % (len(gaps), gaps[len(gaps) // 2], gaps[-1]) if gaps else "0"
        self.checks.say("faults: gap in ms, median and longest")
        self.checks.say("".ljust(10) + "".join(v.rjust(18) for v in VICTIMS))
        for kind in KINDS:
            self.checks.say(kind.ljust(10) + "".join(cell(kind, v).rjust(18) for v in VICTIMS))
        missing = [v for v in VICTIMS if not any(self.done[k, v] for k in KINDS)]
        missing += [k for k in KINDS if not any(self.done[k, v] for v in VICTIMS)]
        self.checks.check("every kind of fault and of victim", not missing, "%d faults%s" % (
            sum(self.done.values()), "; never: " + ", ".join(missing) if missing else ""))


def lose_everything(lab, site, checks):
    """The one step that takes the last copy: LOST, no answer to anybody, until the loss is accepted."""
    clients = store_scene.Clients(lab, site, slots=8, rate=100, retry_ms=FAILURE_TIMEOUT_MS)
    clients.history.ask("mark last")
    wait_for(clients.history.served, 20, "writes before the last step; see " + clients.log)
    checks.say("THE LAST STEP takes every copy: kill -9 of all replicas, and new starts")
    for name in STORES:
        site.kill(name)
    for name in STORES:
        site.start_store(name)

    def lost():
        rows = site.replicas()
        return all(r and all(row["role"] == "lost" for row in r.values()) for r in rows) and rows
    rows = wait_for(lost, 30, "every shard to be LOST; see " + lab.logs)
    checks.check("status says LOST", True, rows[0]["store-a"]["trouble"])
    clients.history.ask("point")
    wait_for(lambda: all("accept-loss" in t for t in clients.history.status()["troubles"]), 30,
             "every client to be told that the shard is lost; see " + clients.log)
    checks.check("nobody gets an answer", clients.history.status()["writes"] == 0 and bool(lost()),
                 clients.history.status()["troubles"][0])
    for said in ("accept-loss 0", "accept-loss 0 yes", "accept-loss 0 " + WORDS.upper()):
        answer = site.ask("store-a", said) or {}
        checks.check("`%s` is refused" % said, WORDS in answer.get("error", "") and bool(lost()),
                     answer.get("error", str(answer)))
    for shard in range(site.shard_count):
        answer = site.ask("store-a", "accept-loss %d %s" % (shard, WORDS)) or {}
        checks.check("`accept-loss %d %s`" % (shard, WORDS), "result" in answer, str(answer))
    clients.history.ask("point")
    wait_for(lambda: site.caught_up() and clients.history.served(), 30,
             "the store to serve again, with all copies; see " + lab.logs)
    checks.check("the store serves again", True, ", ".join(
        "shard %d: %s" % (i, site.primary(i)) for i in range(site.shard_count)))
    clients.quit()


def act(args):
    def play(lab, site, checks):
        site.bring_up_store()
        clients = store_scene.Clients(lab, site, slots=8, rate=args.rate, seed=args.seed, lease_ms=LEASE_MS,
                                      retry_ms=FAILURE_TIMEOUT_MS)
        chaos = Chaos(lab, site, clients, checks)
        clients.history.ask("mark start")
        wait_for(clients.history.served, 20, "the first writes; see " + clients.log)
        until = time.monotonic() + args.seconds
        for kind, victim, hold_s, which in order(random.Random(args.seed)):
            if time.monotonic() > until:
                break
            chaos.fault(kind, victim, hold_s, which)
        chaos.report()
        same = site.wait_same_digest()
        checks.check("all replicas have one content", True, ", ".join(
            "shard %d: %s at %d" % (i, digest, position) for i, (position, digest) in enumerate(same)))
        clients.finish(checks)
        lose_everything(lab, site, checks)
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, seconds=(20, "how long faults go on"),
                                rate=(1500, "operations a second, of each client process"))
    store_scene.play(arguments, act(arguments), STORES, failure_timeout_ms=FAILURE_TIMEOUT_MS,
                     store="  client_lease_ms: %d\n" % LEASE_MS)
