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
import os
import sys

import chaos_plan
import chaos_report
import program

TOOLS = ["etcd", "openssl", "buildah", "containerd", "runc", "conntrack", "iptables", "gcc", "ping", "ip", "ethtool", "nft", "nsenter"]
APPS = {"etcd": 3, "store": 3, "steer": 2, "nf": 2}
BASE = os.path.join(chaos_plan.HERE, "../../k8s/base")


def apps():
    """Kinds of pods of the dev overlay, and how many."""
    return dict(APPS, **({"controller": 1} if os.path.exists(os.path.join(BASE, "controller.yaml")) else {}))


def arguments():
    p = program.options(__doc__, "build/release", "build/run-chaos-k8s", 120, 128, "a store that keeps one copy of each shard")
    args = p.parse_args()
    if args.planted:
        args.only = args.only or "store/kill,store/delete by force"
    return program.choose(args, chaos_plan.pairs(apps()))


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
    return program.verdict(args, run, run.violations)


if __name__ == "__main__":
    sys.exit(program.main(arguments(), TOOLS, chaos_plan.LANES, play, judge))
