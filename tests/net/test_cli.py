#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`lethe`, as an operator types it: up, status, scale, drain, kill, events, down; wrong words, nobody there."""
import json
import os
import signal

import scene
from controlled_site import ControlledSite
from lethe_site import wait_for
from netns import running

OK, REFUSED, USAGE, UNREACHABLE, NOT_YET = range(5)


class Typed(ControlledSite):
    def controller(self):
        """What `lethe up` starts: nobody's instance here."""
        return ["lethe-controller", "-c", self.config]

    def close(self):
        for pid in running(self.controller()):
            os.kill(pid, signal.SIGKILL)
        super().close()

    def shut_down(self):
        pid = self.status()["controller"]["pid"]
        wrong = super().shut_down()
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists("/proc/%d" % pid) or
                 open("/proc/%d/stat" % pid).read().split(") ")[1][0] == "Z", 15, "the controller to end")
        return wrong

    def rows(self, head, text):
        """{first word: the line} of the table whose head begins with `head`."""
        lines = text.split("\n")
        at = next(i for i, line in enumerate(lines) if line.split()[:1] == [head])
        rows = {}
        for line in lines[at + 1:]:
            if not line.strip():
                break
            rows[line.split()[0]] = line
        return rows


def check_up(site, checks):
    code, out, err = site.lethe("status")
    checks.check("status without a controller: 3, and what to do", code == UNREACHABLE and "lethe up" in err, err)
    code, out, err = site.lethe("up", "--no-start", site.config)
    checks.check("up --no-start starts none", code == UNREACHABLE and "no controller" in err
                 and not running(site.controller()), err)
    with open(site.config) as f:
        text = f.read()
    broken = os.path.join(site.lab.folder, "broken.yaml")
    with open(broken, "w") as f:
        f.write(text.replace("replicas: 1", "replicas: -1"))
    code, out, err = site.lethe("up", broken)
    checks.check("a wrong file: 2, with line and key", code == USAGE and "groups[0].replicas" in err
                 and "broken.yaml:" in err, err)
    site.lab.ledger.note_command(site.controller())
    code, out, err = site.lethe("up", site.config)
    checks.check("up starts a controller and waits until all is ready", code == OK, out + err)
    checks.check("and it is", site.lethe("status", "--well")[0] == OK, site.lethe("status")[1])
    with open(broken, "w") as f:
        f.write(text.replace("  nat44:\n", "  nat44:\n    nonsense: 1\n"))
    code, _, refused = site.lethe("up", broken)
    checks.check("what only the controller finds wrong names the file, too", code != OK and "broken.yaml:" in refused
                 and "site.yaml" not in refused, refused)
    code, out, err = site.lethe("up", site.config)
    checks.check("up again changes nothing", code == OK and site.status()["site"]["revision"] == 1, out + err)


def check_status(site, checks):
    code, out, err = site.lethe("status")
    workers, shards, stores = (site.rows(h, out) for h in ("WORKER", "SHARD", "PROGRAM"))
    checks.check("status names every program and shard", code == OK and set(workers) == {"nf-1"}
                 and set(shards) == {"0", "1"} and set(stores) == {"steer", "store-a", "store-b", "store-c"}
                 and all(" ready " in row for row in list(workers.values()) + list(stores.values()))
                 and all("2 of 2" in row for row in shards.values()), out)
    checks.check("no colour when nobody looks", "\033" not in out)
    checks.check("colour when asked for", "\033[32m" in site.lethe("--color", "always", "status")[1])
    code, out, err = site.lethe("status", "-o", "json")
    checks.check("-o json is the API's answer", code == OK
                 and json.loads(out).keys() == site.status().keys())
    checks.check("wherever and however it is written", all(json.loads(site.lethe(*words)[1]) for words in (
        ("status", "--output", "json"), ("status", "--output=json"), ("status", "-ojson"), ("-ojson", "status"))))
    code, out, err = site.lethe("top", "--times", "2", "--every", "0.1", "-o", "json")
    checks.check("top for programs: an answer a line", code == OK and len([json.loads(x) for x in out.splitlines()]) == 2,
                 out[:500])
    code, out, err = site.lethe("top", "--times", "2", "--every", "0.1")
    checks.check("top shows it again and again", code == OK and out.count("WORKER") == 2)


