# SPDX-License-Identifier: BSD-3-Clause
"""Mistakes that people make in manifests: what is done to an overlay's objects, and which judge has to say what.

    MISTAKES    (function, overlay, {judge: words of its sentence, or of several})

Judges: apiserver (and kubectl's own look), lint, current (schemas of a current Kubernetes), lethe-nf (site.yaml).
"""


def find(objects, kind, name):
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def pod(objects, kind, name):
    return find(objects, kind, name)["spec"]["template"]["spec"]


def container(objects, kind, name):
    return pod(objects, kind, name)["containers"][0]


def site(objects):
    return next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("site-"))["data"]


def edit_site(objects, old, new):
    text = site(objects)["site.yaml"]
    if old not in text:
        raise ValueError("site.yaml has no %r to plant a mistake at" % old)
    site(objects)["site.yaml"] = text.replace(old, new)


# --- misspelt -------------------------------------------------------------------------------

def misspelt_field(objects):
    c = container(objects, "Deployment", "nf")
    c["readinesProbe"] = c.pop("readinessProbe")


def word_where_a_number_belongs(objects):
    find(objects, "Deployment", "nf")["spec"]["replicas"] = "two"


def wrong_API_version(objects):
    find(objects, "Deployment", "nf")["apiVersion"] = "extensions/v1beta1"


def API_version_that_is_gone_by_now(objects):
    find(objects, "PodDisruptionBudget", "nf")["apiVersion"] = "policy/v1beta1"


def misspelt_key_of_the_site(objects):
    edit_site(objects, "copies:", "copeis:")


def transport_that_there_is_not(objects):
    edit_site(objects, "transport: verbs", "transport: vebrs")


# --- what leads nowhere -----------------------------------------------------------------------

def wrong_port_name(objects):
    find(objects, "Service", "store-1")["spec"]["ports"][0]["targetPort"] = "shard0"


def probe_of_a_port_that_is_not_there(objects):
    container(objects, "StatefulSet", "store")["livenessProbe"]["httpGet"]["port"] = "metric"


def selector_that_matches_nothing(objects):
    find(objects, "Service", "store-2")["spec"]["selector"] = {"app": "stores"}


def selector_that_misses_its_own_pods(objects):
    find(objects, "Deployment", "nf")["spec"]["selector"]["matchLabels"] = {"app": "nat"}


def missing_secret_key(objects):
    secret = next(v for v in pod(objects, "Deployment", "nf")["volumes"] if "secret" in v)["secret"]
    secret["items"][-1]["key"] = "worker.secret"


def missing_configmap_key(objects):
    data = site(objects)
    data["sites.yaml"] = data.pop("site.yaml")


def store_that_the_site_does_not_know(objects):
    edit_site(objects, "name: store-1,", "name: store-b,")


# --- more than it needs ------------------------------------------------------------------------

def privileged_container(objects):
    container(objects, "Deployment", "nf")["securityContext"]["privileged"] = True


def root(objects):
    pod(objects, "Deployment", "nf")["securityContext"]["runAsNonRoot"] = False


def hostPath(objects):
    pod(objects, "Deployment", "nf")["volumes"].append({"name": "node", "hostPath": {"path": "/run"}})


def role_that_reads_secrets(objects):
    find(objects, "Role", "controller")["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})


def role_of_everything(objects):
    find(objects, "Role", "controller")["rules"].append({"apiGroups": ["apps"], "resources": ["*"], "verbs": ["patch"]})


def beyond_the_pod(objects):
    template = find(objects, "StatefulSet", "store")["spec"]["template"]
    del template["metadata"]["labels"]["app.kubernetes.io/name"], template["spec"]["securityContext"]["seccompProfile"]
    template["spec"]["securityContext"]["sysctls"] = [{"name": "kernel.shm_rmid_forced", "value": "1"}]
    c = template["spec"]["containers"][0]
    c["ports"][0]["hostPort"] = 7400
    c["volumeMounts"][0]["subPath"] = "here"
    c["env"].append({"name": "REPLICA_SECRET", "value": "abc"})


def service_for_everybody(objects):
    find(objects, "Service", "store-1")["spec"].update(type="NodePort", externalIPs=["192.0.2.1"])


# --- what would hurt later ---------------------------------------------------------------------

def missing_limits(objects):
    del container(objects, "Deployment", "nf")["resources"]["limits"]


def limits_below_requests(objects):
    container(objects, "Deployment", "nf")["resources"]["limits"]["memory"] = "64Mi"


def name_that_is_too_long(objects):
    find(objects, "Deployment", "nf")["metadata"]["name"] = "nat-of-the-north"


def image_without_a_tag(objects):
    c = container(objects, "StatefulSet", "store")
    c["image"] = c["image"].rsplit(":", 1)[0]


def budget_that_forbids_every_eviction(objects):
    budget = find(objects, "PodDisruptionBudget", "nf")["spec"]
    del budget["maxUnavailable"]
    budget["minAvailable"] = 2


def two_autoscalers(objects):
    edit_site(objects, "groups: [{name: nf}]", "groups: [{name: nf, autoscale: {enabled: true}}]")


def site_that_may_change(objects):
    o = next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("site-"))
    del o["immutable"], o["metadata"]["namespace"]


