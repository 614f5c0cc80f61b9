# SPDX-License-Identifier: BSD-3-Clause
"""What the benches in Python share, as those in C share report.h: options, figures, <out>/<question>.json.
Whoever imports it can import what is in tests/net, too."""
import argparse
import json
import math
import os
import platform
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "net"))


def failover_options(doc, events, quick, kinds):
    """A parser of what every bench of fail-overs can be told. events of each kind; with --quick so few."""
    p = argparse.ArgumentParser(description=doc.split("\n")[0])
    p.add_argument("--events", type=int, default=events, help="of each kind, with each peer (default: %(default)s)")
    p.add_argument("--quick", dest="events", action="store_const", const=quick, help="--events %d" % quick)
    p.add_argument("--kinds", default=",".join(kinds), type=lambda text: [k for k in kinds if k in text.split(",")],
                   help="default: %(default)s")
    p.add_argument("--peers", default="redis,store,store_slow", type=lambda text: text.split(","),
                   help="default: %(default)s")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--programs", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--out", default=os.path.join(ROOT, "build", "bench"))
    return p


def announce(question, options, expected_s):
    print("%s: %d events of each kind; about %d min %d s" % (
        question, options.events, expected_s // 60, expected_s % 60), flush=True)


def quantile(values, q):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def write(question, out, runs, cases, ratios, notes):
    """Sentences under the table; all of it for machines."""
    for n in notes:
        print("  " + n)
    path = os.path.join(out, question + ".json")
    with open(path, "w") as f:
        json.dump({"question": question, "machine": machine(), "runs": runs, "cases": cases, "ratios": ratios,
                   "notes": notes}, f, indent=1)
    print("  written: " + path)
