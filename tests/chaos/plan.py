# SPDX-License-Identifier: BSD-3-Clause
"""What is done to whom, what may happen at the same time, what is promised meanwhile: the one table, and the
schedule that a seed makes of it.

A *pair* is a kind of fault and a victim. Each lane does one fault at a time, lanes go on beside each other; the tags
keep apart what together would be beyond the promise (a second copy of a shard, an order while nobody can take it).
A lane's schedule is round after round of all its pairs, in an order, with strengths and victims' lots, that only the
seed and the lane decide. Nothing measured goes into it: how long faults take decides how far a run comes, never what
is next. A fault without effect is tried again at once, with the same numbers, and counted apart.
"""
import random
from collections import namedtuple

# holds: tags that others must not meet while it lasts. wants: tags that must not be held when it begins.
# hold_s: from .. to. rest: traffic may stand still, so it begins only when TCP has forgotten the last time.
Pair = namedtuple("Pair", "kind victim lane hold_s holds wants rest promise")
Fault = namedtuple("Fault", "number lane round pair hold_s which strength")

KINDS = ["kill -9", "stop, short", "stop, long", "restart", "drain", "cut off", "one way", "replicas cut",
         "replicas one way", "loss", "delay", "disk full", "clock step"]
VICTIMS = ["store primary", "store backup", "worker", "steering", "controller", "etcd", "client link", "server link"]
LANES = ["store", "packets", "control", "clocks"]

NOTHING = "nothing is noticed"
FAIL_OVER = "the shard's flows wait for a fail-over; nothing acknowledged is lost"
ONE_WORKER = "its flows wait until steering leaves it out; what it held is lost, as in a network"
ALL_WAIT = "all flows wait; none breaks"
NO_CHANGES = "nothing is noticed; views and the site cannot change meanwhile"
SLOWER = "slower, no more"

# Times are for failure_timeout_ms 500. A stop or cut that all flows feel is over in 2 s, so that with what follows it
# TCP's own patience (it asks again after 0.2, 0.6, 1.4, 3, 6.2, 12.6 s) is never what is measured.
_STORE = dict(lane="store", holds={"store"}, wants={"etcd", "disk"}, rest=True)
_STORE_ORDER = dict(_STORE, holds={"store", "order"}, wants={"etcd", "controller", "disk"})
_WORKER = dict(lane="packets", holds={"worker"}, wants={"disk"}, rest=True)
_WORKER_ORDER = dict(_WORKER, holds={"worker", "order"}, wants={"etcd", "controller", "disk"})
_STEER = dict(lane="packets", holds={"steering"}, wants={"controller", "disk"}, rest=True)
_LINK = dict(lane="packets", holds={"link"}, wants=set(), rest=True)
_CONTROLLER = dict(lane="control", holds={"controller"}, wants={"steering", "order", "disk"}, rest=False)
_ETCD = dict(lane="control", holds={"etcd"}, wants={"order"}, rest=True)  # it makes a fail-over longer
_CLOCK = dict(lane="clocks", holds=set(), wants=set(), rest=False)
_DISK = dict(lane="control", holds={"disk", "controller"}, wants={"store", "worker", "steering", "order"}, rest=True)