MISTAKES = [
    (misspelt_field, "dev", {"apiserver": 'Deployment nf: ValidationError(Deployment.spec.template.spec.containers[0]): '
                             'unknown field "readinesProbe"', "lint": "container nf has no readinessProbe"}),
    (word_where_a_number_belongs, "dev", {"apiserver": 'got "string", expected "integer"',
                                          "current": "Deployment nf: data/spec/replicas must be integer"}),
    (wrong_API_version, "dev", {"apiserver": 'no matches for kind "Deployment" in version "extensions/v1beta1"',
                                "lint": "Deployment nf: apiVersion extensions/v1beta1: write apps/v1",
                                "current": "extensions/v1beta1 has no Deployment in a current Kubernetes"}),
    (API_version_that_is_gone_by_now, "dev", {"lint": "apiVersion policy/v1beta1: write policy/v1",
                                              "current": "policy/v1beta1 has no PodDisruptionBudget in a current"}),
    (misspelt_key_of_the_site, "dev", {"lethe-nf": "copeis"}),
    (transport_that_there_is_not, "soft-roce", {"lethe-nf": "vebrs"}),
    (wrong_port_name, "dev", {"lint": "Service store-1: its targetPort shard0 is no port of store, which has metrics, shard-0"}),
    (probe_of_a_port_that_is_not_there, "dev", {
        "lint": "StatefulSet store: container store: its livenessProbe asks port metric, and its ports are metrics, shard-0"}),
    (selector_that_matches_nothing, "dev", {
        "lint": "Service store-2: its selector {'app': 'stores'} matches no pod; pods have app: "}),
    (selector_that_misses_its_own_pods, "dev", {"apiserver": "`selector` does not match template `labels`",
                                                "lint": "does not match its own pods' labels"}),
    (missing_secret_key, "dev", {"lint": "volume secrets wants key worker.secret of the secret lethe, which has controller.token, probe.key, "}),
    (missing_configmap_key, "dev", {"lint": "is told to read /etc/lethe/site.yaml, and nothing mounted there has it"}),
    (store_that_the_site_does_not_know, "dev", {"lint": "store node store-b is no pod's name"}),
    (privileged_container, "dev", {"lint": "Deployment nf: container nf is privileged; name the capabilities"}),
    (root, "dev", {"lint": "Deployment nf: may run as root; say runAsNonRoot: true"}),
    (hostPath, "dev", {"lint": "Deployment nf: volume node is the node's folder /run (hostPath)"}),
    (role_that_reads_secrets, "dev", {"lint": "Role controller: it may get secrets; nobody here reads secrets by the API"}),
    (beyond_the_pod, "dev", {"lint": ["have no label app.kubernetes.io/name", "may make any system call",
                                      "sysctls: nothing here needs it", "container store takes ports of the node's: shard-0",
                                      "mounts by subPath", "REPLICA_SECRET stands in its environment"]}),
    (service_for_everybody, "dev", {"lint": "Service store-1: is open to outside"}),
    (site_that_may_change, "dev", {"lint": ["may be changed below running pods", "is in no namespace of its own"]}),
    (role_of_everything, "dev", {"lint": "Role controller: resources: '*' is more than anybody here needs"}),
    (missing_limits, "dev", {"lint": "Deployment nf: container nf has no limit of memory; write resources.limits.memory"}),
    (limits_below_requests, "dev", {"lint": "asks for 128Mi of memory and is limited to 64Mi",
                                    "apiserver": "must be less than or equal to memory"}),
    (name_that_is_too_long, "dev", {"lint": "Deployment nat-of-the-north: its pods' names are instances' names, and those have "
                                    "at most 31 characters: choose a name of at most 14"}),
    (image_without_a_tag, "dev", {"lint": "image localhost/lethe-store has no fixed tag; write newTag in the overlay's images"}),
    (budget_that_forbids_every_eviction, "dev", {
        "lint": "PodDisruptionBudget nf: it lets no pod go (minAvailable 2 of 2): no node with one of them could ever be "
                "drained; write maxUnavailable: 1"}),
    (two_autoscalers, "dev with the autoscaler", {
        "lint": "HorizontalPodAutoscaler nf: it scales the group nf, and so does site.yaml: take one out"}),
]
