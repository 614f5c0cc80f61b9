#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The worker-kill test (test_kills.py) with the state in a Redis Cluster, 3 masters and 3 replicas.

A worker's death loses nothing there either. A master's may: with --master the master of some slots is
killed in the end, and what that did to connections is reported, not judged."""
import scene
import test_kills
import traffic
from elsewhere import REDIS_PORT, RedisSite
from lethe_site import wait_for


def told(site, checks):
    status = site.ask("w1", "status") or {}
    checks.check("status says that commits are best effort",
                 status.get("best_effort") is True and status.get("state_by") == "redis"
                 and len(status.get("lacks", [])) >= 3, "; ".join(status.get("lacks", []))[:120])
    stats = site.stats("w1") or {}
    checks.check("metrics say so", stats.get("lethe_worker_best_effort") == 1)
    with open(site.instances["w1"].process.log) as log:
        checks.check("the log says so", "best effort" in log.read())


def kill_a_master(lab, site, checks):
    lines = traffic.Lines(lab, 64)
    lines.wait_opened()
    site.kill("r0")
    wait_for(lambda: "cluster_state:ok" in site.redis_cli(REDIS_PORT + 1, "cluster", "info")
             and "fail" in site.redis_cli(REDIS_PORT + 1, "cluster", "nodes"), 30, "Redis to fail over")
    result = lines.finish()
    checks.say("report: a Redis master died: %s" % {k: v for k, v in result.items()
                                                     if k not in ("log", "reasons", "last", "live")})


def act(args):
    inner = test_kills.act(args, dump=False)

    def play(lab, site, checks):
        inner(lab, site, checks)
        told(site, checks)
        if args.master:
            kill_a_master(lab, site, checks)
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, kills=(8, "how many"), master=(0, "1: a master dies, too"))
    scene.play(arguments, act(arguments), site_class=RedisSite, **test_kills.SCARCE)
