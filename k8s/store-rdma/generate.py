#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes stores.yaml and names.yaml beside itself, from ../store: three StatefulSets of one where there is one of three,
because the addresses of an RDMA network are fixed and stand in site.yaml: each store has an attachment of its own.
(kustomize makes no copies of an object that keep their references.) --check: only says whether they are up to date.
"""
import copy
import os
import sys

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
STORES = 3
SECURITY = {"allowPrivilegeEscalation": True, "readOnlyRootFilesystem": True,
            # what RDMA reads and writes is locked into memory; by the file's capabilities (images/README.md)
            "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}}
# Whole processors, requests equal to limits: a kubelet with the static CPU manager pins them.
RESOURCES = {"cpu": "2", "memory": "1Gi", "lethe.io/rdma": "1"}


def read(name):
    with open(os.path.join(HERE, "../store", name)) as f:
        return list(yaml.safe_load_all(f))


def store(source, i):
    s = copy.deepcopy(source)
    name, template = "store-%d" % i, s["spec"]["template"]
    s["metadata"]["name"], s["spec"]["replicas"] = name, 1
    s["spec"]["selector"]["matchLabels"]["lethe.io/store"] = str(i)
    template["metadata"]["labels"]["lethe.io/store"] = str(i)
    template["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = "rdma-" + name
    container = template["spec"]["containers"][0]
    container["image"] = "lethe-store-rdma"
    container["ports"][2:2] = [{"name": "rdma-%d" % n, "containerPort": 7500 + n} for n in range(2)]
    container["resources"] = {"requests": dict(RESOURCES), "limits": dict(RESOURCES)}
    container["securityContext"] = SECURITY
    return s


def service(source):
    """store-0 is the StatefulSet here, and store-0-0 its pod."""
    s = copy.deepcopy(source)
    pod = s["spec"]["selector"].get("statefulset.kubernetes.io/pod-name")
    if pod:
        s["metadata"]["name"] = s["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] = pod + "-0"
    return s


class Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def text(objects):
    return ("# SPDX-License-Identifier: BSD-3-Clause\n# Made by generate.py of ../store.\n" +
            "---\n".join(yaml.dump(o, Dumper=Plain, sort_keys=False, width=120) for o in objects))


def main():
    source, stale = read("store.yaml")[0], 0
    made = {"stores.yaml": [store(source, i) for i in range(STORES)],
            "names.yaml": [service(o) for o in read("names.yaml")]}
    for name, objects in made.items():
        path = os.path.join(HERE, name)
        if "--check" in sys.argv:
            with open(path) as f:
                if f.read() != text(objects):
                    stale += 1
                    print("%s is not what ../store makes of it: run k8s/store-rdma/generate.py" % path)
        else:
            with open(path, "w") as f:
                f.write(text(objects))
    sys.exit(1 if stale else 0)


main()
