# SPDX-License-Identifier: BSD-3-Clause
"""The truth of a cluster, as those tell it who know it: the apiserver, each pod's own program, the kernel.

Threads ask all the time (tests/chaos/observe.py has them), so that nobody waits for one that is stopped; they start no processes.
Readers take what they find, and say how old it may be. Pods are listed, and watched too, so that what a container ended
with is seen also of a pod that is gone a moment later.
"""
import collections
import glob
import http.client
import json
import os
import re
import ssl
import threading
import time

import chaos_plan  # noqa: F401  finds tests/chaos
from netns import enter
from kernel import hierarchies
from observe import Source

NAMESPACE = "/api/v1/namespaces/lethe/pods"
ASK_TIMEOUT_S, EVERY_S = 1.0, 0.8
FIGURES = ("lethe_store_role", "lethe_store_serving", "lethe_store_copies", "lethe_worker_tx_packets_total",
           "lethe_steer_tx_packets_total")
SAMPLE = re.compile(r"^(%s)(?:\{([^}]*)\})? ([-+.0-9e]+)$" % "|".join(FIGURES), re.M)
Ended = collections.namedtuple("Ended", "pod uid app container id code reason signal gone at")


class Api:
    """The apiserver, asked by one thread, from within the namespace of the control plane."""

    def __init__(self, plane):
        self.plane, self.entered = plane, False
        self.context = ssl.create_default_context(cafile=plane.path("ca.crt"))

    def open(self, path, timeout_s):
        if not self.entered:
            enter(self.plane.namespace.fd)   # this thread only
            self.entered = True
        c = http.client.HTTPSConnection(self.plane.address, 6443, timeout=timeout_s, context=self.context)
        c.request("GET", path, headers={"Authorization": "Bearer " + self.plane.tokens["admin"]})
        return c, c.getresponse()

    def get(self, path, timeout_s=3):
        c, answer = self.open(path, timeout_s)
        try:
            return json.loads(answer.read()) if answer.status == 200 else None
        finally:
            c.close()


class Watch(threading.Thread):
    """Every change of every pod, as long as there is an apiserver; again from the start when there is one again."""

    def __init__(self, plane, tell):
        super().__init__(daemon=True)
        self.api, self.tell, self.stopping = Api(plane), tell, threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(0.3):
            try:
                self._once()
            except Exception:   # whatever it is, the watch is over, and begun again
                continue

    def _once(self):
        listed = self.api.get(NAMESPACE)
        for pod in listed["items"]:
            self.tell(pod)
        c, answer = self.api.open(NAMESPACE + "?watch=1&timeoutSeconds=60&resourceVersion="
                                  + listed["metadata"]["resourceVersion"], 5)
        try:
            while not self.stopping.is_set():
                line = answer.readline()
                if not line:
                    return
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                    self.tell(event["object"])
        finally:
            c.close()