def check_silent(site, checks):
    """A program that is stopped: its figures become unknown, and are not repeated for ever."""
    pid = site.pids()["nf-1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        row = wait_for(lambda: (lambda r: r if "unknown" in r else None)(
            site.rows("WORKER", site.lethe("status")[1])["nf-1"]), 20, "a stopped worker's figures to be unknown")
        checks.check("a stopped worker's figures are unknown", True, row)
        checks.check("an alert names whom it is about", "critical  site: no worker" in site.lethe("status")[1],
                     site.lethe("status")[1])
        checks.check("and status --well says 4", site.lethe("status", "--well")[0] == NOT_YET)
    finally:
        os.kill(pid, signal.SIGCONT)
    site.wait_ready(1)


def check_orders(site, checks):
    code, out, err = site.lethe("scale", "nf=3")
    s = site.status()
    checks.check("scale waits until they are ready", code == OK
                 and [w["state"] for w in s["workers"]] == ["ready"] * 3, out + err)
    code, out, err = site.lethe("drain", "nf-2")
    checks.check("drain waits until it is gone", code == OK and "nf-2" not in
                 {w["name"] for w in site.status()["workers"] if w["pid"]}, out + err)
    code, out, err = site.lethe("scale", "nf=1")
    checks.check("scale down drains", code == OK and len(site.wait_ready(1)["workers"]) == 1, out + err)
    before = site.pids()
    code, out, err = site.lethe("kill", "nf-1")
    checks.check("kill of the last worker is refused", code == REFUSED and "force" in err
                 and site.pids() == before, err)
    code, out, err = site.lethe("kill", "nf-1", "--force")
    site.wait_status(lambda s: any(w["state"] == "ready" and w["pid"] != before["nf-1"] for w in s["workers"]), 20,
                     "the killed worker to be back")
    checks.check("kill --force kills, and it comes back", code == OK, out + err)
    code, out, err = site.lethe("restart", "store-a")
    checks.check("restart of a store node waits until it is back", code == OK
                 and site.pids()["store-a"] != before["store-a"], out + err)
    site.wait_status(lambda s: all(x["copies"] == 2 for x in s["shards"]), 20, "two copies again")
    code, out, err = site.lethe("start", "store-a")
    checks.check("start of what runs waits for nothing", code in (OK, REFUSED), out + err)
    site.lethe("scale", "nf=2")
    before = site.pids()
    code, out, err = site.lethe("restart", "nf-2")
    now = site.wait_ready(2)
    checks.check("restart of a worker waits until its group is whole", code == OK and before["nf-2"] not in
                 {w["pid"] for w in now["workers"]}, out + err)
    site.lethe("scale", "nf=1")
    code, out, err = site.lethe("hand-over", "0")
    checks.check("hand-over is taken, and says so by the store's word", code == OK and "the log say" in out, out + err)
    code, out, err = site.lethe("drain", "store-c")
    site.wait_status(lambda s: all(x["copies"] == 2 for x in s["shards"]), 20, "two copies without store-c")
    wait_for(lambda: site.lethe("status", "--well")[0] == OK, 15, "a site whose third store was taken out to be well")
    checks.check("a store node that was taken out is as wished: up has nothing to wait for",
                 site.lethe("up", site.config, "--timeout", "20")[0] == OK, site.lethe("status")[1])
    site.lethe("start", "store-c")
    code, out, err = site.lethe("autoscale", "nf", "--dry-run", "--busy-high", "1", "--busy-low", "0")
    checks.check("a dry run says why and changes nothing", code == OK and "why " in out
                 and not site.api("GET", "/v1/groups/nf")[1]["autoscale"]["enabled"], out)
    code, out, err = site.lethe("autoscale", "nf", "on", "--busy-high", "80", "--up-hold", "3")
    policy = site.api("GET", "/v1/groups/nf")[1]["autoscale"]
    checks.check("a policy is taken, in people's units", code == OK and policy["enabled"]
                 and policy["busy_high_permille"] == 800 and policy["up_hold_ms"] == 3000, str(policy))
    site.lethe("autoscale", "nf", "off")
    code, out, err = site.lethe("events")
    checks.check("events tell what was done, and why", code == OK and all(
        w in out for w in ("scale", "drain", "kill", "exit", "store-a")), out[-2000:])
    code, out, err = site.lethe("events", "-o", "json")
    checks.check("events for programs, one a line", code == OK
                 and [json.loads(line)["seq"] for line in out.splitlines()] ==
                 list(range(1, len(out.splitlines()) + 1)))


