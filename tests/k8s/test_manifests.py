#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The manifests of k8s/, before any cluster sees them.

 - each overlay, and the autoscaler: built by kubectl, looked at by lint.py, taken by a real apiserver (dry run)
 - against the schemas of a current Kubernetes
 - the controller may do what it needs, and nothing else
 - site.yaml of each overlay, by lethe-nf
 - mistakes that people make are each rejected, in words that say what is wrong
"""
import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]

import yaml                                        # noqa: E402

import lint                                        # noqa: E402
from cluster import ControlPlane                   # noqa: E402
from netns import Lab, NetError, require_root_and_tools  # noqa: E402

K8S = os.path.join(HERE, "../../k8s")
OVERLAYS = ("dev", "soft-roce", "sriov-rdma")
SECRETS = {"lethe": {"probe.key", "workers.secret", "replicas.secret"}}   # k8s/secrets.sh makes them
MODELS = "kubernetes-models@4.5.1"                                        # of Kubernetes 1.31

# What the controller may do, and may not.
RIGHTS = [
    (True, "patch", "deployments.apps/nf", "--subresource=scale"),
    (True, "get", "deployments.apps/nf", "--subresource=scale"),
    (True, "patch", "deployments.apps/nf"),
    (True, "list", "pods"),
    (True, "create", "pods", "--subresource=eviction"),
    (True, "create", "events"),
    (True, "watch", "nodes"),
    (False, "get", "secrets"),
    (False, "create", "pods"),
    (False, "delete", "pods"),
    (False, "create", "pods", "--subresource=exec"),
    (False, "patch", "deployments.apps/other", "--subresource=scale"),
    (False, "delete", "deployments.apps/nf"),
    (False, "patch", "statefulsets.apps/store"),
    (False, "patch", "nodes"),
    (False, "create", "rolebindings.rbac.authorization.k8s.io"),
    (False, "list", "pods", "--namespace=kube-system"),
]


class Failed(Exception):
    pass


def find(objects, kind, name):
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def container(objects, kind, name):
    return find(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]


# --- mistakes: what is done to the dev overlay, and what is said ----------------------------------------

def misspelt_field(objects):
    c = container(objects, "Deployment", "nf")
    c["readinesProbe"] = copy.deepcopy(c["readinessProbe"])


def wrong_port_name(objects):
    find(objects, "Service", "store-1")["spec"]["ports"][0]["targetPort"] = "shard0"


def probe_of_a_port_that_is_not_there(objects):
    container(objects, "StatefulSet", "store")["livenessProbe"]["httpGet"]["port"] = "metric"


def missing_configmap_key(objects):
    site = next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("site-"))
    site["data"] = {"sites.yaml": site["data"]["site.yaml"]}


def limits_below_requests(objects):
    container(objects, "Deployment", "nf")["resources"]["limits"]["memory"] = "64Mi"


def selector_that_matches_nothing(objects):
    find(objects, "Service", "store-2")["spec"]["selector"] = {"app": "stores"}


def budget_that_is_never_met(objects):
    budget = find(objects, "PodDisruptionBudget", "nf")["spec"]
    del budget["maxUnavailable"]
    budget["minAvailable"] = 2


def store_that_the_site_does_not_know(objects):
    site = next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("site-"))
    site["data"]["site.yaml"] = site["data"]["site.yaml"].replace("name: store-1,", "name: store-b,")


def root_and_the_nodes_files(objects):
    spec = find(objects, "Deployment", "nf")["spec"]["template"]["spec"]
    spec["securityContext"]["runAsNonRoot"] = False
    spec["volumes"].append({"name": "node", "hostPath": {"path": "/run"}})


def beyond_the_pod(objects):
    template = find(objects, "StatefulSet", "store")["spec"]["template"]
    del template["metadata"]["labels"]["app.kubernetes.io/name"], template["spec"]["securityContext"]["seccompProfile"]
    template["spec"]["securityContext"]["sysctls"] = [{"name": "kernel.shm_rmid_forced", "value": "1"}]
    c = template["spec"]["containers"][0]
    c["ports"][0]["hostPort"] = 7400
    c["volumeMounts"][0]["subPath"] = "here"
    c["env"].append({"name": "REPLICA_SECRET", "value": "abc"})


def for_everybody(objects):
    find(objects, "Service", "store-1")["spec"].update(type="NodePort", externalIPs=["192.0.2.1"])
    site = next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("site-"))
    del site["immutable"]
    del site["metadata"]["namespace"]


MISTAKES = [
    (misspelt_field, ['unknown field "readinesProbe"']),
    (wrong_port_name, ["Service store-1: its targetPort shard0 is no port of store"]),
    (probe_of_a_port_that_is_not_there, ["StatefulSet store: container store: its livenessProbe asks port metric"]),
    (missing_configmap_key, ["is told to read /etc/lethe/site.yaml, and nothing mounted there has it"]),
    (limits_below_requests, ["asks for 128Mi of memory and is limited to 64Mi", "must be less than or equal to memory"]),
    (selector_that_matches_nothing, ["Service store-2: its selector {'app': 'stores'} matches no pod"]),
    (budget_that_is_never_met, ["PodDisruptionBudget nf: it lets no pod go (minAvailable 2 of 2)"]),
    (store_that_the_site_does_not_know, ["store node store-b is no pod's name"]),
    (beyond_the_pod, ["have no label app.kubernetes.io/name", "may make any system call", "sysctls: nothing here needs it",
                      "container store takes ports of the node's: shard-0", "mounts by subPath",
                      "REPLICA_SECRET stands in its environment"]),
    (for_everybody, ["Service store-1: is open to outside", "may be changed below running pods",
                     "is in no namespace of its own"]),
    (root_and_the_nodes_files, ["Deployment nf: may run as root", "volume node is the node's folder /run"]),
]


class Checks:
    def __init__(self, plane, build):
        self.plane, self.build, self.failed = plane, build, 0

    def say(self, good, what, why=""):
        print("%s %s" % ("ok  " if good else "FAIL", what), flush=True)
        if not good:
            self.failed += 1
            print("\n".join("       " + line for line in why.strip().split("\n")), flush=True)

    def render(self, folder):
        """As text, of today; whatever network: nothing is fetched."""
        return self.plane.kubectl("kustomize", os.path.join(K8S, folder)).stdout

    def older(self, text):
        return subprocess.run([os.path.join(K8S, "for-1.20.py")], input=text, stdout=subprocess.PIPE, text=True,
                              check=True).stdout

    def judge(self, objects):
        """Sentences of all judges about rendered objects; none: they may go."""
        text = self.older("---\n".join(yaml.safe_dump(o) for o in objects))
        done = self.plane.kubectl("apply", "--dry-run=server", "-f", "-", text=text, check=False)
        said = lint.complaints(objects, SECRETS)
        if done.returncode != 0:
            said += done.stderr.strip().split("\n")
        return said

    # --- what is checked ---------------------------------------------------------------------

    def overlays(self):
        rendered = {}
        for name in OVERLAYS:
            rendered[name] = lint.load(self.render("overlays/" + name))
            said = self.judge(rendered[name])
            self.say(not said, "overlay %s: %d objects, taken by the apiserver" % (name, len(rendered[name])),
                     "\n".join(said))
            self.site(name)
        both = rendered["dev"] + lint.load(self.render("hpa"))
        said = self.judge(both)
        self.say(not said, "overlay dev with the autoscaler", "\n".join(said))
        done = subprocess.run([os.path.join(K8S, "store-rdma/generate.py"), "--check"], stdout=subprocess.PIPE, text=True)
        self.say(done.returncode == 0, "k8s/store-rdma is what its generator makes", done.stdout)
        return rendered, both

    def site(self, name):
        program = os.path.join(self.build, "nf/lethe-nf")
        done = subprocess.run([program, "-c", os.path.join(K8S, "overlays", name, "site.yaml"), "--check"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.say(done.returncode == 0, "overlay %s: site.yaml is right" % name, done.stdout)

    def rights(self, objects):
        wanted = [o for o in objects if o["kind"] in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole",
                                                      "ClusterRoleBinding")]
        self.plane.kubectl("apply", "-f", "-", text="---\n".join(yaml.safe_dump(o) for o in wanted))
        wrong = []
        for may, *what in RIGHTS:
            place = [] if any(w.startswith("--namespace") for w in what) else ["--namespace=lethe"]
            said = self.plane.kubectl("auth", "can-i", *what, "--as=system:serviceaccount:lethe:controller", *place,
                                      check=False).stdout.strip()
            if said != ("yes" if may else "no"):
                wrong.append("%s: %s" % (" ".join(what), said))
        self.say(not wrong, "the controller's rights: %d of %d as they should be" % (len(RIGHTS) - len(wrong),
                                                                                  len(RIGHTS)), "\n".join(wrong))

    def mistakes(self, dev):
        for mistake, sentences in MISTAKES:
            objects = copy.deepcopy(dev)
            mistake(objects)
            said = "\n".join(self.judge(objects))
            missing = [s for s in sentences if s not in said]
            self.say(not missing, "rejected: " + mistake.__name__.replace("_", " "),
                     "not said: %s\nsaid: %s" % ("; ".join(missing), said or "nothing"))

    def current(self, everything):
        models = current_models()
        if not models:
            print("--   the schemas of a current Kubernetes: not here, and no package registry answers; not looked at")
            return
        planted = copy.deepcopy(everything["dev and hpa"])
        find(planted, "Deployment", "nf")["spec"]["replicas"] = "two"
        for name, objects in everything.items():
            done = validate(models, objects)
            self.say(done.returncode == 0, "%s: schemas of a current Kubernetes (%s)" % (
                name, done.stdout.strip().split("\n")[-1]), done.stdout + done.stderr)
        done = validate(models, planted)
        self.say(done.returncode == 1 and "Deployment nf" in done.stdout, "rejected by them: replicas: two",
                 done.stdout + done.stderr)


def validate(models, objects):
    return subprocess.run(["node", os.path.join(HERE, "current.js")], input=json.dumps(objects), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=dict(os.environ, NODE_PATH=models), timeout=120)


def current_models():
    """Folder of node's modules; None: it cannot be had now. Kept beside Kubernetes' programs."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    to = os.path.join(cache, "lethe", MODELS)
    modules = os.path.join(to, "node_modules")
    if os.path.isdir(modules):
        return modules
    os.makedirs(os.path.dirname(to), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(to)) as folder:
        try:
            done = subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder,
                                   MODELS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return None
        os.makedirs(to, exist_ok=True)
        try:
            os.rename(os.path.join(folder, "node_modules"), modules)
        except OSError:
            pass                                  # another run was faster
    return modules


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--run", required=True)
    options = arguments.parse_args()
    require_root_and_tools(["etcd", "openssl"])
    with Lab(options.run) as lab:
        plane = ControlPlane(lab)
        plane.start()
        checks = Checks(plane, options.build)
        plane.kubectl("apply", "-f", os.path.join(HERE, "attachments.yaml"))
        plane.kubectl("create", "namespace", "lethe")
        plane.kubectl("wait", "--for=condition=established", "--timeout=60s", "crd",
                      "network-attachment-definitions.k8s.cni.cncf.io")
        rendered, both = checks.overlays()
        checks.rights(rendered["dev"])
        checks.mistakes(rendered["dev"])
        checks.current({"dev and hpa": both, "soft-roce": rendered["soft-roce"], "sriov-rdma": rendered["sriov-rdma"]})
    print("%d failed" % checks.failed if checks.failed else "all is well")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NetError as e:
        sys.exit("test_manifests: %s" % e)
