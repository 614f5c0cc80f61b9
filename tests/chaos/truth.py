# SPDX-License-Identifier: BSD-3-Clause
"""Is what `lethe status` says so? Every figure is unknown, or true of some moment within its age.

A status that was asked at A and came at C, a figure in it of age a: there is a moment in [A - a, C] of which it is
true. What was true then is in the samples of observe.py, which ask the same programs themselves, all the time:

  grows    a counter: not below what was seen before A - a, not above what was seen after C
  steady   anything else: if every sample from before A - a until after C has one value, it is that value
  a view   of epoch E: its members are those that stand in etcd under E
  a pid    of a process that was proven dead a while (DEAD_SLACK_S) before A is false; so is its absence while it lives

Judged are all answers that the observer gets, and one of the command-line tool after each fault. The truth of
the programs' own figures is looked at, too: none is negative, no counter goes back while its process lives.
"""
import collections
import json
import os
import subprocess
import time

from observe import Sample
from netns import _start_time

SLACK_S = 0.02                # uv_now is of the loop's turn; milliseconds are cut off
SETTLE_S = 1.2                # by then whoever is alive has been asked after the answer
UPTIME_SLACK_MS = 400
DEAD_SLACK_S = 0.3            # the kernel tells the controller at once; on a busy machine its turn comes when it comes
TICK_HZ = os.sysconf("SC_CLK_TCK")
WORKER_STATES = ["waiting", "serving", "leaving", "finishing", "done"]


class Window:
    """What a source said around [first, last]."""

    def __init__(self, samples, first, last, mine=lambda said: True):
        self.before = self.after = None
        self.inside, self.whole = [], True
        for s in samples:
            if s.came <= first:
                self.before = s if s.said is not None and mine(s.said) else None
            elif s.asked >= last:
                if s.said is not None:
                    self.after = s if mine(s.said) else None
                    break
            elif s.said is None or not mine(s.said):
                self.whole = False
            else:
                self.inside.append(s)

    def grows(self, get):
        """(least, most) that a counter can have been."""
        least = get(self.before.said) if self.before else None
        most = get(self.after.said) if self.after else None
        return (least if least is not None else 0), (most if most is not None else float("inf"))

    def steady(self, get):
        """(the value,) that it had all the time; None: it changed, or nobody knows. What a new process of the same name said
        between its start and the next sample nobody knows."""
        if not (self.before and self.after and self.whole):
            return None
        said = [s.said for s in [self.before, *self.inside, self.after]]
        if any(x.get("pid") != said[0].get("pid") for x in said):
            return None
        values = [get(x) for x in said]
        return (values[0],) if all(v == values[0] for v in values) and values[0] is not None else None


