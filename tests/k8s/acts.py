# SPDX-License-Identifier: BSD-3-Clause
"""What happens to a site's pods and nodes: by order, and by accident.

Each act returns when what it did is done and all pods that there should be are ready; a NetError says what did not come. cut()
and heal() alone leave that to the caller. A kill is of a container's first process, found by the runtime of its node.
"""
import re

from lethe_site import wait_for
from netns import NetError, run

READY_S = 150


class Acts:
    def __init__(self, site, watch):
        """site: a KubernetesSite that is ready; watch: its PodWatch. What is there now is what there should be."""
        self.site, self.watch, self.kubectl = site, watch, site.kubectl
        self.master = site.lab.namespaces["master"]
        self.nodes = {n.name: n for n in site.cluster.nodes}
        self.count = {app: len(watch.pods(app)) for app in watch.apps()}

    def all_ready(self):
        return all(self.watch.ready(app, count) for app, count in self.count.items())

    def wait(self, timeout_s=READY_S):
        wait_for(self.all_ready, timeout_s, lambda: "all pods to be ready: " + ", ".join(
            "%s (%d wanted): %s" % (app, count, " ".join(
                p.name + ("" if p.ready else " not ready") + (" ends" if p.deleting else "") for p in self.watch.pods(app)))
            for app, count in self.count.items() if not self.watch.ready(app, count)), 0.1)

    # --- by order --------------------------------------------------------------------------------

    def scale(self, count):
        self.kubectl("-n", "lethe", "scale", "deploy/nf", "--replicas=%d" % count)
        self.count["nf"] = count
        self.wait()

    def roll_out(self, what):
        self.kubectl("-n", "lethe", "rollout", "restart", what)
        self._rolled(what)

    def roll_back(self, what):
        self.kubectl("-n", "lethe", "rollout", "undo", what)
        self._rolled(what)

    def _rolled(self, what):
        self.kubectl("-n", "lethe", "rollout", "status", what, "--timeout=180s", timeout=200)
        self.wait()

    def drain(self, node):
        """Its pods go elsewhere, as budgets allow; then it may be used again."""
        self.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s", timeout=200)
        try:
            self.wait()
        finally:
            self.kubectl("uncordon", node)

    # --- by accident -----------------------------------------------------------------------------

    def force_delete(self, app):
        """A pod is gone at once, for the apiserver: nobody waits for its end."""
        pod = self.watch.pods(app)[0]
        self.kubectl("-n", "lethe", "delete", "pod", pod.name, "--force", "--grace-period=0")
        wait_for(lambda: pod.uid not in [p.uid for p in self.watch.pods(app)], 30, pod.name + " to be deleted", 0.05)
        self.wait()

    def kill(self, app):
        self.kill_pod(self.watch.pods(app)[-1])
        self.wait()

    def kill_pod(self, pod):
        """kill -9 of its program, which its node starts again."""
        before, node = pod.restarts, self.nodes[pod.node]
        tasks = run(node.inside(["ctr", "-n", "k8s.io", "tasks", "ls"])).stdout
        m = re.search(r"^%s\S*\s+(\d+)\s+RUNNING" % re.escape(pod.containers[0]), tasks, re.M)
        if not m:
            raise NetError("the runtime of %s has no process of %s:\n%s" % (pod.node, pod.name, tasks))
        run(node.inside(["kill", "-9", m.group(1)]))
        wait_for(lambda: any(p.uid == pod.uid and p.restarts > before for p in self.watch.pods()), 60,
                 pod.name + " to be started again", 0.05)

    def cut(self, node):
        """Nobody reaches it, and it nobody, but for the edges of its front end. Its own pods see one another."""
        self.master.ip("link set %s down" % node)

    def heal(self, node):
        self.master.ip("link set %s up" % node)

    def node_ready(self, node):
        conditions = self.site.cluster.plane.get("node", node)["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    # --- where pods are --------------------------------------------------------------------------

    def on(self, app, node):
        return [p for p in self.watch.pods(app) if p.node == node]

    def spread(self, majority):
        """Two of three stores and etcd members on that node, half of the workers: a cut never meets both copies of a shard, nor
        etcd's majority elsewhere. By ordinary deletion, one of stores and of etcd at a time."""
        wanted = {"etcd": 2, "store": 2, "nf": self.count["nf"] // 2}
        other = next(n for n in self.nodes if n != majority)
        for source, sign in ((majority, 1), (other, -1)):
            while True:
                surplus = {app: sign * (len(self.on(app, majority)) - n) for app, n in wanted.items()}
                pods = [p for app, n in surplus.items() for p in self.on(app, source)[:max(0, n if app == "nf" else min(n, 1))]]
                if not pods:
                    break
                self._move(source, pods)

    def _move(self, source, pods):
        self.kubectl("cordon", source)
        try:
            self.kubectl("-n", "lethe", "delete", "pod", *[p.name for p in pods], timeout=90)
            gone = {p.uid for p in pods}
            wait_for(lambda: not gone & {p.uid for p in self.watch.pods()}, 30, "pods of %s to be deleted" % source, 0.05)
            self.wait()
        finally:
            self.kubectl("uncordon", source)
