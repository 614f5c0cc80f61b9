#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Question "idle": how much CPU does a site use that has nothing to do? Two workers, steering and a store's
primary and backup, the workers' state by tcp and by shared memory: tests/net/test_idle.py. Needs root."""
import argparse
import json
import os
import statistics
import subprocess
import sys

import report

WHO = {"w1": "worker", "w2": "worker", "steer": "steering", "store-a": "store, primary", "store-b": "store, backup"}


def measured(transport, build, out):
    folder = os.path.join(out, "idle-" + transport)
    test = [sys.executable, "tests/net/test_idle.py", "--build", build, "--run", folder, "--transport", transport]
    with open(os.path.join(out, "idle-%s.log" % transport), "w") as log:
        if subprocess.call(test, cwd=report.ROOT, stdout=log, stderr=subprocess.STDOUT):
            sys.exit("%s failed: see %s" % (" ".join(test), log.name))
    with open(os.path.join(folder, "idle.json")) as f:
        return json.load(f)["cpu_seconds_per_second"]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--build", default="build/release")
    p.add_argument("--out", default="build/bench")
    options = p.parse_args()
    build, out = os.path.abspath(options.build), os.path.abspath(options.out)
    os.makedirs(out, exist_ok=True)
    found = {}
    for run in range(options.runs):
        for transport in ("tcp", "shm"):
            print("idle: run %d of %d, %s ..." % (run + 1, options.runs, transport), file=sys.stderr)
            for name, share in measured(transport, build, out).items():
                found.setdefault("%s, %s" % (WHO.get(name, name), transport), []).append(100 * share)
    cases = [{"name": name, "metric": "CPU while idle", "unit": "%", "median": round(statistics.median(v), 3),
              "min": round(min(v), 3), "max": round(max(v), 3)} for name, v in sorted(found.items())]
    print("\nAn idle site  (median of %d runs of 10 s, min .. max)\n" % options.runs)
    for c in cases:
        print("  %-24s %-16s %6.2f %%   (%.2f .. %.2f)   goal: 2"
              % (c["name"], c["metric"], c["median"], c["min"], c["max"]))
    report.write("idle", out, options.runs, cases, {}, ["Of one CPU. Two workers, so twice the samples."])


if __name__ == "__main__":
    main()
