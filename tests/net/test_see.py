#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What an operator sees of single packets and entries: lethe trace, lethe state, held against what was done.

A UDP flow goes on all the while; the server tells each packet's source as it saw it. A planted delay, the
backup stopped for a moment, has to show at the step that waits for it.
"""
import json
import os
import signal
import subprocess
import time

import scene
import schema
from controlled_site import ControlledSite
from lethe_site import wait_for
from netns import enter
from network import SERVERS
from test_cli import NOT_YET, OK, REFUSED, UNREACHABLE, USAGE, Typed
from traffic_server import ECHO_PORT, HTTP_PORT

CLIENT, OTHER, SERVER, PORT = "10.1.1.10", "10.1.1.11", SERVERS["s1"], 40404
PAUSE_S = 0.4

# Sends every 40 ms; prints the source that the server saw, once. With a port of 0 each packet is a flow of its own.
FLOW = """
import socket, struct, time
def one(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((CLIENT, port))
    s.connect((%r, %d))
    s.settimeout(0.04)
    return s
s, told = one(PORT), False
while True:
    begun = time.monotonic()
    try:
        s.send(b"where did the time go")
        seen = s.recv(100)[21:]
        if not told:
            print("%%s:%%d" %% (socket.inet_ntoa(seen[:4]), struct.unpack("!H", seen[4:6])[0]), flush=True)
            told = True
    except OSError:
        pass
    if not PORT:
        s.close()
        s = one(0)
    time.sleep(max(0, begun + 0.04 - time.monotonic()))
""" % (SERVER, ECHO_PORT)

def judge(checks, what, ok, text=""):
    """What was seen is told only if it is wrong: it is long."""
    checks.check(what, ok, "" if ok else text)


EVERY = {"received", "spread", "ring_in", "turn", "batch", "to_store", "execute", "commit", "reply", "answer",
         "process", "ring_out", "edge"}


# A connection that asks for a page, a header every 250 ms.
ASKING = """
import socket, time
s = socket.create_connection((%r, %d), 10, (%r, %d))
s.send(b"GET / HTTP/1.0" + bytes([13, 10]))
while True:
    s.send(b"X: y" + bytes([13, 10]))
    time.sleep(0.25)
""" % (SERVER, HTTP_PORT, CLIENT, PORT)


class Seen(Typed):
    def write_config(self, path, groups=None, **other):
        super().write_config(path, groups, **other)
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f: # a packet may wait longer than the backup is stopped
            f.write(text.replace("worker: {tenant", "worker: {max_hold_ms: 5000, tenant"))

    def begin(self, *words):
        return subprocess.Popen([self.programs + "/orchestrator/cli/lethe", "-c", self.config, *words],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                preexec_fn=lambda: enter(self.lab.namespaces["steer"].fd))

    shut_down = ControlledSite.shut_down # the controller is an instance here


def flow(lab, port, client=CLIENT):
    script = FLOW.replace("PORT", str(port)).replace("CLIENT", repr(client))
    return lab.spawn("flow-%d" % port, ["python3", "-c", script], lab.namespaces["c1"])


def seen_as(process):
    def look():
        with open(process.log) as f:
            return f.read().strip()
    return wait_for(look, 20, "the server to see the flow; see " + process.log)


# --- trace ------------------------------------------------------------------------------------

def sums(packet):
    steps = packet["steps"]
    at = 0
    for step in steps:
        at += step["us"]
        if step["at_us"] != at:
            return False
    return at == packet["total_us"] and steps[0]["us"] == 0


def check_trace(site, checks, outer):
    inner = "udp %s:%d > %s:%d" % (CLIENT, PORT, SERVER, ECHO_PORT)
    code, out, err = site.lethe("trace", "udp", "%s:%d" % (CLIENT, PORT), "%s:%d" % (SERVER, ECHO_PORT),
                                "--packets", "6", "--seconds", "20", "-o", "json")
    told = json.loads(out or "{}")
    packets = told.get("packets", [])
    whole = [p for p in packets if p["complete"]]
    judge(checks, "a packet's way, every step of it", code == OK and any(
        EVERY <= {s["step"] for s in p["steps"]} for p in whole), err + str(packets[:1]))
    judge(checks, "the steps' times are the whole", packets and all(map(sums, packets)), str(packets[:1]))
    judge(checks, "there and back", {p["side"] for p in whole} == {"inside", "outside"}, str([p["flow"] for p in whole]))
    judge(checks, "it names the flow that the server sees", any(
        p["flow"] == inner and p["left_as"] == "udp %s > %s:%d" % (outer, SERVER, ECHO_PORT) for p in whole),
        outer + " " + str([p["left_as"] for p in whole]))
    judge(checks, "nobody is missing", not told.get("missing") and err == "", err)
    code, out, err = site.lethe("trace", "udp", "%s:%d" % (SERVER, ECHO_PORT), "%s:%d" % (CLIENT, PORT),
                                "--packets", "1", "--seconds", "20")
    judge(checks, "for people: steps, bars, a summary", code == OK and "commit: the backups have it" in out
                 and "█" in out + "█" and "1 packet" in out and "OF ALL TIME" in out, out + err)
    print(out)
    return packets


def pause(site, name, pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(PAUSE_S) # the fault's length, not a wait for something
    finally:
        os.kill(pid, signal.SIGCONT)


def check_delay(lab, site, checks):
    """New flows, whose mappings the backup has to have before their packets leave."""
    new = flow(lab, 0, OTHER)
    for attempt in range(5):
        backup = wait_for(lambda: site.kept_views()[0][1:], 30, "a backup")[0]
        checks.say("the backup, %s, is stopped twice for %g s" % (backup, PAUSE_S))
        asked = site.begin("trace", "udp", OTHER, "%s:%d" % (SERVER, ECHO_PORT), "--packets", "100", "--seconds", "2",
                           "-o", "json")
        wait_for(lambda: any(OTHER in x["flow"] for p in site.api("GET", "/v1/trace?limit=9")[1]["programs"]
                             for x in p.get("packets", [])), 20, "new flows to be traced")
        for i in range(2):
            pause(site, backup, site.pids()[backup])
            time.sleep(0.05)
        out, err = asked.communicate(timeout=60)
        slow = max((p for p in json.loads(out)["packets"]),
                   key=lambda p: max((s["us"] for s in p["steps"] if s["step"] == "commit"), default=0))
        most = max(slow["steps"], key=lambda s: s["us"])
        if most["step"] == "commit" and most["us"] > PAUSE_S * 1e6 / 4:
            break
    new.stop(10)
    judge(checks, "a backup that was stopped shows at the commit", most["step"] == "commit"
                 and most["us"] > PAUSE_S * 1e6 / 4 and most["us"] * 2 > slow["total_us"], str(slow))


# --- state ------------------------------------------------------------------------------------

def check_tables(site, checks):
    code, out, err = site.lethe("state", "tables")
    rows = site.rows("TABLE", out) if code == OK else {}
    judge(checks, "state tables names every table", code == OK and {"nat.map.udp", "nat.ports.udp", "nat.session",
                 "monitor.flows"} <= set(rows) and "pool" in rows["nat.ports.udp"], out + err)
    print(out)


def entries(site, *words):
    code, out, err = site.lethe("state", *words, "-o", "json")
    return json.loads(out) if code == OK else {"error": "%d %s" % (code, err), "entries": []}


def check_entries(site, checks, outer):
    """The mapping of the flow is the very one that the server sees."""
    inside = "%s:%d/udp" % (CLIENT, PORT)
    maps = entries(site, "scan", "nat.map.udp", "--match", "inside=%s:%d" % (CLIENT, PORT))
    judge(checks, "scan finds the flow's mapping", [(e["key"]["inside"], e["value"]["outside"]) for e in maps["entries"]]
                 == [(inside, outer)] and maps["more"] == 0, outer + " " + str(maps))
    one = entries(site, "get", "nat.ports.udp", outer)
    judge(checks, "get finds who has the port that the server sees", one.get("value", {}).get("inside") == inside, str(one))
    same = entries(site, "get", "nat.map.udp", "inside=" + inside)
    judge(checks, "and a key by its fields, or by its bytes", same.get("value", {}).get("outside") == outer and entries(
        site, "get", "nat.map.udp", same["key"]["hex"]).get("value") == same["value"], str(same))
    wait_for(lambda: entries(site, "scan", "monitor.flows", "--match", "flow=" + outer)["entries"], 20,
             "the flow to be counted, as it is behind the NAT")


def check_people(site, checks):
    few = entries(site, "scan", "nat.map.udp", "--limit", "1")
    judge(checks, "a limit says how many more there are", len(few["entries"]) == 1 and few["more"] > 0, str(few)[:300])
    code, out, err = site.lethe("state", "scan", "nat.map.udp", "--match", "inside=" + CLIENT, "--limit", "1")
    judge(checks, "for people", code == OK and "INSIDE" in out and "LEFT" in out and "1 more; --limit" in out, out + err)
    print(out)


def check_connection(lab, site, checks):
    """TCP: its session, by its state; its segments, traced."""
    inside = "%s:%d/tcp" % (CLIENT, PORT)
    asking = lab.spawn("asking", ["python3", "-c", ASKING], lab.namespaces["c1"])
    code, out, err = site.lethe("trace", "tcp", "%s:%d" % (CLIENT, PORT), "%s:%d" % (SERVER, HTTP_PORT), "--packets", "4",
                                "--seconds", "20", "-o", "json")
    whole = [p for p in json.loads(out or "{}").get("packets", []) if p["complete"]]
    judge(checks, "a connection's segments, there and back", len(whole) == 4 and {p["side"] for p in whole} ==
          {"inside", "outside"} and all(map(sums, whole)), out + err)
    told = entries(site, "scan", "nat.session", "--match", "inside=" + inside)["entries"]
    judge(checks, "its session is established", [(e["key"]["remote"], e["value"]["state"]) for e in told] ==
          [("%s:%d/tcp" % (SERVER, HTTP_PORT), "established")] and any(
              p["left_as"].startswith("tcp %s > " % told[0]["value"]["outside"]) for p in whole), str(told))
    asking.stop(10)


def check_watch(lab, site, checks):
    """An entry that comes, changes and expires, and is not kept alive by being looked at."""
    asked = site.begin("state", "watch", "monitor.flows", "--every", "0.3", "--seconds", "30", "-o", "json")
    asked.stderr.readline() # the first look is done
    short = flow(lab, PORT + 1)
    told, mine = [], " %s " % seen_as(short)
    for line in asked.stdout:
        change = json.loads(line)
        if mine in ((change["now"] or change["before"])["key"]["flow"]):
            told.append(change["change"])
            if told.count("changed") == 2:
                short.stop(10)
        if told and told[-1] == "expired":
            break
    asked.terminate()
    asked.communicate(timeout=20)
    judge(checks, "watch sees it come, change and expire", told[:1] == ["inserted"] and "changed" in told
                 and told[-1:] == ["expired"], str(told))


def check_missing(site, checks):
    """A worker that is stopped is named; its part is missing, and nothing else is made up."""
    pid = site.pids()["nf-1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        code, out, err = site.lethe("trace", "udp", CLIENT, SERVER, "--packets", "1", "--seconds", "1")
    finally:
        os.kill(pid, signal.SIGCONT)
    judge(checks, "a stopped worker is named", "no answer of nf-1" in err, out + err)
    judge(checks, "and what only it knows is called missing", code == OK and "missing: no worker has told of it" in out
                 and "unknown" in out, out + err)
    site.wait_ready(1)


def check_described(site, checks):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../orchestrator/openapi.json")) as f:
        described = schema.Api(json.load(f))
    wrong = []
    flow = {"flow": "udp %s:%d > %s:%d" % (CLIENT, PORT, SERVER, ECHO_PORT), "seconds": 1}
    for method, path, body in (("POST", "/v1/trace", flow), ("GET", "/v1/trace?limit=100", None), ("GET", "/v1/tables", None),
                               ("POST", "/v1/trace", {"flow": "udp"}), ("GET", "/v1/trace?limit=0", None)):
        code, answer = site.api(method, path, body)
        wrong.append(described.wrong_answer(method, path, code, answer))
    judge(checks, "the API's answers are as described", not any(wrong), str(wrong))


def check_wrong(site, checks):
    wrong = [(USAGE, ("trace",), "write the flow"), (USAGE, ("trace", "udp", CLIENT), "write the flow"),
             (USAGE, ("trace", "sctp", CLIENT, SERVER), "tcp, udp or icmp"),
             (USAGE, ("trace", "udp", "10.1.1", SERVER), "is no end point"),
             (USAGE, ("trace", "udp", CLIENT + ":70000", SERVER), "is no end point"),
             (USAGE, ("trace", "udp", CLIENT, SERVER, "--seconds", "0"), "--seconds"),
             (USAGE, ("trace", "udp", CLIENT, SERVER, "--seconds"), "--seconds"),
             (USAGE, ("trace", "udp", CLIENT, SERVER, "--packets", "101"), "--packets"),
             (USAGE, ("trace", "udp", CLIENT, SERVER, "more"), "not 'more'"),
             (NOT_YET, ("trace", "udp", "10.1.4.41:9", SERVER, "--seconds", "1"), "no packet")]
    bad = []
    for want, words, says in wrong:
        code, out, err = site.lethe(*words)
        if code != want or says not in err or not err.startswith("lethe: ") or out:
            bad.append("%s: %d %s%s" % (" ".join(words), code, out, err))
    judge(checks, "%d wrong commands: a sentence each" % len(wrong), not bad, "; ".join(bad))


def check_wrong_state(site, checks):
    other = os.path.join(site.lab.folder, "other.yaml")
    with open(site.config) as f:
        text = f.read()
    secret = os.path.join(site.lab.folder, "wrong.secret")
    with open(secret, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write("00" * 32 + "\n")
    with open(other, "w") as f:
        f.write(text.replace("worker: {max_hold_ms: 5000, tenant: workers, secret_file: %s/workers.secret}" % site.run_dir,
                             "worker: {tenant: workers, secret_file: %s}" % secret))
    wrong = [(USAGE, ("state",), "write state tables"), (USAGE, ("state", "drop"), "write state tables"),
             (USAGE, ("state", "tables", "x"), "nothing more"), (USAGE, ("state", "get", "nat.map.udp"), "write state get"),
             (REFUSED, ("state", "get", "nat.maps", "x"), "there are nat."),
             (USAGE, ("state", "get", "nat.map.udp", "inside=10.1.1.10"), "inside=10.1.0.5:5353/udp"),
             (USAGE, ("state", "get", "nat.session", "inside=10.1.1.10:1/tcp"), "remote="),
             (USAGE, ("state", "get", "nat.map.udp", "0x00"), "40 hex digits"),
             (REFUSED, ("state", "get", "nat.map.udp", "10.1.4.41:9/udp"), "no such entry"),
             (USAGE, ("state", "scan"), "write state scan"), (USAGE, ("state", "scan", "nat.map.udp", "--limit", "0"), "--limit"),
             (USAGE, ("state", "scan", "nat.map.udp", "--match", "port=5"), "the fields of nat.map.udp are inside, outside"),
             (USAGE, ("state", "scan", "nat.session", "--match", "state=open=it"), "written like"),
             (USAGE, ("state", "watch", "nat.map.udp", "--every", "0"), "--every"),
             (UNREACHABLE, ("-C", "/nowhere", "state", "tables"), "no controller"),
             (REFUSED, ("-c", other, "state", "scan", "nat.map.udp"), "wrong secret")]
    bad = []
    for want, words, says in wrong:
        code, out, err = site.lethe(*words)
        if code != want or says not in err or not err.startswith("lethe: ") or out:
            bad.append("%s: %d %s%s" % (" ".join(words), code, out, err))
    judge(checks, "%d wrong questions: a sentence each" % len(wrong), not bad, "; ".join(bad))


def act(lab, site, checks):
    site.start_etcd()
    site.start_controller("controller-1")
    site.wait_ready(1, 40)
    steady = flow(lab, PORT)
    outer = seen_as(steady)
    checks.say("%s:%d is seen as %s" % (CLIENT, PORT, outer))
    check_trace(site, checks, outer)
    check_tables(site, checks)
    check_entries(site, checks, outer)
    check_connection(lab, site, checks)
    check_watch(lab, site, checks)
    check_people(site, checks)
    check_wrong_state(site, checks)
    check_delay(lab, site, checks)
    check_missing(site, checks)
    check_wrong(site, checks)
    check_described(site, checks)
    steady.stop(10)


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=Seen, shards=1, failure_timeout_ms=1500,
               nat44="  monitor: {idle_s: 2}\n")