def _pairs():
    def add(kind, victim, hold_s, promise, **how):
        found.append(Pair(kind, victim, hold_s=hold_s, promise=promise, **how))
    found = []
    for victim, promise in (("store primary", FAIL_OVER), ("store backup", FAIL_OVER)):
        add("kill -9", victim, (0, 0), promise, **_STORE)
        add("stop, short", victim, (0.1, 0.35), "writes wait for it", **_STORE)
        add("stop, long", victim, (1.0, 2.0), promise, **_STORE)
        add("restart", victim, (0, 0), "a hand-over, a moment", **_STORE_ORDER)
        add("cut off", victim, (0.2, 2.0), promise, **_STORE)
        add("one way", victim, (0.2, 2.0), promise, **_STORE)
        add("replicas cut", victim, (0.4, 2.0), promise, **_STORE)
        add("replicas one way", victim, (0.4, 2.0), promise, **_STORE)
        add("loss", victim, (1.0, 2.5), SLOWER, **_STORE)
        add("delay", victim, (1.0, 2.5), SLOWER, **_STORE)
    add("drain", "store primary", (0.5, 1.5), "a hand-over, a moment", **_STORE_ORDER)
    add("kill -9", "worker", (0, 0), ONE_WORKER, **_WORKER)
    add("stop, short", "worker", (0.1, 0.35), ONE_WORKER, **_WORKER)
    add("stop, long", "worker", (1.0, 2.0), ONE_WORKER, **_WORKER)
    add("restart", "worker", (0, 0), NOTHING, **_WORKER_ORDER)
    add("drain", "worker", (0.2, 1.0), NOTHING, **_WORKER_ORDER)
    add("cut off", "worker", (0.2, 2.0), ONE_WORKER, **_WORKER)
    add("one way", "worker", (0.2, 2.0), ONE_WORKER, **_WORKER)
    add("loss", "worker", (1.0, 2.5), SLOWER, **_WORKER)
    add("delay", "worker", (1.0, 2.5), SLOWER, **_WORKER)
    add("kill -9", "steering", (0, 0), ALL_WAIT, **_STEER)
    add("stop, short", "steering", (0.1, 0.35), ALL_WAIT, **_STEER)
    add("stop, long", "steering", (1.0, 1.8), ALL_WAIT, **_STEER)
    add("restart", "steering", (0, 0), ALL_WAIT, **dict(_STEER, holds={"steering", "order"},
                                                        wants={"controller", "etcd", "disk"}))
    for victim in ("client link", "server link"):
        add("cut off", victim, (0.2, 1.8), ALL_WAIT, **_LINK)
        add("one way", victim, (0.2, 1.8), ALL_WAIT, **_LINK)
        add("loss", victim, (1.0, 2.5), "as through any lossy line", **_LINK)
        add("delay", victim, (1.0, 2.5), SLOWER, **_LINK)
    add("kill -9", "controller", (0.3, 2.0), NOTHING, **_CONTROLLER)
    add("stop, short", "controller", (0.2, 1.0), NOTHING, **_CONTROLLER)
    add("stop, long", "controller", (4.0, 5.0), NOTHING, **_CONTROLLER)
    add("restart", "controller", (0, 0), NOTHING, **_CONTROLLER)
    add("cut off", "controller", (0.5, 5.0), NOTHING, **_CONTROLLER)
    add("one way", "controller", (0.5, 5.0), NOTHING, **_CONTROLLER)
    add("loss", "controller", (1.0, 2.5), NOTHING, **_CONTROLLER)
    add("delay", "controller", (1.0, 2.5), NOTHING, **_CONTROLLER)
    add("kill -9", "etcd", (0.2, 1.2), NO_CHANGES, **_ETCD)
    add("stop, short", "etcd", (0.1, 0.35), NO_CHANGES, **_ETCD)
    add("stop, long", "etcd", (1.0, 2.0), NO_CHANGES, **_ETCD)
    add("restart", "etcd", (0.0, 0.5), NO_CHANGES, **_ETCD)
    add("cut off", "etcd", (0.2, 2.0), NO_CHANGES, **_ETCD)
    add("one way", "etcd", (0.2, 2.0), NO_CHANGES, **_ETCD)
    add("loss", "etcd", (1.0, 2.5), NO_CHANGES, **_ETCD)
    add("delay", "etcd", (1.0, 2.5), NO_CHANGES, **_ETCD)
    add("disk full", "etcd", (0.5, 1.0), NO_CHANGES, **_ETCD)
    for victim in ("store backup", "worker"):
        add("disk full", victim, (1.0, 1.5), "killed meanwhile, it is started when there is room", **_DISK)
    for victim, hold_s in (("store primary", (5, 15)), ("store backup", (5, 15)), ("steering", (15, 25)),
                           ("controller", (5, 15))):   # until it is read; who is at peace reads none
        add("clock step", victim, hold_s, NOTHING, **_CLOCK)
    add("clock step", "worker", (10, 10), ONE_WORKER, **dict(_WORKER, lane="clocks"))
    return found


PAIRS = _pairs()


def schedule(seed, lane, pairs=None):
    """Faults for ever, each a namedtuple; the same ones for the same seed."""
    chance = random.Random("%d %s" % (seed, lane))
    mine = [p for p in (pairs or PAIRS) if p.lane == lane]
    number = 0
    for turn in range(1 << 30):
        for pair in chance.sample(mine, len(mine)):
            low, high = pair.hold_s
            number += 1
            yield Fault(number, lane, turn, pair, round(low + (high - low) * chance.random(), 3),
                        round(chance.random(), 6), round(chance.random(), 6))
        if not mine:
            return


def show(seed, rounds=1, lanes=LANES, pairs=None):
    """The schedule for people."""
    for lane in lanes:
        for f in schedule(seed, lane, pairs):
            if f.round >= rounds:
                break
            print("%-8s %4d  %-16s %-14s %6.3f s  lot %.6f  strength %.6f  %s" % (
                lane, f.number, f.pair.kind, f.pair.victim, f.hold_s, f.which, f.strength, f.pair.promise))
