#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`lethe doctor` with real faults planted: each is named, and is gone after the cure it printed was carried out.
`lethe explain`; `lethe support-bundle`, whose every part is there, and no secret in any of them."""
import hashlib
import json
import os
import re
import signal
import tarfile

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
    named = {(check, about) for check, about, *_ in planted.values()}
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
    code, out, err = site.lethe("up", site.config, "--timeout", "60")
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


def bundle(site, name, *words):
    """{path in it: bytes}, what was said"""
    file = os.path.join(site.lab.folder, name)
    if os.path.exists(file):
        os.unlink(file)
    code, out, err = site.lethe("support-bundle", file, *words)
    if code != OK:
        return {}, out + err
    with tarfile.open(file) as t:
        return {m.name.split("/", 1)[1]: t.extractfile(m).read() for m in t.getmembers() if m.isfile()}, out


def holds(parts, *wanted):
    """Those of `wanted` that are not there, or empty."""
    return [w for w in wanted if not parts.get(w)]


def check_bundle_stays_where_it_is(lab, site, checks):
    """Names that lead out of it, and a link in its way."""
    with open("/proc/self/stat") as f:
        start = f.read().rsplit(")", 1)[1].split()[19]
    planted, victim = os.path.join(site.run_dir, "pids", "planted.pid"), os.path.join(lab.folder, "victim")
    with open(planted, "w") as f:
        json.dump({"name": "../../../escaped", "kind": "worker", "pid": os.getpid(), "start": int(start)}, f)
    with open(victim, "w") as f:
        f.write("whole")
    os.symlink(victim, os.path.join(lab.folder, "not:remote.tar.gz.part"))
    os.symlink(victim, os.path.join(site.run_dir, "log", "planted.log"))
    parts, said = bundle(site, "not:remote.tar.gz", "-C", "/nowhere.sock")
    os.unlink(planted)
    os.unlink(os.path.join(site.run_dir, "log", "planted.log"))
    checks.check("a log that is a link is not read", "logs/planted.log" not in parts
                 and "planted.log" in parts.get("MISSING", b"").decode(), said)
    with open(victim, "rb") as f:
        checks.check("a bundle follows no link", parts and f.read() == b"whole", said)
    checks.check("and leaves its folder by no name", not os.path.exists(os.path.join(lab.folder, "escaped"))
                 and "escaped" in parts.get("MISSING", b"").decode(), said)


def check_bundle(lab, site, checks):
    secrets = {}
    for name in ("probe.key", "workers.secret", "replicas.secret"):
        with open(os.path.join(site.run_dir, name)) as f:
            secrets[name] = f.read().strip()
    with open(os.path.join(site.run_dir, "log", "nf-1.log"), "a") as f:
        f.write("planted: %s, %s\n" % (secrets["probe.key"], secrets["workers.secret"].upper()))
    os.environ["TMPDIR"] = lab.folder
    parts, said = bundle(site, "bundle.tar.gz")
    of_programs = ["instances/%s/%s" % (name, part) for name in site.pids() for part in ("stats.json", "metrics.txt",
                                                                                          "process.limits")]
    lacks = holds(parts, "site/site.yaml", "site/programs.yaml", "controller/status.json", "controller/events.json",
                  "controller/instances.json", "etcd/keys.json", "instances/steer/workers.json",
                  "instances/controller/metrics.txt", "logs/nf-1.log", "logs/store-a.log", "logs/controller.log",
                  "host/links.txt", "host/routes.txt", "host/ethtool-k.inside.txt", "host/proc/meminfo", "host/uname.txt",
                  "doctor.txt", "doctor.json", *of_programs)
    checks.check("a bundle of a running site has every part", not lacks, said + str(lacks))
    found = [(name, path) for name, s in secrets.items() for path, data in parts.items()
             if s.encode() in data.lower()]
    checks.check("no secret is in it, though a log held two", not found and b"planted: ****" in parts["logs/nf-1.log"]
                 and "2 places" in said, str(found))
    sums = dict(reversed(line.split("  ")) for line in parts["SHA256SUMS"].decode().splitlines())
    checks.check("its list is right", {p: hashlib.sha256(d).hexdigest() for p, d in parts.items()
                                       if p not in ("SHA256SUMS", "MISSING")} == sums)
    keys = {k["key"]: k["value"] for k in json.loads(parts["etcd/keys.json"])}
    checks.check("views are told as they stand in etcd", keys["/lethe/site/shards/0"]["members"], str(sorted(keys)))
    checks.check("nothing is left behind", not [n for n in os.listdir(lab.folder) if "support" in n or ".part" in n])
    parts, said = bundle(site, "alone.tar.gz", "-C", "/nowhere.sock")
    checks.check("without a controller: the rest, and why that is missing", "controller/: nobody answers at /nowhere.sock"
                 in parts["MISSING"].decode() and not holds(parts, *of_programs, "logs/nf-1.log", "etcd/keys.json"),
                 parts["MISSING"].decode())
    code, out, err = site.lethe("support-bundle", os.path.join(lab.folder, "alone.tar.gz"))
    checks.check("a file that is there is not written over", code == REFUSED and "already" in err, err)
    checks.check("another ending: 2", site.lethe("support-bundle", "x.zip")[0] == USAGE)


def act(lab, site, checks):
    check_words(lab, site, checks)
    check_explain(site, checks)
    check_memlock(lab, site, checks)
    check_faults(lab, site, checks)
    check_running(site, checks)
    check_bundle(lab, site, checks)
    check_bundle_stays_where_it_is(lab, site, checks)


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=Patient, failure_timeout_ms=300)
