#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The manifests of k8s/, before any cluster sees them.

 - each overlay, and the autoscaler: built by kubectl, looked at by lint.py, taken by a real apiserver (dry run)
 - against the schemas of a current Kubernetes
 - the controller may do what it needs, and nothing else
 - site.yaml of each overlay, by lethe-nf
 - mistakes that people make (mistakes.py) are each rejected by the judge that has to, in words that say where and what
"""
import argparse
import copy
import difflib
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]

import yaml                                        # noqa: E402

import lint                                        # noqa: E402
from cluster import ControlPlane                   # noqa: E402
from mistakes import MISTAKES                      # noqa: E402
from netns import Lab, NetError, require_root_and_tools  # noqa: E402

K8S = os.path.join(HERE, "../../k8s")
OVERLAYS = ("dev", "soft-roce", "sriov-rdma")
JUDGES = ("apiserver", "lint", "current", "lethe-nf")
MODELS = "kubernetes-models@4.5.1"                                        # of Kubernetes 1.31; the last for Debian's node

# What the controller may do, and may not: verb, resource[/subresource][:name]; in its namespace.
RIGHTS = [
    (True, "patch", "apps/deployments/scale:nf"),
    (True, "patch", "apps/deployments:nf"),
    (True, "list", "apps/deployments"),
    (True, "list", "pods"),
    (True, "watch", "pods"),
    (True, "create", "pods/eviction"),
    (True, "list", "nodes"),
    (True, "watch", "nodes"),
    (False, "get", "secrets"),
    (False, "update", "apps/deployments:nf"),
    (False, "create", "events"),
    (False, "create", "pods"),
    (False, "delete", "pods"),
    (False, "create", "pods/exec"),
    (False, "patch", "apps/deployments/scale:other"),
    (False, "delete", "apps/deployments:nf"),
    (False, "patch", "apps/statefulsets:store"),
    (False, "patch", "nodes"),
    (False, "create", "rbac.authorization.k8s.io/rolebindings"),
    (False, "list", "pods", "kube-system"),
]


def review(verb, what, namespace="lethe"):
    """The question whether the controller may."""
    path, _, name = what.partition(":")
    words = path.split("/")
    group = words.pop(0) if words[0] == "apps" or "." in words[0] else ""
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "system:serviceaccount:lethe:controller", "resourceAttributes": {
            "namespace": namespace, "verb": verb, "group": group, "resource": words[0],
            "subresource": "/".join(words[1:]), "name": name}}}


class Checks:
    def __init__(self, plane, build):
        self.plane, self.build, self.failed = plane, build, 0
        self.models = current_models()
        made = yaml.safe_load(subprocess.run([os.path.join(K8S, "secrets.sh")], stdout=subprocess.PIPE, check=True).stdout)
        self.secrets = {made["metadata"]["name"]: set(made["stringData"])}
        self.types = None
        self.homes = self.find_homes()

    def say(self, good, what, why=""):
        print("%s %s" % ("ok  " if good else "FAIL", what), flush=True)
        if not good:
            self.failed += 1
            print("\n".join("       " + line for line in why.strip().split("\n")), flush=True)

    def render(self, folder):
        """As text, of today; whatever network: nothing is fetched."""
        return self.plane.kubectl("kustomize", os.path.join(K8S, folder)).stdout

    # --- judges: each gives sentences, none if all is well ------------------------------------------

    def apiserver(self, objects):
        text = self.older(objects)
        said = self.dry_run(text)
        if not said:
            return []
        if len(objects) == 1:
            return ["%s: %s" % (title(objects[0]), line) for line in said]
        return [line for o in objects for line in self.apiserver([o])] or said

    @staticmethod
    def older(objects):
        return subprocess.run([os.path.join(K8S, "for-1.20.py")], input="---\n".join(yaml.safe_dump(o) for o in objects),
                              stdout=subprocess.PIPE, text=True, check=True).stdout

    def dry_run(self, text):
        done = self.plane.kubectl("apply", "--dry-run=server", "-f", "-", text=text, check=False)
        if done.returncode == 0:
            return []
        return [self.hint(re.sub("error validating \"STDIN\": error validating data: |error: |; if you choose to ignore.*", "",
                                 line)) for line in done.stderr.strip().split("\n") if not line.startswith("Warning")]

    def hint(self, line):
        """Behind an unknown field: the one that was meant."""
        unknown = re.search(r'unknown field "([^"]+)" in ([\w.-]+)', line)
        if not unknown:
            return line
        if not self.types:
            self.types = json.loads(self.plane.kubectl("get", "--raw", "/openapi/v2").stdout)["definitions"]
        fields = self.types.get(unknown[2], {}).get("properties", {})
        meant = difflib.get_close_matches(unknown[1], fields, 1)
        return "%s; did you mean %s?" % (line, meant[0]) if meant else line

    def current(self, lists):
        done = subprocess.run(["node", os.path.join(HERE, "current.js")], input=json.dumps(lists), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=dict(os.environ, NODE_PATH=self.models))
        if done.returncode != 0:
            raise NetError("current.js: %s" % done.stderr)
        return json.loads(done.stdout)

    def lethe_nf(self, objects):
        said = []
        for o in objects:
            if o["kind"] == "ConfigMap" and "site.yaml" in o["data"]:
                with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
                    f.write(o["data"]["site.yaml"])
                    f.flush()
                    done = subprocess.run([os.path.join(self.build, "nf/lethe-nf"), "-c", f.name, "--check"],
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                    told = done.stdout.replace("lethe-nf: ", "").replace(f.name, title(o) + ": site.yaml").strip()
                    said += told.split("\n") if done.returncode else []
        return said

    def judge(self, cases):
        """cases: (objects to judge, all objects, overlay). For each: judge -> its sentences, with the files."""
        current = self.current([objects for objects, _, _ in cases])
        for (objects, everything, overlay), of_current in zip(cases, current):
            said = (self.apiserver(objects), lint.complaints(everything, self.secrets), of_current, self.lethe_nf(objects))
            yield {name: [self.with_files(line, overlay) for line in lines] for name, lines in zip(JUDGES, said)}

    @staticmethod
    def find_homes():
        """(kind, name) -> files below k8s/ that say something of it."""
        homes = {}
        for path in sorted(glob.glob(K8S + "/**/*.yaml", recursive=True)):
            with open(path) as f:
                for o in yaml.safe_load_all(f):
                    if o and "metadata" in o:
                        homes.setdefault(title(o), []).append(os.path.relpath(path, K8S))
        return homes

    def with_files(self, line, overlay):
        about = re.match(r"(\w+ [\w.-]+): ", line)
        files = [f for f in self.homes.get(about[1] if about else "", [])
                 if not f.startswith("overlays/") or f.startswith("overlays/%s/" % overlay)]
        if about and about[1].startswith("ConfigMap site"):
            files = ["overlays/%s/site.yaml" % overlay]
        return "%s [%s]" % (line, ", ".join(files)) if files else line

    # --- what is checked ---------------------------------------------------------------------

    def overlays(self):
        rendered = {name: lint.load(self.render("overlays/" + name)) for name in OVERLAYS}
        rendered["dev with the autoscaler"] = rendered["dev"] + lint.load(self.render("hpa"))
        cases = [(objects if name in OVERLAYS else objects[len(rendered["dev"]):], objects, name.split()[0])
                 for name, objects in rendered.items()]
        for (name, objects), said in zip(rendered.items(), self.judge(cases)):
            self.say(not any(said.values()), "overlay %s: %d objects" % (name, len(objects)),
                     "\n".join("%s: %s" % (judge, line) for judge, lines in said.items() for line in lines))
        done = subprocess.run([os.path.join(K8S, "store-rdma/generate.py"), "--check"], stdout=subprocess.PIPE, text=True)
        self.say(done.returncode == 0, "k8s/store-rdma is what its generator makes", done.stdout)
        return rendered

    def rights(self, objects):
        wanted = [o for o in objects if o["kind"] in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole",
                                                      "ClusterRoleBinding")]
        self.plane.kubectl("apply", "-f", "-", text="---\n".join(yaml.safe_dump(o) for o in wanted))
        asked = {"apiVersion": "v1", "kind": "List", "items": [review(*what) for _, *what in RIGHTS]}
        said = self.plane.kubectl("create", "-f", "-", "-o", r"jsonpath={.status.allowed}{'\n'}",
                                  text=json.dumps(asked)).stdout.split()
        wrong = ["%s: %s" % (" ".join(what), answer) for (may, *what), answer in zip(RIGHTS, said)
                 if answer != str(may).lower()]
        if len(said) != len(RIGHTS):
            wrong.append("%d answers to %d questions" % (len(said), len(RIGHTS)))
        self.say(not wrong, "the controller's rights: %d of %d as they should be" % (len(RIGHTS) - len(wrong),
                                                                                  len(RIGHTS)), "\n".join(wrong))

    def mistakes(self, rendered):
        """Each is planted alone; the apiserver is asked about what it changed."""
        table, cases = [], []
        for mistake, overlay, _ in MISTAKES:
            objects = copy.deepcopy(rendered[overlay])
            mistake(objects)
            cases.append(([o for o, was in zip(objects, rendered[overlay]) if o != was], objects, overlay.split()[0]))
        for (mistake, _, wanted), said in zip(MISTAKES, self.judge(cases)):
            missing = ["%s has to say: %s" % (judge, words) for judge, sentences in wanted.items()
                       for words in ([sentences] if isinstance(sentences, str) else sentences)
                       if words not in "\n".join(said[judge])]
            name = mistake.__name__.replace("_", " ")
            self.say(not missing, "rejected: " + name, "\n".join(missing + ["it said: %s" % said]))
            told = [(judge, said[judge][0]) for judge in JUDGES if said[judge]]
            if told:
                print("       %s: %s" % told[0])
            table.append([name] + ["x" if said[judge] else "" for judge in JUDGES])
        print("\n%-36s %s" % ("found by", " ".join("%-9s" % j for j in JUDGES)))
        for name, *marks in table:
            print("%-36s %s" % (name, " ".join("%-9s" % m for m in marks)))


def title(o):
    return "%s %s" % (o["kind"], o["metadata"]["name"])


def current_models():
    """Folder of node's modules, kept beside Kubernetes' programs."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    to = os.path.join(cache, "lethe", MODELS)
    modules = os.path.join(to, "node_modules")
    if os.path.isdir(modules):
        return modules
    os.makedirs(os.path.dirname(to), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(to)) as folder:
        done = subprocess.run(["timeout", "120", "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix",
                               folder, MODELS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise NetError("the schemas of a current Kubernetes cannot be fetched: npm install %s: %s" % (
                MODELS, "\n".join(done.stdout.strip().split("\n")[-5:]) or "no answer within two minutes"))
        os.makedirs(to, exist_ok=True)
        try:
            os.rename(os.path.join(folder, "node_modules"), modules)
        except OSError:
            if not os.path.isdir(modules):        # another run was faster
                raise
    return modules


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--run", required=True)
    options = arguments.parse_args()
    require_root_and_tools(["etcd", "openssl", "node", "npm"])
    began = time.monotonic()
    with Lab(options.run) as lab:
        plane = ControlPlane(lab)
        checks = Checks(plane, options.build)
        plane.start()
        plane.kubectl("apply", "-f", os.path.join(HERE, "attachments.yaml"))
        plane.kubectl("create", "namespace", "lethe")
        plane.kubectl("wait", "--for=condition=established", "--timeout=60s", "crd",
                      "network-attachment-definitions.k8s.cni.cncf.io")
        print("an apiserver: %.0f s" % (time.monotonic() - began), flush=True)
        rendered = checks.overlays()
        checks.rights(rendered["dev"])
        checks.mistakes(rendered)
    print("\n%.0f s in all" % (time.monotonic() - began))
    print("%d failed" % checks.failed if checks.failed else "all is well")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NetError as e:
        sys.exit("test_manifests: %s" % e)
