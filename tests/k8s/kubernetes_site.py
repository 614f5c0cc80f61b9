# SPDX-License-Identifier: BSD-3-Clause
"""The dev overlay on a cluster of two nodes, with clients on one side and servers on the other.

    clients  10.0.0.2, 10.1.1.10 ──┬─ n1 inside 10.0.0.1 [steer]   n1 outside 198.51.100.1 ─┬── servers 198.51.100.2,
      (a bridge)                   └─ n2 inside 10.0.0.3 [steer-2] n2 outside 198.51.100.3 ─┘     192.0.2.10
"""
import json
import os
import shutil
import subprocess
import time

from lethe_site import wait_for
from netns import NetError

K8S = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../k8s")
CLIENT, SERVER, EXTERNAL = "10.1.1.10", "192.0.2.10", "203.0.113.0/28"
SIDES = {"inside": ("clients", "10.0.0.2/24", CLIENT, "default", ["10.0.0.1", "10.0.0.3"]),
         "outside": ("servers", "198.51.100.2/24", SERVER, EXTERNAL, ["198.51.100.1", "198.51.100.3"])}
DISK = """apiVersion: v1
kind: PersistentVolume
metadata: {name: disk-%d}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: %s}
"""


class KubernetesSite:
    def __init__(self, cluster, programs):
        """programs: a build's folder; routers on both sides are watched by its lethe-nexthop."""
        self.cluster, self.lab, self.kubectl, self.programs = cluster, cluster.lab, cluster.kubectl, programs
        for side, (name, address, host, route, fronts) in SIDES.items():
            end = self.lab.namespace(name)
            end.ip("link add lan address 02:00:00:00:00:01 type bridge", "link set lan up", "addr add %s dev lan" % address,
                   "addr add %s/32 dev lo" % host)
            for n in cluster.nodes:
                self.lab.veth(n.namespace, side, end, n.name)
                end.ip("link set %s master lan" % n.name)
            end.run(["ethtool", "-K", "lan", "tx", "off"])
            self.lab.spawn("nexthop-" + side, [
                os.path.join(programs, "steering/lethe-nexthop"), "--route", route, "--dev", "lan",
                *[word for f in fronts for word in ("--via", f)]], end)

    def deploy(self, images, changed=lambda text: text):
        """changed: what is made of the overlay's text before it is applied."""
        self.cluster.import_images(images)
        disks = []
        for i in range(3):
            folder = self.cluster.path("disk-%d" % i)
            os.makedirs(folder)
            os.chown(folder, 10001, 10001)
            disks.append(DISK % (i, folder))
        self.apply("---\n".join(disks))
        self.kubectl("label", "node", "--all", "lethe.io/front=true")
        self.kubectl("create", "namespace", "lethe")
        made = subprocess.run([os.path.join(K8S, "secrets.sh")], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.apply(made)
        text = changed(self.kubectl("kustomize", os.path.join(K8S, "overlays/dev")).stdout)
        self.apply(subprocess.run([os.path.join(K8S, "for-1.20.py")], input=text, stdout=subprocess.PIPE, text=True,
                                  check=True).stdout)

    def apply(self, text):
        self.kubectl("apply", "-f", "-", text=text)

    def get(self, *words):
        return json.loads(self.kubectl("get", "-n", "lethe", *words, "-o", "json").stdout)

    def pods(self, app=None):
        return self.get("pods", *(["-l", "app=" + app] if app else []))["items"]

    def ready(self, app, count):
        pods = [p for p in self.pods(app) if not p["metadata"].get("deletionTimestamp")]
        good = [p for p in pods if any(c["type"] == "Ready" and c["status"] == "True"
                                       for c in p["status"].get("conditions", []))]
        return len(good) == len(pods) == count

    def wait_ready(self, timeout_s=240):
        began, took = time.monotonic(), {}
        for app, count in (("etcd", 3), ("store", 3), ("steer", 2), ("nf", 2), ("controller", 1)):
            try:
                wait_for(lambda: self.ready(app, count), timeout_s, "%d pods of %s to be ready" % (count, app), 0.5)
            except NetError as e:
                raise NetError("%s\n%s" % (e, self.what_is())) from None
            took[app] = time.monotonic() - began
        return took

    def what_is(self):
        return "\n".join(self.kubectl("get", "-n", "lethe", what, "-o", "wide", check=False).stdout
                         for what in ("pods", "pvc")) + self.kubectl(
            "get", "-n", "lethe", "events", check=False).stdout[-3000:]

    def save_logs(self):
        """What pods said that are there now, also before their last restart: into the run's logs."""
        for n in self.cluster.nodes:
            shutil.copytree("/proc/%s/root/var/log/pods" % n.pid, os.path.join(self.lab.logs, "pods-" + n.name),
                            dirs_exist_ok=True, ignore_dangling_symlinks=True)

    def ping(self, count=5):
        return self.lab.namespaces["clients"].run(["ping", "-n", "-c", str(count), "-i", "0.2", "-W", "3", "-I", CLIENT,
                                                   SERVER], check=False)