class Programs:
    """What the program of each pod of one kind says of itself, asked past every Service. One thread. Each other answer to its
    readiness probe is kept in `folder`: a file a pod's name, readyz-NAME."""

    def __init__(self, plane, pods, folder):
        self.plane, self.pods, self.folder, self.entered = plane, pods, folder, False
        self.said = {}             # uid: (asked, ready?, {figure: {labels: value}})
        self.words = {}            # uid: what it answered when it was asked whether it is ready
        self.texts = {}            # name: all of its metrics, the last there were

    def ask(self):
        if not self.entered:
            enter(self.plane.namespace.fd)
            self.entered = True
        for pod in self.pods():
            asked = time.monotonic()
            ready, figures = self._ready(pod), {}
            status, text = self._get(pod, self._port(pod, "metrics"), "/metrics")
            text = text if status == 200 else ""
            self.texts[pod["metadata"]["name"]] = text or self.texts.get(pod["metadata"]["name"], "")
            for name, labels, value in SAMPLE.findall(text):
                figures.setdefault(name, {})[labels] = float(value)
            self.said[pod["metadata"]["uid"]] = (asked, ready, figures)
        return {}

    def _ready(self, pod):
        status, text = self._get(pod, *self._where(pod))
        meta, words = pod["metadata"], "%s: %s" % (status or "no answer", " ".join(text.split())[:1000])
        if self.words.get(meta["uid"]) != words:
            self.words[meta["uid"]] = words
            with open(os.path.join(self.folder, "readyz-" + meta["name"]), "a") as f:
                f.write("%s %s %s\n" % (time.strftime("%H:%M:%S"), meta["uid"], words))
        return status == 200

    @staticmethod
    def _port(pod, name):
        return next((p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])
                     if p.get("name") == name), None)

    def _where(self, pod):
        probe = pod["spec"]["containers"][0].get("readinessProbe", {}).get("httpGet")
        if not probe:
            return None, None
        port = probe["port"]
        return (port if isinstance(port, int) else self._port(pod, port)), probe.get("path", "/")

    def _get(self, pod, port, path):
        """HTTP's status and the body; None and why there is none."""
        if not port or not pod["status"].get("podIP"):
            return None, "it has no %s yet" % ("address" if port else "port to be asked at")
        c = http.client.HTTPConnection(pod["status"]["podIP"], port, timeout=ASK_TIMEOUT_S)
        try:
            c.request("GET", path)
            answer = c.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as e:
            return None, str(e) or repr(e)
        finally:
            c.close()


