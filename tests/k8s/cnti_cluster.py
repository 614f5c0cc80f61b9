# SPDX-License-Identifier: BSD-3-Clause
"""What test_cnti.py puts around pods: a bad cable, bad neighbours, a Prometheus, another tag.

Cable      a pod's interface reaches its node's bridge through tests/chaos/relay.c: late, lost, twice, damaged
Hogs       pods of tests/k8s/hog.c on a node: out of memory, over a volume's size, busy writing
Prometheus asks whom pods' annotations name
"""
import calendar
import json
import os
import re
import signal
import subprocess
import time

from lethe_site import wait_for
from netns import NetError
from nodes import small_image

HERE = os.path.dirname(os.path.abspath(__file__))
HOG = {"memory": (["memory"], "48Mi", "1Gi"), "disk": (["fill", "/scratch"], "512Mi", "16Mi"),
       "io": (["io", "/scratch"], "512Mi", "64Mi")}  # arguments, memory limit, size limit of the volume
POD = """apiVersion: v1
kind: Pod
metadata: {name: hog-%(name)s}
spec:
  nodeName: %(node)s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  tolerations: [{operator: Exists}]
  securityContext: {runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001}
  containers:
    - name: hog
      image: localhost/hog:test
      args: %(args)s
      resources: {limits: {memory: %(memory)s, cpu: 500m}, requests: {memory: 16Mi, cpu: 10m}}
      volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes: [{name: scratch, emptyDir: {sizeLimit: %(size)s}}]
"""


def seconds_until_ready(pod):
    """From its creation, in whole seconds: as the apiserver has it."""
    def when(text):
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    return when(ready["lastTransitionTime"]) - when(pod["metadata"]["creationTimestamp"])


