# SPDX-License-Identifier: BSD-3-Clause
"""Nodes for a control plane (cluster.py): a kubelet, containerd and kube-proxy each, on one kernel.

    master 10.88.0.254 ──┬── n1 eth0 10.88.0.1     pods 10.244.1.0/24
      (lan, a bridge)    └── n2 eth0 10.88.0.2     pods 10.244.2.0/24

A node is a process id, mount and network namespace: when its first process dies, all of it does, containers too. What
kubelets take for theirs alone (folders below /var and /run) are memory file systems of that mount namespace. Control
groups are the kernel's: each node has a branch of its own, removed at the end. A kubelet changes three settings of the
kernel; they are put back (kernel.py).
"""
import glob
import json
import os
import subprocess
import time

import kernel
from cluster import ControlPlane, PODS, SERVICES
from lethe_site import wait_for
from netns import NetError, run

PRIVATE = ("/var/lib/kubelet", "/run/containerd", "/var/lib/cni", "/var/log/pods", "/var/log/containers",
           "/run/netns")
MASTER = "10.88.0.254"
PAUSE = "#include <signal.h>\n#include <unistd.h>\nint main(void) { signal(SIGCHLD, SIG_IGN); for (;;) pause(); }\n"
# The first process of a node: waits for children that are not its own.
INIT = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()\n"


