# SPDX-License-Identifier: BSD-3-Clause
"""What is done to whom on the cluster, what may happen at the same time, what is promised meanwhile: the one table.
Schedules are made of it as of the table of a site (tests/chaos/plan.py): seed and lane decide, nothing measured does.

Beyond the promise, and so kept apart by tags: both copies of a shard, two members of etcd, both front ends; an order
while nobody can carry it out (no apiserver, no kubelet); a second standstill before TCP has recovered from the first.
A node holds what the scheduler gave it. So a long cut of its cable is of a node that the other one can go on without: it has
etcd's majority, a copy of each shard, workers. Is there none just then, the cut is short (CUT_SHORT_S): all wait for its end.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../chaos"), os.path.join(HERE, "../net")]

from plan import Pair  # noqa: E402

PODS = {"worker": "nf", "store": "store", "etcd": "etcd", "steering": "steer", "controller": "controller"}
AGENTS = ("kubelet", "containerd")
PLANE = {"apiserver": "kube-apiserver", "its etcd": "etcd", "controller-manager": "kube-controller-manager",
         "scheduler": "kube-scheduler"}
LINKS = {"node link": "eth0", "client link": "inside", "server link": "outside"}
VICTIMS = [*PODS, "node", *LINKS, *AGENTS, *PLANE]
LANES = ["state", "packets", "nodes", "control"]
CUT_SHORT_S = 1.5

NOTHING = "nothing is noticed"
FAIL_OVER = "flows of its shards wait for a fail-over; nothing acknowledged is lost"
HAND_OVER = "a hand-over, a moment each"
ONE_WORKER = "its flows wait until steering leaves it out; what it held is lost, as in a network"
TURNED = "routers turn to the other front end"
EDGE_CUT = "no carrier: routers turn to the other front end; silent: those of the other side do not, its flows wait"
NO_CHANGES = "nothing is noticed; nothing is made anew meanwhile"
SLOWER = "slower, no more"
ALL_WAIT = "flows wait; none breaks"

# Who is touched now; what pods of that kind wait for if they are made anew.
_ALL = {"store", "etcd", "worker", "steering", "controller"}
_ORDERS = {"order of state", "order of packets", "order of control"}
_STORE = dict(lane="state", holds={"store"}, wants={"node"}, rest=True)
_ETCD = dict(lane="state", holds={"etcd"}, wants={"node"}, rest=True)
_WORKER = dict(lane="packets", holds={"worker"}, wants={"node"}, rest=True)
_STEER = dict(lane="packets", holds={"steering"}, wants={"node", "link"}, rest=True)
_CONTROLLER = dict(lane="control", holds={"controller"}, wants={"node"}, rest=False)
_OF = {"store": _STORE, "etcd": _ETCD, "worker": _WORKER, "steering": _STEER, "controller": _CONTROLLER}
_PROMISE = {"store": FAIL_OVER, "etcd": NOTHING, "worker": ONE_WORKER, "steering": TURNED, "controller": NOTHING}
_NODE = dict(lane="nodes", holds={"node"}, wants=_ALL | {"plane"}, rest=True)
_EDGE = dict(lane="nodes", holds={"link"}, wants={"steering"}, rest=True)
_AGENT = dict(lane="nodes", holds={"agent"}, wants=_ORDERS | {"plane"}, rest=False)
_PLANE = dict(lane="control", holds={"plane"}, wants=_ORDERS | {"agent", "node"}, rest=False)


def _order(how):
    """Pods are made anew: it takes apiserver, scheduler, kubelet. Lanes may do so beside each other."""
    return dict(how, holds=how["holds"] | {"order of " + how["lane"]}, wants=how["wants"] | {"plane", "agent"})


def _pairs():
    def add(kind, victim, hold_s, promise, **how):
        found.append(Pair(kind, victim, hold_s=hold_s, promise=promise, **how))
    found = []
    for victim, how in _OF.items():
        promise = _PROMISE[victim]
        add("delete", victim, (0, 0), NOTHING if victim != "store" else HAND_OVER, **_order(how))
        add("delete by force", victim, (0, 0), promise, **_order(how))
        add("kill -9", victim, (0, 0), promise, **how)
        add("stop", victim, (0.2, 2.0), promise, **how)
        add("roll out", victim, (0, 0), NOTHING if victim != "store" else HAND_OVER, **_order(how))
    add("scale", "worker", (0, 0), NOTHING, **_order(_WORKER))
    add("drain", "node", (0.5, 2.0), "as when its pods are deleted, one after the other", **_NODE)
    add("cut off", "node link", (0.3, 2.0), ALL_WAIT, **_NODE)
    add("cut off, long", "node link", (9, 24), FAIL_OVER, **_NODE)
    add("loss", "node link", (1.0, 2.5), SLOWER, **_NODE)
    add("delay", "node link", (1.0, 2.5), SLOWER, **_NODE)
    for victim in ("client link", "server link"):
        add("cut off", victim, (0.3, 6.0), EDGE_CUT, **_EDGE)
        add("loss", victim, (1.0, 2.5), "as through any lossy line", **_EDGE)
        add("delay", victim, (1.0, 2.5), SLOWER, **_EDGE)
    for victim in AGENTS:
        add("kill -9", victim, (0.2, 4.0), NO_CHANGES, **_AGENT)
        add("stop", victim, (1.0, 6.0), NO_CHANGES, **_AGENT)
    add("stop, long", "kubelet", (9, 24), "the node is NotReady, workers begin elsewhere, what it runs runs on", **_AGENT)
    for victim in PLANE:
        add("kill -9", victim, (0.2, 3.0), NO_CHANGES, **_PLANE)
        add("stop", victim, (0.5, 4.0), NO_CHANGES, **_PLANE)
    return found


PAIRS = _pairs()
KINDS = list(dict.fromkeys(p.kind for p in PAIRS))


def pairs(apps):
    """Of a site that has these kinds of pods."""
    return [p for p in PAIRS if PODS.get(p.victim, None) in (None, *apps)]
