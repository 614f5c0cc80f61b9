# SPDX-License-Identifier: BSD-3-Clause
"""`lethe` on a cluster: the controller's pod asked and ordered through `kubectl exec`, each answer held against kubectl's.

    for what, planned, act in Scaling(site).steps(): ...   planned: no packet may be lost meanwhile

Each act begins and ends with the workers there were, all ready; a NetError says what was not so. Of the rest of a test it
needs a KubernetesSite that is ready, its controller too.
"""
import json
import time

from lethe_site import wait_for
from netns import NetError

READY_S, TRUE_S = 150, 30
PLANNED, UNASKED = True, False
ADDRESS = "127.0.0.1:9474"
USAGE, REFUSED = 2, 1         # exit statuses of lethe


def is_ready(pod):
    return not pod["metadata"].get("deletionTimestamp") and any(
        c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


class Scaling:
    def __init__(self, site):
        self.site, self.kubectl = site, site.kubectl
        self.count = site.get("deploy", "nf")["spec"]["replicas"]

    def steps(self):
        yield "lethe scale: %d to %d workers" % (self.count, self.count + 2), PLANNED, lambda: self.scale(self.count + 2)
        yield "lethe scale: back to %d" % self.count, PLANNED, lambda: self.scale(self.count)
        yield "kubectl scale, which lethe status tells", PLANNED, self.scaled_by_others
        yield "lethe drain: a worker", PLANNED, lambda: self.end_one("drain", "nf")
        yield "lethe restart: a worker", PLANNED, lambda: self.end_one("restart", "nf")
        yield "lethe restart: a store", UNASKED, lambda: self.end_one("restart", "store")
        yield "lethe autoscale --dry-run, and what is refused", PLANNED, self.asked_and_refused
        yield "the controller's pod deleted by force", PLANNED, self.lose_controller

    # --- asking --------------------------------------------------------------------------------

    def exec(self, *words, timeout=60):
        """In the controller's pod: (exit status, output, what it complained of)."""
        done = self.kubectl("-n", "lethe", "exec", "deploy/controller", "-c", "controller", "--", *words, check=False,
                            timeout=timeout)
        return done.returncode, done.stdout, done.stderr

    def lethe(self, *words, timeout=60):
        """No argument says whom to ask: site.yaml does."""
        status, out, err = self.exec("lethe", *words, timeout=timeout)
        if status != 0:
            raise NetError("lethe %s: exit status %d: %s" % (" ".join(words), status, (err or out).strip()))
        return out

    def status(self):
        return json.loads(self.lethe("status", "-o", "json"))

    def group(self, status=None):
        return next(g for g in (status or self.status())["groups"] if g["name"] == "nf")

    # --- what it says is so ----------------------------------------------------------------------

    def lies(self):
        """What `lethe status` says otherwise than kubectl does, on both sides of it; unknown is no lie. And what is unknown."""
        def seen():
            return (self.site.get("deploy", "nf")["spec"]["replicas"],
                    {p["metadata"]["name"] for p in self.site.pods("nf") if is_ready(p)},
                    {p["metadata"]["name"] for p in self.site.pods("store") if is_ready(p)})
        before, status, after = seen(), self.status(), seen()
        if before != after:
            return ["it changes just now: %s, %s" % (before, after)], []
        group, wrong, unknown = self.group(status), [], []
        ready = {kind: {p["name"] for p in status[kind] if p["state"] == "ready"} for kind in ("workers", "stores")}
        for what, said, true in (("wanted", group["replicas"], after[0]), ("ready", group["ready"], len(after[1])),
                                 ("workers", ready["workers"], after[1]), ("stores", ready["stores"], after[2])):
            if said is None:
                unknown.append(what)
            elif said != true:
                wrong.append("%s: lethe says %s, kubectl %s" % (what, said, true))
        unknown += ["the copies of shard %d" % s["shard"] for s in status["shards"] if s.get("copies") is None]
        wrong += ["shard %d: %s copies" % (s["shard"], s["copies"]) for s in status["shards"] if s.get("copies") not in (None, 2)]
        return wrong, unknown

    def wait_true(self):
        """All is known, and as kubectl says. What is seen is a moment old on either side, so for a while it may differ."""
        said = [None]

        def true():
            try:
                said[0] = self.lies()
            except (NetError, ValueError) as e:
                said[0] = (str(e), [])
            return said[0] == ([], [])
        wait_for(true, TRUE_S, lambda: "lethe status to be known and true: wrong: %s; unknown: %s" % said[0], 0.3)

    def wait_workers(self, count):
        wait_for(lambda: self.site.ready("nf", count), READY_S, "%d workers to be ready" % count, 0.2)
        self.wait_true()

    # --- acts ------------------------------------------------------------------------------------

    def scale(self, count):
        self.lethe("scale", "nf=%d" % count, timeout=READY_S)
        group = self.group()
        if (group["replicas"], group["ready"]) != (count, count):
            raise NetError("`lethe scale nf=%d` came back, and lethe status says %s wanted, %s ready" % (
                count, group["replicas"], group["ready"]))
        if self.site.get("deploy", "nf")["spec"]["replicas"] != count:
            raise NetError("the Deployment does not want %d" % count)
        self.wait_workers(count)

    def scaled_by_others(self):
        for count in (self.count + 1, self.count):
            self.kubectl("-n", "lethe", "scale", "deploy/nf", "--replicas=%d" % count)
            wait_for(lambda: self.group()["replicas"] == count, TRUE_S, "lethe status to want %d" % count, 0.2)
            self.wait_workers(count)
        if "scaled by others" not in self.lethe("events"):
            raise NetError("`lethe events` does not tell that others scaled:\n%s" % self.lethe("events")[-1500:])

    def end_one(self, verb, app):
        pod = self.site.pods(app)[0]
        name, uid, began, took = pod["metadata"]["name"], pod["metadata"]["uid"], time.monotonic(), []

        def lap(what):
            took.append("%s after %.1f s" % (what, time.monotonic() - began))
        self.lethe(verb, name, timeout=READY_S)
        lap("lethe says that it is done")
        wait_for(lambda: uid not in [p["metadata"]["uid"] for p in self.site.pods(app)], READY_S,
                 "%s to be gone after `lethe %s`" % (name, verb), 0.2)
        lap("its pod is gone")
        wait_for(lambda: self.site.ready("store", 3), READY_S, "3 stores to be ready", 0.2)
        wait_for(lambda: self.site.ready("nf", self.count), READY_S, "%d workers to be ready" % self.count, 0.2)
        lap("all are ready")
        self.wait_true()
        lap("and all is known")
        print("          " + ", ".join(took), flush=True)

    def refused(self, status, sentence, *words):
        code, out, err = self.exec(*words)
        if code != status or sentence not in err:
            raise NetError("%s: exit status %d and `%s`; %d and `... %s ...` were to come" % (
                " ".join(words), code, (err or out).strip(), status, sentence))

    def asked_and_refused(self):
        plan = json.loads(self.lethe("autoscale", "nf", "--dry-run", "--busy-high", "1", "--busy-low", "0.5", "-o", "json"))
        if not plan["why"] or plan["replicas"] != self.count or "why     " not in self.lethe("autoscale", "nf", "--dry-run"):
            raise NetError("a dry run that does not say why: %s" % plan)
        self.refused(REFUSED, "nosuch", "lethe", "scale", "nosuch=2")
        self.refused(REFUSED, "-1", "lethe", "scale", "nf=-1")
        self.refused(REFUSED, "100000", "lethe", "scale", "nf=100000")
        self.refused(USAGE, "is no number of workers", "lethe", "scale", "nf=many")
        self.refused(REFUSED, "no instance 'nf-nosuch'", "lethe", "drain", "nf-nosuch")
        self.refused(REFUSED, "kubectl apply -k", "lethe", "up", "/etc/lethe/site.yaml")
        self.refused(REFUSED, "show the token", "lethe", "-C", ADDRESS, "status")
        self.refused(REFUSED, "show the token", "lethe", "-C", ADDRESS, "--token-file", "/etc/lethe/site.yaml", "scale", "nf=1")
        if self.site.get("deploy", "nf")["spec"]["replicas"] != self.count:
            raise NetError("what was only asked, or refused, was done")
        self.wait_true()

    def lose_controller(self):
        pod = self.site.pods("controller")[0]["metadata"]
        began = time.monotonic()
        self.kubectl("-n", "lethe", "delete", "pod", pod["name"], "--force", "--grace-period=0")
        wait_for(lambda: [p["metadata"]["uid"] != pod["uid"] and is_ready(p) for p in self.site.pods("controller")] == [True],
                 READY_S, "another controller to lead", 0.2)
        self.wait_true()
        print("          the next controller tells the truth %.1f s after the last one's end" % (time.monotonic() - began),
              flush=True)
