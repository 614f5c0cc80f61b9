#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Pods, containers, nodes, their links and the control plane of a real cluster are broken, seed by seed, while
connections go on (README.md).

    chaos.py --seed 7 --minutes 10          the same faults in the same order each time
    chaos.py --seed 7 --list                what they are
    chaos.py --seed 7 --only worker/kill    some pairs alone: a part of "victim/kind"; more with commas
    chaos.py --planted                      a store that keeps one copy: has to be caught

Exit status: 0 no violation, 1 some, 2 wrong words.
"""
import argparse
import os
import subprocess
import sys

import chaos_plan
import chaos_report
import report
from netns import Lab, NetError, require_root_and_tools

TOOLS = ["etcd", "openssl", "buildah", "containerd", "runc", "conntrack", "iptables", "gcc", "ping", "ip", "ethtool", "nft", "nsenter"]
APPS = {"etcd": 3, "store": 3, "steer": 2, "nf": 2}
BASE = os.path.join(chaos_plan.HERE, "../../k8s/base")


def apps():
    """Kinds of pods of the dev overlay, and how many."""
    return dict(APPS, **({"controller": 1} if os.path.exists(os.path.join(BASE, "controller.yaml")) else {}))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build/release", help="folder of the built programs")
    p.add_argument("--run", default="build/run-chaos-k8s", help="folder for logs, report.json and timeline.svg")
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--seconds", type=float, default=120, help="how long faults go on")
    p.add_argument("--minutes", type=float, help="the same, in minutes")
    p.add_argument("--least", type=int, default=0, help="effective faults of each pair; fewer is a failure")
    p.add_argument("--list", action="store_true", help="prints the schedule's first rounds, and does nothing")
    p.add_argument("--rounds", type=int, default=1, help="of --list")
    p.add_argument("--only", default="", help="parts of victim/kind, with commas between")
    p.add_argument("--connections", type=int, default=128)
    p.add_argument("--planted", action="store_true", help="a store that keeps one copy of each shard: has to be caught")
    args = p.parse_args()
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(2), "big")
    if args.minutes:
        args.seconds = 60 * args.minutes
    if args.planted:
        args.only = args.only or "store/kill,store/delete by force"
    parts = [w for w in args.only.split(",") if w]
    args.pairs = [q for q in chaos_plan.pairs(apps()) if not parts or any(w in "%s/%s" % (q.victim, q.kind) for w in parts)]
    if not args.pairs:
        sys.exit("no pair is like --only %s; --list shows them" % args.only)
    return args


def play(args, lab):
    from chaos_run import Run
    from kubernetes_site import KubernetesSite
    from nodes import Cluster
    from test_cluster import make_images
    args.build = os.path.abspath(args.build)
    images = os.path.join(lab.folder, "images")
    make_images(args.build, images)
    with Cluster(lab) as cluster:
        print("two nodes are ready after %.1f s" % cluster.ready_s, flush=True)
        site = KubernetesSite(cluster, args.build)
        site.deploy(images, **({"changed": lambda text: text.replace("copies: 2", "copies: 1")} if args.planted else {}))
        site.wait_ready()
        run = Run(args, lab, cluster, site, apps())
        try:
            run.bring_up()
            run.go_on(args.seconds)
            if not args.planted:
                run.finish()
        finally:
            run.stop()
    return run


def judge(args, run):
    """Prints, writes; the exit status."""
    chaos_report.write(args, run)
    if args.planted:
        print("caught: " + run.violations[0]["text"][:300] if run.violations else "NOT CAUGHT: a store that keeps one copy")
        return 0 if run.violations else 1
    few = report.too_few(args, run)
    for text in few:
        print("too few: " + text)
    for v in run.violations:
        print("VIOLATION at %.1f s: %s: %s" % (v["at_s"], v["what"], v["text"]))
    bad = run.violations or few
    print("FAILED; again: tests/k8s/chaos.py --seed %d --seconds %g%s" % (
        args.seed, args.seconds, " --only '%s'" % args.only if args.only else "") if bad else "passed")
    return 1 if bad else 0


def main():
    args = arguments()
    if args.list:
        chaos_plan.show(args.seed, args.rounds, args.pairs)
        return 0
    require_root_and_tools(TOOLS)
    print("seed %d, %g s of faults, logs in %s" % (args.seed, args.seconds, os.path.abspath(args.run)), flush=True)
    try:
        with Lab(args.run) as lab:
            run = play(args, lab)
        return judge(args, run)
    except (NetError, OSError, subprocess.SubprocessError) as e:
        print("FAILED: %s" % e)
        return 1
    except KeyboardInterrupt:
        sys.exit("stopped; everything is removed")


if __name__ == "__main__":
    sys.exit(main())
