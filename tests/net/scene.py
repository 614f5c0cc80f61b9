# SPDX-License-Identifier: BSD-3-Clause
"""What every net test has in common: arguments, a site on its network, a verdict, an exit status."""
import argparse
import json
import os
import sys
import time

import network
import traffic
from lethe_site import Site
from netns import Lab, NetError, require_root_and_tools

TOOLS = ["ip", "ethtool", "iperf3", "dnsmasq", "curl", "etcd"]


def arguments(doc, **extra):
    """--build, --run, --loaded, --seed and a test's own (name=(default, help))."""
    p = argparse.ArgumentParser(description=doc.split("\n")[0])
    p.add_argument("--build", default="build/dev", help="folder of the built programs")
    p.add_argument("--run", default=None, help="folder for logs (default build/run-<test>)")
    p.add_argument("--loaded", action="store_true", help="two busy loops beside")
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    for name, (default, text) in extra.items():
        p.add_argument("--" + name.replace("_", "-"), type=type(default), default=default,
                       help=text)
    args = p.parse_args()
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    args.run = args.run or "build/run-" + name
    return args


class Checks:
    """Named conditions: printed as they are checked; the test passes when all held."""

    def __init__(self):
        self.started, self.failed = time.monotonic(), []

    def say(self, text):
        print("%6.1f s  %s" % (time.monotonic() - self.started, text), flush=True)

    def check(self, what, ok, text="", log=None):
        self.say("%s  %s%s" % ("ok    " if ok else "FAILED", what, ": " + text if text else ""))
        if not ok:
            self.failed.append(what)
            if log:
                self.say("        see " + log)
        return ok

    def result(self, what, result):
        shown = {k: v for k, v in result.items() if k not in ("log", "reasons", "last", "live")}
        self.check(what, result["ok"], json.dumps(shown), result.get("log"))


def play(args, act, site_class=Site, **site_options):
    """Builds network and site, calls act(lab, site, checks), cleans up, exits with 0 or 1."""
    require_root_and_tools(TOOLS)
    checks = Checks()
    checks.say("seed %d, logs in %s" % (args.seed, os.path.join(os.path.abspath(args.run), "logs")))
    try:
        with Lab(args.run) as lab:
            network.build(lab, site_options.get("stores", network.PAIR))
            if args.loaded:
                for i in range(2):
                    lab.spawn("busy-%d" % i, ["sh", "-c", "while :; do :; done"])
            traffic.start_servers(lab)
            site = site_class(lab, args.build, **site_options)
            try:
                act(lab, site, checks)
                end(site, checks)
            finally:
                site.close()
    except (NetError, OSError) as e:
        checks.check("the test", False, str(e))
    except KeyboardInterrupt:
        sys.exit("stopped; everything is removed")
    print("FAILED: " + ", ".join(checks.failed) if checks.failed else "passed")
    sys.exit(1 if checks.failed else 0)


def end(site, checks):
    for name, status in site.ended_early().items():
        checks.check(name, False, "ended by itself with status %s" % status,
                     site.instances[name].process.log)
    wrong = site.shut_down()
    checks.check("SIGTERM ends every program with status 0", not wrong, str(wrong or ""), site.lab.logs)