def tag_image(node, image, tag):
    done = subprocess.run(node.inside(["ctr", "-n", "k8s.io", "images", "tag", "--force", image, tag]), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise NetError("ctr images tag: " + done.stdout)


class Cable:
    """In a `with`: all that a pod sends and gets goes through the relay."""

    def __init__(self, node, container, programs, delay_ms=0, jitter_ms=0, lost=0, twice=0, corrupt=0):
        self.node, self.container, self.ns = node, container, node.namespace
        self.command = [os.path.join(programs, "tests/chaos/chaos_relay"), self.ns.path(), None, "x-cnti", str(delay_ms),
                        str(jitter_ms), "7", str(lost), str(twice), str(corrupt)]

    def _other_end(self):
        """The node's interface that the pod's eth0 is plugged into."""
        index = re.search(r"eth0@if(\d+):", self.container.inside(["ip", "-o", "link", "show", "eth0"]).stdout).group(1)
        return re.search(r"^%s: ([^@:]+)" % index, self.ns.run(["ip", "-o", "link"]).stdout, re.M).group(1)

    def __enter__(self):
        self.cable = self.command[2] = self._other_end()
        # What goes through must be what a wire would carry: sums made by software, no larger than its MTU.
        self.container.inside(["ethtool", "-K", "eth0", "tx", "off"])
        link = self.ns.run(["ip", "-o", "link", "show", self.cable]).stdout
        mtu, self.bridge = re.search(r"mtu (\d+) .* master (\S+)", link).groups()
        self.ns.ip("link add x-cnti mtu %s type veth peer name y-cnti mtu %s" % (mtu, mtu))
        for end in ("x-cnti", "y-cnti", self.cable):
            self.ns.run(["ethtool", "-K", end, "tx", "off", "gro", "off"])
        self.ns.ip("link set %s nomaster" % self.cable, "link set y-cnti master " + self.bridge,
                   "link set x-cnti up", "link set y-cnti up")
        self.relay = self.node.lab.spawn("relay-cnti", self.command, stdout=subprocess.PIPE, nice=-5)
        return self

    def __exit__(self, *_):
        self.relay.signal(signal.SIGTERM)
        out = self.relay.popen.communicate(timeout=10)[0]
        self.ns.ip("link set %s master %s" % (self.cable, self.bridge), "link set %s type bridge_slave hairpin on" % self.cable,
                   "link del x-cnti")
        self.counts = json.loads(out) if out else {}

    def told(self, how):
        """What it did; an error, if it did nothing of what it was for."""
        did = {"delay_ms": "reordered", "jitter_ms": "reordered"}
        for what in how:
            if not self.counts.get(did.get(what, what)):
                raise NetError("the relay did nothing: %s" % self.counts)
        return ", ".join("%d %s" % (n, what) for what, n in self.counts.items() if n)


class Hogs:
    """In the namespace `default`, which is nobody's."""

    def __init__(self, site, node):
        self.site, self.node, self.kubectl = site, node, site.kubectl
        with open(os.path.join(HERE, "hog.c")) as f:
            node.import_image(small_image(site.cluster, "hog", f.read()))

    def run(self, name):
        args, memory, size = HOG[name]
        self.site.apply(POD % dict(name=name, node=self.node.name, args=json.dumps(args), memory=memory, size=size))

    def _pod(self, name):
        return self.site.cluster.plane.get("pod", "hog-" + name)["status"]

    def _remove(self, name):
        self.kubectl("delete", "pod", "hog-" + name, "--force", "--grace-period=0")

    def _state(self, name):
        told = self._pod(name).get("containerStatuses") or [{"state": {}}]
        return told[0]["state"]

    def killed_for_memory(self):
        self.run("memory")
        ended = wait_for(lambda: self._state("memory").get("terminated"), 60, "the pod to be killed for its memory", 0.2)
        self._remove("memory")
        if ended["exitCode"] != 137:
            raise NetError("it ended with %d" % ended["exitCode"])
        return "%s after its limit" % ended["reason"]

    def evicted_for_disk(self):
        """Of one that runs."""
        wait_for(lambda: self._pod("disk").get("reason") == "Evicted", 120, "the pod to be evicted for its volume's size", 0.5)
        self._remove("disk")
        return "evicted"

    def busy(self, seconds):
        self.run("io")
        wait_for(lambda: self._state("io").get("running"), 60, "the pod to run", 0.2)
        time.sleep(seconds)
        still = self._state("io").get("running")
        self._remove("io")
        if not still:
            raise NetError("it ended by itself")


class Prometheus:
    """In a `with`: asks the ports that pods' annotations name. (Debian's has no discovery in clusters.)"""
    PORT = 9099

    def __init__(self, cluster, pods):
        self.lab, self.ns, self.folder = cluster.lab, cluster.lab.namespaces["master"], cluster.path("prometheus")
        self.targets = [{"labels": {"pod": p["metadata"]["name"]}, "targets": ["%s:%s" % (
            p["status"]["podIP"], p["metadata"]["annotations"]["prometheus.io/port"])]} for p in pods
            if p["metadata"].get("annotations", {}).get("prometheus.io/scrape") == "true"]

    def __enter__(self):
        os.makedirs(self.folder)
        with open(self.folder + "/prometheus.yml", "w") as f:
            json.dump({"global": {"scrape_interval": "2s"},
                       "scrape_configs": [{"job_name": "lethe", "static_configs": self.targets}]}, f)
        self.process = self.lab.spawn("prometheus", [
            "prometheus", "--config.file", self.folder + "/prometheus.yml", "--storage.tsdb.path", self.folder,
            "--web.listen-address=127.0.0.1:%d" % self.PORT], self.ns)
        return self

    def up(self):
        """Names of pods that it has scraped with success."""
        got = self.ns.run(["curl", "-sS", "-m", "5", "http://127.0.0.1:%d/api/v1/query?query=up" % self.PORT], check=False)
        try:
            rows = json.loads(got.stdout)["data"]["result"]
        except (ValueError, KeyError):
            return set()
        return {r["metric"].get("pod") for r in rows if r["value"][1] == "1"}

    def __exit__(self, *_):
        self.process.stop()
