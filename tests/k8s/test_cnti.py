#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Workload tests of the CNTI Test Catalog that need a running site: docs/cnti.md says which row is which function here.

The dev overlay on two nodes, with traffic (site_traffic.py) that may not break all the time: first what is seen from outside
of containers (users, capabilities, processes, logs, metrics), then a bad network, bad neighbours, other versions, signals.
Times and sizes are a report; counts and states decide. --only NAME...: some of the functions.
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]

import cnti_cluster as neighbours                           # noqa: E402
from containers import Container, executable, status        # noqa: E402
from kubernetes_site import KubernetesSite                  # noqa: E402
from lethe_site import wait_for                             # noqa: E402
from netns import Lab, NetError, require_root_and_tools     # noqa: E402
from nodes import Cluster                                   # noqa: E402
from site_traffic import Traffic                            # noqa: E402
from test_cluster import make_images                        # noqa: E402

USER = "10001"
PACKETS = {"cap_net_admin", "cap_net_raw", "cap_ipc_lock"}  # k8s/images/README.md says why
CAPABILITIES = {"nf": PACKETS, "steer": PACKETS}            # and nobody else any
NUMBERS = {"cap_net_admin": 12, "cap_net_raw": 13, "cap_ipc_lock": 14}
PROGRAMS = {"nf": "/usr/bin/lethe-nf", "steer": "/usr/bin/lethe-steer", "store": "/usr/bin/lethe-store",
            "etcd": "/usr/bin/etcd", "controller": "/usr/bin/lethe-controller"}
OURS = ("nf", "steer", "store", "controller")
# What each says when SIGTERM makes it end in good order.
LAST_WORDS = {"nf": "drained", "steer": "steering ends", "store": "stopped", "controller": "stopping"}
START_S, IMAGE_BYTES = 60, 500 << 20                        # the catalogue's own bounds
FAULTS = {"latency": dict(delay_ms=40, jitter_ms=30), "loss": dict(lost=10), "duplication": dict(twice=25)}
FAULT_S = 8


