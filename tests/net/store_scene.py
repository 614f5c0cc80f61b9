# SPDX-License-Identifier: BSD-3-Clause
"""A store alone, replicas and etcd and clients each in a namespace of its own, so that each can be cut off:

    clients c1 c2 c3 ──┐
    store-a ... -d ────┼── management network (a bridge)
    etcd ──────────────┘

The clients are store_history's (tests/store/): what they saw is judged at the end.
"""
import os
import subprocess
import sys

import network
import scene
from lethe_site import Site, wait_for
from netns import Lab, NetError, require_root_and_tools

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "store"))
from history import History  # noqa: E402

TOOLS = ["ip", "ethtool", "nft", "curl", "etcd"]
LEASE_TIMEOUTS = 10            # a client's lease, in failure time-outs


class Cut:
    """Firewalls of namespaces: what is dropped, by whom it comes or goes."""

    def __init__(self, lab):
        self.lab = lab

    def cut(self, name, incoming=True, outgoing=True, peers=None):
        """Drops a namespace's packets from, or to, everybody or some addresses."""
        ns = self.lab.namespaces[name]
        rules = ["add table ip cut"]
        for hook, wanted, side in (("input", incoming, "saddr"), ("output", outgoing, "daddr")):
            if wanted:
                rules += ["add chain ip cut %s { type filter hook %s priority 0; }" % (hook, hook),
                          "add rule ip cut %s %s drop" % (hook, "ip %s { %s }" % (side, ", ".join(peers))
                                                          if peers else "meta %sname != lo"
                                                          % ("iif" if hook == "input" else "oif"))]
        ns.run(["nft", "\n".join(rules)])

    def heal(self, name):
        self.lab.namespaces[name].run(["nft", "delete table ip cut"])


class Clients:
    """store_history in namespaces of its own."""

    def __init__(self, lab, site, count=3, prefix="c", **options):
        self.lab, self.site, self.names = lab, site, ["%s%d" % (prefix, i) for i in range(1, count + 1)]
        for number, name in enumerate(self.names):
            network.attach_to_management(lab, name, network.store_client_address(number))
        self.log = os.path.join(lab.logs, "history.log")
        self.history = History(
            self._spawn, os.path.join(site.programs, "tests/store/store_history"),
            [network.STORES[name] + ":7400" for name in site.stores], site.shard_count,
            [lab.namespaces[name].path() for name in self.names], tenant="workers",
            secret_file=os.path.join(site.run_dir, "workers.secret"), **options)
        wait_for(self.history.ready, 30, "every client to be served; see " + self.log)

    def _spawn(self, argv, **streams):
        return self.lab.spawn("history", argv, **streams).popen

    def pid(self, name):
        return self.history.status()["pids"][self.names.index(name)]

    def respawn(self, name):
        number = self.names.index(name)
        wait_for(lambda: self.history.status()["pids"][number] == 0, 10, "client %s to be dead" % name)
        if not self.history.ask("respawn %d" % number)["ok"]:
            raise NetError("client %s could not be started again; see %s" % (name, self.log))

    def finish(self, checks, what="history", wait_s=15):
        """The verdict over everything so far; the program ends."""
        told = self.history.finish(wait_s)
        counts = "%(operations)d operations, %(done)d done, %(refused)d refused, %(unknown)d unknown; " \
                 "longest gap %(gap_ms).0f ms; %(retries)d retries, %(leases)d client ids" % told
        wrong = "; ".join(filter(None, [told.get("check") and "%(check)s: %(text)s" % told,
                                        told.get("wrong"),
                                        "" if told["all_read"] else "not every key could be read at the end",
                                        "the record was full" if told["record_full"] else ""]))
        checks.check("%s: nothing lost, nothing twice, linearizable" % what, told["ok"],
                     "%s%s" % (counts, " — " + wrong if wrong else ""), self.log)
        return told

    def quit(self):
        self.history.process.stdin.close()
        self.history.process.wait()


def play(args, act, stores, **site_options):
    """Builds the store's network and site, calls act(lab, site, checks), cleans up, exits with 0 or 1."""
    require_root_and_tools(TOOLS)
    checks = scene.Checks()
    checks.say("seed %d, logs in %s" % (args.seed, os.path.join(os.path.abspath(args.run), "logs")))
    try:
        with Lab(args.run) as lab:
            network.build_management(lab, stores)
            if args.loaded:
                for i in range(2):
                    lab.spawn("busy-%d" % i, ["sh", "-c", "while :; do :; done"])
            site = Site(lab, args.build, stores=stores, etcd=True, **site_options)
            try:
                act(lab, site, checks)
                scene.end(site, checks)
            finally:
                site.close()
    except (NetError, OSError, subprocess.SubprocessError) as e:
        checks.check("the test", False, str(e))
    except KeyboardInterrupt:
        sys.exit("stopped; everything is removed")
    print("FAILED: " + ", ".join(checks.failed) if checks.failed else "passed")
    sys.exit(1 if checks.failed else 0)
