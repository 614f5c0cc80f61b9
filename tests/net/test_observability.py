#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the programs let be seen: metrics, probes, alerts, one packet's way.

Real programs under traffic. /metrics of each passes promtool; every metric that the alert rules and the
dashboard name is one of them. A packet is traced through steering, worker and store, there and back. A
real Prometheus scrapes the stores; one is killed, and "shard on one copy" fires.
"""
import http.client
import json
import os
import re
import socket
import subprocess

import network
import scene
from lethe_site import Site, wait_for
from netns import NetError

HERE = os.path.dirname(os.path.abspath(__file__))
OBSERVABILITY = os.path.join(HERE, "..", "..", "orchestrator", "observability")
PORT, MONITOR = 9470, "10.255.0.8"
CLIENT, SERVER, ECHO_PORT, FLOW_PORT = "10.1.1.10", network.SERVERS["s1"], 7008, 45678
NAME = re.compile(r"\b(?:lethe|process)_[a-z0-9_]+\b")


class Observed(Site):
    """Its stores are scraped by TCP, the others on their Unix sockets."""

    def _start(self, name, kind, argv, namespace):
        if kind == "store":
            argv = argv + ["--metrics", "%s:%d" % (network.STORES[name], PORT)]
        return super()._start(name, kind, argv, namespace)

    def get(self, name, path):
        """Status and text; 0: it does not listen (yet)."""
        if name in self.stores:
            done = self.lab.namespaces[name].run(
                ["curl", "-s", "-m", "5", "-w", "%{http_code}",
                 "http://%s:%d%s" % (network.STORES[name], PORT, path)], check=False)
            return int(done.stdout[-3:]), done.stdout[:-3]
        return self.get_unix(os.path.join(self.run_dir, name + ".metrics.sock"), path)

    @staticmethod
    def get_unix(where, path):
        c = http.client.HTTPConnection("localhost", timeout=5)
        c.sock = socket.socket(socket.AF_UNIX)
        c.sock.settimeout(5)
        try:
            c.sock.connect(where)
            c.request("GET", path)
            reply = c.getresponse()
            return reply.status, reply.read().decode()
        except OSError as e:
            return 0, str(e)
        finally:
            c.close()


def promtool(*argv, **options):
    return subprocess.run(["promtool", *argv], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, **options)


# --- metrics ------------------------------------------------------------------------------

def samples(text):
    """{name: {labels: value}}"""
    found = {}
    for line in text.splitlines():
        if line and line[0] != "#":
            name, _, rest = line.partition("{")
            labels, _, value = rest.rpartition("} ") if rest else ("", "", line.split(" ")[1])
            found.setdefault(name.split(" ")[0], {})[labels] = float(value)
    return found


def families(text):
    """Also those that have no sample now."""
    return set(re.findall(r"^# TYPE (\S+)", text, re.M))


CONTROLLED = """\
run_dir: %(folder)s
store:
  shards: 1
  nodes: [{name: store-x, listen: "127.0.0.1:7999"}]
controller: {listen: "%(folder)s/controller.sock"}
"""


def counted(site, checks, program, socket, counter, more_than):
    """Waits until a program that serves by a socket counted so much; the families it serves."""
    def read():
        status, text = site.get_unix(socket, "/metrics")
        values = samples(text if status == 200 else "").get(counter, {})
        return text if sum(values.values()) > more_than else None
    text = wait_for(read, 30, "%s of %s; see %s" % (counter, program, site.lab.logs), 0.1)
    told = promtool("check", "metrics", input=text)
    checks.check(program + ": /metrics", told.returncode == 0, told.stdout.strip()[:600])
    return families(text)


def controller(lab, site, checks):
    """Its metrics, of a site whose programs end at once; the families it serves."""
    folder = os.path.join(site.run_dir, "ctl")
    os.makedirs(folder + "/programs")
    for program in ("lethe-store", "lethe-nf", "lethe-steer"):
        os.symlink("/bin/false", os.path.join(folder, "programs", program))
    with open(folder + "/site.yaml", "w") as f:
        f.write(CONTROLLED % {"folder": folder})
    process = lab.spawn("controller", [
        os.path.join(site.programs, "orchestrator", "lethe-controller"), "-c", folder + "/site.yaml",
        "--programs", folder + "/programs"], lab.namespaces["store-a"])
    try:
        return counted(site, checks, "lethe-controller", folder + "/controller.metrics.sock",
                       "lethe_controller_unasked_exits_total", 0)
    finally:
        process.kill()


def supervisor(lab, site, checks):
    """What a router's lethe-nexthop serves, of a front end that answers."""
    path = os.path.join(site.run_dir, "nexthop.metrics.sock")
    process = lab.spawn("nexthop", [
        os.path.join(site.programs, "steering", "lethe-nexthop"), "--route", network.EXTERNAL_PREFIX, "--dev", "outside",
        "--via", network.OUTSIDE_ADDRESS, "--metrics", path], lab.namespaces["outside-router"])
    try:
        return counted(site, checks, "lethe-nexthop", path, "lethe_nexthop_answers_total", 1)
    finally:
        process.stop()


