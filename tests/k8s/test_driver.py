#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""lethe-controller --driver kubernetes against a real API server and its controllers. There are no nodes: this test binds pods
and writes their status as kubelets would, by the API.

The controller has its own service account, with the rights of k8s/base/rights.yaml and no others. Every answer of its API is
held against orchestrator/openapi.json.
"""
import argparse
import http.client
import json
import os
import base64
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]

import yaml                                        # noqa: E402

import schema                                      # noqa: E402
from cluster import API_PORT, ControlPlane         # noqa: E402
from lethe_site import wait_for                    # noqa: E402
from netns import Lab, NetError, require_root_and_tools  # noqa: E402

SITE = """failure_timeout_ms: 500
run_dir: %(run)s
store:
  etcd: ["http://127.0.0.1:2379"]
  shards: 2
  copies: 2
  nodes: [{name: store-0, listen: "10.96.74.10:7400"}, {name: store-1, listen: "10.96.74.11:7400"}]
steering:
  probe_key_file: %(run)s/key
  tunnel: {address: 10.88.0.1, port: p2}
  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p0}
  outside: {address: 198.51.100.1, next_hop: 198.51.100.2, port: p1}
worker: {tunnel: {steering: [10.88.0.1]}}
controller: {listen: %(run)s/api.sock}
chain: [nat44]
groups: [{name: nf, max: 9}, {name: other}]
nfs: {nat44: {external: [203.0.113.0/28], inside: [10.1.0.0/16]}}
"""


class Failed(Exception):
    pass


failed = []


def check(what, good, why=""):
    print("%s %s%s" % ("ok  " if good else "FAIL", what, "" if good else ": %s" % (why,)), flush=True)
    if not good:
        failed.append(what)


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=15)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(self.path)


class Controller:
    def __init__(self, lab, plane, build):
        self.lab, self.plane, self.build = lab, plane, build
        self.run = os.path.join(lab.folder, "controller")
        self.account = os.path.join(self.run, "account")
        os.makedirs(self.account, exist_ok=True)
        self.site = os.path.join(self.run, "site.yaml")
        with open(self.site, "w") as f:
            f.write(SITE % {"run": self.run})
        with open(os.path.join(HERE, "../../orchestrator/openapi.json")) as f:
            self.described = schema.Api(json.load(f))
        self.process = None

    def give_account(self):
        def secret():
            names = [s["name"] for s in self.plane.get("-n", "lethe", "serviceaccount", "controller").get("secrets", [])]
            return names and self.plane.get("-n", "lethe", "secret", names[0])["data"]
        for name, value in wait_for(secret, 30, "the service account's token", 0.1).items():
            with open(os.path.join(self.account, name), "wb") as f:
                f.write(base64.b64decode(value))

    def start(self, *more):
        env = dict(os.environ, KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(API_PORT))
        self.process = self.lab.spawn("controller", [os.path.join(self.build, "orchestrator/lethe-controller"), "-c", self.site,
                                                     "--driver", "kubernetes", "--service-account", self.account, *more],
                                      self.plane.namespace, env=env)
        wait_for(lambda: self.ask("GET", "/readyz")[0] == 200, 30, "the controller; see " + self.process.log, 0.05)

    def ask(self, method, path, body=None):
        c = Unix(self.run + "/api.sock")
        try:
            c.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body))
            r = c.getresponse()
            status, answer = r.status, json.loads(r.read())
        except OSError:
            if self.process and not self.process.alive():
                raise Failed("the controller ended: see " + self.process.log)
            return 0, {}
        finally:
            c.close()
        wrong = self.described.wrong_answer(method, path, status, answer)
        if wrong:
            raise Failed("%s %s: %s" % (method, path, wrong))
        return status, answer

    def status(self):
        return self.ask("GET", "/v1/status")[1]

    def group(self, name="nf"):
        return next((g for g in self.status().get("groups", []) if g["name"] == name), {})

    def scale(self, n, group="nf"):
        return self.ask("POST", "/v1/groups/%s/scale" % group, {"replicas": n})

    def rows(self):
        s = self.status()
        return {p["name"]: p for kind in ("workers", "stores", "steering") for p in s.get(kind, [])}

    def events(self, subject=None, kind=None):
        events = self.ask("GET", "/v1/events?after=0&limit=1000")[1].get("events", [])
        return [e for e in events if (not subject or e["subject"] == subject) and (not kind or e["kind"] == kind)]

    def cli(self, *words):
        return subprocess.run([os.path.join(self.build, "orchestrator/cli/lethe"), "--controller", self.run + "/api.sock", *words],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def deployment(name, replicas):
    labels = {"app": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "lethe", "labels": labels},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 20, "containers": [
                    {"name": name, "image": "none", "ports": [{"name": "metrics", "containerPort": 9471}]}]}}}}


class Kubelet:
    """What kubelets say, by hand."""

    def __init__(self, plane):
        self.plane = plane

    def put(self, path, o, verb="replace", check=True):
        return self.plane.kubectl(verb, "--raw", path, "-f", "-", text=json.dumps(o), check=check)

    def status(self, path, change):
        """Again, if others wrote it meanwhile."""
        def written():
            o = json.loads(self.plane.kubectl("get", "--raw", path).stdout)
            o["status"].update(change)
            done = self.put(path + "/status", o, check=False)
            if done.returncode != 0 and "Conflict" not in done.stderr:
                raise NetError("%s: %s" % (path, done.stderr.strip()))
            return done.returncode == 0
        wait_for(written, 20, "the status of %s to be taken" % path, 0.05)

    def node(self, name, address):
        self.plane.kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
        self.ready(name, True)

    def ready(self, name, good):
        self.status("/api/v1/nodes/" + name, {"conditions": [{"type": "Ready", "status": "True" if good else "Unknown",
                                                              "reason": "Test"}]})

    def pods(self, app):
        return [p for p in self.plane.get("-n", "lethe", "pods", "-l", "app=" + app)["items"]]

    def bind(self, pod, node):
        self.put("/api/v1/namespaces/lethe/pods/%s/binding" % pod, {
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}, "create")

    def says(self, pod, state, identity="a", last=None, host="10.88.0.1", address="10.244.1.7"):
        """A container's state, as a kubelet reports it."""
        name = self.plane.get("-n", "lethe", "pod", pod)["spec"]["containers"][0]["name"]
        status = {"name": name, "image": "none", "imageID": "", "ready": "running" in state, "restartCount": 0,
                  "containerID": "containerd://" + identity, "state": state, "lastState": last or {}}
        self.status("/api/v1/namespaces/lethe/pods/" + pod, {
            "phase": "Running", "hostIP": host, "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [status]})

    def runs(self, pod, node, identity, **more):
        self.bind(pod, node)
        self.says(pod, {"running": {"startedAt": "2026-05-04T10:11:12Z"}}, identity, **more)

    def ended(self, identity, code, why="Completed"):
        return {"terminated": {"exitCode": code, "reason": why, "startedAt": "2026-05-04T10:11:12Z",
                               "finishedAt": "2026-05-04T10:12:12Z", "containerID": "containerd://" + identity}}


def patient(condition, what):
    return wait_for(condition, 40, what, 0.05)


class Test:
    def __init__(self, lab, plane, build):
        self.plane, self.k, self.c = plane, Kubelet(plane), Controller(lab, plane, build)

    def kubectl(self, *words, **more):
        return self.plane.kubectl("-n", "lethe", *words, **more)

    def wanted(self):
        return self.plane.get("-n", "lethe", "deployment", "nf")["spec"]["replicas"]

    def prepare(self):
        self.plane.kubectl("create", "namespace", "lethe")
        with open(os.path.join(HERE, "../../k8s/base/rights.yaml")) as f:
            rights = list(yaml.safe_load_all(f))
        self.plane.kubectl("apply", "-n", "lethe", "-f", "-", text="---\n".join(yaml.safe_dump(o) for o in rights))
        for name in ("nf", "other"):
            self.plane.kubectl("create", "-f", "-", text=json.dumps(deployment(name, 2 if name == "nf" else 1)))
        self.k.node("n1", "10.88.0.1")
        self.c.give_account()

    def options(self):
        program = os.path.join(self.c.build, "orchestrator/lethe-controller")
        for words, says in ((("--driver", "docker"), "there is no such driver"),):
            done = subprocess.run([program, "-c", self.c.site, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            check("wrong: " + " ".join(words), done.returncode == 2 and says in done.stdout, done.stdout)
        alone = os.path.join(self.c.run, "alone.yaml")
        with open(alone, "w") as f:
            f.write((SITE % {"run": self.c.run}).replace('  etcd: ["http://127.0.0.1:2379"]\n', ""))
        done = subprocess.run([program, "-c", alone, "--driver", "kubernetes", "--check"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        check("without etcd it does not begin, and says why", done.returncode == 2 and "store.etcd" in done.stdout, done.stdout)

    # --- counts -------------------------------------------------------------------------------

    def counts(self):
        patient(lambda: self.c.group().get("replicas") == 2, "the count of the Deployment")
        patient(lambda: self.c.status()["platform"]["known"], "the platform to be known")
        check("the driver is kubernetes", self.c.status()["controller"]["driver"] == "kubernetes")
        status, answer = self.c.scale(4)
        check("lethe scale is answered when it is written", status == 200 and "Deployment nf" in answer["result"] and
              self.wanted() == 4, answer)
        check("and it is an event", any(e["cause"] == "an operator wants it" for e in self.c.events("nf", "scale")))
        self.kubectl("scale", "deploy/nf", "--replicas=3")
        patient(lambda: self.c.group().get("replicas") == 3, "kubectl's count")
        check("kubectl scale is adopted, with an event", any("scaled by others" in e["cause"] and e["detail"]["to"] == 3
                                                             for e in self.c.events("nf", "scale")))
        check("the Deployment is not fought for", self.wanted() == 3)
        check("our own count was never taken for others'", not any("by others" in e["cause"] and e["detail"]["to"] == 4
                                                                   for e in self.c.events("nf", "scale")))
        for n in (5, 6, 5, 6, 7):
            other = subprocess.Popen([os.path.join(self.plane.programs, "kubectl"), "--kubeconfig", self.plane.config, "-n", "lethe",
                                      "scale", "deploy/nf", "--replicas=%d" % (n % 3 + 1)], stdout=subprocess.DEVNULL,
                                     preexec_fn=self.enter)
            check("both at once: lethe scale %d is taken" % n, self.c.scale(n)[0] == 200)
            other.wait()
        last = self.wanted()
        patient(lambda: self.c.group().get("replicas") == last, "what was written last")
        check("who wrote last has his way: %d" % last, True)
        status, answer = self.c.scale(10)
        check("limits of the site hold", status == 400 and "from" in answer["error"] and self.wanted() == last, answer)
        status, answer = self.c.scale(2, "other")
        check("no right to scale another one: in the server's words", status == 403 and "cannot patch" in answer["error"], answer)
        check("and it is an event", self.c.events("other", "error"))
        done = self.c.cli("scale", "nf=4", "--no-wait")
        check("the command line", done.returncode == 0 and "written to Deployment nf" in done.stdout and self.wanted() == 4, done.stdout)
        done = self.c.cli("status")
        check("lethe status shows the platform's count", done.returncode == 0 and "nf" in done.stdout, done.stdout)
        self.c.scale(2)

    def enter(self):
        from netns import enter
        enter(self.plane.namespace.fd)

    def refused(self):
        for method, path, body, says in (
                ("PUT", "/v1/site", "chain: []", "kubectl apply"), ("POST", "/v1/down", {"force": True}, "kubectl delete"),
                ("POST", "/v1/shards/0/hand-over", {}, "lethe restart"), ("GET", "/v1/tables", None, "control socket"),
                ("POST", "/v1/trace", {"flow": "udp 10.1.0.5:5353 > 192.0.2.10:53", "seconds": 1}, "control socket")):
            status, answer = self.c.ask(method, path, body)
            check("%s %s is refused in words" % (method, path), status == 501 and says in answer["error"], (status, answer))

    # --- pods -------------------------------------------------------------------------------------

    def programs(self):
        pods = [p["metadata"]["name"] for p in patient(lambda: len(self.k.pods("nf")) == 2 and self.k.pods("nf"), "two pods")]
        patient(lambda: self.c.rows().get(pods[0], {}).get("state") == "starting", "a pod without a node")
        row = self.c.rows()[pods[0]]
        check("a pod that has not started has no figures", row["figures"] is None and row["uptime_ms"] is None and row["note"], row)
        a, b = pods
        self.k.runs(a, "n1", "aaa1")
        self.k.runs(b, "n1", "bbb1")
        patient(lambda: self.c.events(a, "start") + self.c.events(a, "adopt"), "the start of " + a)
        row = patient(lambda: (r := self.c.rows().get(a)) and r["uptime_ms"] is not None and r, "its row")
        check("it runs on its node", row["node"] == "n1" and row["group"] == "nf" and "kubectl" in row["log"], row)
        self.deaths(a, b)

    def exit_of(self, pod, kind="exit"):
        return patient(lambda: self.c.events(pod, kind), "the end of " + pod)[-1]

    def deaths(self, a, b):
        # It crashes, and its kubelet starts it again.
        self.k.says(a, {"running": {"startedAt": "2026-05-04T10:13:12Z"}}, "aaa2", last=self.k.ended("aaa1", 137, "OOMKilled"))
        e = self.exit_of(a)
        check("a crash is proven by the kubelet's word", e["detail"]["proven"] and e["detail"]["signal"] == 9 and "OOMKilled" in e["cause"], e)
        patient(lambda: self.c.rows()[a]["restarts"] == 1, "the next container")
        # In good order: told to go, terminated, gone.
        self.kubectl("delete", "pod", b, "--wait=false")
        patient(lambda: self.c.rows().get(b, {}).get("state") == "draining", b + " to leave")
        check("who is told to go by others leaves", "not by an order" in self.c.events(b, "drain")[0]["cause"])
        self.k.says(b, self.k.ended("bbb1", 0), "bbb1")
        self.kubectl("delete", "pod", b, "--grace-period=0", "--force")
        e = self.exit_of(b)
        check("a graceful end is proven", e["detail"]["proven"] and e["detail"]["asked"] and "kubelet" in e["cause"], e)
        check("and no pod of it is left", patient(lambda: b not in self.c.rows(), "its row to go"))
        # By force: nobody knows.
        self.kubectl("delete", "pod", a, "--grace-period=0", "--force")
        e = self.exit_of(a, "gone")
        check("removed by force is no proof", not e["detail"]["proven"] and "force" in e["cause"], e)
        check("it is shown as unknown, without figures", self.c.rows()[a]["state"] == "unknown" and self.c.rows()[a]["figures"] is None)

    def evictions(self):
        pods = [p["metadata"]["name"] for p in patient(lambda: len(self.k.pods("nf")) == 2 and self.k.pods("nf"), "two new pods")]
        for i, name in enumerate(pods):
            self.k.runs(name, "n1", "ccc%d" % i)
            patient(lambda: self.c.rows().get(name, {}).get("uptime_ms") is not None, name)
        a, b = pods
        status, answer = self.c.ask("POST", "/v1/instances/%s/drain" % a, {})
        check("the last worker that is known to serve is spared", status == 403 and "not known" in answer["error"], answer)
        budget = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "nf", "namespace": "lethe"},
                  "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "nf"}}}}
        self.plane.kubectl("create", "-f", "-", text=json.dumps(budget))
        patient(lambda: self.plane.get("-n", "lethe", "pdb", "nf").get("status", {}).get("observedGeneration"), "the budget")
        status, answer = self.c.ask("POST", "/v1/instances/%s/kill" % a, {"force": True})
        check("a budget's refusal comes in its words", status == 429 and "disruption budget" in answer["error"], (status, answer))
        check("and nothing is told to go", "deletionTimestamp" not in self.plane.get("-n", "lethe", "pod", a)["metadata"])
        self.kubectl("delete", "pdb", "nf")
        status, answer = self.c.ask("POST", "/v1/instances/%s/restart" % a, {"force": True})
        check("an eviction is taken", status == 200 and "good order" in answer["result"], (status, answer))
        check("the pod is told to go", "deletionTimestamp" in self.plane.get("-n", "lethe", "pod", a)["metadata"])
        self.k.says(a, self.k.ended("ccc0", 0), "ccc0")
        self.kubectl("delete", "pod", a, "--grace-period=0", "--force")
        e = self.exit_of(a)
        check("its end has its order as the reason", e["detail"]["asked"] and e["because"] and e["detail"]["proven"], e)
        status, answer = self.c.ask("POST", "/v1/instances/%s/kill" % b, {"force": True})
        check("a kill leaves it a second", status == 200 and self.plane.get("-n", "lethe", "pod", b)["metadata"][
            "deletionGracePeriodSeconds"] == 1, (status, answer))
        self.k.says(b, self.k.ended("ccc1", 137, "Error"), "ccc1")
        self.kubectl("delete", "pod", b, "--grace-period=0", "--force")
        e = self.exit_of(b)
        check("and its end is proven", e["detail"]["proven"] and e["detail"]["asked"] and e["detail"]["signal"] == 9, e)
        generation = self.plane.get("-n", "lethe", "deployment", "nf")["metadata"]["generation"]
        status, answer = self.c.ask("POST", "/v1/instances/nf/restart", {})
        check("a group rolls out", status == 200 and "rolls out" in answer["result"] and self.plane.get(
            "-n", "lethe", "deployment", "nf")["metadata"]["generation"] == generation + 1, (status, answer))
        check("what does not exist is said", self.c.ask("POST", "/v1/instances/nf-0/kill", {"force": True})[0] == 404)

    def steering_and_stores(self):
        for name, app, host in (("store-0", "store", "10.88.0.7"), ("store-9", "store", "10.88.0.7"), ("steer-abcde", "steer", "10.88.0.1")):
            self.plane.kubectl("create", "-f", "-", text=json.dumps(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "lethe", "labels": {"app": app}},
                 "spec": {"containers": [{"name": app, "image": "none", "ports": [{"name": "metrics", "containerPort": 9470}]}]}}))
            self.k.runs(name, "n1", "id-" + name, host=host)
        row = patient(lambda: self.c.rows().get("steer"), "the front end, by its node's address")
        check("a front end is known by its node's address", row["kind"] == "steering" and "steer-abcde" in row["log"], row)
        row = patient(lambda: self.c.rows().get("store-0"), "the store")
        check("a store is known by its pod's name", row["kind"] == "store" and "store-9" not in self.c.rows(), row)
        self.plane.kubectl("cordon", "n1")
        patient(lambda: self.c.events("n1", "node"), "the cordon")
        check("a cordoned node is told of", self.c.status()["platform"]["nodes"][0]["cordoned"] and "cordoned" in
              self.c.events("n1", "node")[-1]["cause"])
        self.k.ready("n1", False)
        patient(lambda: any(a["kind"] == "platform" and a["subject"] == "n1" for a in self.c.status()["alerts"]), "the alert")
        row = patient(lambda: (r := self.c.rows()["store-0"])["state"] == "unknown" and r, "a store on a node that is not ready")
        check("a node that is not ready proves nothing", not self.c.events("store-0", "exit") and not self.c.events("store-0", "gone"), row)

    # --- the API server is away -------------------------------------------------------------------------

    def away(self):
        server = self.plane.processes["kube-apiserver"]
        server.signal(signal.SIGSTOP)
        patient(lambda: self.c.group().get("replicas", 0) is None, "the count to be unknown")
        s = self.c.status()
        check("stopped, its count is unknown, and an alert says so", not s["platform"]["known"] and s["platform"]["why"] and any(
            a["kind"] == "platform" and a["subject"] == "platform" for a in s["alerts"]), s["platform"])
        status, answer = self.c.scale(3)
        check("an order is not said to be done", status == 503 and "did not take it" in answer["error"], (status, answer))
        server.signal(signal.SIGCONT)
        patient(lambda: self.c.group().get("replicas"), "the count to be known again")
        check("it goes on", self.c.scale(4)[0] == 200 and self.wanted() == 4)
        server.kill()
        patient(lambda: not self.c.status()["platform"]["known"], "the server's end to be noticed")
        status, answer = self.c.scale(3)
        check("killed, likewise", status == 503, answer)
        self.restart_apiserver()
        patient(lambda: self.c.status()["platform"]["known"], "the new server")
        check("its count is known", self.c.group().get("replicas") == 4, self.c.group())
        check("a new server is found", self.c.scale(2)[0] == 200 and self.wanted() == 2)
        before = len(self.c.events("nf", "scale"))
        self.kubectl("scale", "deploy/nf", "--replicas=1")
        patient(lambda: len(self.c.events("nf", "scale")) > before, "an event after it")
        check("its watch goes on, too", self.c.events("platform", "platform")[-1]["detail"]["known"])

    def restart_apiserver(self):
        users, self.plane.users = self.plane.users, {}
        try:
            self.plane._apiserver()
        finally:
            self.plane.users = users

    def wrong_token(self):
        path = os.path.join(self.c.account, "token")
        with open(path) as f:
            right = f.read()
        with open(path, "w") as f:
            f.write("wrong")
        patient(lambda: "nauthorized" in self.c.status()["platform"]["why"] or not self.c.status()["platform"]["known"], "the refusal")
        patient(lambda: not self.c.status()["platform"]["known"], "what is known to be too old")
        check("a wrong token: nothing is known, and why", "nauthorized" in self.c.status()["platform"]["why"], self.c.status()["platform"])
        with open(path + ".new", "w") as f:
            f.write(right)
        os.rename(path + ".new", path)
        patient(lambda: self.c.status()["platform"]["known"], "the right token to be read")
        check("the right one again, without a restart", self.c.scale(2)[0] == 200)

    def too_many(self):
        # More pods than it will look at: that is said, and it is not taken for their end.
        self.kubectl("delete", "deployment", "other")
        pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other-%d" % i, "namespace": "lethe", "labels": {"app": "other"}},
                 "spec": {"containers": [{"name": "other", "image": "none"}]}} for i in range(260)]
        self.plane.kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
        patient(lambda: "more than" in self.c.status()["platform"]["why"], "it to say that there are too many")
        check("more pods than the bound: said, and nothing is known to be gone", not self.c.events("store-0", "gone"))
        before = len(self.k.pods("nf"))
        check("it scales all the same", self.c.scale(before + 3)[0] == 200)
        patient(lambda: len(self.k.pods("nf")) > before, "pods that it does not know yet")
        self.kubectl("delete", "pods", "-l", "app=other", "--grace-period=0", "--force", "--wait=false")
        patient(lambda: self.c.status()["platform"]["known"], "fewer of them")
        patient(lambda: all(p["metadata"]["name"] in self.c.rows() for p in self.k.pods("nf")), "all of them to be known")
        check("and go", self.c.scale(3)[0] == 200)

    def another_text(self):
        with open(self.c.site) as f:
            text = f.read()
        with open(self.c.site, "w") as f:
            f.write(text.replace("max: 9", "max: 3"))
        check("it ends in good order", self.c.process.stop() == 0)
        self.c.start()
        patient(lambda: self.c.group().get("max") == 3, "the other text")
        check("the file's text stands, whatever was kept", self.c.scale(4)[0] == 400)
        row = patient(lambda: self.c.rows().get("store-0"), "what lives")
        check("what lives since before is adopted", self.c.events("store-0", "adopt"), row)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--run", required=True)
    options = arguments.parse_args()
    require_root_and_tools(["etcd", "openssl"])
    with Lab(options.run) as lab:
        plane = ControlPlane(lab)
        plane.start()
        t = Test(lab, plane, os.path.abspath(options.build))
        t.prepare()
        t.options()
        t.c.start()
        for part in (t.counts, t.refused, t.programs, t.evictions, t.steering_and_stores, t.away, t.wrong_token, t.too_many,
                     t.another_text):
            began = time.monotonic()
            try:
                part()
            except (NetError, Failed, TimeoutError) as e:
                check(part.__name__, False, e)
            print("     %s: %.1f s" % (part.__name__, time.monotonic() - began), flush=True)
        if failed:
            print("logs: " + lab.logs)
    print("%d failed" % len(failed) if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (NetError, Failed) as e:
        sys.exit("test_driver: %s" % e)
