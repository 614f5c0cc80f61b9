# SPDX-License-Identifier: BSD-3-Clause
"""A real Kubernetes on one machine, made for a test and gone with it.

    ControlPlane   etcd, kube-apiserver, kube-controller-manager: enough to judge manifests (ready in seconds)
    nodes.py       nodes for it

Everything is in network namespaces of the test (tests/net/netns.py), its files in the run's folder; the programs are
built by binaries.sh. Who may do what is by tokens of a file: admin, and one a component.
"""
import json
import os
import secrets
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../net"))

import kernel                             # noqa: E402
from lethe_site import wait_for           # noqa: E402
from netns import NetError, enter         # noqa: E402

SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
API_PORT = 6443
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")   # made in no time


def binaries(*which):
    """The folder of Kubernetes' programs; built if they are not there (minutes: it says so itself)."""
    done = subprocess.run([os.path.join(HERE, "binaries.sh"), *which], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise NetError("Kubernetes' programs cannot be built: see above")
    return done.stdout.strip()


class ControlPlane:
    """In the namespace `master`, which has `address`, or loopback alone."""

    USERS = {"admin": ("admin", "system:masters"),
             "controller-manager": ("system:kube-controller-manager", ""),
             "scheduler": ("system:kube-scheduler", ""),
             "proxy": ("system:kube-proxy", "")}

    def __init__(self, lab, address="127.0.0.1", nodes=()):
        """nodes: names, which an apiserver has to know when it starts."""
        self.lab, self.address = lab, address
        self.users = dict(self.USERS, **{n: ("system:node:" + n, "system:nodes") for n in nodes})
        self.programs = binaries(*([] if nodes else ["plane"]))
        kernel.put_right()
        self.folder = os.path.join(lab.folder, "kubernetes")
        self.tokens = {}
        self.processes, self.commands = {}, {}
        subprocess.run(["rm", "-rf", self.folder], check=True)
        os.makedirs(self.folder)
        self.namespace = lab.namespaces.get("master") or lab.namespace("master")

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self):
        self._keys()
        self._etcd()
        self._apiserver()
        self._run("kube-controller-manager", "--kubeconfig=" + self.kubeconfig("controller-manager"),
                  "--use-service-account-credentials", "--service-account-private-key-file=" + self.path("sa.key"),
                  "--root-ca-file=" + self.path("ca.crt"), "--cluster-cidr=" + PODS, "--allocate-node-cidrs",
                  "--service-cluster-ip-range=" + SERVICES, "--cert-dir=" + self.path("cm"), "--leader-elect=false",
                  "--port=0", "--node-monitor-period=1s", "--node-monitor-grace-period=8s",
                  "--pod-eviction-timeout=5s")
        wait_for(lambda: self.kubectl("get", "serviceaccount", "default", check=False).returncode == 0, 180,
                 "the default service account; see " + self.lab.logs, 0.1)

    def start_scheduler(self):
        self._run("kube-scheduler", "--kubeconfig=" + self.kubeconfig("scheduler"), "--leader-elect=false", "--port=0",
                  "--cert-dir=" + self.path("scheduler"))

    def _run(self, name, *arguments):
        self.commands[name] = [os.path.join(self.programs, name), *arguments]
        return self.start_again(name)

    def start_again(self, name):
        """One of its programs, as it was started."""
        log = "kube-etcd" if name == "etcd" else name
        self.processes[name] = self.lab.spawn(log, self.commands[name], self.namespace)
        return self.processes[name]

    def _keys(self):
        def openssl(*words):
            done = subprocess.run(["openssl", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise NetError("openssl %s: %s" % (words[0], done.stdout.strip()))
        openssl("req", "-x509", *EC, "-nodes", "-days", "3650", "-subj", "/CN=test-ca", "-keyout",
                self.path("ca.key"), "-out", self.path("ca.crt"))
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path("sa.key"))
        self.certificate("apiserver", "kube-apiserver", "IP:%s,IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes" % self.address)
        self.certificate("apiserver-client", "kube-apiserver", None, "system:masters")

    def certificate(self, name, who, names=None, group=None):
        """<name>.crt and .key, by our CA."""
        subject = ("/O=" + group if group else "") + "/CN=" + who
        more = "extendedKeyUsage=serverAuth,clientAuth\n" + ("subjectAltName=%s\n" % names if names else "")
        with open(self.path(name + ".ext"), "w") as f:
            f.write(more)
        script = ("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '%s' -keyout %s.key -out %s.csr && openssl x509 -req -in "
                  "%s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile %s.ext -out %s.crt"
                  % (subject, name, name, name, name, name))
        done = subprocess.run(["sh", "-c", script], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        if done.returncode != 0:
            raise NetError("openssl: " + done.stdout.strip())

    def add_user(self, name, user, groups=""):
        self.tokens[name] = secrets.token_hex(16)
        with open(self.path("tokens.csv"), "a") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write("%s,%s,%s%s\n" % (self.tokens[name], user, name, ',"%s"' % groups if groups else ""))

    def kubeconfig(self, name):
        path = self.path(name + ".kubeconfig")
        server = "https://%s:%d" % (self.address, API_PORT)
        with open(path, "w") as f:
            os.fchmod(f.fileno(), 0o600)
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "test",
                       "clusters": [{"name": "test", "cluster": {"server": server,
                                                                 "certificate-authority": self.path("ca.crt")}}],
                       "users": [{"name": name, "user": {"token": self.tokens[name]}}],
                       "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}]}, f)
        return path

    def _etcd(self):
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self.commands["etcd"] = [
            "etcd", "--name", "kube", "--data-dir", self.path("etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", "kube=" + peer, "--unsafe-no-fsync"]
        self.start_again("etcd")

    def _apiserver(self):
        for name, (user, groups) in self.users.items():
            self.add_user(name, user, groups)
        self._run("kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=" + (
            "0.0.0.0" if self.address != "127.0.0.1" else self.address), "--advertise-address=" + (
            self.address if self.address != "127.0.0.1" else "10.96.255.254"),
            "--secure-port=%d" % API_PORT, "--tls-cert-file=" + self.path("apiserver.crt"),
            "--tls-private-key-file=" + self.path("apiserver.key"), "--client-ca-file=" + self.path("ca.crt"),
            "--kubelet-client-certificate=" + self.path("apiserver-client.crt"),
            "--kubelet-client-key=" + self.path("apiserver-client.key"),
            "--kubelet-preferred-address-types=InternalIP", "--token-auth-file=" + self.path("tokens.csv"),
            "--service-account-key-file=" + self.path("sa.key"), "--service-account-signing-key-file=" +
            self.path("sa.key"), "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=" + SERVICES, "--authorization-mode=Node,RBAC", "--allow-privileged",
            "--enable-admission-plugins=NodeRestriction", "--profiling=false")
        self.config = self.kubeconfig("admin")

        def ready():
            if not self.processes["kube-apiserver"].alive():
                raise NetError("kube-apiserver ended at its start: see " + self.processes["kube-apiserver"].log)
            return self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0
        wait_for(ready, 180, "kube-apiserver to be ready; see " + self.processes["kube-apiserver"].log, 0.1)

    # --- asking ----------------------------------------------------------------------------

    def kubectl(self, *words, check=True, text=None, timeout=120):
        """As a person types it; text: its standard input."""
        argv = [os.path.join(self.programs, "kubectl"), "--kubeconfig", self.config, *words]
        done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=timeout, preexec_fn=lambda: enter(self.namespace.fd),
                              **({} if text is not None else {"stdin": subprocess.DEVNULL}),
                              env=dict(os.environ, HOME=self.folder))
        if check and done.returncode != 0:
            raise NetError("kubectl %s: %s" % (" ".join(words), done.stderr.strip() or done.stdout.strip()))
        return done

    def get(self, *words):
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)