def metrics_are_right(lab, site, checks):
    everything = {}
    there = controller(lab, site, checks) | supervisor(lab, site, checks)
    for name in site.instances:
        status, text = site.get(name, "/metrics")
        told = promtool("check", "metrics", input=text)
        checks.check("%s: /metrics" % name, status == 200 and told.returncode == 0, "%d samples %s" % (
            sum(len(v) for v in samples(text).values()), told.stdout.strip()[:600]))
        everything[name] = samples(text)
        with open(os.path.join(site.lab.folder, name + ".metrics"), "w") as f:
            f.write(text)
    checks.check("a worker without a label counts what it forwards",
                 everything["w1"]["lethe_worker_tx_packets_total"][""] > 0)
    checks.check("the store counts what it answers", sum(
        v for n in site.stores for k, v in everything[n]["lethe_store_replies_total"].items()
        if 'status="ok"' in k) > 0)
    checks.check("commits are timed", sum(
        v for n in site.stores for v in everything[n]["lethe_store_commit_seconds_count"].values()) > 0)
    return there.union(*everything.values())


def files_name_what_there_is(there, checks):
    told = promtool("check", "rules", os.path.join(OBSERVABILITY, "alerts.yaml"))
    checks.check("promtool check rules", told.returncode == 0, told.stdout.strip()[-200:])
    told = promtool("test", "rules", "alerts_test.yaml", cwd=OBSERVABILITY)
    checks.check("promtool test rules", told.returncode == 0, told.stdout.strip()[-600:])
    told = promtool("check", "config", os.path.join(OBSERVABILITY, "prometheus.yml"))
    checks.check("promtool check config", told.returncode == 0, told.stdout.strip()[-200:])
    with open(os.path.join(HERE, "..", "..", "docs", "operations.md")) as f:
        page = f.read()
    with open(os.path.join(OBSERVABILITY, "alerts.yaml")) as f:
        names = re.findall(r"alert: (\w+)", f.read())
    with open(os.path.join(OBSERVABILITY, "alerts_test.yaml")) as f:
        tested = f.read()
    untold = [n for n in names if "`%s`" % n not in page or "alertname: %s" % n not in tested]
    checks.check("docs/operations.md tells of every alert, alerts_test.yaml tests it", names and not untold,
                 "%d alerts, missing %s" % (len(names), untold))
    with open(os.path.join(OBSERVABILITY, "dashboard.json")) as f:
        dashboard = [t["expr"] for p in json.load(f)["panels"] for t in p.get("targets", [])]
    with open(os.path.join(OBSERVABILITY, "alerts.yaml")) as f:
        alerts = [line for line in f if "alert:" not in line and "name:" not in line]
    for what, texts in (("alerts.yaml", alerts), ("dashboard.json", dashboard)):
        named = set(NAME.findall("\n".join(texts)))
        missing = sorted(named - there)
        checks.check("every metric of %s is served by a program" % what, named and not missing,
                     "%d named, missing %s" % (len(named), missing))


# --- probes ---------------------------------------------------------------------------------

def probes(site, checks):
    for name in site.instances:
        checks.check("%s: /healthz, /readyz" % name,
                     [site.get(name, p)[0] for p in ("/healthz", "/readyz")] == [200, 200])
    site.pause("w1")  # no worker answers any more: steering is not ready, and says why
    try:
        status, why = wait_for(lambda: [site.get("steer", "/readyz")] if
                               site.get("steer", "/readyz")[0] == 503 else None, 20,
                               "steering to be unready without a worker")[0]
        checks.check("steering without a healthy worker", "no worker" in why, why.strip())
    finally:
        site.resume("w1")
    wait_for(lambda: site.get("steer", "/readyz")[0] == 200, 20, "steering to be ready again")


# --- one packet ---------------------------------------------------------------------------------

SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((%r, %d))
s.settimeout(3)
for i in range(20):
    s.sendto(b"where did the time go", (%r, %d))
    try:
        s.recv(2000)
        break
    except TimeoutError:
        pass
