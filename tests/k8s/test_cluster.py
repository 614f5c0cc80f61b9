#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The dev overlay on a real cluster of two nodes, and what happens to it there.

Real connections go through steering and workers' pods of both nodes all the time (site_traffic.py), none of which may break,
whatever happens. What is planned may lose no packet, either: pings are counted. How long traffic stands still when a pod or a
node goes unasked is told, not judged; only that it goes on for all. A table, and report.json in the run's folder.
--only WORDS: steps whose names have one of them. --planted: the store keeps one copy of each shard instead of two, and the test passes
only if it says what broke when stores are killed. --shell: a site, and a shell in which kubectl works, instead.
"""
import argparse
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]

import cluster_report                                       # noqa: E402
from acts import Acts                                       # noqa: E402
from interfaces import Interfaces                           # noqa: E402
from kubernetes_site import CLIENT, KubernetesSite, SERVER  # noqa: E402
from lethe_site import wait_for                             # noqa: E402
from netns import Lab, NetError, enter, require_root_and_tools  # noqa: E402
from nodes import Cluster                                   # noqa: E402
from pod_watch import PodWatch                              # noqa: E402
from scaling import Scaling                                 # noqa: E402
from site_traffic import Traffic                            # noqa: E402

IMAGES = ("lethe-store", "lethe-nf", "lethe-steer", "lethe-etcd", "lethe-controller")
WORKERS = 4
CUT_S = 25                    # a node is gone for so long: above the 8 s until it is NotReady and the 10 until workers are replaced
PLANNED, UNASKED = True, False


class Run:
    def __init__(self, site, watch, traffic, only=()):
        self.site, self.watch, self.traffic, self.only = site, watch, traffic, only
        self.acts = Acts(site, watch)
        self.rows, self.began = [], time.monotonic()
        self.broken, self.count = [], 0                     # so far: sentences, and how many
        self.notes = []                                     # of the step that runs

    def say(self, text):
        print("%6.1f s  %s" % (time.monotonic() - self.began, text), flush=True)

    def note(self, text):
        self.notes.append(text)
        self.say("          " + text)

    def step(self, what, planned, act):
        """planned: no ping may be lost. None breaks in either case."""
        if self.only and not any(word in what for word in self.only):
            return
        self.watch.step, self.notes = what, []
        if self.rows and self.rows[-1]["ready_s"] is None:
            self.acts.wait(60)                              # if the last step left a ruin, what follows tells nothing: the run ends
        first = self.traffic.goes_on()
        row = {"step": what, "planned": planned, "ready_s": None, "lost": None, "pings": None, "why": [], "broken": 0,
               "created": 0, "udp_ms": None, "tcp_ms": None, "ok": False}
        self.rows.append(row)
        began = time.monotonic()
        self.say("...     " + what)
        try:
            act()
            row["ready_s"] = time.monotonic() - began
            last = self.traffic.goes_on()
            row["lost"], row["pings"] = self.traffic.lost(first, last)
        except (NetError, subprocess.TimeoutExpired, ValueError, KeyError) as e:
            row["why"].append(str(e) or repr(e))
            self.say("what there is (what pods say: %s):\n%s" % (self.site.lab.logs, self.site.what_is()))
            self.site.save_logs()
        row.update(self.traffic.gaps(began))
        all_broken = self.traffic.broken()
        new, self.broken = [b for b in all_broken if b not in self.broken], all_broken
        row["broken"], self.count = self.traffic.broken_count() - self.count, self.traffic.broken_count()
        row["created"], row["notes"] = self.watch.created(what), self.notes
        row["why"] += new + (["%d pings were lost, none may be" % row["lost"]] if planned and row["lost"] else [])
        row["ok"] = not row["why"] and not row["broken"]
        self.say("%s %s: ready after %s s; gap %d ms (UDP), %d ms (TCP); %s of %s pings lost; %d broken" % (
            "ok     " if row["ok"] else "FAILED ", what, "%.1f" % row["ready_s"] if row["ready_s"] else "?", row["udp_ms"],
            row["tcp_ms"], row["lost"], row["pings"], row["broken"]))
        for why in row["why"]:
            self.say("        " + why)

    def cut(self, majority, cut):
        """The way to a node is gone for CUT_S: of etcd's three members and three stores two are on `majority`."""
        acts, cut_at = self.acts, time.monotonic()
        acts.cut(cut)
        try:
            wait_for(lambda: not acts.node_ready(cut), 60, cut + " to be NotReady", 0.5)
            self.note("%s is NotReady after %.1f s" % (cut, time.monotonic() - cut_at))
            self.traffic.goes_on(60)
            gap = self.traffic.gaps(cut_at)
            self.note("while it is cut off traffic goes on for all, after a gap of %(udp_ms)d ms (UDP), %(tcp_ms)d ms (TCP)" % gap)
            if cut != majority:
                want = acts.count["nf"]
                wait_for(lambda: sum(p.ready and not p.deleting for p in acts.on("nf", majority)) == want, 60,
                         "%d workers to be ready on %s" % (want, majority), 0.2)
                self.note("its workers are replaced on %s after %.1f s" % (majority, time.monotonic() - cut_at))
            time.sleep(max(0, cut_at + CUT_S - time.monotonic()))    # the fault itself, no wait for anything
        finally:
            acts.heal(cut)
        healed = time.monotonic()
        wait_for(lambda: acts.node_ready(cut), 60, cut + " to be Ready", 0.5)
        self.note("%s is Ready again %.1f s after the cut is mended" % (cut, time.monotonic() - healed))
        acts.wait()

    def majority(self):
        """The node with more of etcd, made to have two of the stores, too."""
        node = max(self.acts.nodes, key=lambda n: len(self.acts.on("etcd", n)))
        self.acts.spread(node)
        return node

    def all(self):
        acts, step = self.acts, self.step
        step("kubectl scale: 2 to %d workers" % WORKERS, PLANNED, lambda: acts.scale(WORKERS))
        step("steering's interfaces", PLANNED, lambda: self.note(Interfaces(self.site, self.watch).check()))
        for by_lethe in Scaling(self.site).steps():
            step(*by_lethe)
        step("rollout restart: workers", PLANNED, lambda: acts.roll_out("deploy/nf"))
        step("rollout undo: workers", PLANNED, lambda: acts.roll_back("deploy/nf"))
        step("kubectl scale: %d to 2 workers" % WORKERS, PLANNED, lambda: acts.scale(2))
        step("kubectl scale: 2 to %d again" % WORKERS, PLANNED, lambda: acts.scale(WORKERS))
        step("rollout restart: steering", PLANNED, lambda: acts.roll_out("ds/steer"))
        step("rollout restart: stores", PLANNED, lambda: acts.roll_out("statefulset/store"))
        for app in acts.count:
            step("a pod deleted by force: " + app, UNASKED, lambda app=app: acts.force_delete(app))
        for app in acts.count:
            step("kill -9 of a container: " + app, UNASKED, lambda app=app: acts.kill(app))
        for node in acts.nodes:
            step("kubectl drain %s, and back" % node, UNASKED, lambda node=node: acts.drain(node))
        self.partitions()

    def planted(self):
        """With one copy of each shard: what was in a store is gone with it."""
        def all_stores():
            for pod in self.watch.pods("store"):
                self.acts.kill_pod(pod)
        self.step("kill -9 of a container: each of the stores", UNASKED, all_stores)

    def partitions(self):
        if self.only and not any(word in "a node cut off" for word in self.only):
            return
        where = []
        self.step("pods spread again for what follows", UNASKED, lambda: where.append(self.majority()))
        if not where:
            return
        for cut, what in ((next(n for n in self.acts.nodes if n != where[0]), "the minority's"), (where[0], "the majority's")):
            self.step("a node cut off for %d s: %s, %s" % (CUT_S, cut, what), UNASKED, lambda cut=cut: self.cut(where[0], cut))