class Node:
    def __init__(self, cluster, number):
        self.cluster, self.lab, self.number = cluster, cluster.lab, number
        self.name = "n%d" % number
        self.address = "10.88.0.%d" % number
        self.pods = "10.244.%d.0/24" % number
        self.folder = cluster.path(self.name)
        self.branch = kernel.branch(self.name)
        self.namespace = self.lab.namespace(self.name)
        self.agents, self.commands = {}, {}
        os.makedirs(self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self):
        self._branch()
        mounts = "; ".join("mkdir -p %s && mount -t tmpfs -o mode=0755 none %s" % (p, p) for p in PRIVATE)
        self.init = self.lab.spawn(self.name, [
            "unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "sh", "-ec",
            "mount --make-rprivate /; %s; exec python3 -c '%s'" % (mounts, INIT)], self.namespace)

        def first():
            with open("/proc/%d/task/%d/children" % (self.init.pid, self.init.pid)) as f:
                pids = f.read().split()
            if not pids:
                return None
            with open("/proc/%s/cmdline" % pids[0], "rb") as f:
                return pids[0] if f.read().startswith(b"python3") else None
        self.pid = wait_for(first, 30, "node %s to begin; see %s" % (self.name, self.init.log))
        self._containerd()
        self._kubelet()
        self._proxy()

    def inside(self, argv):
        """The same command in this node."""
        return ["nsenter", "-t", self.pid, "-m", "-p", "-n", *argv]

    def _branch(self):
        for h in kernel.hierarchies():
            folder = os.path.join(h, self.branch)
            os.makedirs(folder, exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if os.path.exists(os.path.join(folder, name)):
                    with open(os.path.join(h, name)) as f, open(os.path.join(folder, name), "w") as to:
                        to.write(f.read())

    def remove_branch(self):
        for h in [*kernel.hierarchies(), kernel.CONTROLLERS + "/unified"]:
            for at, _, _ in os.walk(os.path.join(h, self.branch), topdown=False):
                wait_for(lambda: kernel.remove_empty(at), 20, "the control group %s to be empty" % at)

    def _write(self, name, content):
        with open(self.path(name), "w") as f:
            f.write(content if isinstance(content, str) else json.dumps(content, indent=1))
        return self.path(name)

    def _containerd(self):
        os.makedirs(self.path("cni"))
        self._write("cni/10-pods.conflist", {"cniVersion": "0.3.1", "name": "pods", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "ipMasq": False, "hairpinMode": True,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": self.pods}]], "dataDir": "/var/lib/cni"}},
            {"type": "portmap", "capabilities": {"portMappings": True}}]})
        config = self._write("containerd.toml", """version = 2
root = "%s"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%s"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
""" % (self.path("containerd"), self.path("cni")))
        self._agent("containerd", "containerd", "--config", config)
        wait_for(lambda: subprocess.run(self.inside(["ctr", "version"]), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL).returncode == 0, 60,
                 "containerd of %s; see %s" % (self.name, self.lab.logs), 0.2)

    def import_image(self, archive):
        run(self.inside(["ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "native", archive]))

    def _kubelet(self):
        plane = self.cluster.plane
        config = self._write("kubelet.json", {
            "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/" + self.branch, "authentication": {
                "anonymous": {"enabled": False}, "x509": {"clientCAFile": plane.path("ca.crt")},
                "webhook": {"enabled": False}}, "authorization": {"mode": "AlwaysAllow"}, "oomScoreAdj": 0,
            "failSwapOn": False, "evictionHard": {"memory.available": "50Mi"}, "enforceNodeAllocatable": ["pods"],
            "nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "10s", "nodeLeaseDurationSeconds": 6,
            "syncFrequency": "5s", "resolvConf": "", "address": self.address, "healthzPort": 0,
            "runtimeRequestTimeout": "2m", "podsPerCore": 0, "imageGCHighThresholdPercent": 100,
            "containerLogMaxSize": "10Mi"})
        self._agent(
            "kubelet", os.path.join(plane.programs, "kubelet"), "--config", config, "--kubeconfig", plane.kubeconfig(self.name),
            "--container-runtime=remote", "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
            "--hostname-override=" + self.name, "--node-ip=" + self.address,
            "--node-labels=kubernetes.io/os=linux", "--v=2")

    def _agent(self, agent, *argv):
        self.commands[agent] = argv
        self.start_again(agent)

    def start_again(self, agent):
        """kubelet or containerd, as it was started."""
        self.agents[agent] = self.lab.spawn("%s-%s" % (self.name, agent), self.inside(self.commands[agent]))

    def agent_pid(self, agent):
        """Its process: what we started stands in front of it. None: it is gone."""
        starter = self.agents[agent].pid
        try:
            with open("/proc/%d/task/%d/children" % (starter, starter)) as f:
                return int(f.read().split()[0])
        except (OSError, IndexError):
            return None

    def _proxy(self):
        plane = self.cluster.plane
        config = self._write("proxy.json", {
            "kind": "KubeProxyConfiguration", "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "mode": "iptables",
            "clientConnection": {"kubeconfig": plane.kubeconfig("proxy")}, "clusterCIDR": PODS, "oomScoreAdj": 0,
            "hostnameOverride": self.name, "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s",
                                                         "tcpCloseWaitTimeout": "0s"},
            "iptables": {"minSyncPeriod": "0s", "syncPeriod": "10s"}, "healthzBindAddress": "", "metricsBindAddress": ""})
        self.lab.spawn(self.name + "-proxy", self.inside([
            os.path.join(plane.programs, "kube-proxy"), "--config", config]))


def small_image(cluster, name, source):
    """An archive of localhost/<name>:test: one program of C, linked statically."""
    archive, folder = cluster.path(name + ".tar"), cluster.path(name)
    os.makedirs(folder)
    with open("%s/%s.c" % (folder, name), "w") as f:
        f.write(source)
    run(["gcc", "-static", "-Os", "-o", "%s/%s" % (folder, name), "%s/%s.c" % (folder, name)])
    own = "buildah --storage-driver vfs --root %s/storage --runroot %s/runroot" % (folder, folder)
    run(["sh", "-ec", "c=$({0} from scratch); {0} copy -q $c {1}/{2} /{2}; {0} config --entrypoint '[\"/{2}\"]' "
         "--cmd '' $c; {0} commit -q --rm $c localhost/{2}:test; {0} push -q localhost/{2}:test "
         "oci-archive:{3}:localhost/{2}:test".format(own, folder, name, archive)])
    return archive


class Cluster:
    """In a `with`, inside the Lab's."""

    def __init__(self, lab, nodes=2):
        self.lab = lab
        master = lab.namespace("master")
        self.plane = ControlPlane(lab, MASTER, ["n%d" % i for i in range(1, nodes + 1)])
        self.kubectl, self.path = self.plane.kubectl, self.plane.path
        self.nodes = [Node(self, i) for i in range(1, nodes + 1)]
        self._network(master)

    def _network(self, master):
        master.sysctl("net.ipv4.ip_forward", 1)
        master.ip("link add lan address 02:00:00:00:00:01 type bridge", "link set lan up", "addr add %s/24 dev lan" % MASTER)
        for n in self.nodes:
            self.lab.veth(n.namespace, "eth0", master, n.name)
            master.ip("link set %s master lan" % n.name)
            n.namespace.sysctl("net.ipv4.ip_forward", 1)
            n.namespace.ip("addr add %s/24 dev eth0" % n.address, "route add default via %s" % MASTER)
        for n in self.nodes:
            master.ip("route add %s via %s" % (n.pods, n.address))
            for other in self.nodes:
                if other is not n:
                    n.namespace.ip("route add %s via %s" % (other.pods, other.address))

    def __enter__(self):
        kernel.hold()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        began = time.monotonic()
        self.plane.start()
        self.plane.start_scheduler()
        pause = small_image(self, "pause", PAUSE)   # what holds a pod's namespaces
        for n in self.nodes:
            n.start()
            n.import_image(pause)
        wait_for(self._ready, 90, "nodes to be ready; see " + self.lab.logs, 0.5)
        self.ready_s = time.monotonic() - began

    def _ready(self):
        nodes = self.plane.get("nodes")["items"]
        return len(nodes) == len(self.nodes) and all(
            c["status"] == "True" for n in nodes for c in n["status"].get("conditions", []) if c["type"] == "Ready")

    def import_images(self, folder):
        for n in self.nodes:
            for archive in sorted(glob.glob(os.path.join(folder, "*.tar"))):
                n.import_image(archive)

    def __exit__(self, *_):
        for n in self.nodes:
            if hasattr(n, "init"):
                n.init.stop(5)
        for n in self.nodes:
            try:
                n.remove_branch()
            except NetError as e:
                print(e)
        kernel.release()