else:
    sys.exit("no answer")
""" % (CLIENT, FLOW_PORT, SERVER, ECHO_PORT)


def send_one(lab):
    lab.namespaces["c1"].run(["python3", "-c", SEND], timeout=90)


def order_everywhere(site, flow):
    for name in site.instances:
        words = "trace on 60" + ("" if name in site.stores else " " + flow)
        answer = site.ask(name, words) or {}
        if not answer.get("ok"):
            raise NetError("%s: `%s`: %s" % (name, words, answer))


def packets(site, name):
    return (site.ask(name, "trace read") or {}).get("packets", [])


def whats(packet):
    return [e["what"] for e in packet["events"]]


def stamps(packet):
    """The first event of each kind: a second NF of the chain has its own."""
    return {e["what"]: e for e in reversed(packet["events"])}


def txn_of(site, sent):
    for name in site.stores:
        reply = site.ask(name, "trace read %d %d %d" % (sent["shard"], sent["client"], sent["seq"])) or {}
        if reply.get("txns"):
            return reply["txns"][0]
    return None


def traces(lab, site, checks):
    flow = "udp %s %d %s %d" % (CLIENT, FLOW_PORT, SERVER, ECHO_PORT)
    order_everywhere(site, flow)

    def out():
        """A packet that went in after all had begun to look."""
        send_one(lab)
        steer = [p for p in packets(site, "steer") if "to_worker" in whats(p)]
        worker = [p for p in packets(site, "w1") if "emitted" in whats(p)]
        return (steer[-1], worker[-1]) if steer and worker and steer[-1]["ip_id"] == worker[-1]["ip_id"] \
            else None
    steer, worker = wait_for(out, 60, "a packet to be traced", 0.3)
    s, w = stamps(steer), stamps(worker)
    txn = txn_of(site, w["sent"]) if "sent" in w else None
    checks.check("the worker's request is known to the store", txn is not None, str(w.get("sent")))
    if not txn:
        return
    order = [("steering received", s["received"]["us"]), ("steering to worker", s["to_worker"]["us"]),
             ("worker received", w["received"]["us"]), ("worker begun", w["begun"]["us"]),
             ("worker sent", w["sent"]["us"]), ("store received", txn["received_us"]),
             ("store executed", txn["executed_us"]), ("store released", txn["released_us"]),
             ("store sent", txn["sent_us"]), ("worker answered", w["answered"]["us"]),
             ("worker emitted", w["emitted"]["us"])]
    # A round's start is the stamp of what came in it; a batch's answer may be read before its sender
    # has looked at the clock again.
    may_tie = {"worker received", "store sent"}
    late = [b[0] for a, b in zip(order, order[1:]) if b[1] < a[1] and b[0] not in may_tie
            and a[0] not in may_tie]
    checks.check("a packet's way, step by step", not late and all(t for _, t in order),
                 ", ".join("%s +%d us" % (n, t - order[0][1]) for n, t in order) + (
                     "; out of order: %s" % late if late else ""))
    checks.check("it leaves as another flow", worker.get("left_as", "").startswith("udp 203.0.113."),
                 worker.get("left_as"))
    answers(lab, site, checks, worker["left_as"])
    for name in site.instances:
        site.ask(name, "trace off")
    before = len(packets(site, "steer"))
    send_one(lab)
    checks.check("off is off", len(packets(site, "steer")) == before)


def answers(lab, site, checks, left_as):
    """The NAT's outside flow, ordered as well, shows the answer."""
    proto, src, _, dst = left_as.split(" ")
    order_everywhere(site, " ".join([proto, *src.split(":"), *dst.split(":")]))

    def back():
        send_one(lab)
        found = [p for p in packets(site, "steer") if p["side"] == "outside" and "to_worker" in whats(p)]
        left = [p for p in packets(site, "steer") if "from_worker" in whats(p) and "sent" in whats(p)]
        return (found[-1], left[-1]) if found and left else None
    found, left = wait_for(back, 60, "the answer to be traced", 0.3)
    checks.check("the answer's way", True, "%s; %s" % (found["flow"], left["flow"]))


# --- alerts -------------------------------------------------------------------------------------

