# SPDX-License-Identifier: BSD-3-Clause
"""Pods of the site as the apiserver tells of them, and how long each took to serve.

A `kubectl get --watch` and a thread that reads it; another thread asks new workers, where pods are reached, for their metrics
until they forwarded a packet. From a pod's creation (seen within milliseconds; its creationTimestamp knows seconds) run
    ready_s     until the apiserver says Ready
    served_s    of a worker: until it forwarded its first packet
"""
import http.client
import json
import os
import re
import subprocess
import threading
import time

from netns import NetError, enter

ASK_EVERY_S = 0.05
METRICS_PORT, FORWARDED = 9471, re.compile(r"^lethe_worker_tx_packets_total (\d+)$", re.M)


class Pod:
    def __init__(self, seen):
        self.created = seen
        self.ready_s = self.served_s = self.step = None

    def take(self, o):
        meta, status = o["metadata"], o.get("status", {})
        self.name, self.uid = meta["name"], meta["uid"]
        self.app = meta.get("labels", {}).get("app", "")
        self.node, self.ip = o["spec"].get("nodeName"), status.get("podIP")
        self.deleting = "deletionTimestamp" in meta
        self.ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        self.containers = [c.get("containerID", "").rsplit("/", 1)[-1] for c in status.get("containerStatuses", [])]
        self.restarts = sum(c["restartCount"] for c in status.get("containerStatuses", []))
        if self.ready and self.ready_s is None:
            self.ready_s = time.monotonic() - self.created


class PodWatch:
    def __init__(self, cluster):
        self.namespace, self.step = cluster.plane.namespace, "deployment"
        self.now, self.every = {}, {}          # by name; by uid, also those that are gone
        self.lock = threading.Lock()
        self.process = cluster.lab.spawn("pod-watch", [
            os.path.join(cluster.plane.programs, "kubectl"), "--kubeconfig", cluster.plane.config, "-n", "lethe", "get", "pods",
            "--watch", "--output-watch-events", "-o", "json"], self.namespace, stdout=subprocess.PIPE,
            env={"HOME": cluster.plane.folder})
        for work in (self._read, self._ask):
            threading.Thread(target=work, daemon=True).start()

    def _read(self):
        for line in self.process.popen.stdout:
            event = json.loads(line)
            o, seen = event["object"], time.monotonic()
            if o.get("kind") != "Pod":
                continue
            with self.lock:
                uid, name = o["metadata"]["uid"], o["metadata"]["name"]
                pod = self.every.setdefault(uid, Pod(seen))
                pod.step = pod.step or self.step
                pod.take(o)
                if event["type"] != "DELETED":
                    self.now[name] = pod
                elif self.now.get(name) is pod:
                    del self.now[name]

    def _ask(self):
        enter(self.namespace.fd)               # this thread alone
        while self.process.alive():
            with self.lock:
                wait = [p for p in self.now.values() if p.app == "nf" and p.ip and p.served_s is None and not p.deleting]
            for p in wait:
                m = FORWARDED.search(self._metrics(p.ip))
                if m and int(m.group(1)) > 0:
                    p.served_s = time.monotonic() - p.created
            time.sleep(ASK_EVERY_S)

    @staticmethod
    def _metrics(ip):
        connection = http.client.HTTPConnection(ip, METRICS_PORT, timeout=0.5)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def pods(self, app=None):
        """Those that are there now, in the order of their names."""
        if not self.process.alive():
            raise NetError("the watch of pods ended: see " + self.process.log)
        with self.lock:
            return sorted((p for p in self.now.values() if app in (None, p.app)), key=lambda p: p.name)

    def apps(self):
        return sorted({p.app for p in self.pods()})

    def ready(self, app, count):
        """Exactly so many, all ready, none about to go."""
        pods = self.pods(app)
        return len(pods) == count and all(p.ready and not p.deleting for p in pods)

    def created(self, step):
        with self.lock:
            return sum(p.step == step for p in self.every.values())

    def later(self):
        """Those that were created since the site was up, also if they are gone."""
        with self.lock:
            return [p for p in self.every.values() if p.step != "deployment"]