class Run:
    def __init__(self, site, traffic, images):
        self.site, self.traffic, self.images, self.failed, self.known = site, traffic, images, 0, set()
        self.kubectl, self.cluster = site.kubectl, site.cluster

    # --- saying ----------------------------------------------------------------------------------

    def check(self, what, wrong, report=""):
        """wrong: sentences; none: passed."""
        self.failed += bool(wrong)
        print("%s %-44s %s" % ("FAIL" if wrong else "ok  ", what, "; ".join(wrong[:5]) or report), flush=True)

    def unbroken(self, what, act):
        """Something is done to the site; afterwards all traffic goes on, and nothing of it broke."""
        began = time.monotonic()
        try:
            report = act()
            self.traffic.goes_on()
            wrong = [s for s in self.traffic.broken() if s not in self.known]   # what broke earlier stays broken
            self.known |= set(wrong)
        except (NetError, OSError, subprocess.TimeoutExpired) as e:
            wrong, report = ["%s\n%s" % (e, self.site.what_is())], None
        gaps = self.traffic.gaps(began)
        self.check(what, wrong, "%s%.0f s; longest standstill: UDP %d ms, TCP %d ms" % (
            report + "; " if report else "", time.monotonic() - began, gaps["udp_ms"], gaps["tcp_ms"]))

    def each(self, apps=None):
        """(app, Container) of every pod that runs."""
        for p in self.running():
            app = p["metadata"]["labels"]["app"]
            if apps is None or app in apps:
                yield app, Container(p)

    def running(self, app=None):
        """Not those that end."""
        return [p for p in self.site.pods(app) if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]]

    def container(self, app, number=0):
        return Container(self.running(app)[number])

    def ready(self, app, count):
        wait_for(lambda: self.site.ready(app, count), 120, "%d pods of %s to be ready" % (count, app), 0.2)

    def node(self, c):
        return next(n for n in self.cluster.nodes if n.name == c.pod["spec"]["nodeName"])

    # --- what containers are -----------------------------------------------------------------------

    def users_and_capabilities(self):
        wrong, seen = [], 0
        for app, c in self.each():
            want = sum(1 << NUMBERS[n] for n in CAPABILITIES.get(app, ()))
            for pid in c.processes():
                s = status(pid)
                seen += 1
                if set((s["Uid"] + "\t" + s["Gid"]).split("\t")) != {USER}:
                    wrong.append("%s runs as %s, group %s" % (c.name, s["Uid"], s["Gid"]))
                for word in ("CapEff", "CapPrm", "CapBnd"):
                    if int(s[word], 16) != want:
                        wrong.append("%s: %s is %s, not %x" % (c.name, word, s[word], want))
                if s["NoNewPrivs"] != ("0" if want else "1"):
                    wrong.append("%s: no_new_privs is %s" % (c.name, s["NoNewPrivs"]))
                if s["Seccomp"] != "2":
                    wrong.append("%s: no filter of system calls" % c.name)
            if "ro" not in c.mounts()["/"]:
                wrong.append("%s may write to its image" % c.name)
        self.check("not root; capabilities as named; seccomp", wrong, "%d processes" % seen)

    def one_program_each(self):
        wrong, seen = [], 0
        for app, c in self.each():
            programs = {executable(p) for p in c.processes()}
            seen += 1
            if programs != {PROGRAMS[app]}:
                wrong.append("%s runs %s" % (c.name, ", ".join(sorted(programs))))
        self.check("one process type in a container", wrong, "%d containers" % seen)

    def zombies_are_buried(self):
        wrong, seen = [], 0
        for _, c in self.each(OURS):
            parents = c.orphans(8)
            seen += len(parents)
            if parents != ["1"] * 8:
                wrong.append("%s: its orphans' parents are %s" % (c.name, parents))
            try:
                wait_for(lambda: not c.zombies(), 10, lambda: "%s to bury %s" % (c.name, c.zombies()))
            except NetError as e:
                wrong.append(str(e))
        self.check("zombies", wrong, "%d orphans ended, none is left" % seen)

    def logs_go_out(self):
        wrong, lines = [], 0
        for app, c in self.each():
            said = self.kubectl("-n", "lethe", "logs", c.name).stdout.splitlines()
            lines += len(said)
            if not said:
                wrong.append("%s has said nothing" % c.name)
            for line in said if app in OURS else []:
                try:
                    json.loads(line)["event"]
                except (ValueError, KeyError):
                    wrong.append("%s: no JSON with an event: %s" % (c.name, line[:80]))
            if app in OURS and c.written_files():
                wrong.append("%s writes files: %s" % (c.name, ", ".join(c.written_files())))
        self.check("logs on standard streams, none in files", wrong, "%d lines" % lines)

    def metrics_are_right(self):
        wrong, samples = [], 0
        for app, c in self.each(OURS):
            port = c.pod["metadata"]["annotations"]["prometheus.io/port"]
            got = self.cluster.lab.namespaces["master"].run([
                "curl", "-sSf", "-m", "10", "http://%s:%s/metrics" % (c.pod["status"]["podIP"], port)], check=False)
            told = subprocess.run(["promtool", "check", "metrics"], input=got.stdout, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            samples += sum(bool(line) and line[0] != "#" for line in got.stdout.splitlines())
            if got.returncode != 0 or told.returncode != 0 or not got.stdout:
                wrong.append("%s: %s" % (c.name, (got.stderr or told.stdout).strip()[:300]))
        self.check("/metrics of each, by promtool", wrong, "%d samples" % samples)

    def prometheus_scrapes_them(self):
        pods = {c.name for _, c in self.each(OURS)}
        with neighbours.Prometheus(self.cluster, [c.pod for _, c in self.each()]) as p:
            try:
                wait_for(lambda: p.up() >= pods, 60, lambda: "Prometheus to scrape %s; it has %s, see %s" % (
                    sorted(pods), sorted(p.up()), p.process.log), 0.5)
                wrong = []
            except NetError as e:
                wrong = [str(e)]
        self.check("Prometheus scrapes pods by their annotations", wrong, "%d targets are up" % len(pods))

    def start_up_time(self):
        took = {}
        for app, c in self.each(OURS):
            took.setdefault(app, []).append(neighbours.seconds_until_ready(c.pod))
        late = ["%s: %d s" % (app, max(t)) for app, t in took.items() if min(t) > START_S]
        self.check("from a pod's creation to ready", late, ", ".join("%s %d s" % (a, min(t)) for a, t in took.items()))

    def image_size(self):
        sizes = {n[:-4]: os.path.getsize(os.path.join(self.images, n)) for n in sorted(os.listdir(self.images))
                 if n.endswith(".tar")}
        self.check("size of images", ["%s: %d bytes" % i for i in sizes.items() if i[1] > IMAGE_BYTES],
                   ", ".join("%s %.1f MB" % (n, b / 1e6) for n, b in sizes.items()))

    # --- a bad network, bad neighbours ----------------------------------------------------------------

    def serves(self, c):
        """How many shards a store is the primary of."""
        text = self.cluster.lab.namespaces["master"].run(["curl", "-sS", "-m", "10", "http://%s:9470/metrics" % (
            c.pod["status"]["podIP"])], check=False).stdout
        return len(re.findall(r"^lethe_store_serving\{.*\} 1$", text, re.M))

    def bad_network(self):
        self.relayed(FAULTS)

    def damaged_packets(self):
        """The last of all: a packet with another byte in its name is somebody's else to who captures it."""
        self.traffic.end_capture()
        self.relayed({"corruption": dict(corrupt=5)})

    def relayed(self, faults):
        for app in ("nf", "store"):
            for what, how in faults.items():
                def act(app=app, how=how):
                    c = max((c for _, c in self.each([app])), key=self.serves if app == "store" else lambda c: c.name)
                    with neighbours.Cable(self.node(c), c, self.site.programs, **how) as cable:
                        time.sleep(FAULT_S)
                    return cable.told(how)
                self.unbroken("%s of a pod's packets: %s" % (what, app), act)

    def bad_neighbours(self):
        """Kubelets look at volumes once a minute: what has to be evicted is, while the rest goes on."""
        hogs, full = neighbours.Hogs(self.site, self.node(self.container("nf"))), self.container("nf", 1)
        hogs.run("disk")
        much = full.fill("/run/lethe")
        self.unbroken("a pod that takes memory, same node", hogs.killed_for_memory)
        self.unbroken("a pod that keeps the disk busy, same node", lambda: hogs.busy(FAULT_S))
        self.unbroken("a pod that fills its volume, same node", hogs.evicted_for_disk)
        self.unbroken("a worker's own volume is full", lambda: "%d MB in it; %s" % (much >> 20, self.evicted(full)))

    def evicted(self, c):
        def gone():
            p = next((p for p in self.site.pods("nf") if p["metadata"]["name"] == c.name), None)
            return p is None or p["status"].get("reason") == "Evicted"
        wait_for(gone, 120, c.name + " to be evicted for its volume's size", 0.5)
        # Its object stays, and says nothing of its container.
        wait_for(lambda: c.name not in self.workers_told(), 60, "`lethe status` to tell of %s no more" % c.name, 0.5)
        self.kubectl("-n", "lethe", "delete", "pod", c.name, "--ignore-not-found")
        self.ready("nf", 2)
        return "evicted, another is ready"

    def workers_told(self):
        """By `lethe status`."""
        said = self.kubectl("-n", "lethe", "exec", "deploy/controller", "--", "lethe", "status", "-o", "json", check=False)
        if said.returncode != 0:
            raise NetError("lethe status: " + said.stderr)
        return [w["name"] for w in json.loads(said.stdout)["workers"]]

    def memory_limit(self):
        def act():
            c = self.container("nf")
            c.out_of_memory()
            return self.restarted("nf", c, 137)
        self.unbroken("a worker reaches its memory limit", act)

    # --- versions ---------------------------------------------------------------------------------------

    def another_version_and_back(self):
        """One image, two tags: what a version is for the cluster."""
        for n in self.cluster.nodes:
            neighbours.tag_image(n, "localhost/lethe-nf:dev", "localhost/lethe-nf:next")

        def roll(tag, *command):
            self.kubectl("-n", "lethe", *command)
            self.kubectl("-n", "lethe", "rollout", "status", "deploy/nf", "--timeout=120s", timeout=150)
            self.ready("nf", 2)
            has = {p["spec"]["containers"][0]["image"] for p in self.running("nf")}
            if has != {"localhost/lethe-nf:" + tag}:
                raise NetError("after kubectl %s pods have %s" % (" ".join(command), has))
        to = ("set", "image", "deploy/nf", "nf=localhost/lethe-nf:")
        self.unbroken("rolling update: another version", lambda: roll("next", *to[:-1], to[-1] + "next"))
        self.unbroken("rollback: kubectl rollout undo", lambda: roll("dev", "rollout", "undo", "deploy/nf"))
        self.unbroken("rolling version change, forth", lambda: roll("next", *to[:-1], to[-1] + "next"))
        self.unbroken("rolling downgrade: the earlier image set", lambda: roll("dev", *to[:-1], to[-1] + "dev"))

    # --- ends ------------------------------------------------------------------------------------------------

    def restarted(self, app, c, code, within_s=None):
        """The same pod's next container runs and is ready: how the earlier one ended."""
        def now():
            p = next((p for p in self.site.pods(app) if p["metadata"]["name"] == c.name), None)
            told = p["status"]["containerStatuses"][0] if p else {}
            return told.get("ready") and told["restartCount"] > c.restarts and told["lastState"]["terminated"]
        was = wait_for(now, 120, "%s to run again" % c.name, 0.2)
        if code is not None and was["exitCode"] != code:
            raise NetError("%s ended with %d (%s)" % (c.name, was["exitCode"], was["reason"]))
        return "%s, exit code %d" % (was["reason"], was["exitCode"])

    def terminated(self, app):
        c = self.container(app)
        grace = c.pod["spec"]["terminationGracePeriodSeconds"]
        began = time.monotonic()
        c.signal(signal.SIGTERM)
        c.gone(grace)
        took = time.monotonic() - began
        ended = self.restarted(app, c, 0)
        said = self.kubectl("-n", "lethe", "logs", "--previous", c.name).stdout
        if '"event":"%s"' % LAST_WORDS[app] not in said:
            raise NetError("%s did not say that it %s; it said: %s" % (c.name, LAST_WORDS[app], said[-600:]))
        return "%s after %.1f of %d s, said \"%s\"" % (ended, took, grace, LAST_WORDS[app])

    def sigterm(self):
        for app in [a for a in OURS if self.running(a)]:
            self.unbroken("SIGTERM at the first process: " + app, lambda: self.terminated(app))

    def container_kill(self):
        def act():
            c = self.container("nf", 1)
            c.signal(signal.SIGKILL)
            return self.restarted("nf", c, 137)
        self.unbroken("container kill: nf", act)

    def pod_delete(self):
        def act():
            gone = self.container("nf").name
            self.kubectl("-n", "lethe", "delete", "pod", gone)
            wait_for(lambda: gone not in [p["metadata"]["name"] for p in self.site.pods("nf")], 60, gone + " to be gone", 0.2)
            self.ready("nf", 2)
            newest = max(self.site.pods("nf"), key=lambda p: p["metadata"]["creationTimestamp"])
            return "another is ready after %d s" % neighbours.seconds_until_ready(newest)
        self.unbroken("pod delete: nf", act)


ALL = ("users_and_capabilities", "one_program_each", "zombies_are_buried", "logs_go_out", "metrics_are_right",
       "prometheus_scrapes_them", "start_up_time", "image_size", "another_version_and_back", "bad_neighbours", "sigterm",
       "pod_delete", "container_kill", "memory_limit", "bad_network",
       "damaged_packets")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--run", required=True)
    arguments.add_argument("--only", nargs="+", choices=ALL, default=ALL)
    options = arguments.parse_args()
    require_root_and_tools(["etcd", "openssl", "buildah", "containerd", "runc", "conntrack", "iptables", "gcc", "ping", "curl",
                            "promtool", "prometheus", "nsenter", "ethtool"])
    with Lab(options.run) as lab:
        images = os.path.join(lab.folder, "images")
        make_images(options.build, images)
        with Cluster(lab) as cluster:
            site = KubernetesSite(cluster, options.build)
            site.deploy(images)
            print("pods are ready after: " + ", ".join("%s %.1f s" % row for row in site.wait_ready().items()), flush=True)
            traffic = Traffic(site)
            traffic.start()
            run = Run(site, traffic, images)
            for name in options.only:
                try:
                    getattr(run, name)()
                except (NetError, OSError) as e:
                    run.check(name.replace("_", " "), [str(e)])
            wrong, counts = traffic.stop()
            run.check("all traffic, to its end", [s for s in wrong if s not in run.known], json.dumps(counts))
    print("%d failed" % run.failed if run.failed else "all is well")
    return 1 if run.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NetError as e:
        sys.exit("test_cnti: %s" % e)
