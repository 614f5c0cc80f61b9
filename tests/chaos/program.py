# SPDX-License-Identifier: BSD-3-Clause
"""What a program of faults is, whatever is broken (a site, a cluster): its options, its verdict, its exit status.

Exit status: 0 no violation, 1 some, 2 wrong words.
"""
import argparse
import os
import shlex
import subprocess
import sys

import plan
import report
from netns import Lab, NetError, require_root_and_tools


def above_0(text):
    if not float(text) > 0:
        raise argparse.ArgumentTypeError("%s: nothing is broken for so long; write a number above 0" % text)
    return float(text)


def options(doc, build, run, seconds, connections, planted):
    """A parser of what every one can be told; planted: the bug that has to be caught, in words."""
    p = argparse.ArgumentParser(description=doc.split("\n")[0])
    p.add_argument("--build", default=build, help="folder of the built programs")
    p.add_argument("--run", default=run, help="folder for logs, report.json and timeline.svg")
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    p.add_argument("--seconds", type=above_0, default=seconds, help="how long faults go on")
    p.add_argument("--minutes", type=above_0, help="the same, in minutes")
    p.add_argument("--least", type=int, default=0, help="effective faults of each pair; fewer is a failure")
    p.add_argument("--list", action="store_true", help="prints the schedule's first rounds, and does nothing")
    p.add_argument("--rounds", type=int, default=1, help="of --list")
    p.add_argument("--only", default="", help="parts of victim/kind, with commas between")
    p.add_argument("--connections", type=int, default=connections)
    p.add_argument("--planted", action="store_const", const=planted, help=planted + ": has to be caught")
    return p


def choose(args, pairs):
    """args.pairs: those of all that --only names. Also what follows from other words."""
    if args.minutes:
        args.seconds = 60 * args.minutes
    parts = [w for w in args.only.split(",") if w]
    args.pairs = [q for q in pairs if not parts or any(w in "%s/%s" % (q.victim, q.kind) for w in parts)]
    if not args.pairs:
        sys.exit("no pair is like --only %s; --list shows them" % args.only)
    return args


def verdict(args, run, caught):
    """Prints it; the exit status. caught: violations by which the planted bug is known."""
    if args.planted:
        print("caught: " + caught[0]["text"][:300] if caught else "NOT CAUGHT: " + args.planted)
        return 0 if caught else 1
    few = report.too_few(args, run)
    for text in few:
        print("too few: " + text)
    for v in run.violations:
        print("VIOLATION at %.1f s: %s: %s" % (v["at_s"], v["what"], v["text"]))
    bad = run.violations or few
    print("FAILED; again: %s --seed %d --seconds %g%s" % (
        sys.argv[0], args.seed, args.seconds, " --only " + shlex.quote(args.only) if args.only else "") if bad else "passed")
    return 1 if bad else 0


def main(args, tools, lanes, play, judge, prepare=lambda: None):
    """play(args, lab): the run; judge(args, run): the exit status. prepare: before anything is made."""
    if args.list:
        plan.show(args.seed, args.rounds, lanes, args.pairs)
        return 0
    require_root_and_tools(tools)
    print("seed %d, %g s of faults, logs in %s" % (args.seed, args.seconds, os.path.abspath(args.run)), flush=True)
    try:
        prepare()
        with Lab(args.run) as lab:
            run = play(args, lab)
        return judge(args, run)
    except (NetError, OSError, subprocess.SubprocessError) as e:
        print("FAILED: %s" % e)
        return 1
    except KeyboardInterrupt:
        sys.exit("stopped; everything is removed")