def prometheus(lab, site):
    """A real one, which scrapes the stores."""
    network.attach_to_management(lab, "monitor", MONITOR)
    folder = os.path.join(lab.folder, "prometheus")
    os.makedirs(folder, exist_ok=True)
    config = os.path.join(folder, "prometheus.yml")
    with open(config, "w") as f:
        json.dump({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                   "rule_files": [os.path.join(OBSERVABILITY, "alerts.yaml")],
                   "scrape_configs": [{"job_name": "lethe-store", "static_configs": [
                       {"targets": ["%s:%d" % (network.STORES[n], PORT) for n in site.stores]}]}]}, f)
    return lab.spawn("prometheus", [
        "prometheus", "--config.file=" + config, "--storage.tsdb.path=" + os.path.join(folder, "data"),
        "--web.listen-address=%s:9090" % MONITOR], lab.namespaces["monitor"])


def ask_prometheus(lab, path):
    done = lab.namespaces["monitor"].run(["curl", "-s", "-m", "5", "http://%s:9090%s" % (MONITOR, path)],
                                         check=False)
    try:
        return json.loads(done.stdout).get("data")
    except ValueError:
        return None


def firing(lab):
    return {(a["labels"]["alertname"], a["labels"].get("shard"))
            for a in (ask_prometheus(lab, "/api/v1/alerts") or {}).get("alerts", [])
            if a["state"] == "firing"}


def up(lab):
    data = ask_prometheus(lab, "/api/v1/query?query=up") or {}
    return [r["value"][1] for r in data.get("result", [])]


def alerts(lab, site, checks):
    process = prometheus(lab, site)
    wait_for(lambda: up(lab) == ["1"] * len(site.stores), 60, "Prometheus to scrape every store; see "
             + process.log, 0.5)
    checks.check("nothing fires on a whole site", not firing(lab), str(firing(lab)))
    site.kill("store-b")
    wanted = {("LetheShardOnOneCopy", str(i)) for i in range(site.shard_count)}
    wait_for(lambda: wanted <= firing(lab), 90, lambda: "%s to fire; firing: %s" % (wanted, firing(lab)), 0.5)
    checks.check("a killed backup: shard on one copy fires", True, str(sorted(firing(lab))))
    site.start_store("store-b")
    wait_for(lambda: not {a for a in firing(lab) if a[0] == "LetheShardOnOneCopy"}, 90,
             "the alert to end when the backup is back", 0.5)
    checks.check("it ends when the backup is back", True)
    events_tell_why(site, checks)
    process.signal(15)


def events_tell_why(site, checks):
    """What the primary's log says of the death and of the return, in fields."""
    with open(site.instances["store-a"].process.log) as f:
        lines = [json.loads(line) for line in f if line.startswith("{")]

    def last(event):
        found = [e for e in lines if e["event"] == event and e["shard"] == 0]
        return found[-1] if found else {}
    out, back, view = last("view proposed"), last("join proposed"), last("view change")
    checks.check("the log says who left, and why", out.get("without") == 2 and out.get("cause"), str(out))
    checks.check("the log says who came back", back.get("node") == 2 and back.get("cause"), str(back))
    checks.check("the log says what the view became", view.get("members") == "1,2" and
                 view.get("cause") == "node 2 joined" and view.get("epoch", 0) > 2, str(view))


def unready(site, checks, name, words):
    wait_for(lambda: site.get(name, "/healthz")[0] == 200, 20, "%s to be asked" % name)
    status, why = site.get(name, "/readyz")
    checks.check("%s: not ready, alive" % name, status == 503 and words in why and
                 site.get(name, "/healthz")[0] == 200, why.strip())


def ready(site, name):
    wait_for(lambda: site.get(name, "/readyz")[0] == 200, 30, "%s to be ready" % name, 0.1)


def bring_up(site, checks):
    """In an order in which each waits for the next one, and says so."""
    site.start_store("store-b")
    unready(site, checks, "store-b", "shard 0 is not in the view yet")
    site.start_steering()
    unready(site, checks, "steer", "no worker")
    site.start_worker("w1")
    site.wait_answers("w1")
    unready(site, checks, "w1", "the store has not been reached yet")
    site.start_store("store-a")
    wait_for(site.caught_up, 30, lambda: "every shard to have its copies:\n" + site.told())
    site.wait_worker("w1")
    for name in site.instances:
        ready(site, name)


def act(lab, site, checks):
    bring_up(site, checks)
    send_one(lab)
    wait_for(lambda: site.forwarded("w1") > 0, 20, "w1 to count what it forwarded", 0.1)
    there = metrics_are_right(lab, site, checks)
    files_name_what_there_is(there, checks)
    probes(site, checks)
    traces(lab, site, checks)
    alerts(lab, site, checks)


if __name__ == "__main__":
    scene.TOOLS += ["prometheus", "promtool"]
    scene.play(scene.arguments(__doc__), act, Observed)
