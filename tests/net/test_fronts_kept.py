#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two front ends kept by lethe-controller on one host: killed, stopped, restarted under 512 connections.

The network is test_fronts.py's, with both front ends and all else in one namespace. Every answer of the API is
held against orchestrator/openapi.json.
"""
import os
import signal

import scene
import test_fronts
import traffic
from test_controller import Checked

CONNECTIONS = 512
FRONTS = {"steer": ["nf-1", "nf-2"], "steer-2": ["b-1", "b-2"]}
GROUPS = "groups: [{name: nf, replicas: 2, max: 4}, {name: b, replicas: 2, max: 4, front: steer-2, weight: 40}]\n"


class Kept(Checked):
    def __init__(self, lab, build, **options):
        super().__init__(lab, build, groups=GROUPS, etcd=False, **options)
        self.routers = test_fronts.routers(lab, lab.namespaces["steer"], ("inside2", "outside2"))

    def write_config(self, path, **other):
        super().write_config(path, **other)
        with open(path) as f:
            text = test_fronts.with_more(f.read(), ("inside2", "outside2"))
        with open(path, "w") as f:
            f.write(text)

    def wait_whole(self, but=None):
        """All is ready, with another process than `but`; routers use both front ends. {name: pid}"""
        s = self.wait_ready(sum(map(len, FRONTS.values())))
        if but is not None:
            s = self.wait_status(lambda t: all(p["state"] == "ready" and p["pid"] != but for p in t["steering"])
                                 and all(w["state"] == "ready" for w in t["workers"]), 30, "another front end")
        for router in self.routers:
            router.wait_fronts(FRONTS)
        return s


def pid_of(status, name):
    return next(p["pid"] for p in status["steering"] if p["name"] == name)


def order(site, checks, words, wanted, sentence=""):
    code, answer = site.api("POST", "/v1/instances/" + words, {})
    checks.check("%s: %d" % (words, wanted), code == wanted and sentence in str(answer), str(answer))


def look(site, checks, s):
    joined = {w["name"]: w["steering"]["front"] for w in s["workers"]}
    shares = {f: sum(w["steering"]["buckets"] for w in s["workers"] if joined[w["name"]] == f) for f in FRONTS}
    tables = {p["name"]: p["figures"]["buckets"] for p in s["steering"]}
    weights = {w["name"]: w["weight"] for f in FRONTS for w in site.ask(f, "workers")["workers"]}
    checks.check("with its group's weight", weights == {"nf-1": 100, "nf-2": 100, "b-1": 40, "b-2": 40}, str(weights))
    checks.check("each worker has joined the front end of its group",
                 joined == {w: f for f, workers in FRONTS.items() for w in workers} and shares == tables, str(joined))


def act(lab, site, checks):
    site.start_controller("controller-1")
    for router in site.routers:
        router.watch(site.programs)
    s = site.wait_whole()
    look(site, checks, s)
    lines = traffic.Lines(lab, CONNECTIONS, ramp=8)
    lines.wait_opened()
    for name in FRONTS:
        order(site, checks, name + "/kill", 200)
        s = site.wait_whole(but=pid_of(s, name))
    # one does not answer: the other one is the last
    os.kill(pid_of(s, "steer"), signal.SIGSTOP)
    site.wait_status(lambda t: any(a["kind"] == "front_end_down" and a["subject"] == "steer" for a in t["alerts"]), 20,
                     "an alert about steer")
    order(site, checks, "steer-2/kill", 403, "only steering")
    order(site, checks, "steer-2/restart", 403, "only steering")
    os.kill(pid_of(s, "steer"), signal.SIGCONT)
    s = site.wait_whole()
    order(site, checks, "steer-2/restart", 200)
    s = site.wait_whole(but=pid_of(s, "steer-2"))
    # two workers serve elsewhere, and all the same it is the last one here
    code, answer = site.api("POST", "/v1/groups/b/scale", {"replicas": 1})
    checks.check("scale", code == 200, str(answer))
    s = site.wait_ready(3)
    order(site, checks, next(w["name"] for w in s["workers"] if w["group"] == "b") + "/kill", 403, "at its front end")
    checks.result("connections", lines.finish())
    causes = [e["cause"] for e in site.events(kind="exit") if e["subject"] in FRONTS]
    checks.check("why front ends ended is told", len(causes) == 3, "; ".join(causes))
    checks.check("answers are as described", not site.wrong_answers, "; ".join(site.wrong_answers[:3]))


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=Kept)