class Observer:
    def __init__(self, cluster, apps):
        self.cluster, self.plane, self.apps = cluster, cluster.plane, apps
        self.ended = collections.deque()           # Ended, for whoever judges them
        self.judged = set()
        pods, nodes = Api(self.plane), Api(self.plane)
        self.sources = {"pods": Source(lambda: pods.get(NAMESPACE), EVERY_S),
                        "nodes": Source(lambda: nodes.get("/api/v1/nodes"), EVERY_S)}
        self.programs = {app: Programs(self.plane, lambda app=app: self.pods(app), cluster.lab.logs) for app in apps}
        self.sources.update({app: Source(p.ask, EVERY_S) for app, p in self.programs.items()})
        self.watch = Watch(self.plane, self._tell)

    def stop(self):
        for s in [*self.sources.values(), self.watch]:
            s.stopping.set()
        for s in [*self.sources.values(), self.watch]:
            s.join(6)

    def write(self, folder):
        """What programs measured last: a file each."""
        for programs in self.programs.values():
            for name, text in programs.texts.items():
                with open(os.path.join(folder, "metrics-" + name), "w") as f:
                    f.write(text)

    # --- pods --------------------------------------------------------------------------------------

    def _tell(self, pod):
        """Containers that ended, each once; by the watch's thread."""
        meta = pod["metadata"]
        for status in pod["status"].get("containerStatuses", []):
            for state in (status.get("lastState", {}), status.get("state", {})):
                t = state.get("terminated")
                if t and t.get("containerID") and t["containerID"] not in self.judged:
                    self.judged.add(t["containerID"])
                    self.ended.append(Ended(meta["name"], meta["uid"], meta.get("labels", {}).get("app", "?"),
                                            status["name"], t["containerID"], t.get("exitCode"), t.get("reason", ""),
                                            t.get("signal", 0), bool(meta.get("deletionTimestamp")), time.monotonic()))

    def said(self, since=0.0):
        return self.sources["pods"].latest(since)

    def pods(self, app=None, since=0.0):
        """Objects, by name; as listed since, else none."""
        found = (self.said(since) or {"items": []})["items"]
        return sorted((p for p in found if app is None or p["metadata"].get("labels", {}).get("app") == app),
                      key=lambda p: p["metadata"]["name"])

    def ready(self, app, since=0.0):
        """Those that Kubernetes takes for ready, and that nobody has told to end."""
        return [p for p in self.pods(app, since) if is_ready(p) and not p["metadata"].get("deletionTimestamp")]

    def says_ready(self, pod, since=0.0):
        asked, ready, _ = self._told(pod)
        return ready and asked >= since

    def unready(self, since):
        """Pods that are to stay, of those that were listed last, which Kubernetes or they themselves do not call ready."""
        return [p for p in (self.sources["pods"].known() or {"items": []})["items"]
                if p["metadata"].get("labels", {}).get("app") in self.programs and not p["metadata"].get("deletionTimestamp")
                and not (is_ready(p) and self.says_ready(p, since))]

    def words(self, pod):
        """What it answered last when it was asked whether it is ready."""
        return self.programs[pod["metadata"]["labels"]["app"]].words.get(pod["metadata"]["uid"], "it was not asked")

    def _told(self, pod):
        return self.programs[pod["metadata"]["labels"]["app"]].said.get(pod["metadata"]["uid"], (0, False, {}))

    def whole(self, app, count, since):
        """So many pods, all ready by both accounts, none on its way out."""
        pods = self.pods(app, since)
        return len(pods) == count == len(self.ready(app, since)) and all(self.says_ready(p, since) for p in pods)

    def nodes_ready(self, since):
        nodes = (self.sources["nodes"].latest(since) or {"items": []})["items"]
        return len(nodes) == len(self.cluster.nodes) and all(
            not n["spec"].get("unschedulable") and any(c["type"] == "Ready" and c["status"] == "True"
                                                       for c in n["status"]["conditions"]) for n in nodes)

    # --- programs ----------------------------------------------------------------------------------

    def figure(self, pod, name):
        """{labels: value} of a metric."""
        return self._told(pod)[2].get(name, {})

    def copies(self, since):
        """{shard: copies in its view} of the shards that some primary serves."""
        found = {}
        for pod in self.pods("store", since):
            if self.says_ready(pod, since):
                for labels, serving in self.figure(pod, "lethe_store_serving").items():
                    if serving:
                        found[labels] = self.figure(pod, "lethe_store_copies").get(labels, 0)
        return found

    def forwarded(self, pod):
        name = {"nf": "lethe_worker_tx_packets_total", "steer": "lethe_steer_tx_packets_total"}[pod["metadata"]["labels"]["app"]]
        return sum(self.figure(pod, name).values())

    def held_by(self, node):
        """Shards that a store on this node has a copy of: a set of labels."""
        held = set()
        for pod in self.pods("store"):
            if pod["spec"].get("nodeName") == node:
                for labels, value in self.figure(pod, "lethe_store_role").items():
                    if value and re.search(r'role="(primary|backup)"', labels):
                        held.add(re.search(r'shard="[^"]*"', labels).group(0))
        return held


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def restarts(pod):
    return sum(s["restartCount"] for s in pod["status"].get("containerStatuses", []))


def container(pod):
    """The id of the running container, as the runtime knows it; None."""
    for s in pod["status"].get("containerStatuses", []):
        if s.get("state", {}).get("running"):
            return s.get("containerID")
    return None


def processes(node, pod, container_id=None):
    """Process numbers of a pod on one of our nodes, of one of its containers or of all: what stands in its control group."""
    uid = pod if isinstance(pod, str) else pod["metadata"]["uid"]
    name = container_id.split("//", 1)[1] if container_id else "*"
    found = set()
    for h in hierarchies()[:1]:
        for kind in ("", "*/"):
            for path in glob.glob(os.path.join(h, node.branch, "kubepods", kind + "pod" + uid, name, "cgroup.procs")):
                try:
                    with open(path) as f:
                        found |= {int(n) for n in f.read().split()}
                except OSError:
                    continue
    return sorted(found)


def groups(node):
    """Pods that have control groups on a node: their uids."""
    found = set()
    for h in hierarchies():
        for kind in ("", "*/"):
            found |= {os.path.basename(p)[3:] for p in glob.glob(os.path.join(h, node.branch, "kubepods", kind + "pod*"))}
    return found
