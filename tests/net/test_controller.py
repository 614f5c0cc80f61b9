#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A site kept by lethe-controller: scaled under traffic, controllers, etcd and programs killed, asked wrongly.

Every answer of the API is held against orchestrator/openapi.json.
"""
import json
import os
import random
import select
import signal
import socket
import threading
import time

import scene
import schema
import traffic
from controlled_site import ControlledSite
from lethe_site import wait_for

CONNECTIONS = 256
HERE = os.path.dirname(os.path.abspath(__file__))


class Checked(ControlledSite):
    """Each answer of the API is as it is described."""
    described = schema.Api(json.load(open(os.path.join(HERE, "../../orchestrator/openapi.json"))))
    wrong_answers, seen = [], set()

    def api(self, method, path, body=None, **more):
        status, answer = super().api(method, path, body, **more)
        if status:
            bad = self.described.wrong_answer(method, path, status, answer)
            if bad:
                self.wrong_answers.append("%s %s: %s" % (method, path, bad))
            operation = self.described.operation(method, path)
            if operation and status == 200:
                self.seen.add(operation["summary"])
        return status, answer


def group(status, name="nf"):
    return next(g for g in status["groups"] if g["name"] == name)


def scale(site, checks, replicas):
    code, answer = site.api("POST", "/v1/groups/nf/scale", {"replicas": replicas})
    checks.check("scale to %d is taken" % replicas, code == 200, str(answer) if code != 200 else "")
    return site.wait_ready(replicas)


# --- wrong inputs ------------------------------------------------------------------------------

def wrong_requests(site):
    text = site.text()
    return [
        (400, "POST", "/v1/groups/nf/scale", {"replicas": -1}, "from 1 to 6"),
        (400, "POST", "/v1/groups/nf/scale", {"replicas": 10 ** 9}, "from 1 to 6"),
        (400, "POST", "/v1/groups/nf/scale", {"replicas": 10 ** 30}, ""),
        (400, "POST", "/v1/groups/nf/scale", {"replicas": "3"}, "whole number"),
        (400, "POST", "/v1/groups/nf/scale", {"replicas": 2.5}, "whole number"),
        (400, "POST", "/v1/groups/nf/scale", {"replicas": 2, "now": True}, "not known"),
        (400, "POST", "/v1/groups/nf/scale", '{"replicas": 2', "no JSON"),
        (400, "POST", "/v1/groups/nf/scale", '{"replicas": 2, "replicas": 3}', "no JSON"),
        (400, "POST", "/v1/groups/nf/scale", b'\xff\xfe{"replicas": 2}', "no JSON"),
        (400, "POST", "/v1/groups/nf/scale", "[" * 3000, "no JSON"),
        (400, "POST", "/v1/groups/nf/scale", None, "no JSON"),
        (413, "POST", "/v1/groups/nf/scale", '{"replicas": 2}' + " " * 5000, "too long"),
        (404, "POST", "/v1/groups/firewall/scale", {"replicas": 2}, "this site has: nf"),
        (409, "POST", "/v1/groups/nf/scale?revision=999", {"replicas": 2}, "revision"),
        (400, "POST", "/v1/groups/nf/scale?force=1", {"replicas": 2}, "no such parameter"),
        (404, "POST", "/v1/groups/..%2f..%2fetc/scale", {"replicas": 2}, "no such path"),
        (404, "GET", "/v1/instances/../../etc/passwd", None, "no such path"),
        (404, "GET", "/v1/instances/%2e%2e%2f%2e%2e%2fetc%2fpasswd", None, "no such path"),
        (404, "GET", "/v1/instances/nf-77", None, "no instance"),
        (404, "GET", "/v1/../v1/status", None, "no such path"),
        (404, "GET", "/v2/status", None, "no such path"),
        (404, "GET", "/" + "x" * 5000, None, "no such path"),
        (405, "DELETE", "/v1/groups/nf", None, "takes GET"),
        (400, "GET", "/v1/events?after=-1", None, "after"),
        (400, "GET", "/v1/events?wait_ms=99999999", None, "wait_ms"),
        (400, "PUT", "/v1/groups/nf/autoscale", {"busy_high": 3}, "no such field"),
        (400, "PUT", "/v1/groups/nf/autoscale", {"busy_low_permille": 900}, "below"),
        (403, "POST", "/v1/instances/nf-1/kill", {}, "last worker"),
        (403, "POST", "/v1/instances/steer/kill", {}, "only steering"),
        (400, "POST", "/v1/instances/nf-1/kill", {"force": "yes"}, "true or false"),
        (403, "POST", "/v1/instances/nf-1/drain", None, "last worker"),
        (403, "POST", "/v1/down", None, "force"),
        (404, "POST", "/v1/shards/99/hand-over", None, "no such shard"),
        (400, "PUT", "/v1/site", "store: [", "not YAML"),
        (400, "PUT", "/v1/site", text.replace("replicas: 1", "replicas: -1"), "groups[0].replicas"),
        (400, "PUT", "/v1/site", text.replace("nf,", "nf/../x,"), "is no name"),
        (400, "PUT", "/v1/site", text + "storre: 1\n", "is no key here"),
        (400, "PUT", "/v1/site", text.replace("    external: [203.0.113.1", "    external: [nonsense"), "external"),
        (403, "PUT", "/v1/site", text.replace("  shards: 2", "  shards: 3"), "store.shards"),
        (400, "PUT", "/v1/site", b"\xff\xfe", "UTF-8"),
        (413, "PUT", "/v1/site", text + "#" * 300000, "too long"),
    ]


def check_wrong(site, checks):
    before, bad = site.api("GET", "/v1/site"), []
    for want, method, path, body, says in wrong_requests(site):
        code, answer = site.api(method, path, body)
        if code != want or says not in answer.get("error", ""):
            bad.append("%s %s %s: %d %s" % (method, path[:60], str(body)[:60], code, answer))
    checks.check("%d wrong requests: a clear error each" % len(wrong_requests(site)), not bad, "; ".join(bad))
    checks.check("nothing was changed by them", site.api("GET", "/v1/site") == before)


def check_slow_clients(site, checks):
    """More of them than there is room for, and each trickles: others are answered, in the end."""
    slow = []
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(os.path.join(site.run_dir, "controller.sock"))
        s.sendall(b"POST /v1/groups/nf/scale HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        slow.append(s)
    code, _ = site.api("GET", "/v1/groups")
    checks.check("40 slow clients hold up nobody", code == 200)
    return slow


def check_slow_are_cut(slow, checks):
    """They went on trickling; each is cut all the same."""
    def cut(s):
        try:
            s.settimeout(0.01)
            s.sendall(b" ")
            return s.recv(100) == b""
        except socket.timeout:
            return False
        except OSError:
            return True
    wait_for(lambda: all(cut(s) for s in slow), 30, "slow clients to be cut", 0.5)
    checks.check("slow clients are cut", True)


# --- stories -----------------------------------------------------------------------------------

def check_scaling(site, checks, lines):
    """1 -> 4 -> 1 while connections go on."""
    scale(site, checks, 4)
    answers = lines.status()["answers"]
    wait_for(lambda: lines.status()["answers"] > answers + CONNECTIONS, 20, "answers through four workers")
    s = site.wait_status(lambda s: all(w["figures"] and (w["figures"]["packets_per_s"] or 0) > 0
                                       for w in s["workers"]), 15, "every worker to forward")
    checks.check("four workers share the packets", len(s["workers"]) == 4,
                 str({w["name"]: w["figures"]["packets_per_s"] for w in s["workers"]}))
    scale(site, checks, 1)
    drained = [e for e in site.events(kind="exit") if e["detail"]["asked"]]
    checks.check("three were drained and ended with 0", len(drained) == 3 and
                 all(e["detail"]["exit_status"] == 0 for e in drained), str([e["cause"] for e in drained]))


def check_controllers(site, checks):
    """kill -9 of the active one, SIGSTOP of its successor: nobody of the programs notices."""
    before, epoch = site.pids(), site.status()["controller"]["epoch"]
    site.kill("controller-1")
    s = site.wait_status(lambda s: s["controller"]["epoch"] != epoch, 15, "the standby to take over")
    checks.check("kill -9 of the controller: another one leads, every program goes on", site.pids() == before)
    checks.check("it knows them", len(site.events(kind="adopt")) == len(before))
    site.start_controller("controller-3")
    site.pause("controller-2")
    s = site.wait_status(lambda n: n["controller"]["pid"] != s["controller"]["pid"], 15,
                         "another controller while the active one is stopped")
    site.resume("controller-2")
    time.sleep(1)  # it finds out, and must not disturb
    again = site.status()
    checks.check("a stopped controller loses the lead, and takes nothing back",
                 again["controller"]["pid"] == s["controller"]["pid"] and site.pids() == before)
    wait_for(lambda: "waits until it is the active" in open(site.instances["controller-2"].process.log).read()
             .split("another controller leads")[-1], 10, "controller-2 to begin anew")
    site.wait_ready(1)


def check_etcd(site, checks):
    """While etcd is away programs are kept, and nothing can be changed."""
    scale(site, checks, 2)
    site.kill("etcd")
    site.wait_status(lambda s: not s["etcd"]["reachable"], 10, "status to say that etcd is away")
    code, answer = site.api("POST", "/v1/groups/nf/scale", {"replicas": 3}, timeout_s=15)
    checks.check("a change without etcd is refused", code == 503 and "etcd" in answer["error"], str(answer))
    pid = site.pids()["nf-2"]
    os.kill(pid, signal.SIGKILL)
    s = site.wait_status(lambda s: any(w["name"] == "nf-2" and w["state"] == "ready" and w["pid"] != pid
                                       for w in s["workers"]), 15, "nf-2 to be back without etcd")
    end = [e for e in site.events(kind="exit", subject="nf-2") if e["detail"]["pid"] == pid]
    checks.check("a worker killed meanwhile is back; its death is proven, with its cause",
                 len(end) == 1 and end[0]["detail"]["proven"], end[0]["cause"] if end else "")
    site.start_etcd()
    site.wait_status(lambda s: s["etcd"]["reachable"], 20, "etcd to be back")
    wait_for(lambda: site.api("POST", "/v1/groups/nf/scale", {"replicas": 3})[0] == 200, 15, "changes to be taken again")
    site.wait_ready(3)


def check_store(site, checks):
    """A primary is killed: why its view changed is told. A node is drained: it leads nothing, and ends."""
    s = site.status()
    victim = s["shards"][0]["primary"]
    after = site.api("GET", "/v1/events?after=999999999")[1]["next"]
    code, answer = site.api("POST", "/v1/instances/%s/kill" % victim, {})
    checks.check("kill of a primary that has a backup", code == 200, str(answer))
    wait_for(lambda: [e for e in site.events(after, kind="view", subject="shard 0") if victim + " left" in e["cause"]],
             15, "the view without " + victim)
    view = [e for e in site.events(after, kind="view", subject="shard 0") if victim + " left" in e["cause"]][0]
    reason = [e for e in site.events(after) if e["seq"] == view["because"]]
    checks.check("the view's change names what led to it", reason and reason[0]["subject"] == victim, view["cause"])
    site.wait_status(lambda s: all(x["copies"] == 2 and x["state"] == "serving" for x in s["shards"])
                     and all(p["state"] == "ready" for p in s["stores"]), 20, "the store to be whole")
    site.ask(site.status()["shards"][0]["primary"], "move 0-9 1")
    wait_for(lambda: [e for e in site.events(after, kind="move", subject="shard 1") if e["detail"].get("slots", 0) > 128],
             15, "the event of a move")
    victim = site.status()["shards"][1]["primary"]
    code, answer = site.api("POST", "/v1/instances/%s/drain" % victim)
    checks.check("drain of a store node is taken", code == 200, str(answer))
    s = site.wait_status(lambda s: any(p["name"] == victim and p["state"] == "stopped" for p in s["stores"]), 20,
                         victim + " to be drained")
    site.wait_status(lambda s: all(x["copies"] == 2 and x["primary"] != victim for x in s["shards"]), 20,
                     "two copies without " + victim)
    checks.check("%s was drained" % victim, True, "; ".join(
        "%s: %s" % (e["kind"], e["cause"]) for e in site.events(after, subject=victim)[-3:]))
    code, answer = site.api("POST", "/v1/instances/%s/start" % victim)
    checks.check("it is taken back in", code == 200, str(answer))
    site.wait_status(lambda s: all(p["state"] == "ready" for p in s["stores"]), 20, victim + " to be back")


def check_two_at_once(site, checks, rounds=3):
    """Two unforced kills in the same moment, of both copies of a shard: one is refused, unless the spare was faster than
    the second one; nothing is lost."""
    after, answers = site.api("GET", "/v1/events?after=999999999")[1]["next"], []
    for step in range(rounds):
        s = site.wait_status(lambda s: all(x["copies"] == 2 and x["state"] == "serving" for x in s["shards"])
                             and all(p["state"] == "ready" for p in s["stores"]), 30, "the store to be whole")
        x = s["shards"][step % len(s["shards"])]
        pair = [x["primary"]] + x["backups"][:1]
        codes = [None, None]

        def kill(i):
            codes[i] = site.api("POST", "/v1/instances/%s/kill" % pair[i], {})[0]
        threads = [threading.Thread(target=kill, args=(i,)) for i in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        answers.append(sorted(codes))
    site.wait_status(lambda s: all(x["copies"] == 2 and x["state"] == "serving" for x in s["shards"]), 30,
                     "the store to be whole")
    lost = [e["cause"] for e in site.events(after, kind="copies") if "no caught-up member" in e["cause"]]
    checks.check("both copies of a shard killed at once: one is refused, nothing is lost",
                 not lost and [200, 403] in answers, str(answers + lost))


def false_claim(status, asked, samples, gone):
    """What a status says that was not so at any moment within its age; None: nothing. samples: views in etcd,
    [(when, [names by shard])], the last one of after the answer."""
    for p in status["workers"] + status["stores"] + status["steering"]:
        if p["pid"] in gone:
            return "%s has process %d, which was dead before" % (p["name"], p["pid"])
    for i, x in enumerate(status["shards"]):
        if x["primary"] is None or x["age_ms"] > status["stale_after_ms"]:
            continue
        first = max((when for when, _ in samples if when <= asked - x["age_ms"] / 1000), default=None)
        views = [v[i] for when, v in samples if first is not None and when >= first]
        if not views or any(v != views[0] for v in views):
            continue  # it changed within the age
        if x["primary"] != views[0][0] or x["copies"] > len(views[0]):
            return "shard %d: led by %s with %d copies, and in etcd %s" % (i, x["primary"], x["copies"], views[0])
    return None


def check_truth(site, checks, seed, steps=6):
    """Workers and stores die at random: what status says is so, or it says that it does not know."""
    chance, wrong, compared = random.Random(seed), [], 0

    def well():
        return site.wait_status(lambda s: all(x["copies"] == 2 for x in s["shards"]) and
                                all(p["state"] == "ready" for p in s["workers"] + s["stores"]), 30, "all to be well")
    for step in range(steps):
        s = well()
        samples = [(time.monotonic(), site.kept_views())]
        victim = chance.choice(s["workers"] + s["stores"])
        fd = os.pidfd_open(victim["pid"])  # readable when the last of its threads is dead
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], 20)
        os.close(fd)
        for _ in range(3):
            asked = time.monotonic()
            s = site.status()
            samples.append((time.monotonic(), site.kept_views()))
            bad = false_claim(s, asked, samples, [victim["pid"]]) if s else None
            compared += s is not None
            if bad:
                wrong.append("step %d, %s killed: %s" % (step, victim["name"], bad))
    well()
    checks.check("status is true after each of %d deaths" % steps, compared and not wrong, "; ".join(wrong[:4]))


def check_replacing(site, checks):
    """Another configuration of the NFs: workers are replaced one by one; a drained one is not started again."""
    before = site.pids()
    code, answer = site.api("PUT", "/v1/site", site.text(nat44="    quiet: true\n"))
    checks.check("another text is taken", code == 200, str(answer))
    s = site.wait_status(lambda s: group(s)["outdated"] == 0 and group(s)["ready"] == group(s)["running"] == 3, 40,
                         "the workers to be replaced")
    now = site.pids()
    old = {n for n, pid in before.items() if now.get(n) == pid}
    checks.check("workers were replaced, and nothing else", not any(n.startswith("nf-") for n in old)
                 and {"steer", "store-a", "store-b", "store-c"} <= old, str(sorted(old)))
    code, answer = site.api("POST", "/v1/instances/%s/drain" % s["workers"][0]["name"])
    checks.check("drain of one worker is taken", code == 200, str(answer))
    s = site.wait_ready(2)
    checks.check("its group has one replica less", group(s)["replicas"] == 2)


def check_autoscale(site, checks):
    code, plan = site.api("GET", "/v1/groups/nf/autoscale")
    checks.check("a dry run says why", code == 200 and plan["why"], plan.get("why", ""))
    policy = {"enabled": True, "busy_high_permille": 1000, "busy_low_permille": 999, "queue_high": 0,
              "drops_high_pps": 0, "up_hold_ms": 500, "down_hold_ms": 500, "cooldown_ms": 500}
    code, plan = site.api("POST", "/v1/groups/nf/autoscale/plan", policy)
    checks.check("a dry run of another policy changes nothing",
                 code == 200 and not site.api("GET", "/v1/groups/nf")[1]["autoscale"]["enabled"])
    eager = dict(policy, busy_high_permille=1, busy_low_permille=0, up_hold_ms=300, cooldown_ms=300)
    code, answer = site.api("PUT", "/v1/groups/nf/autoscale", eager)
    checks.check("an eager policy is taken", code == 200, str(answer))
    site.wait_status(lambda s: (group(s)["ready"] or 0) >= 3, 30, "the group to grow")
    code, answer = site.api("PUT", "/v1/groups/nf/autoscale", policy)
    checks.check("a thrifty policy is taken", code == 200, str(answer))
    site.wait_ready(1)
    why = [e["cause"] for e in site.events(kind="autoscale")]
    checks.check("autoscaling grew and shrank the group, and says why", len(why) >= 3, "; ".join(why))


def check_events(site, checks):
    started, last = time.monotonic(), site.api("GET", "/v1/events?after=999999999")[1]["next"]
    code, answer = site.api("GET", "/v1/events?after=%d&wait_ms=500" % last)
    checks.check("asking for events waits", code == 200 and (answer["events"] or time.monotonic() - started >= 0.5))
    all_of_them = site.events()
    checks.check("every event has its cause, none is missing", all(e["cause"] for e in all_of_them) and
                 [e["seq"] for e in all_of_them] == list(range(1, len(all_of_them) + 1)))


def act(lab, site, checks):
    site.start_etcd()
    site.start_controller("controller-1")
    site.wait_ready(1, 40)
    site.start_controller("controller-2")
    checks.say("the site is up: etcd, three stores, steering, a worker; a second controller waits")
    lines = traffic.Lines(lab, CONNECTIONS)
    lines.wait_opened()
    slow = check_slow_clients(site, checks)
    check_wrong(site, checks)
    check_scaling(site, checks, lines)
    check_slow_are_cut(slow, checks)
    check_controllers(site, checks)
    check_etcd(site, checks)
    check_store(site, checks)
    check_two_at_once(site, checks)
    check_truth(site, checks, seed)
    check_replacing(site, checks)
    check_autoscale(site, checks)
    check_events(site, checks)
    for path in ("/v1/groups", "/v1/instances", "/v1/instances/steer", "/v1/shards", "/v1/openapi.json", "/healthz",
                 "/readyz"):
        site.api("GET", path)
    checks.result("connections", lines.finish())
    checks.check("%d kinds of answers are as described" % len(site.seen), not site.wrong_answers,
                 "; ".join(site.wrong_answers[:3]))


if __name__ == "__main__":
    arguments = scene.arguments(__doc__)
    seed = arguments.seed
    scene.play(arguments, act, site_class=Checked, failure_timeout_ms=300)
