#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Everything of a site is broken on purpose, seed by seed, while real connections go on (README.md).

    chaos.py --seed 7 --seconds 60          the same faults in the same order each time
    chaos.py --seed 7 --list                what they are
    chaos.py --seed 7 --only worker/kill    some pairs alone: a part of "victim/kind"; more with commas

Exit status: 0 no violation, 1 some, 2 wrong words.
"""
import os
import sys

import chaos_site
import plan
import program
import report
from run import TCP_RESET_S, UDP_IDLE_S, Run
import network
import traffic

TOOLS = ["ip", "ethtool", "nft", "nsenter", "curl", "etcd", "dnsmasq", "iperf3", "dig", "ping"]
FAILURE_TIMEOUT_MS = 500


def arguments():
    p = program.options(__doc__, "build/dev", "build/run-chaos", 60, 256, "a store that acknowledges too early")
    p.add_argument("--rate", type=int, default=150, help="operations a second of each history client")
    p.add_argument("--loaded", action="store_true", help="two busy loops beside")
    return program.choose(p.parse_args(), plan.PAIRS)


def play(args, lab):
    network.build(lab, chaos_site.STORES)
    for i in range(2 if args.loaded else 0):
        lab.spawn("busy-%d" % i, ["sh", "-c", "while :; do :; done"])
    traffic.start_servers(lab)
    store = os.path.abspath(args.build + "/tests/chaos/lethe-store-planted") if args.planted else None
    site = chaos_site.ChaosSite(
        lab, args.build, store_program=store, failure_timeout_ms=FAILURE_TIMEOUT_MS,
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
    report.write(args, run, report.table(args, run), history=getattr(run, "verdict", None),
                 status=getattr(run.truth, "summary", lambda: None)())
    return program.verdict(args, run, [v for v in run.violations if v["what"] == "history"])


if __name__ == "__main__":
    sys.exit(program.main(arguments(), TOOLS, plan.LANES, play, judge, prepare=chaos_site.private_mounts))