class Truth:
    def __init__(self, run):
        self.run, self.seen = run, run.observer
        self.drifts = []
        self.views = collections.defaultdict(dict)     # shard -> epoch -> members
        self.count = collections.Counter()             # answers, figures, steps
        self.waiting, self.nonsense, self.false = collections.deque(), collections.deque(), []
        self.last = {}                                  # (name, key) -> (pid, value)
        self.counted = {"lethe_worker_events_total": "events"}
        self.counted.update(("shard %d expired" % i, "expiries") for i in range(run.site.shard_count))
        for name, source in self.seen.sources.items():
            if name == "status":
                source.listeners.append(lambda s: s.said and self.waiting.append((s, "the API")))
            elif name == "etcd":
                source.listeners.append(self.note_views)
            elif name not in ("table", "ready"):
                source.listeners.append(lambda s, name=name: s.said and self.sanity(name, s.said))

    # --- threads of the observer ---------------------------------------------------------------

    def note_views(self, sample):
        for shard, view in (sample.said or {}).items():
            self.views[shard].setdefault(view["epoch"], [self.run.site.stores[m["node"] - 1] for m in view["members"]])

    def sanity(self, name, said):
        """No figure is negative; no counter goes back while its process lives."""
        flat = [(k, v) for k, v in said.items() if isinstance(v, (int, float)) and not isinstance(v, bool)]
        for k, v in said.items():
            if isinstance(v, dict) and "count" in v:
                flat += [(k + "_total", v["count"]), (k + " sum_total", v["sum"])]
        for row in said.get("shards", []):
            flat += [("shard %d %s" % (row["shard"], k), v) for k, v in row.items()
                     if isinstance(v, int) and not isinstance(v, bool)]
            if row["commit"] > row["position"]:
                self.nonsense.append("%s: shard %d has committed more than it has" % (name, row["shard"]))
            if row["drifts"] and (name, row["shard"]) not in self.drifts:
                self.drifts.append((name, row["shard"]))
        for key, value in flat:
            if value < 0 or value > 1 << 62:
                self.nonsense.append("%s: %s is %s" % (name, key, value))
            if key.endswith("_total") or key.endswith("view_epoch") or key in self.counted:
                old = self.last.get((name, key), (None, 0))
                if key in self.counted and value > old[1] and old[0] == said["pid"]:
                    self.count[self.counted[key]] += value - old[1]
                if old[0] == said["pid"] and value < old[1] and "side=" not in key and "worker=" not in key:
                    self.nonsense.append("%s: %s went from %s to %s" % (name, key, old[1], value))
                self.last[name, key] = (said["pid"], value)

    # --- the main thread --------------------------------------------------------------------------

    def look(self):
        while self.nonsense:
            self.run.violation("a figure is nonsense", self.nonsense.popleft())
        now = time.monotonic()
        while self.waiting and now - self.waiting[0][0].came > SETTLE_S:
            sample, source = self.waiting.popleft()
            self.take(sample, source)

    def take(self, sample, source):
        self.count["answers"] += 1
        try:
            claims = self.judge(sample.asked, sample.came, sample.said)
        except (KeyError, TypeError, ValueError, IndexError) as e:
            claims = ["it cannot be read: %r" % e]
        for claim in claims:
            self.false.append(claim)
            if len(self.false) <= 20:
                self.run.violation("status", "of %s, asked at %.2f s: %s" % (source, self.run.at(sample.asked), claim))

    def step(self, record):
        """After a fault: the command-line tool's answer; generator."""
        asked = time.monotonic()
        p = self.run.lab.spawn("lethe-status", [self.run.site.build + "/orchestrator/cli/lethe", "-c",
                                                self.run.site.config, "status", "-o", "json"], stdout=subprocess.PIPE)
        os.set_blocking(p.popen.stdout.fileno(), False)
        text = b""
        while p.popen.poll() is None and time.monotonic() < asked + 30:
            text += p.popen.stdout.read() or b""
            yield
        came = time.monotonic()
        text += p.popen.stdout.read() or b""
        if p.popen.poll() is None:
            p.kill()
            self.run.violation("status", "`lethe status` does not end within 30 s")
        elif p.popen.returncode == 0:
            self.count["steps"] += 1
            self.waiting.append((Sample(asked, came, json.loads(text)), "`lethe status`"))
        else:
            self.count["unanswered"] += 1

    def finish(self):
        deadline = time.monotonic() + 5
        while self.waiting and time.monotonic() < deadline:
            self.look()
            time.sleep(0.05)
        answered = self.count["steps"] > 0 and self.count["steps"] >= len(self.run.records) // 2
        self.run.check("status tells nothing that is not so", not self.false and answered, self.summary())

    def summary(self):
        return "%d answers, %d of them of the tool after a fault (%d times nobody answered it); %d figures compared" % (
            self.count["answers"], self.count["steps"], self.count["unanswered"], self.count["figures"])

    # --- the judgement ------------------------------------------------------------------------------

    def judge(self, asked, came, status):
        """Sentences, one for each false claim."""
        j = Judgement(self, asked, came)
        j.negative("status", status)
        for p in status["workers"] + status["stores"] + status["steering"]:
            j.process(p)
        for w in status["workers"]:
            j.worker(w)
        for s in status["steering"]:
            j.steering(s)
        for s in status["stores"]:
            j.store(s)
        for s in status["shards"]:
            j.shard(s)
        for g in status["groups"]:
            j.group(g, status)
        j.absent(status)
        j.etcd(status["etcd"])
        self.count["figures"] += j.compared
        return j.false


