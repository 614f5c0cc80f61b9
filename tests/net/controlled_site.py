# SPDX-License-Identifier: BSD-3-Clause
"""A site brought up by lethe-controller, all of its programs in one namespace, as on one host.

    steer: [lethe-controller, a second one] ─ etcd
             └─ lethe-store a, b, c   lethe-steer   lethe-nf nf-1, nf-2, ...      (127.0.0.1, memif)

Programs outlive their controller, so they are in the lab's ledger, and `close` ends what is left.
"""
import base64
import http.client
import json
import os
import signal
import socket

from lethe_site import Site, wait_for
from netns import NetError, _start_time

PORTS = {"store-a": 7400, "store-b": 7410, "store-c": 7420}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout_s):
        super().__init__("controller", timeout=timeout_s)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ControlledSite(Site):
    def __init__(self, lab, build, groups="groups: [{name: nf, replicas: 1, max: 6}]\n", etcd=True, **options):
        super().__init__(lab, build, stores=list(PORTS) if etcd else list(PORTS)[:2], **options)
        self.keys.update(
            nodes="\n".join("    - {name: %s, listen: \"127.0.0.1:%d\"}" % (n, PORTS[n]) for n in self.stores),
            views="  etcd: [\"127.0.0.1:2379\"]\n  copies: 2\n" if etcd else "")
        self.groups, self.noted = groups, {}
        self.write_config(self.config)

    def write_config(self, path, groups=None, **other):
        super().write_config(path, **other)
        with open(path, "a") as f:
            f.write(groups if groups is not None else getattr(self, "groups", ""))

    def text(self, **other):
        path = os.path.join(self.lab.folder, "other.yaml")
        self.write_config(path, **other)
        with open(path) as f:
            return f.read()

    # --- starting --------------------------------------------------------------------------

    def start_etcd(self):
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        i = self._start("etcd", "etcd", [
            "etcd", "--name", "etcd", "--data-dir", os.path.join(self.run_dir, "etcd"),
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls",
            peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "etcd=" + peer], "steer")
        wait_for(lambda: self.lab.namespaces["steer"].run(
            ["curl", "-s", "-m", "1", client + "/health"], check=False).returncode == 0, 20,
            "etcd to answer; see " + i.process.log)
        i.state = "running"

    def start_controller(self, name):
        i = self._start(name, "controller", [self.programs + "/orchestrator/lethe-controller", "-c",
                                             self.config], "steer")
        i.state = "running"
        return i

    # --- asking ----------------------------------------------------------------------------

    def api(self, method, path, body=None, timeout_s=10, headers=None):
        """(status, JSON); status 0: nobody answers."""
        c = UnixConnection(os.path.join(self.run_dir, "controller.sock"), timeout_s)
        try:
            data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
            c.request(method, path, data.encode() if isinstance(data, str) else data, headers or {})
            r = c.getresponse()
            return r.status, json.loads(r.read())
        except (OSError, ValueError, http.client.HTTPException) as e:
            return 0, {"error": str(e)}
        finally:
            c.close()

    def lethe(self, *words, timeout_s=90):
        """(exit status, stdout, stderr)"""
        done = self.lab.namespaces["steer"].run(
            [self.programs + "/orchestrator/cli/lethe", "-c", self.config, *words], check=False, timeout=timeout_s)
        return done.returncode, done.stdout, done.stderr

    def status(self):
        code, answer = self.api("GET", "/v1/status", timeout_s=3)
        if code != 200:
            return None
        for p in answer["workers"] + answer["stores"] + answer["steering"]:
            if p["pid"] and self.noted.get(p["name"]) != p["pid"]:
                self.noted[p["name"]] = p["pid"]
                self.lab.ledger.note_process(p["pid"])
        return answer

    def wait_status(self, condition, timeout_s, what):
        """Until condition(status) is true; that status."""
        def look():
            s = self.status()
            return s if s and condition(s) else None
        return wait_for(look, timeout_s, what + "; see " + self.lab.logs, 0.1)

    def wait_ready(self, workers, timeout_s=30):
        def ready(s):
            return (sum(w["state"] == "ready" for w in s["workers"]) == len(s["workers"]) == workers
                    and all(p["state"] == "ready" for p in s["stores"] + s["steering"]))
        return self.wait_status(ready, timeout_s, "%d workers, steering and the store to be ready" % workers)

    def pids(self):
        s = self.status()
        return {p["name"]: p["pid"] for p in s["workers"] + s["stores"] + s["steering"]}

    def events(self, after=0, **match):
        """Those after a number that match: {kind, subject, ...}."""
        found = []
        while True:
            code, answer = self.api("GET", "/v1/events?after=%d&limit=1000" % after)
            if code != 200 or not answer["events"]:
                return found
            found += [e for e in answer["events"] if all(e[k] == v for k, v in match.items())]
            after = answer["next"]

    def kept_views(self):
        """What stands in etcd now: names of each shard's view, the primary first."""
        def text(s):
            return base64.b64encode(s.encode()).decode()
        found = []
        for shard in range(self.shard_count):
            out = self.lab.namespaces["steer"].run(
                ["curl", "-s", "-m", "5", "http://127.0.0.1:2379/v3/kv/range", "-d",
                 json.dumps({"key": text("/lethe/site/shards/%d" % shard)})]).stdout
            view = json.loads(base64.b64decode(json.loads(out)["kvs"][0]["value"]))
            found.append([self.stores[m["node"] - 1] for m in view["members"]])
        return found

    # --- the end ---------------------------------------------------------------------------

    def close(self):
        """What lives outlives its controller: by its pid file, pid and start time."""
        for i in self.instances.values():
            if i.kind == "controller" and i.running():
                i.process.kill()
        folder = os.path.join(self.run_dir, "pids")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            try:
                with open(os.path.join(folder, name)) as f:
                    p = json.load(f)
                if _start_time(p["pid"]) == str(p["start"]):
                    os.kill(p["pid"], signal.SIGKILL)
            except (OSError, ValueError):
                continue
        self.keep_logs()
        super().close()

    def keep_logs(self):
        folder = os.path.join(self.run_dir, "log")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(os.path.join(folder, name), "rb") as f, \
                    open(os.path.join(self.lab.logs, name), "wb") as to:
                to.write(f.read())

    def shut_down(self):
        """The site, by its controller; then controllers and etcd. {name: status} of those that did not end well."""
        code, answer = self.api("POST", "/v1/down", {"force": True})
        if code != 200:
            raise NetError("the site cannot be stopped: %s" % answer)
        self.wait_status(lambda s: not any(p["pid"] for p in s["workers"] + s["stores"] + s["steering"]), 30,
                         "every program to end")
        wrong = {e["subject"]: e["cause"] for e in self.events(kind="exit")
                 if e["detail"]["asked"] and e["detail"]["exit_status"] not in (0, None)}
        for name, i in self.instances.items():
            if i.kind == "controller" and i.running():
                status = self.stop(name)
                if status != 0:
                    wrong[name] = status
        return wrong
