# SPDX-License-Identifier: BSD-3-Clause
"""One run: the site, its clients, the lanes of faults, what must hold all the time."""
import collections
import json
import os
import time

import faults
import nat_check
import store_scene
import traffic
from chaos_site import CONTROLLERS, STORES, WORKERS
from gap import FLOWS_LEAST, FLOWS_PACED, Gaps
from lanes import Lanes, until
from lethe_site import wait_for
from netns import NetError
from observe import Observer, alive, memory_mb
from truth import Truth

SAMPLE_S, LOOK_S, SAY_S = 0.5, 0.2, 15.0
REST_MS = 1500                # a connection that waits longer is waited for before anything stands still again
CHURN_PER_S = 15
UDP_IDLE_S, TCP_RESET_S = 120, 15   # of short flows' mappings: how many there are in the end tells whether they expire
MAPPINGS_MOST = 400 + CHURN_PER_S * 2 * (UDP_IDLE_S + TCP_RESET_S)   # what lives on, and two time-outs' short flows
MEMORY_MB = {"store": 1000, "worker": 500, "steering": 500, "controller": 150}


class Run(Lanes):
    def __init__(self, args, lab, site):
        super().__init__(args)
        self.lab, self.site, self.samples = lab, site, []
        self.due = {"sample": 0.0, "look": 0.0, "say": 0.0}
        self.expected, self.known, self.known_since = {}, {}, {}   # by pid: why it may die; name; (name, since when)
        self.dead = {}                         # pid -> when that was proven
        self.etcd_gone = None                  # (from, to or None): dead or stopped
        self.disk_full = None                  # the same, of the run folder's disk
        self.observer = self.history = self.udp = self.truth = None
        self.checked = collections.Counter()
        self.memory_most_mb = collections.Counter()

    # --- words ---------------------------------------------------------------------------------

    def told(self):
        return self.site.told() + "\nsteering uses: %s\nheld: %s\nstatus: %s" % (
            sorted(self.observer.table()), sorted(+self.held), json.dumps(self.observer.status())[:3000])

    # --- up ------------------------------------------------------------------------------------

    def bring_up(self):
        site = self.site
        site.start_etcd()
        for name in CONTROLLERS:
            site.start_controller(name)
        site.wait_ready(site.replicas_wanted, 60)
        self.say("the site is up: etcd, two controllers, three stores, steering, %d workers" % site.replicas_wanted)
        self.observer = Observer(site, STORES, WORKERS)
        self.capture = nat_check.Capture(self.lab, site.programs)
        self.lines = traffic.Lines(self.lab, self.args.connections, epoch=time.time() - self.at())
        self.udp = traffic.Udp(self.lab, 160)
        room = int(2 * self.args.rate * (self.args.seconds + 120) * 1.2) + 10000
        self.clients = store_scene.Clients(self.lab, site, 2, prefix="h", slots=8, rate=self.args.rate, operations=room,
                                           seed=self.args.seed + 1, lease_ms=5000, retry_ms=500)
        self.history = self.clients.history
        self.history.ask("mark start")
        self.lines.wait_opened(40)
        self.udp.wait_mapped()
        self.gaps = Gaps(site, self.udp)
        self.udp.ask("pace", flows=list(range(FLOWS_PACED)))
        self.churn = traffic.Churn(self.lab, CHURN_PER_S)
        self.dns, self.ping = traffic.Dns(self.lab), traffic.Ping(self.lab)
        wait_for(lambda: self.history.served() and self.observer.caught_up(), 30, "the first writes, and all copies")
        self.history.ask("gap")
        self.faults, self.truth = faults.Faults(self), Truth(self)
        self.say("%d connections, %d UDP flows, store clients, name look-ups, echoes, short flows" % (
            self.args.connections, self.udp.count))

    # --- the lanes -----------------------------------------------------------------------------

    def rested(self):
        return self.lines.status()["waiting_ms"] < REST_MS

    def after(self, record):
        yield from self.truth.step(record)

    def prepare_gap(self, record):
        """Paces flows that cross the victim; generator, the number of flows."""
        if record["victim"] == "worker":
            def enough():
                found = self.crossing(record["name"])
                return found if found and len(found) >= FLOWS_LEAST else None
            flows = yield from until(enough, 20, "enough UDP flows to cross " + record["name"])
            self.udp.ask("pace", flows=flows[:FLOWS_PACED])
            yield from until(lambda: min(self.udp.ask("paced")["answers"].values()) >= 10, 20,
                                    "the paced UDP flows to be answered")
        return FLOWS_PACED

    def crossing(self, name):
        try:
            return self.gaps.crossing(name)
        except (OSError, NetError):   # too slow just now, or about to end
            return None

    def udp_well(self):
        return self.udp.ask("status")["silent"] == 0

    def begin(self, fault, record):
        self.current[fault.lane] = record
        self.records.append(record)
        if fault.lane == "store":
            self.history.ask("mark %s" % record["kind"])

    def end(self, fault, record):
        self.current.pop(fault.lane, None)
        now = time.monotonic()
        record["ended"] = now
        hole = self.udp.ask("since", at=record["began"])
        record["gap_ms"] = hole["hole_ms"]
        if fault.lane == "store":
            record["write_gap_ms"] = round(self.history.ask("gap")["gap_ms"])
        self.say("%-8s %-11s %-15s %-13s %s %5.2f s, well after %s, gap %5d ms%s%s" % (
            fault.lane, record["kind"], record["what"], record["name"], "ok  " if record["effective"] else "NONE",
            (record["healed"] or now) - record["began"],
            "%5.2f s" % (record["recovered"] - record["healed"]) if record["recovered"] else "never",
            record["gap_ms"], ", writes %d ms" % record["write_gap_ms"] if "write_gap_ms" in record else "",
            "; " + record["detail"] if "detail" in record else ""))

    # --- what must hold all the time ---------------------------------------------------------------

    def expect_death(self, pid, why):
        self.expected[pid] = why

    def watch(self):
        now, due = time.monotonic(), self.due
        if now >= due["look"]:
            due["look"] = now + LOOK_S
            self.look_at_processes()
            self.truth.look()
        if now >= due["sample"]:
            due["sample"] = now + SAMPLE_S
            self.sample()
        if now >= due["say"]:
            due["say"] = now + SAY_S
            self.progress()

    def look_at_processes(self):
        pids = {pid: name for name, pid in self.observer.processes().items()}
        pids.update({i.process.pid: n for n, i in self.site.instances.items() if i.running()})
        for pid, name in pids.items():
            if pid not in self.known and alive(pid):
                if self.dead.pop(pid, None):       # numbers come again
                    self.expected.pop(pid, None)
                self.known[pid], self.known_since[pid] = name, (name, time.monotonic())
                self.lab.ledger.note_process(pid)
        for pid, name in list(self.known.items()):
            if not alive(pid):
                del self.known[pid]
                self.dead.setdefault(pid, time.monotonic())
                if pid not in self.expected and not self.began_on_full_disk(pid):
                    self.violation("a program died by itself", "%s (process %d); its log: %s" % (
                        name, pid, self.tail(name)))
                continue
            mb = memory_mb(pid)
            kind = ("store" if name in STORES else "controller" if name in CONTROLLERS else
                    "steering" if name == "steer" else "worker" if name in WORKERS else name)
            self.memory_most_mb[kind] = max(self.memory_most_mb[kind], round(mb))
            if mb > MEMORY_MB.get(kind, 10000):
                self.violation("memory", "%s has %d MB" % (name, mb))

    def began_on_full_disk(self, pid):
        """It may say that there is no room, and end; it is started again."""
        full = self.disk_full
        return full and self.known_since[pid][1] >= full[0] and (full[1] is None or self.dead[pid] < full[1] + 1)

    def tail(self, name):
        for path in (os.path.join(self.site.run_dir, "log", name + ".log"), os.path.join(self.lab.logs, name + ".log")):
            try:
                with open(path, errors="replace") as f:
                    return " | ".join(f.read()[-1500:].splitlines()[-6:])
            except OSError:
                continue
        return "?"

    def sample(self):
        lines, udp = self.lines.status(), self.udp.ask("status")
        history = self.history.status()
        s = {"at_s": self.at(), "answers": lines["answers"], "late": lines["late"], "waiting_ms": lines["waiting_ms"],
             "broken": lines["broken"], "udp": udp["received"], "silent": udp["silent"], "dns": self.dns.good,
             "dns_bad": self.dns.bad, "ping": self.ping.received, "writes": history["told"],
             "leaders": [self.site.leader(rows) for rows in self.observer.rows()], "controller": self.leading(),
             "workers": len(self.observer.table())}
        before = self.samples[-1] if self.samples else s
        for reason in lines["reasons"][before["broken"]:lines["broken"]]:
            self.violation("a connection broke", "%(from)s line %(line)d at %(at_s).1f s: %(reason)s" % reason)
        if udp["wrong"] + udp["remapped"] > self.checked["udp wrong"]:
            self.checked["udp wrong"] = udp["wrong"] + udp["remapped"]
            self.violation("UDP", "%(wrong)d answers for another flow, %(remapped)d changes of the outside end point" % udp)
        if udp["quiet_ms"] > 1000 * self.lines.deadline_s and not self.checked["udp silent"]:
            self.checked["udp silent"] = 1
            self.violation("UDP", "a flow had no answer for %.1f s" % (udp["quiet_ms"] / 1000))
        self.samples.append(s)

    def leading(self):
        """Which of the controllers, a number."""
        pid = (self.observer.status() or {"controller": {"pid": None}})["controller"]["pid"]
        return next((i for i, n in enumerate(CONTROLLERS) if self.site.instances[n].process.pid == pid), None)

    def progress(self):
        lines = self.lines.status()
        effective = sum(r["effective"] for r in self.records)
        self.say("— %d faults, %d effective; %d connections, %d broken, %d late; %d violations; now: %s" % (
            len(self.records), effective, lines["live"], lines["broken"], lines["late"], len(self.violations),
            ", ".join("%s of %s" % (r["kind"], r["name"]) for r in self.current.values()) or "nothing"))

    # --- the end -------------------------------------------------------------------------------------

    def check(self, what, ok, text=""):
        """As scene.Checks has it: a violation if not."""
        self.checked[what] += 1
        if ok:
            self.say("ok  %s%s" % (what, ": " + text if text else ""))
        else:
            self.violation(what, text)
        return ok

    def finish(self):
        """Everything is whole; the traffic ends; verdicts."""
        since = time.monotonic()
        wait_for(lambda: self.observer.caught_up(since) and self.observer.leads(since), self.RECOVER_S,
                 lambda: "all to be whole at the end\n" + self.told())
        self.truth.finish()
        count, mappings = self.truth.count, sum(
            rows[self.site.leader(rows)]["pool_used"] for rows in self.observer.rows() if self.site.leader(rows))
        self.check("mappings of short flows expire", count["expiries"] > 0 and count["events"] > 0 and
                   mappings <= self.args.connections + MAPPINGS_MOST, "%d expiries and %d of their events seen; %d mappings "
                   "are left" % (count["expiries"], count["events"], mappings))
        self.result("connections", self.lines.finish())
        self.result("UDP flows", self.udp.finish())
        self.result("short flows", self.churn.finish())
        dns = self.dns.finish()
        self.check("name look-ups", dns["answered"] > 0, "%(answered)d answered, %(failed)d tried in vain" % dns)
        self.result("echoes", self.ping.finish())
        nat_check.judge(self.capture, self)
        told = self.history.finish(15, 900)
        self.verdict = told
        self.check("history", told["ok"], "%(operations)d operations, %(done)d done, %(unknown)d unknown; %(leases)d client "
                   "ids" % told + ("; %s: %s" % (told.get("check"), told.get("text")) if not told["linearizable"] else "")
                   + ("" if told["all_read"] else "; not every key could be read") + (told.get("wrong") or "")
                   + ("; the record was full" if told["record_full"] else ""))
        self.check_content()
        self.check_end()

    def result(self, what, result):
        shown = {k: v for k, v in result.items() if k not in ("log", "reasons", "last", "live")}
        self.check(what, result["ok"], json.dumps(shown))

    def check_content(self):
        try:
            same = self.site.wait_same_digest(30)
            self.check("members of each view have one content", True, str(same))
        except NetError as e:
            self.check("members of each view have one content", False, str(e))
        self.check("no drift was seen", not self.truth.drifts, str(self.truth.drifts))

    def check_end(self):
        self.look_at_processes()
        for pid in list(self.known):
            self.expect_death(pid, "the end")
        wrong = self.site.shut_down()
        self.check("SIGTERM ends every program with status 0", not wrong, str(wrong or ""))

    def stop(self):
        if self.observer:
            self.observer.stop()
