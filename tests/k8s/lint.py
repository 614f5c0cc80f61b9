# SPDX-License-Identifier: BSD-3-Clause
"""What an apiserver takes and a cluster then stumbles over, found in rendered objects before they go anywhere.

    complaints(objects, secrets)   sentences, each with the object's kind and name; none: nothing was found

References that lead nowhere, probes that are not there, pods that are more than they need to be, budgets that stop every
drain, and what site.yaml and the manifests say differently. Pure.
"""
import ipaddress
import re

import yaml

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
ON_THE_NODES_NETWORK = {("DaemonSet", "steer")}         # and nobody else
TALKS_TO_THE_CLUSTER = {("Deployment", "controller")}  # and nobody else
CAPABILITIES = {"nf": {"NET_RAW", "NET_ADMIN", "IPC_LOCK"}, "steer": {"NET_RAW", "NET_ADMIN", "IPC_LOCK"}, "store": {"IPC_LOCK"}}
NAME_MAX, RANDOM_PART = 31, 17                          # of instances; what a Deployment adds to its pods' names
# What a current Kubernetes calls them; for-1.20.py knows the older names.
VERSIONS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "PodDisruptionBudget": "policy/v1",
            "HorizontalPodAutoscaler": "autoscaling/v2", "NetworkPolicy": "networking.k8s.io/v1",
            "Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
            "ClusterRole": "rbac.authorization.k8s.io/v1", "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
            "Namespace": "v1", "Service": "v1", "ServiceAccount": "v1", "ConfigMap": "v1", "Secret": "v1"}
# Rights that nobody here needs, and what does it instead.
TOO_WIDE = {"secrets": "nobody here reads secrets by the API: mount the key that is needed",
            "pods/exec": "who may run programs in pods is all of them", "pods/attach": "it is as good as pods/exec",
            "pods/portforward": "it passes the network policies", "serviceaccounts/token": "it becomes anybody",
            "nodes/proxy": "it is pods/exec on all nodes"}
UNITS = {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def quantity(text):
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text)).groups()
    return float(number) * UNITS[unit]


def load(stream):
    return [o for o in yaml.safe_load_all(stream) if o]


