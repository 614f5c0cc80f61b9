#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The dev overlay on a real cluster of two nodes, and what happens to it there.

Ping goes through steering and workers' pods of other nodes all the time, twenty a second. What is planned (scale, workers
rolled out) may lose none. A drained node's front end is turned from by routers (lethe-nexthop), restarted stores make writes
wait; then, and after what is not planned (a pod of each kind deleted by force), it has to go on.
--shell: a site, and a shell in which kubectl works, instead.
"""
import argparse
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]

from kubernetes_site import CLIENT, SERVER, KubernetesSite  # noqa: E402
from lethe_site import wait_for                             # noqa: E402
from netns import Lab, NetError, enter, require_root_and_tools  # noqa: E402
from nodes import Cluster                                   # noqa: E402

IMAGES = ("lethe-store", "lethe-nf", "lethe-steer", "lethe-etcd")
EVERY_S = 0.05


class Pings:
    """One a twentieth of a second, from now on."""

    def __init__(self, lab):
        self.log = os.path.join(lab.logs, "ping.log")
        self.process = lab.spawn("ping", ["ping", "-n", "-O", "-D", "-i", str(EVERY_S), "-I", CLIENT, SERVER],
                                 lab.namespaces["clients"])

    def answered(self):
        with open(self.log) as f:
            return [int(n) for n in re.findall(r"bytes from .*icmp_seq=(\d+)", f.read())]

    def goes_on(self, timeout_s=60):
        """Ten more answers: their last number."""
        last = len(self.answered())
        wait_for(lambda: len(self.answered()) >= last + 10, timeout_s, "pings to be answered again", 0.1)
        return self.answered()[-1]

    def lost(self, first, last):
        there = {n for n in self.answered() if first <= n <= last}
        return last - first + 1 - len(there)


class Run:
    def __init__(self, site, pings):
        self.site, self.pings, self.failed, self.rows = site, pings, 0, []
        self.kubectl = site.kubectl

    def step(self, what, may_lose, act):
        first = self.pings.goes_on()
        began = time.monotonic()
        try:
            act()
            took = time.monotonic() - began
            last = self.pings.goes_on()
        except (NetError, subprocess.TimeoutExpired) as e:
            self.failed += 1
            return print("FAIL %s: %s\n%s" % (what, e, self.site.what_is()), flush=True)
        lost = self.pings.lost(first, last)
        good = may_lose or not lost
        self.failed += not good
        print("%s %-44s %5.1f s until all is ready; %d of %d pings lost%s" % (
            "ok  " if good else "FAIL", what, took, lost, last - first + 1, "" if good else ", none may be"), flush=True)

    def ready(self, app, count):
        wait_for(lambda: self.site.ready(app, count), 120, "%d pods of %s to be ready" % (count, app), 0.2)

    def scale(self, count):
        self.kubectl("-n", "lethe", "scale", "deploy/nf", "--replicas=%d" % count)
        self.ready("nf", count)

    def roll_out(self, what):
        self.kubectl("-n", "lethe", "rollout", "restart", what)
        self.kubectl("-n", "lethe", "rollout", "status", what, "--timeout=180s", timeout=200)

    def force_delete(self, app, count):
        pod = self.site.pods(app)[0]["metadata"]["name"]
        self.kubectl("-n", "lethe", "delete", "pod", pod, "--force", "--grace-period=0")
        wait_for(lambda: len(self.site.pods(app)) == count and self.site.ready(app, count), 120,
                 "%d pods of %s" % (count, app), 0.2)

    def drain(self, node):
        self.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s", timeout=150)
        self.ready("nf", 4)
        self.ready("store", 3)
        self.kubectl("uncordon", node)

    def all(self):
        self.step("kubectl scale: 2 to 4 workers", False, lambda: self.scale(4))
        self.step("kubectl rollout restart: workers", False, lambda: self.roll_out("deploy/nf"))
        self.step("kubectl rollout restart: stores", True, lambda: self.roll_out("statefulset/store"))
        self.step("kubectl drain n2, and back", True, lambda: self.drain("n2"))
        self.step("kubectl rollout restart: workers, on both again", True, lambda: self.roll_out("deploy/nf"))
        for app, count in (("nf", 4), ("store", 3), ("etcd", 3), ("steer", 2)):
            self.step("a pod deleted by force: " + app, True, lambda: self.force_delete(app, count))
        return self.failed


def make_images(build, to):
    done = subprocess.run([os.path.join(HERE, "../../k8s/images/build.sh"), "--build", build, "--out", to, *IMAGES],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise NetError("images: " + done.stderr.strip())


def shell(site, cluster):
    print("The site is in the namespace lethe. kubectl is set up; nodes, clients and servers are network namespaces:")
    for name, n in cluster.lab.namespaces.items():
        print("  %-8s nsenter --net=%s" % (name, n.path()))
    print("Leave the shell, and all of it is gone.")
    env = dict(os.environ, KUBECONFIG=cluster.plane.config, PATH=cluster.plane.programs + ":" + os.environ["PATH"])
    subprocess.run([os.environ.get("SHELL", "/bin/bash")], env=env, preexec_fn=lambda: enter(cluster.plane.namespace.fd))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--run", required=True)
    arguments.add_argument("--shell", action="store_true")
    options = arguments.parse_args()
    require_root_and_tools(["etcd", "openssl", "buildah", "containerd", "runc", "conntrack", "iptables", "gcc", "ping"])
    with Lab(options.run) as lab:
        images = os.path.join(lab.folder, "images")
        make_images(options.build, images)
        with Cluster(lab) as cluster:
            print("two nodes are ready after %.1f s" % cluster.ready_s, flush=True)
            site = KubernetesSite(cluster, options.build)
            site.deploy(images)
            took = site.wait_ready()
            print("pods are ready after: " + ", ".join("%s %.1f s" % row for row in took.items()), flush=True)
            if options.shell:
                shell(site, cluster)
                return 0
            pings = Pings(lab)
            failed = Run(site, pings).all()
            pings.process.stop()
    print("%d failed" % failed if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NetError as e:
        sys.exit("test_cluster: %s" % e)
