# SPDX-License-Identifier: BSD-3-Clause
"""The truth, as it is told by those who know it: every program's own socket, etcd's keys, /proc.

A thread asks each program all the time, so that nobody waits for one that is stopped. What is kept of an answer
is when it was asked, when it came, and what it said; readers take what they find. Threads start no processes.
"""
import base64
import collections
import http.client
import json
import os
import threading
import time

import network
from netns import _start_time, enter

ASK_EVERY_S, ASK_TIMEOUT_S, KEPT = 0.2, 0.5, 400
Sample = collections.namedtuple("Sample", "asked came said")   # said: None, no answer


class Source(threading.Thread):
    """Asks one thing for ever."""

    def __init__(self, ask, every_s=ASK_EVERY_S):
        super().__init__(daemon=True)
        self.ask, self.every_s = ask, every_s
        self.samples = collections.deque(maxlen=KEPT)
        self.stopping = threading.Event()
        self.listeners = []
        self.start()

    def run(self):
        while not self.stopping.wait(self.every_s):
            asked = time.monotonic()
            try:
                said = self.ask()
            except Exception:  # whatever it is, it was no answer
                said = None
            if said is not None and "error" in said:
                said = None
            sample = Sample(asked, time.monotonic(), said)
            self.samples.append(sample)
            for listener in self.listeners:
                listener(sample)

    def latest(self, since=0.0):
        """What was said last, asked after `since`; None: nothing, or nobody answered."""
        try:
            s = self.samples[-1]
        except IndexError:
            return None
        return s.said if s.asked >= since else None

    def known(self):
        """The last answer there was."""
        return next((s.said for s in reversed(list(self.samples)) if s.said is not None), None)