def make_images(build, to):
    done = subprocess.run([os.path.join(HERE, "../../k8s/images/build.sh"), "--build", build, "--out", to, *IMAGES],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise NetError("images: " + done.stderr.strip())


def shell(site, cluster):
    """Its status is the shell's only where a script is typed into it: of a person's, the last command's says nothing."""
    nodes = {n.name: n for n in cluster.nodes}
    print("The site of k8s/overlays/dev is in the namespace lethe; kubectl is set up. Into nodes, clients and servers:")
    for name, n in cluster.lab.namespaces.items():
        print("  %-8s %s" % (name, " ".join(nodes[name].inside([])) if name in nodes else "nsenter --net=" + n.path()))
    print("To begin with:\n  nsenter --net=%s ping -I %s %s" % (cluster.lab.namespaces["clients"].path(), CLIENT, SERVER))
    print("  kubectl -n lethe exec deploy/controller -- lethe status\n"
          "  kubectl kustomize k8s/overlays/dev | k8s/for-1.20.py | kubectl apply -f -      # after another site.yaml")
    print("Leave the shell, and all of it is gone.", flush=True)
    env = dict(os.environ, KUBECONFIG=cluster.plane.config, PATH=cluster.plane.programs + ":" + os.environ["PATH"])
    done = subprocess.run([os.environ.get("SHELL", "/bin/bash")], env=env, preexec_fn=lambda: enter(cluster.plane.namespace.fd))
    return 0 if os.isatty(0) else done.returncode


def act(options, cluster, images, began):
    watch = PodWatch(cluster)
    site = KubernetesSite(cluster, options.build)
    site.deploy(images, **({"changed": lambda text: text.replace("copies: 2", "copies: 1")} if options.planted else {}))
    took = site.wait_ready()
    print("pods are ready after: " + ", ".join("%s %.1f s" % row for row in took.items()), flush=True)
    if options.shell:
        return shell(site, cluster)
    traffic = Traffic(site)
    traffic.start(options.tcp, options.udp, options.churn)
    print("%d TCP connections and %d UDP flows are open, short ones come and go" % (options.tcp, options.udp), flush=True)
    run, ended = Run(site, watch, traffic, options.only), []
    try:
        run.planted() if options.planted else run.all()
    except NetError as e:
        ended = ["the run ended early: %s\n%s" % (e, site.what_is())]
        site.save_logs()
    memory = cluster_report.pod_memory(cluster, watch.pods())
    broken, seen = traffic.stop()
    report = {"steps": run.rows, "took_s": time.monotonic() - began, "traffic": seen,
              "broken": broken, "images": cluster_report.image_sizes(images), "memory_bytes": memory,
              "start": cluster_report.start_times(watch.later()), "first_s": took, "nodes_s": cluster.ready_s}
    cluster_report.write(report, os.path.join(cluster.lab.folder, "report.json"))
    cluster_report.say(report)
    print("\n%(tcp)d TCP connections kept with %(answers)d answers, %(udp_packets)d UDP answers, %(short)d short flows; captured: "
          "%(flows)d flows over %(outside_end_points)d outside end points" % seen)
    why = ended + broken + ["%s: %s" % (r["step"], w) for r in report["steps"] for w in r["why"] if w not in broken]
    if options.planted:
        print("found: " + broken[0] if broken else "FAILED  one copy of each shard, stores killed, and nothing broke")
        return 0 if broken else 1
    print("\n".join("FAILED  " + w for w in why) if why else "all is well: 0 broken connections, after %.0f s" % report["took_s"])
    return 1 if why else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--run", required=True)
    arguments.add_argument("--shell", action="store_true")
    arguments.add_argument("--planted", action="store_true", help="one copy of each shard: has to be found")
    arguments.add_argument("--images", help="a folder of images that are made already")
    arguments.add_argument("--only", nargs="*", default=[], help="words of the steps to take")
    for what, count in (("tcp", 200), ("udp", 50), ("churn", 5)):
        arguments.add_argument("--" + what, type=int, default=count)
    options = arguments.parse_args()
    require_root_and_tools(["etcd", "openssl", "buildah", "containerd", "runc", "conntrack", "iptables", "gcc", "ping"])
    began = time.monotonic()
    with Lab(options.run) as lab:
        images = os.path.abspath(options.images) if options.images else os.path.join(lab.folder, "images")
        if not options.images:
            make_images(options.build, images)
        with Cluster(lab) as cluster:
            print("two nodes are ready after %.1f s" % cluster.ready_s, flush=True)
            return act(options, cluster, images, began)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NetError as e:
        sys.exit("test_cluster: %s" % e)