class Lint:
    def __init__(self, objects, secrets):
        self.objects, self.secrets, self.found = objects, secrets, []
        self.workloads = self.of(*WORKLOADS)
        self.maps = {o["metadata"]["name"]: o.get("data", {}) for o in self.of("ConfigMap")}
        self.services = {o["metadata"]["name"]: o for o in self.of("Service")}

    def of(self, *kinds):
        return [o for o in self.objects if o["kind"] in kinds]

    def say(self, o, sentence):
        self.found.append("%s %s: %s" % (o["kind"], o["metadata"]["name"], sentence))

    def check_version(self, o):
        want = VERSIONS.get(o["kind"])
        if want and o["apiVersion"] != want:
            self.say(o, "apiVersion %s: write %s" % (o["apiVersion"], want))

    # --- pods --------------------------------------------------------------------------------

    def pod_names(self, w):
        """Those it will have; None: they end at random."""
        if w["kind"] != "StatefulSet":
            return None
        return ["%s-%d" % (w["metadata"]["name"], i) for i in range(w["spec"].get("replicas", 1))]

    def selected(self, selector):
        """Workloads with a pod that has these labels; those of StatefulSets include the pod's name."""
        for w in self.workloads:
            labels = w["spec"]["template"]["metadata"].get("labels", {})
            want = dict(selector)
            name = want.pop("statefulset.kubernetes.io/pod-name", None)
            if all(labels.get(k) == v for k, v in want.items()) and (
                    name is None or name in (self.pod_names(w) or [])):
                yield w

    @staticmethod
    def ports(w):
        return {p["name"]: p["containerPort"] for c in w["spec"]["template"]["spec"]["containers"]
                for p in c.get("ports", [])}

    def check_pod(self, w):
        spec = w["spec"]["template"]["spec"]
        labels = w["spec"]["template"]["metadata"].get("labels", {})
        wanted = w["spec"]["selector"].get("matchLabels", {})
        if any(labels.get(k) != v for k, v in wanted.items()):
            self.say(w, "its selector %s does not match its own pods' labels %s" % (wanted, labels))
        if spec.get("hostNetwork") and (w["kind"], w["metadata"]["name"]) not in ON_THE_NODES_NETWORK:
            self.say(w, "is on the node's network (hostNetwork); only steering needs that")
        for word in ("hostPID", "hostIPC"):
            if spec.get(word):
                self.say(w, "%s: nothing here needs it; take it out" % word)
        if not spec.get("securityContext", {}).get("runAsNonRoot"):
            self.say(w, "may run as root; say runAsNonRoot: true in the pod's securityContext")
        if (w["kind"], w["metadata"]["name"]) in TALKS_TO_THE_CLUSTER:
            if not any(o["metadata"]["name"] == spec.get("serviceAccountName") for o in self.of("ServiceAccount")):
                self.say(w, "its serviceAccountName %s is no ServiceAccount that is there" % spec.get("serviceAccountName"))
        elif spec.get("automountServiceAccountToken") is not False:
            self.say(w, "its programs get a token of the cluster's; say automountServiceAccountToken: false")
        longest = max(self.pod_names(w) or [w["metadata"]["name"] + "x" * RANDOM_PART], key=len)
        if w["kind"] != "DaemonSet" and len(longest) > NAME_MAX:
            self.say(w, "its pods' names are instances' names, and those have at most %d characters: choose a name of "
                     "at most %d" % (NAME_MAX, len(w["metadata"]["name"]) - len(longest) + NAME_MAX))
        for v in spec.get("volumes", []):
            self.check_volume(w, v)
        for c in spec.get("initContainers", []) + spec["containers"]:
            self.check_container(w, spec, c)
        self.check_confined(w, spec, labels)
        for c in spec["containers"]:
            for probe in ("livenessProbe", "readinessProbe"):
                if probe not in c:
                    self.say(w, "container %s has no %s" % (c["name"], probe))

    def check_confined(self, w, spec, labels):
        """What would reach beyond the pod, or is there for people to find it (docs/cnti.md)."""
        every = [spec, *spec.get("initContainers", []), *spec["containers"]]
        if not labels.get("app.kubernetes.io/name"):
            self.say(w, "its pods have no label app.kubernetes.io/name")
        if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
            self.say(w, "may make any system call; say seccompProfile: {type: RuntimeDefault} in the pod's securityContext")
        for word in ("sysctls", "seLinuxOptions"):
            if any(s.get("securityContext", {}).get(word) for s in every):
                self.say(w, "%s: nothing here needs it; take it out" % word)
        for c in every[1:]:
            ports = [p["name"] for p in c.get("ports", []) if "hostPort" in p]
            if ports and (w["kind"], w["metadata"]["name"]) not in ON_THE_NODES_NETWORK:
                self.say(w, "container %s takes ports of the node's: %s" % (c["name"], ", ".join(ports)))
            if any("subPath" in m or "subPathExpr" in m for m in c.get("volumeMounts", [])):
                self.say(w, "container %s mounts by subPath; mount a folder, with items" % c["name"])
            for e in c.get("env", []):
                if re.search("secret|password|token|_key$", e["name"], re.I) and "value" in e:
                    self.say(w, "container %s: %s stands in its environment; mount a Secret" % (c["name"], e["name"]))

    def check_anything(self, o):
        if re.search("alpha", o["apiVersion"]):
            self.say(o, "%s is an alpha interface, gone with any release" % o["apiVersion"])
        if o["kind"] in (*WORKLOADS, "Service", "ConfigMap", "Secret") and o["metadata"].get("namespace") in (
                None, "default"):
            self.say(o, "is in no namespace of its own; the overlay's kustomization names one")

    def keys_of(self, v):
        """Files of a volume: None, anything may be in it."""
        if "configMap" in v:
            source, keys = v["configMap"], self.maps.get(v["configMap"]["name"])
        elif "secret" in v:
            source, keys = v["secret"], self.secrets.get(v["secret"]["secretName"])
        else:
            return None
        if keys is None:
            return []
        items = source.get("items")
        return [i["path"] for i in items] if items else list(keys)

    def check_volume(self, w, v):
        if "hostPath" in v:
            self.say(w, "volume %s is the node's folder %s (hostPath); no program here needs one: write emptyDir: {}" % (
                v["name"], v["hostPath"]["path"]))
        for kind, field, there in (("configMap", "name", self.maps), ("secret", "secretName", self.secrets)):
            if kind not in v:
                continue
            name = v[kind][field]
            if name not in there:
                self.say(w, "volume %s is of the %s %s, which is not there" % (v["name"], kind, name))
                continue
            for i in v[kind].get("items", []):
                if i["key"] not in there[name]:
                    self.say(w, "volume %s wants key %s of the %s %s, which has %s" % (
                        v["name"], i["key"], kind, name, ", ".join(sorted(there[name])) or "none"))

    def files(self, spec, c):
        """Mount path -> names of files in it, None for any."""
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        return {m["mountPath"]: self.keys_of(volumes[m["name"]]) for m in c.get("volumeMounts", [])
                if m["name"] in volumes}

    def is_mounted(self, spec, c, path):
        for where, names in self.files(spec, c).items():
            if path.startswith(where + "/"):
                return names is None or path[len(where) + 1:] in names
        return False

    def check_container(self, w, spec, c):
        who = "container %s" % c["name"]
        volumes = {v["name"] for v in spec.get("volumes", [])} | {
            t["metadata"]["name"] for t in w["spec"].get("volumeClaimTemplates", [])}
        for m in c.get("volumeMounts", []):
            if m["name"] not in volumes:
                self.say(w, "%s mounts volume %s, which its pod does not have" % (who, m["name"]))
        for a in c.get("args", []):
            if a.startswith("/etc/") and not self.is_mounted(spec, c, a):
                self.say(w, "%s is told to read %s, and nothing mounted there has it" % (who, a))
            for name in re.findall(r"\$\(([A-Z_]+)\)", a):
                if name not in {e["name"] for e in c.get("env", [])}:
                    self.say(w, "%s: $(%s) in its arguments is no variable of its environment" % (who, name))
        if not re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", c["image"]) or c["image"].endswith(":latest"):
            self.say(w, "%s: image %s has no fixed tag; write newTag in the overlay's images" % (who, c["image"]))
        self.check_ports(w, c, who)
        self.check_resources(w, c.get("resources", {}), who)
        self.check_security(w, c, who)

    def check_ports(self, w, c, who):
        names = {p["name"] for p in c.get("ports", [])}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            for how in ("httpGet", "tcpSocket"):
                port = c.get(probe, {}).get(how, {}).get("port")
                if isinstance(port, str) and port not in names:
                    self.say(w, "%s: its %s asks port %s, and its ports are %s" % (who, probe, port,
                                                                                  ", ".join(sorted(names)) or "none"))

    def check_resources(self, w, resources, who):
        for what in ("cpu", "memory"):
            limit = resources.get("limits", {}).get(what)
            request = resources.get("requests", {}).get(what)
            if limit is None:
                self.say(w, "%s has no limit of %s; write resources.limits.%s" % (who, what, what))
            elif request is not None and quantity(request) > quantity(limit):
                self.say(w, "%s asks for %s of %s and is limited to %s: a limit is at least the request" % (
                    who, request, what, limit))

    def check_security(self, w, c, who):
        s = c.get("securityContext", {})
        added = set(s.get("capabilities", {}).get("add", []))
        allowed = CAPABILITIES.get(c["name"], set())
        if s.get("privileged"):
            self.say(w, "%s is privileged; name the capabilities that it needs: capabilities.add" % who)
        if added - allowed:
            self.say(w, "%s has capabilities that it does not need: %s" % (who, ", ".join(sorted(added - allowed))))
        if "ALL" not in s.get("capabilities", {}).get("drop", []):
            self.say(w, "%s keeps the capabilities that runtimes give to all; say drop: [ALL]" % who)
        if not s.get("readOnlyRootFilesystem"):
            self.say(w, "%s may write to its image; say readOnlyRootFilesystem: true" % who)
        if s.get("allowPrivilegeEscalation") is not False and not added:
            self.say(w, "%s needs no privilege; say allowPrivilegeEscalation: false" % who)

    def labels(self):
        return "pods have app: " + ", ".join(sorted({
            w["spec"]["template"]["metadata"].get("labels", {}).get("app", "none") for w in self.workloads}))

    # --- what points at pods ---------------------------------------------------------------------

    def check_service(self, s):
        if s["spec"].get("type", "ClusterIP") != "ClusterIP" or s["spec"].get("externalIPs"):
            self.say(s, "is open to outside of the cluster; nothing outside asks a Service here")
        to = list(self.selected(s["spec"].get("selector", {})))
        if not to:
            return self.say(s, "its selector %s matches no pod; %s" % (s["spec"].get("selector"), self.labels()))
        for p in s["spec"]["ports"]:
            target = p.get("targetPort", p["port"])
            for w in to:
                ports = self.ports(w)
                if target not in ports if isinstance(target, str) else target not in ports.values():
                    self.say(s, "its targetPort %s is no port of %s, which has %s" % (
                        target, w["metadata"]["name"], ", ".join(sorted(ports))))

    def check_budget(self, b):
        to = list(self.selected(b["spec"]["selector"].get("matchLabels", {})))
        if not to:
            return self.say(b, "its selector %s matches no pod; %s" % (b["spec"]["selector"].get("matchLabels"), self.labels()))
        pods = sum(w["spec"].get("replicas", 1) for w in to)
        least, most = b["spec"].get("minAvailable"), b["spec"].get("maxUnavailable")
        if str(most) in ("0", "0%") or str(least) == "100%" or isinstance(least, int) and least >= pods:
            self.say(b, "it lets no pod go (%s of %d): no node with one of them could ever be drained; write "
                     "maxUnavailable: 1" % (
                "minAvailable %s" % least if most is None else "maxUnavailable %s" % most, pods))

    def check_policy(self, p):
        own = p["spec"].get("podSelector", {}).get("matchLabels")
        if not own:
            return
        to = list(self.selected(own))
        if not to:
            self.say(p, "its podSelector %s matches no pod; %s" % (own, self.labels()))
        for rule in p["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                for w in to:
                    if isinstance(port["port"], str) and port["port"] not in self.ports(w):
                        self.say(p, "port %s is none of %s" % (port["port"], w["metadata"]["name"]))

    def check_autoscaler(self, h):
        ref = h["spec"]["scaleTargetRef"]
        if not any(w["kind"] == ref["kind"] and w["metadata"]["name"] == ref["name"] for w in self.workloads):
            self.say(h, "it scales the %s %s, which is not there" % (ref["kind"], ref["name"]))
        for o in self.of("ConfigMap"):
            for g in self.site(o).get("groups", []):
                if g["name"] == ref["name"] and g.get("autoscale", {}).get("enabled"):
                    self.say(h, "it scales the group %s, and so does site.yaml: take one out, or write autoscale: {enabled: "
                             "false} there" % g["name"])

    def check_binding(self, b):
        ref = b["roleRef"]
        if not any(o["kind"] == ref["kind"] and o["metadata"]["name"] == ref["name"] for o in self.objects):
            self.say(b, "it gives the %s %s, which is not there" % (ref["kind"], ref["name"]))
        for s in b["subjects"]:
            if s["kind"] == "ServiceAccount" and not any(o["metadata"]["name"] == s["name"]
                                                          for o in self.of("ServiceAccount")):
                self.say(b, "it is for the ServiceAccount %s, which is not there" % s["name"])

    def check_role(self, r):
        for rule in r["rules"]:
            for word in ("apiGroups", "resources", "verbs"):
                if "*" in rule.get(word, []):
                    self.say(r, "%s: '*' is more than anybody here needs: name them" % word)
            for what in set(rule.get("resources", [])) & set(TOO_WIDE):
                self.say(r, "it may %s %s; %s" % (", ".join(rule["verbs"]), what, TOO_WIDE[what]))
            for verb in {"escalate", "bind", "impersonate"} & set(rule["verbs"]):
                self.say(r, "verb %s gives all rights that there are: take it out" % verb)

    # --- the site's file ----------------------------------------------------------------------------

    @staticmethod
    def site(o):
        """Of a ConfigMap; {}: it has none."""
        return yaml.safe_load(o.get("data", {}).get("site.yaml", "{}"))

    def check_site(self, o):
        site = self.site(o)
        if not site:
            return
        if not o.get("immutable"):
            self.say(o, "may be changed below running pods; say immutable: true")
        pods = [n for w in self.of("StatefulSet") for n in self.pod_names(w)]
        for node in site["store"]["nodes"]:
            if node["name"] not in pods:
                self.say(o, "site.yaml: store node %s is no pod's name, and `--node` is its pod's; the pods are %s" % (
                    node["name"], ", ".join(pods)))
            self.check_address(o, node["listen"])
        for end in site["store"].get("etcd", []):
            self.check_address(o, end.split("//")[-1])

    def check_address(self, o, address):
        host, port = address.rsplit(":", 1)
        s = self.services.get(host)
        if not s:
            return self.say(o, "site.yaml: %s: there is no Service %s" % (address, host))
        if int(port) not in [p["port"] for p in s["spec"]["ports"]]:
            self.say(o, "site.yaml: %s: Service %s has no port %s" % (address, host, port))

    def check_alias(self, w):
        for a in w["spec"]["template"]["spec"].get("hostAliases", []):
            ipaddress.ip_address(a["ip"])
            for host in a["hostnames"]:
                has = self.services.get(host, {"spec": {}})["spec"].get("clusterIP")
                if has != a["ip"]:
                    self.say(w, "its hostAliases say that %s is %s, and the Service says %s" % (host, a["ip"], has))

    def run(self):
        checks = {"Service": self.check_service, "PodDisruptionBudget": self.check_budget,
                  "NetworkPolicy": self.check_policy, "HorizontalPodAutoscaler": self.check_autoscaler,
                  "RoleBinding": self.check_binding, "ClusterRoleBinding": self.check_binding,
                  "Role": self.check_role, "ClusterRole": self.check_role, "ConfigMap": self.check_site}
        for o in self.objects:
            todo = [self.check_version, self.check_anything, *([checks[o["kind"]]] if o["kind"] in checks else ()),
                    *((self.check_pod, self.check_alias) if o["kind"] in WORKLOADS else ())]
            for check in todo:
                try:
                    check(o)
                except (AttributeError, KeyError, TypeError, ValueError) as e:
                    self.say(o, "a field lacks, or is of another type than it should be: %s: %s" % (type(e).__name__, e))
        return self.found


def complaints(objects, secrets):
    return Lint(objects, secrets).run()
