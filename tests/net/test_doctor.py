#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`lethe doctor` with real faults planted: each is named, and is gone after the cure it printed was carried out.
`lethe explain`, before and while the site runs."""
import json
import os
import re
import signal

import scene
from lethe_site import wait_for
from test_cli import OK, REFUSED, USAGE, Typed

LISTENER = """import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 7411)); s.listen(); print("listening", flush=True); time.sleep(600)
"""


class Patient(Typed):
    def doctor(self, *words, before=()):
        """(exit status, findings of -o json)"""
        done = self.lab.namespaces["steer"].run(
            [*before, self.programs + "/orchestrator/cli/lethe", "-c", self.config, "doctor", "-o", "json", *words],
            check=False, timeout=60)
        return done.returncode, json.loads(done.stdout)["checks"] if done.stdout else []


def wrong(findings):
    return {(f["check"], f["about"]): f for f in findings if f["verdict"] == "wrong"}


def plant(lab, site):
    """{name: (check, about, what is found, what the cure has to hold)}"""
    steer = lab.namespaces["steer"]
    steer.run(["ethtool", "-K", "inside", "tx", "on"])
    steer.ip("addr add 10.9.9.9/24 dev outside")
    os.chmod(os.path.join(site.run_dir, "probe.key"), 0o644)
    with open(os.path.join(site.run_dir, "replicas.secret"), "w") as f:
        f.write("too short\n")
    site.listener = lab.spawn("listener", ["python3", "-c", LISTENER], steer)
    wait_for(lambda: "listening" in open(site.listener.log).read(), 20, "the planted listener")
    return {
        "tx checksum offload": ("edges", "inside", "tx checksum offload", "ethtool -K inside tx off"),
        "an address of the kernel's": ("edges", "outside", "10.9.9.9/24", "ip addr del 10.9.9.9/24 dev outside"),
        "a probe key that others read": ("secrets", "steering.probe_key_file", "0644", "chmod 600"),
        "a secret that is none": ("secrets", "store.replica_secret_file", "9 characters", "openssl rand -hex 32"),
        "etcd that is away": ("etcd", "127.0.0.1:2379", "connect", "systemctl status etcd"),
        "a port that is taken": ("ports", "store-b shard 1", "python3, pid %d" % site.listener.popen.pid, "ps -fp")}


def check_faults(lab, site, checks):
    planted = plant(lab, site)
    code, findings = site.doctor()
    found = wrong(findings)
    checks.check("something is wrong: 1", code == REFUSED, str(code))
    for name, (check, about, says, cure) in planted.items():
        f = found.get((check, about), {"found": "not named", "mend": ""})
        checks.check(name + " is named, with its cure", says in f["found"] and cure in f["mend"],
                     "%s -- %s" % (f["found"], f["mend"]))
    named = {(check, about) for check, about, *_ in planted.values()} | {("etcd", "members")}
    checks.check("and nothing else", set(found) == named, str(sorted(set(found) ^ named)))
    for key in (("edges", "inside"), ("edges", "outside"), ("secrets", "steering.probe_key_file"),
                ("secrets", "store.replica_secret_file")):
        lab.namespaces["steer"].run(["sh", "-c", found[key]["mend"]])
    site.listener.kill()
    site.start_etcd()
    code, findings = site.doctor()
    checks.check("the cures carried out, nothing is wrong: 0", code == OK and not wrong(findings),
                 "; ".join(f["found"] for f in wrong(findings).values()))
    checks.check("what does not run yet is unknown, and not well", {f["verdict"] for f in findings
                 if f["check"] in ("controller", "instances")} == {"unknown"})


def check_memlock(lab, site, checks):
    with open(site.config) as f:
        text = f.read()
    verbs = os.path.join(lab.folder, "verbs.yaml")
    with open(verbs, "w") as f:
        f.write(re.sub(r'listen: "127.0.0.1:(\d+)"', r'listen: "127.0.0.1:\1", verbs: "127.0.0.1:1\1"', text))
    small, large = (site.doctor("memlock", "-c", verbs, before=("prlimit", "--memlock=%d:%d" % (limit, limit)))
                    for limit in (64 << 10, 4 << 20))
    checks.check("too little memory to lock for RDMA, and how to have more", small[0] == REFUSED
                 and "64 KiB" in small[1][0]["found"] and "ulimit -l unlimited" in small[1][0]["mend"]
                 and large[0] == OK and large[1][0]["verdict"] == "warning", str(small) + str(large))


def check_words(lab, site, checks):
    code, out, err = site.lethe("doctor", "rumours")
    checks.check("an unknown check: 2, and which there are", code == USAGE and "hugepages" in err and not out, err)
    broken = os.path.join(lab.folder, "broken.yaml")
    with open(site.config) as f, open(broken, "w") as to:
        to.write(f.read().replace("shards: 2", "shards: 200"))
    code, out, err = site.lethe("doctor", "-c", broken)
    checks.check("a wrong file is the first finding", code == REFUSED and "store.shards" in out
                 and re.match(r"wrong +site", out), out[:500] + err)


def check_explain(site, checks):
    code, out, err = site.lethe("explain", "-o", "json")
    plan = json.loads(out)
    costs = {(c["case"], c["packet"].split()[0]): c["round_trips"] for c in plan["cases"]}
    checks.check("explain: a plan for programs", code == OK and "nat.session" in {t["table"] for t in plan["tables"]}
                 and costs[("new flow", "tcp")] == costs[("established", "tcp")] == 1, str(costs) + err)
    code, out, err = site.lethe("explain", "nf")
    checks.check("explain: for people, of a group", code == OK and "ROUND TRIPS" in out and "nat.session" in out
                 and "insert nat.session: done" in out, err)
    code, out, err = site.lethe("explain", "firewall")
    checks.check("explain: no such group", code == USAGE and "firewall" in err, err)


def check_running(site, checks):
    code, out, err = site.lethe("up", site.config)
    checks.check("up", code == OK, out + err)
    site.lab.ledger.note_process(site.status()["controller"]["pid"])
    pids = site.pids()
    code, findings = site.doctor()
    of = {f["about"]: f["verdict"] for f in findings if f["check"] == "instances"}
    checks.check("a site that runs: every program answers, every port is its node's", code == OK
                 and of == {name: "ok" for name in pids} and all(f["verdict"] == "ok" for f in findings
                                                                 if f["check"] in ("ports", "controller")),
                 str([f for f in findings if f["verdict"] == "wrong"]))
    os.kill(pids["nf-1"], signal.SIGSTOP)
    try:
        code, findings = site.doctor("instances")
        f = wrong(findings).get(("instances", "nf-1"), {"mend": "true", "found": "not named"})
        site.lab.namespaces["steer"].run(["sh", "-c", f["mend"].split("#")[0]])
        checks.check("a program that stands still, and how to wake it", code == REFUSED
                     and "kill -CONT %d" % pids["nf-1"] in f["mend"], f["found"])
    finally:
        os.kill(pids["nf-1"], signal.SIGCONT)
    site.wait_ready(1)
    checks.check("woken, it answers", site.doctor("instances")[0] == OK)


def act(lab, site, checks):
    check_words(lab, site, checks)
    check_explain(site, checks)
    check_memlock(lab, site, checks)
    check_faults(lab, site, checks)
    check_running(site, checks)


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=Patient, failure_timeout_ms=300)
