#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Everything of a site is broken on purpose, seed by seed, while real connections go on (README.md).

    chaos.py --seed 7 --seconds 60          the same faults in the same order each time
    chaos.py --seed 7 --list                what they are
    chaos.py --seed 7 --only worker/kill    some pairs alone: a part of "victim/kind"; more with commas

Exit status: 0 no violation, 1 some, 2 wrong words.
"""
import argparse
import os
import subprocess
import sys

import chaos_site
import plan
import report
from netns import Lab, NetError, require_root_and_tools
from run import TCP_RESET_S, UDP_IDLE_S, Run
import network
import traffic

TOOLS = ["ip", "ethtool", "nft", "nsenter", "curl", "etcd", "dnsmasq", "iperf3", "dig", "ping"]
FAILURE_TIMEOUT_MS = 500


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build/dev", help="folder of the built programs")
    p.add_argument("--run", default="build/run-chaos", help="folder for logs, report.json and timeline.svg")
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--seconds", type=float, default=60, help="how long faults go on")
    p.add_argument("--minutes", type=float, help="the same, in minutes")
    p.add_argument("--least", type=int, default=0, help="effective faults of each pair; fewer is a failure")
    p.add_argument("--list", action="store_true", help="prints the schedule's first rounds, and does nothing")
    p.add_argument("--rounds", type=int, default=1, help="of --list")
    p.add_argument("--only", default="", help="parts of victim/kind, with commas between")
    p.add_argument("--connections", type=int, default=256)
    p.add_argument("--rate", type=int, default=150, help="operations a second of each history client")
    p.add_argument("--planted", action="store_true", help="a store that acknowledges too early: has to be caught")
    p.add_argument("--loaded", action="store_true", help="two busy loops beside")
    args = p.parse_args()
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(2), "big")
    if args.minutes:
        args.seconds = 60 * args.minutes
    parts = [w for w in args.only.split(",") if w]
    args.pairs = [q for q in plan.PAIRS if not parts or any(w in "%s/%s" % (q.victim, q.kind) for w in parts)]
    if not args.pairs:
        sys.exit("no pair is like --only %s; --list shows them" % args.only)
    return args


def play(args, lab):
    network.build(lab, chaos_site.STORES)
    for i in range(2 if args.loaded else 0):
        lab.spawn("busy-%d" % i, ["sh", "-c", "while :; do :; done"])
    traffic.start_servers(lab)
    program = os.path.join(args.build, "tests/chaos/lethe-store-planted") if args.planted else None
    site = chaos_site.ChaosSite(
        lab, args.build, store_program=program and os.path.abspath(program), failure_timeout_ms=FAILURE_TIMEOUT_MS,
        external=2,
        nat44="    udp_s: %d\n    tcp_reset_s: %d\n    port_rest_s: 1\n  monitor: {idle_s: 5, count_ended: true}\n" % (
            UDP_IDLE_S, TCP_RESET_S),
        store="  client_lease_ms: %d\n" % (10 * FAILURE_TIMEOUT_MS))
    run = Run(args, lab, site)
    try:
        run.bring_up()
        run.go_on(args.seconds)
        run.finish()
    finally:
        run.stop()
        site.close()
    return run


def judge(args, run):
    """Prints, writes; the exit status."""
    report.write(args, run)
    caught = [v for v in run.violations if v["what"] == "history"]
    if args.planted:
        print("caught: " + caught[0]["text"][:300] if caught else "NOT CAUGHT: a store that acknowledges too early")
        return 0 if caught else 1
    few = report.too_few(args, run)
    for text in few:
        print("too few: " + text)
    for v in run.violations:
        print("VIOLATION at %.1f s: %s: %s" % (v["at_s"], v["what"], v["text"]))
    bad = run.violations or few
    print("FAILED; again: tests/chaos/chaos.py --seed %d --seconds %g%s" % (
        args.seed, args.seconds, " --only " + args.only if args.only else "") if bad else "passed")
    return 1 if bad else 0


def main():
    args = arguments()
    if args.list:
        plan.show(args.seed, args.rounds)
        return 0
    require_root_and_tools(TOOLS)
    print("seed %d, %g s of faults, logs in %s" % (args.seed, args.seconds, os.path.abspath(args.run)), flush=True)
    try:
        chaos_site.private_mounts()
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