def check_wrong(site, checks):
    wrong = [(USAGE, ("scale", "nf"), "GROUP=N"), (USAGE, ("scale", "nf=many"), "no number"),
             (REFUSED, ("scale", "nf=-1"), "from 1 to"), (REFUSED, ("scale", "nf=1000000000"), "from 1 to"),
             (USAGE, ("scale", "nf=99999999999999999999"), "no number"),
             (REFUSED, ("scale", "firewall=2"), "this site has"), (REFUSED, ("kill", "nf-9"), "nf-9"),
             (REFUSED, ("drain", "../../etc/passwd"), ""), (USAGE, ("drain",), "NAME"),
             (USAGE, ("dance",), "no command"), (USAGE, ("status", "-o", "xml"), "json or table"),
             (USAGE, ("status", "--wel"), "--well"), (USAGE, ("down",), "--force"),
             (USAGE, ("up", "/nowhere.yaml"), "No such file"), (USAGE, ("scale", "nf=2", "--timeout", "x"), "seconds"),
             (USAGE, ("hand-over", "one"), "SHARD"), (REFUSED, ("hand-over", "99"), "no such shard"),
             (USAGE, ("autoscale", "nf", "--busy-high", "much"), "number"),
             (USAGE, ("autoscale", "nf", "--busy-high", "200"), "100 %"),
             (REFUSED, ("support-bundle", "/nowhere/x.tar.gz"), "/nowhere/x.tar.gz cannot be made"),
             (REFUSED, ("restart", "nf"), "lethe status"), (USAGE, ("status", "--output"), "follow"), (USAGE, ("top", "--every", "0"), "SECONDS"),
             (USAGE, ("top", "--times", "0.5"), "whole number")]
    before, bad = site.status()["site"]["revision"], []
    for want, words, says in wrong:
        code, out, err = site.lethe(*words)
        if code != want or says not in err or not err.startswith("lethe: ") or out:
            bad.append("%s: %d %s%s" % (" ".join(words), code, out, err))
    checks.check("%d wrong commands: a sentence each" % len(wrong), not bad, "; ".join(bad))
    checks.check("nothing was changed by them", site.status()["site"]["revision"] == before)


def check_manual(site, checks):
    code, out, err = site.lethe("--help")
    names = [line.split()[0] for line in out.split("Commands")[1].split("\n\n")[0].splitlines()[1:]]
    pages = {n: site.lethe("help", n) for n in names}
    manual = site.lethe("help", "--man")[1]
    checks.check("every command explains itself, and is in the manual", len(names) > 10 and all(
        p[0] == OK and p[1].startswith("lethe " + n) for n, p in pages.items())
        and all(".TP\n\\fB%s\\fR" % n.replace("-", "\\-") in manual for n in names), str(names))
    script = site.lethe("completion", "bash")[1] + "COMP_WORDS=(lethe sca) COMP_CWORD=1; _lethe; echo ${COMPREPLY[@]}\n"
    done = site.lab.namespaces["steer"].run(["bash", "-c", script], check=False)
    checks.check("bash completes", done.stdout.strip() == "scale", done.stdout + done.stderr)


def act(lab, site, checks):
    site.start_etcd()
    check_up(site, checks)
    check_status(site, checks)
    check_silent(site, checks)
    check_orders(site, checks)
    check_wrong(site, checks)
    check_manual(site, checks)
    code, out, err = site.lethe("down", "--force")
    s = site.status()
    checks.check("down stops every program", code == OK and not any(
        p["pid"] for p in s["workers"] + s["stores"] + s["steering"]), out + err)

if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=Typed, failure_timeout_ms=300)