class Judgement:
    def __init__(self, truth, asked, came):
        self.truth, self.run, self.asked, self.came = truth, truth.run, asked, came
        self.sources = truth.seen.sources
        self.programs = {*truth.seen.stores, *truth.seen.workers, "steer"}
        self.false, self.compared = [], 0

    def window(self, source, age_ms, mine=lambda said: True):
        return Window(list(self.sources[source].samples), self.asked - age_ms / 1000 - SLACK_S, self.came, mine)

    def say(self, format_, *what):
        self.false.append(format_ % what)

    def grows(self, who, what, value, window, get, extra=0):
        self.compared += 1
        least, most = window.grows(get)
        if not least - extra <= value <= most + extra:
            self.say("%s: %s is %s; it was from %s to %s", who, what, value, least, most)

    def steady(self, who, what, value, window, get):
        self.compared += 1
        true = window.steady(get)
        if true and true[0] != value:
            self.say("%s: %s is %s; it was %s all the time", who, what, value, true[0])

    def negative(self, where, what):
        """No number is."""
        if isinstance(what, (dict, list)):
            for key, value in what.items() if isinstance(what, dict) else enumerate(what):
                self.negative("%s.%s" % (where, key), value)
        elif isinstance(what, (int, float)) and what < 0:
            self.say("%s is %s", where, what)

    # --- processes ---------------------------------------------------------------------------------

    def process(self, p):
        pid = p["pid"]
        if pid is None:
            return
        self.compared += 2
        died = self.run.dead.get(pid)
        if died and died < self.asked - DEAD_SLACK_S:
            self.say("%s is process %d, which was dead %.2f s before", p["name"], pid, self.asked - died)
        start = _start_time(pid)
        if start and p["uptime_ms"] is not None:
            up_ms = (self.came - int(start) / TICK_HZ) * 1000
            if not up_ms - 1000 * (self.came - self.asked) - UPTIME_SLACK_MS <= p["uptime_ms"] <= up_ms + UPTIME_SLACK_MS:
                self.say("%s: up for %d ms; it is up for %d ms", p["name"], p["uptime_ms"], up_ms)

    def absent(self, status):
        """Who lives, and has been known for a while, is told of."""
        told = {p["pid"] for p in status["workers"] + status["stores"] + status["steering"]}
        for pid, (name, since) in self.run.known_since.items():
            if name in self.programs and since < self.asked - 2.0 and pid in self.run.known and pid not in told:
                self.compared += 1
                self.say("%s (process %d) lives, and is not told of", name, pid)

    def group(self, g, status):
        alive = sum(w["pid"] is not None for w in status["workers"] if w["group"] == g["name"])
        self.compared += 2
        if g["running"] != alive:
            self.say("group %s: %d running; it tells of %d processes", g["name"], g["running"], alive)
        if g["ready"] is not None and not 0 <= g["ready"] <= g["running"]:
            self.say("group %s: %d ready of %d", g["name"], g["ready"], g["running"])

    # --- packets -------------------------------------------------------------------------------------

    def worker(self, w):
        f, name = w["figures"], w["name"]
        if f is not None and name in self.sources:
            mine = self.window(name, f["age_ms"], lambda said: said["pid"] == w["pid"])
            for what in ("rx_packets", "tx_packets"):
                self.grows(name, what, f[what], mine, lambda s, k="lethe_worker_%s_total" % what: s[k])
            self.grows(name, "uptime_ms", f["uptime_ms"], mine, lambda s: s["uptime_ms"], 2)
            self.steady(name, "state", f["state"], mine, lambda s: WORKER_STATES[s["lethe_worker_state"]])
            if mine.steady(lambda s: [s["lethe_worker_store_%s_total" % k] for k in ("lost", "reconnects", "retries")]
                           + [s["lethe_worker_drops_total{reason=\"store_timeout\"}"]]):   # else it was away for a moment
                self.steady(name, "store_well", f["store_well"], mine, lambda s: bool(s["lethe_worker_store_well"]))
            for reason, n in f["drops"].items():
                self.grows(name, "drops for " + reason, n, mine,
                           lambda s, k="lethe_worker_drops_total{reason=\"%s\"}" % reason: s.get(k))
            self.within(name, "busy_permille", f["busy_permille"], 0, 1000)
            self.within(name, "in_flight", f["in_flight"], 0, 1024)
            self.within(name, "packets_per_s", f["packets_per_s"], 0, 10 ** 8)
            self.within(name, "drops_per_s", f["drops_per_s"], 0, 10 ** 8)
        if w["steering"] is not None:
            self.table_row("%s in steering's table" % name, name, w["steering"], w["steering"]["age_ms"])

    def within(self, who, what, value, least, most):
        self.compared += 1
        if value is not None and not least <= value <= most:
            self.say("%s: %s is %s", who, what, value)

    def table_row(self, who, name, row, age_ms):
        window, changed = self.window("table", age_ms), self.table_changed(age_ms)

        def get(key):
            def of(said):
                return next((r[key] for r in said["workers"] if r["name"] == name), None)
            return of
        if window.steady(get("incarnation")) and window.steady(lambda s: s["incarnation"]):
            for what in ("packets_to", "packets_from"):
                self.grows(who, what, row[what], window, get(what))
        for what in ("state", "link", "in_table", "buckets") if not changed else ():
            self.steady(who, what, row[what], window, get(what))

    def table_changed(self, age_ms):
        """Also if it changed back, between two samples."""
        steer = self.window("steer", age_ms)
        return not all(steer.steady(lambda s, k=k: s["lethe_steer_%s_total" % k]) for k in (
            "tables", "removals", "returns", "worker_restarts", "last_worker_kept"))

    def steering(self, s):
        f = s["figures"]
        if f is None:
            return
        table = self.window("table", f["age_ms"])
        own = self.window("steer", f["age_ms"], lambda said: said["pid"] == s["pid"])
        self.grows(s["name"], "uptime_ms", f["uptime_ms"], own, lambda x: x["uptime_ms"], 2)
        if not self.table_changed(f["age_ms"]):
            self.steady(s["name"], "workers_in_table", f["workers_in_table"], table,
                        lambda x: sum(r["in_table"] for r in x["workers"]))
        self.steady(s["name"], "incarnation", f["incarnation"], table, lambda x: x["incarnation"])

    # --- the store -------------------------------------------------------------------------------------

    def store(self, s):
        f = s["figures"]
        if f is None:
            return
        own = self.window(s["name"], f["age_ms"], lambda said: said["pid"] == s["pid"])

        def of_role(role):
            return lambda x: sum(r["role"] == role for r in x["shards"])
        self.grows(s["name"], "uptime_ms", f["uptime_ms"], own, lambda x: x["uptime_ms"], 2)
        if own.steady(lambda x: [r["view_epoch"] for r in x["shards"]]):   # else also if it is as it was
            self.steady(s["name"], "leads", f["leads"], own, of_role("primary"))
            self.steady(s["name"], "backs", f["backs"], own, of_role("backup"))
        self.within(s["name"], "clients", f["clients"], 0, 10000)   # they come and go between two samples
        self.within(s["name"], "memory_bytes", f["memory_bytes"], 0, 1 << 40)
        self.within(s["name"], "views_away_ms", f["views_away_ms"], 0, 1 << 40)

    def shard(self, s):
        who = "shard %d" % s["shard"]
        for r in s["replicas"]:
            self.replica(who, s["shard"], r)
        if s["primary"] is None:
            return
        view = self.truth.views[s["shard"]].get(s["epoch"])
        self.compared += 4
        if view and s["primary"] != view[0]:
            self.say("%s: epoch %d is led by %s; in etcd by %s", who, s["epoch"], s["primary"], view[0])
        if view and not set(s["backups"]) <= set(view[1:]):
            self.say("%s: backups of epoch %d are %s; in etcd %s", who, s["epoch"], s["backups"], view[1:])
        if view and s["copies"] > len(view):
            self.say("%s: %d copies in epoch %d; in etcd %s", who, s["copies"], s["epoch"], view)
        if s["lag"] < 0 or s["commit"] > s["position"]:
            self.say("%s: commit %d, position %d", who, s["commit"], s["position"])
        etcd = self.window("etcd", s["age_ms"])
        true = etcd.steady(lambda x: x[s["shard"]]["epoch"])
        if true and s["epoch"] != true[0]:
            self.say("%s: epoch %d; in etcd %d all the time", who, s["epoch"], true[0])

    def replica(self, who, shard, r):
        window = self.window(r["node"], r["age_ms"])
        who = "%s, %s" % (who, r["node"])

        def get(key):
            return lambda said: said["shards"][shard][key]
        self.steady(who, "epoch", r["epoch"], window, get("view_epoch"))
        if not window.steady(get("view_epoch")):
            return                            # also if all the rest is again as it was
        self.steady(who, "role", r["role"], window, get("role"))
        if window.steady(lambda x: (x["pid"], get("role")(x), get("view_epoch")(x))):
            for what in ("position", "commit"):
                self.grows(who, what, r[what], window, get(what))
        self.steady(who, "copies", r["copies"], window, get("copies"))

    # --- etcd --------------------------------------------------------------------------------------------

    def etcd(self, e):
        if e is None or e["age_ms"] is None:
            return
        self.compared += 1
        gone = self.run.etcd_gone
        if e["reachable"] and gone and gone[0] < self.asked - e["age_ms"] / 1000 - SLACK_S and (
                gone[1] is None or gone[1] > self.came):
            self.say("etcd is reachable, %d ms ago; it was gone for %.2f s", e["age_ms"], self.asked - gone[0])