class Background(threading.Thread):
    """Something that takes a moment, beside the lanes; an Etcd is its thread's own."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.told, self.error = work, None, None
        self.start()

    def run(self):
        try:
            self.told = self.work()
        except Exception as e:  # for result() to raise
            self.error = e

    def ended(self):
        return not self.is_alive()

    def result(self):
        if self.error:
            raise OSError(str(self.error))
        return self.told


class Etcd:
    """What stands in etcd, asked from within its namespace, past every fault of its network."""

    def __init__(self, namespace):
        self.namespace, self.entered = namespace, False

    def post(self, path, body, timeout_s=ASK_TIMEOUT_S):
        if not self.entered:
            enter(self.namespace.fd)   # this thread only
            self.entered = True
        c = http.client.HTTPConnection(network.ETCD, 2379, timeout=timeout_s)
        try:
            c.request("POST", path, json.dumps(body))
            return json.loads(c.getresponse().read())
        finally:
            c.close()

    def fill(self):
        """Values until its quota is used up and its alarm is raised; true when it is."""
        value = base64.b64encode(bytes(1 << 20)).decode()
        for i in range(64):
            key = base64.b64encode(b"/chaos/%d" % i).decode()
            if "space exceeded" in self.post("/v3/kv/put", {"key": key, "value": value}, 5).get("error", ""):
                return any(a.get("alarm") == "NOSPACE" for a in self.alarms())
        return False

    def alarms(self):
        return self.post("/v3/maintenance/alarm", {"action": "GET"}, 5).get("alarms", [])

    def heal(self):
        """Room again; true when no alarm is left."""
        first, last = (base64.b64encode(k).decode() for k in (b"/chaos/", b"/chaos0"))
        revision = self.post("/v3/kv/deleterange", {"key": first, "range_end": last}, 5)["header"]["revision"]
        self.post("/v3/kv/compaction", {"revision": revision, "physical": True}, 5)
        self.post("/v3/maintenance/defragment", {}, 5)
        for a in self.alarms():
            self.post("/v3/maintenance/alarm", dict(a, action="DEACTIVATE"), 5)
        return not self.alarms()

    def views(self):
        """{shard: {"epoch", "members": [node, ...]}}, the primary first."""
        first = base64.b64encode(b"/lethe/site/shards/").decode()
        last = base64.b64encode(b"/lethe/site/shards0").decode()
        found = {}
        for kv in self.post("/v3/kv/range", {"key": first, "range_end": last}).get("kvs", []):
            key = base64.b64decode(kv["key"]).decode()
            found[int(key.rsplit("/", 1)[1])] = json.loads(base64.b64decode(kv["value"]))
        return found or None


class Observer:
    def __init__(self, site, stores, workers):
        self.site, self.stores, self.workers = site, stores, workers
        self.sources = {n: Source(lambda n=n: site.ask(n, "stats", ASK_TIMEOUT_S)) for n in stores + workers + ["steer"]}
        self.sources["table"] = Source(lambda: site.ask("steer", "workers", ASK_TIMEOUT_S))
        self.etcd = Etcd(site.lab.namespaces["etcd"])
        self.sources["etcd"] = Source(self.etcd.views)
        self.sources["status"] = Source(self._status, 0.3)
        self.sources["ready"] = Source(self._ready, 0.3)

    def _status(self):
        code, answer = self.site.api("GET", "/v1/status", timeout_s=ASK_TIMEOUT_S)
        return answer if code == 200 else None

    def _ready(self):
        code, answer = self.site.api("GET", "/readyz", timeout_s=ASK_TIMEOUT_S)
        return answer if code == 200 else None

    def stop(self):
        for s in self.sources.values():
            s.stopping.set()
        for s in self.sources.values():
            s.join(3)

    def said(self, name, since=0.0):
        return self.sources[name].latest(since)

    # --- the store ---------------------------------------------------------------------------

    def rows(self, since=0.0):
        """[{name: what it says of the shard}] by shard, of the stores that answered since."""
        found = [{} for _ in range(self.site.shard_count)]
        for name in self.stores:
            for row in (self.said(name, since) or {}).get("shards", []):
                found[row["shard"]][name] = row
        return found

    def caught_up(self, since=0.0):
        """Every shard has all its copies, each heard by its primary just now."""
        rows = self.rows(since)
        return all(len(r) == len(self.stores) and self.site.leader(r) and self.site._whole(r, r[self.site.leader(r)])
                   and not r[self.site.leader(r)]["collecting"] for r in rows)

    def of_shard(self, shard, role):
        """Its primary, or a backup of its view: names."""
        rows = self.rows()[shard]
        leader = self.site.leader(rows)
        if role == "primary":
            return [leader] if leader else []
        return sorted(n for n, r in rows.items() if leader and r["role"] == "backup"
                      and r["view_epoch"] == rows[leader]["view_epoch"])

    # --- packets -------------------------------------------------------------------------------

    def table(self, since=0.0):
        """Workers that steering uses: {name: row}."""
        rows = (self.said("table", since) or {}).get("workers", [])
        return {w["name"]: w for w in rows if w["in_table"] and w["link"] and w["state"] == "healthy"}

    def forwarded(self, name):
        said = self.said(name) or {}
        key = "lethe_steer_tx_packets_total" if name == "steer" else "lethe_worker_tx_packets_total"
        return said.get(key, 0)

    # --- the site ---------------------------------------------------------------------------------

    def status(self, since=0.0):
        return self.said("status", since)

    def processes(self):
        """{name: pid} as status says."""
        s = self.sources["status"].known()
        return {p["name"]: p["pid"] for p in s["workers"] + s["stores"] + s["steering"] if p["pid"]} if s else {}

    def leads(self, since=0.0):
        """pid of the controller that leads for certain, and takes changes; None."""
        s = self.status(since)
        return s["controller"]["pid"] if s and s["etcd"]["reachable"] and self.said("ready", since) else None


def process_state(pid):
    """(letter, CPU ticks) of a process; (None, 0): gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return fields[0], int(fields[11]) + int(fields[12])
    except OSError:
        return None, 0


def alive(pid):
    return _start_time(pid) is not None


def memory_mb(pid):
    try:
        with open("/proc/%d/statm" % pid) as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0
