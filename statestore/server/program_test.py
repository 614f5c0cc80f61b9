#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""lethe-store as an operator meets it: options, exit statuses, control socket,
a pair whose members are killed.   program_test.py LETHE_STORE"""
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "store"))
from local_store import PATIENCE_S, Process, ask, free_ports, wait_for  # noqa: E402

STORE = sys.argv.pop(1)

SITE = """
failure_timeout_ms: 500
run_dir: {dir}
store:
  shards: 2
  nodes:
    - {{name: store-a, listen: "127.0.0.1:{a}"}}
    - {{name: store-b, listen: "127.0.0.1:{b}"}}
"""


ETCD_SITE = """
failure_timeout_ms: 300
run_dir: {dir}
store:
  shards: 3
  etcd: ["127.0.0.1:{etcd}"]
  nodes:
    - {{name: store-a, listen: "127.0.0.1:{a}"}}
    - {{name: store-b, listen: "127.0.0.1:{b}"}}
    - {{name: store-c, listen: "127.0.0.1:{c}"}}
"""
NODES = ("store-a", "store-b", "store-c")


class Program(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.dir = self.tmp.name
        self.running = []

    def tearDown(self):
        for p in self.running:
            p.end()
        self.tmp.cleanup()

    def run_once(self, *args):
        return subprocess.run([STORE, *args], capture_output=True, text=True, timeout=PATIENCE_S)

    def start(self, *args):
        self.running.append(Process([STORE, *args], self.path(f"log{len(self.running)}")))
        return self.running[-1]

    def path(self, name):
        return os.path.join(self.dir, name)

    def shards(self, node):
        answer = ask(self.path(node + ".sock"), "stats")
        return answer and answer["shards"]

    def all_shards(self, node, **want):
        rows = self.shards(node)
        return rows and all(row[k] == v for row in rows for k, v in want.items()) and rows

    # --- options ---

    def test_wrong_options(self):
        for args, says in [
            (["--foo"], "--foo"),
            ([], "--standalone"),
            (["--standalone"], "--listen"),
            (["--standalone", "--listen", "127.0.0.1:0", "--shards", "99"], "1 to 16"),
            (["--standalone", "-c", "x"], "exclude"),
            (["--listen"], "argument"),
            (["surplus"], "surplus"),
            (["--standalone", "--listen", "127.0.0.1:0", "--bind", "0.0.0.0"], "--bind goes with -c"),
            (["--standalone", "--listen", "127.0.0.1:0", "--ask", "--control", "x"], "--ask goes with --metrics"),
            (["--standalone", "--listen", "127.0.0.1:0", "--ask", "--metrics", "127.0.0.1:0"], "--ask goes with --metrics"),
        ]:
            r = self.run_once(*args)
            self.assertEqual(r.returncode, 2, args)
            self.assertIn(says, r.stderr)

    def test_help_and_version(self):
        r = self.run_once("--help")
        self.assertEqual(r.returncode, 0)
        self.assertIn("--accept-loss", r.stdout)
        self.assertEqual(self.run_once("--version").returncode, 0)

    def test_configuration_is_checked(self):
        good, bad = self.path("good.yaml"), self.path("bad.yaml")
        with open(good, "w") as f:
            f.write(SITE.format(dir=self.dir, a=7400, b=7500))
        with open(bad, "w") as f:
            f.write(SITE.format(dir=self.dir, a=7400, b=7500).replace("shards: 2", "shards: many"))
        self.assertEqual(self.run_once("-c", good, "--check").returncode, 0)
        r = self.run_once("-c", bad, "--check")
        self.assertEqual(r.returncode, 1)
        self.assertIn("bad.yaml:5", r.stderr)
        r = self.run_once("-c", good, "--node", "store-z")
        self.assertEqual(r.returncode, 1)
        self.assertIn("store-z", r.stderr)
        r = self.run_once("-c", self.path("none.yaml"), "--check")
        self.assertEqual(r.returncode, 1)

    def test_what_can_be_asked_from_elsewhere(self):
        at, control = "127.0.0.1:%d" % free_ports(1), self.path("c.sock")

        def get(verb):
            try:
                with urllib.request.urlopen("http://%s/v1/ask/%s" % (at, verb), timeout=PATIENCE_S) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as e:
                return e.code, e.read().decode()
        words = ["--standalone", "--listen", "127.0.0.1:0", "--control", control, "--metrics", at]
        store = self.start(*words, "--ask")
        wait_for("its port", lambda: "metrics served" in store.text())
        status, stats = get("stats")
        self.assertEqual((status, stats["shards"][0]["role"]), (200, "primary"))
        self.assertEqual(get("tables"), (200, ask(control, "tables")))
        for verb in ("digest", "map", "trace", "trace%20read", "move", "hand-over%200", "rebalance", "accept-loss"):
            status, text = get(verb)
            self.assertEqual((status, text), (404, "here are /metrics, /healthz and /readyz; /v1/ask/stats, /v1/ask/tables\n"))
        store.end()
        store = self.start(*words)    # without the flag
        wait_for("its port", lambda: "metrics served" in store.text())
        self.assertEqual(get("stats")[0], 404)

    def test_listens_elsewhere_than_it_is_known(self):
        site, port = self.path("site.yaml"), free_ports(2)
        with open(site, "w") as f:    # a name that leads nowhere here
            f.write("run_dir: %s\nstore: {nodes: [{name: store-a, listen: \"store-a.invalid:%d\"}]}\n" % (self.dir, port))
        for wrong in ("127.0.0.1:80", "[::1]", "localhost"):
            r = self.run_once("-c", site, "--node", "store-a", "--bind", wrong)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn("write an address of this host, without a port", r.stderr)
        self.start("-c", site, "--node", "store-a", "--bind", "127.0.0.1")
        rows = wait_for("a primary", lambda: self.all_shards("store-a", role="primary"))
        self.assertEqual([s["port"] for s in rows], [port, port + 1])

    # --- one store ---

    def test_standalone_life(self):
        sock = self.path("store.sock")
        port = free_ports(2)
        p = self.start("--standalone", "--listen", f"127.0.0.1:{port}", "--shards", "2",
                       "--control", sock)
        stats = wait_for("stats", lambda: ask(sock, "stats"))
        self.assertEqual([s["port"] for s in stats["shards"]], [port, port + 1])
        self.assertEqual({s["role"] for s in stats["shards"]}, {"primary"})
        digest = ask(sock, "digest")["shards"]
        self.assertLessEqual({"digest", "position", "role", "shard", "view_epoch"}, set(digest[0]))
        self.assertEqual(len(digest[0]["digest"]), 16)
        self.assertIn("error", ask(sock, "dance"))
        tables = ask(sock, "tables") # of what is led here; nobody has opened one
        self.assertEqual([t["shard"] for t in tables["leads"]], [0, 1])
        self.assertEqual(tables["tables"], [])

        second = self.run_once("--standalone", "--listen", f"127.0.0.1:{port}")
        self.assertEqual(second.returncode, 1)
        self.assertIn(f"port {port}", second.stderr)
        self.assertIn("in use", second.stderr)

        self.assertEqual(p.stop(), 0)
        self.assertFalse(os.path.exists(sock))

    def test_an_idle_store_sleeps(self):
        sock = self.path("store.sock")
        p = self.start("--standalone", "--listen", "127.0.0.1:0", "--control", sock)
        wait_for("stats", lambda: ask(sock, "stats"))

        def wakeups():
            """Voluntary context switches of all its threads."""
            n = 0
            for t in os.listdir(f"/proc/{p.pid}/task"):
                with open(f"/proc/{p.pid}/task/{t}/status") as f:
                    n += sum(int(x.split()[1]) for x in f if x.startswith("voluntary"))
            return n

        def cpu_s():
            with open(f"/proc/{p.pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, cpu = wakeups(), cpu_s()
        wait_for("some wake-ups", lambda: wakeups() > before + 5)
        self.assertLess(cpu_s() - cpu, 0.1)  # a busy poller would have burnt it many times

    # --- a pair ---

    def pair(self):
        a, b = free_ports(2), free_ports(2)
        with open(self.path("site.yaml"), "w") as f:
            f.write(SITE.format(dir=self.dir, a=a, b=b))
        return self.path("site.yaml")

    def test_a_pair_through_kills(self):
        site = self.pair()
        a = self.start("-c", site, "--node", "store-a")
        wait_for("the primary to wait", lambda: self.all_shards("store-a", role="waiting"))
        b = self.start("-c", site, "--node", "store-b")
        wait_for("two copies", lambda: self.all_shards("store-a", role="primary", copies=2))
        wait_for("a backup", lambda: self.all_shards("store-b", role="backup"))

        b.kill()
        b.wait()
        wait_for("one copy", lambda: self.all_shards("store-a", copies=1))
        b = self.start("-c", site, "--node", "store-b")
        wait_for("two copies again", lambda: self.all_shards("store-a", copies=2))

        def equal():
            x, y = (ask(self.path(n + ".sock"), "digest")["shards"] for n in ("store-a", "store-b"))
            return [(r["position"], r["digest"]) for r in x] == \
                   [(r["position"], r["digest"]) for r in y]
        wait_for("equal digests", equal)
        events = {e["event"] for e in a.events()}
        self.assertLessEqual({"listening", "waiting for backup", "backup connected",
                              "backup caught up", "backup dropped"}, events)

        a.kill()
        a.wait()
        wait_for("the backup to miss it",
                 lambda: all(s["primary_unreachable_ms"] for s in self.shards("store-b")))
        a = self.start("-c", site, "--node", "store-a")
        rows = wait_for("LOST", lambda: self.all_shards("store-a", role="lost"))
        self.assertIn("--accept-loss", rows[0]["trouble"])
        self.assertIn("LOST", {e["event"] for e in a.events()})
        self.assertEqual(a.stop(), 0)
        a = self.start("-c", site, "--node", "store-a", "--accept-loss")
        wait_for("two copies at last", lambda: self.all_shards("store-a", role="primary", copies=2))
        self.assertIn("discarding state", {e["event"] for e in b.events()})
        for p in (a, b):
            self.assertEqual(p.stop(), 0)

    # --- three nodes and etcd ---

    def start_etcd(self, client, peer):
        url, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        try:
            p = Process(["etcd", "--data-dir", self.path("etcd"), "--listen-client-urls", url,
                         "--advertise-client-urls", url, "--listen-peer-urls", peers,
                         "--initial-advertise-peer-urls", peers, "--initial-cluster",
                         f"default={peers}", "--unsafe-no-fsync"], self.path("etcd.log"))
        except FileNotFoundError:
            self.fail("there is no etcd: install the package etcd-server")
        self.running.append(p)
        return p

    def site_with_etcd(self):
        client, peer = free_ports(1), free_ports(1)
        a, b, c = free_ports(3), free_ports(3), free_ports(3)
        with open(self.path("site.yaml"), "w") as f:
            f.write(ETCD_SITE.format(dir=self.dir, etcd=client, a=a, b=b, c=c))
        return client, peer

    def start_node(self, name, *more):
        return self.start("-c", self.path("site.yaml"), "--node", name, *more)

    def order(self, node, words):
        return ask(self.path(node + ".sock"), words)

    def ordered(self, node, words):
        """The answer, once the primary serves: one that takes over yet says so."""
        def given():
            answer = self.order(node, words)
            self.assertIn("ask again", answer.get("error", "ask again"))
            return "result" in answer and answer
        return wait_for(f"{node} to take: {words}", given)

    def primaries(self, nodes=NODES):
        """Shard -> the node that serves it with two copies."""
        return {s["shard"]: n for n in nodes for s in self.shards(n) or []
                if s["role"] == "primary" and s["copies"] == 2}

    def test_three_nodes_through_kills(self):
        client, peer = self.site_with_etcd()
        etcd = self.start_etcd(client, peer)
        run = {n: self.start_node(n) for n in NODES}
        wait_for("a primary each", lambda: self.primaries() == dict(enumerate(NODES)))
        stats = self.order("store-a", "stats")
        self.assertEqual(stats["views"]["kind"], "etcd")
        self.assertEqual(stats["shards"][1]["primary"], "store-b")
        row = wait_for("leases", lambda: next((s for s in self.shards("store-a") if s["lease_left_ms"]), None))
        self.assertEqual((row["role"], row["collecting"]), ("primary", ""))
        self.assertLessEqual(row["lease_left_ms"], 300 / 4)
        self.assertEqual(sum(s["slots_owned"] for n in NODES for s in self.shards(n)
                             if s["role"] == "primary"), 256)

        # etcd is away for a while: nobody dies, nothing changes
        def epochs_known():
            """Of a shard that it does not serve store-a hears later than those that do."""
            known = [s["view_epoch"] for s in self.shards("store-a")]
            return all(known) and known
        epochs = wait_for("store-a to know every view", epochs_known)
        etcd.kill()
        etcd.wait()
        wait_for("a word about etcd", lambda: "does not answer" in
                 self.order("store-a", "stats")["views"]["trouble"])
        self.assertEqual([s["view_epoch"] for s in self.shards("store-a")], epochs)
        etcd = self.start_etcd(client, peer)
        wait_for("etcd again", lambda: not self.order("store-a", "stats")["views"]["away_ms"])
        self.assertEqual([s["view_epoch"] for s in self.shards("store-a")], epochs)

        # a primary dies: its backup serves, the spare takes its place
        run["store-a"].kill()
        run["store-a"].wait()
        left = NODES[1:]
        wait_for("all shards on two nodes", lambda: sorted(self.primaries(left)) == [0, 1, 2])
        run["store-a"] = self.start_node("store-a")
        wait_for("a spare", lambda: self.all_shards("store-a"))

        # orders
        words = "in-these-words-data-may-be-lost"
        at = self.primaries()
        self.assertIn("ask that one", self.order("store-a", "hand-over 0")["error"])
        self.assertIn(at[0], self.order("store-a", "hand-over 0")["error"])
        self.assertIn("ordered", self.ordered(at[0], "hand-over 0")["result"])
        wait_for("another primary", lambda: self.primaries().get(0) not in (None, at[0]))
        for wrong in ("move", "move 5-1 0", "move 0-300 0", "lend", "lend t 0 1", "hand-over 9",
                      "rebalance 0,0", "rebalance x", "accept-loss 0", "accept-loss 0 please",
                      f"accept-loss 0 {words} --fenced nobody"):
            self.assertIn("error", self.order("store-a", wrong), wrong)
        self.assertIn("not proven dead",
                      self.order("store-a", f"accept-loss 0 {words}")["error"])

        # hash slots move to another shard's primary
        at = wait_for("a primary each", lambda: len(self.primaries()) == 3 and self.primaries())
        self.assertIn("ordered", self.ordered(at[0], "move 0-9 2")["result"])
        wait_for("ten slots to move", lambda: self.order(at[2], "map")["slots"][0] ==
                 {"first": 0, "last": 9, "shard": 2})
        wait_for("both to have counted it", lambda: self.shards(at[0])[0]["slots_sent_total"] == 10
                 and self.shards(at[2])[2]["slots_taken_total"] == 10)
        self.assertIn("no such table is open", self.order(at[0], "lend ports 5 2 0")["error"])
        plan = self.order(at[2], "rebalance 0,1,2")["plan"]
        self.assertTrue(plan and all(m["from"] == 2 and m["ordered"] for m in plan), plan)
        wait_for("them to be level again", lambda: not self.order(at[2], "rebalance 0,1,2")["plan"])
        stats = self.shards(at[2])[2]
        self.assertEqual(stats["copies_wanted"], 2)
        self.assertEqual([row["who"] for row in stats["limits"]], ["shard"])

        # etcd is away, and a backup dies: stats tell for how long its proposal is open
        etcd.kill()
        etcd.wait()
        run[at[1]].send_signal(signal.SIGSTOP)
        asking = [n for n in NODES if n != at[1]]
        wait_for("an open proposal", lambda: any(s["role"] == "primary" and s["proposal_open_ms"] > 300
                                                 for n in asking for s in self.shards(n)))
        run[at[1]].send_signal(signal.SIGCONT)
        etcd = self.start_etcd(client, peer)
        wait_for("no proposal", lambda: not any(s["proposal_open_ms"] for n in NODES
                                                for s in self.shards(n)))

        # a drain hands over
        at = wait_for("a primary each", lambda: len(self.primaries()) == 3 and self.primaries())
        victim = at[1]
        run[victim].terminate()
        self.assertEqual(run[victim].wait(PATIENCE_S), 0)
        others = tuple(n for n in NODES if n != victim)
        wait_for("all shards on the others", lambda: sorted(self.primaries(others)) == [0, 1, 2])

        # everybody dies: LOST, until somebody says that this is so
        for n in others:
            run[n].kill()
            run[n].wait()
        run = {n: self.start_node(n) for n in NODES}
        wait_for("LOST", lambda: all(self.all_shards(n, role="lost") for n in NODES))
        self.assertIn("accept-loss 0", self.shards("store-b")[0]["trouble"])
        self.assertIn("proposed", self.order("store-b", f"accept-loss 0 {words}")["result"])
        wait_for("shard 0 again", lambda: self.primaries().get(0) == "store-b")
        run["store-c"].terminate()
        run["store-c"].wait()
        run["store-c"] = self.start_node("store-c", "--accept-loss")
        wait_for("all shards again", lambda: sorted(self.primaries()) == [0, 1, 2])

    def test_started_while_etcd_is_away(self):
        client, peer = self.site_with_etcd()
        p = self.start_node("store-a")
        rows = wait_for("a word about etcd", lambda: [s for s in self.shards("store-a") or []
                                                      if "waits for etcd at 127.0.0.1" in s["trouble"]])
        self.assertEqual({s["role"] for s in rows}, {"waiting"})
        wait_for("the log to say so", lambda: "this node waits for it" in str(p.events()))
        self.assertEqual(p.stop(), 0)
        self.assertNotIn("leaving early", str(p.events()))  # it had nothing to wait for
        for n in NODES:
            self.start_node(n)
        self.assertNotIn("site", wait_for("an answer", lambda: self.order("store-a", "stats"))["views"])
        self.start_etcd(client, peer)
        wait_for("a primary each", lambda: self.primaries() == dict(enumerate(NODES)))

        def names():
            said = [self.order(n, "stats")["views"].get("site", "") for n in NODES]
            return all(said) and set(said)
        self.assertRegex(" ".join(wait_for("the site's name", names)), "^[0-9a-f]{32}$")  # one, of all

    def secret(self, name, mode=0o600, text=None):
        with open(self.path(name), "w") as f:
            os.fchmod(f.fileno(), mode)
            f.write(text or secrets.token_hex(32) + "\n")
        return self.path(name)

    def test_a_pair_with_secrets(self):
        site = self.pair()
        own = self.path("own.yaml")
        for path, replica in ((site, self.secret("replicas")), (own, self.secret("others"))):
            with open(self.path("site.yaml")) as f:
                text = f.read()
            with open(path, "w") as f:
                f.write(text.split("  tenants:")[0] + "  tenants:\n    - {name: t, tables: [\"*\"], "
                        "secret_file: %s}\n  replica_secret_file: %s\n" % (self.secret("t"), replica))
        a = self.start("-c", site, "--node", "store-a")
        wrong = self.start("-c", own, "--node", "store-b")
        wait_for("refusals", lambda: all(s["auth_failures"] for s in self.shards("store-a") or [{"auth_failures": 0}]))
        wait_for("a word about it", lambda: "wrong replica secret" in str(wrong.events()))
        self.assertTrue(self.all_shards("store-a", role="waiting"))  # it was not even heard
        self.assertEqual(wrong.stop(), 0)
        b = self.start("-c", site, "--node", "store-b")
        wait_for("two copies", lambda: self.all_shards("store-a", role="primary", copies=2))
        logs = str(a.events()) + str(b.events()) + str(wrong.events())
        self.assertIn("authentication failed", logs)
        for name in ("replicas", "others", "t"):
            with open(self.path(name)) as f:
                self.assertNotIn(f.read().strip(), logs)

    def test_secret_files_that_are_refused(self):
        for mode, text, says in ((0o644, None, "chmod 600"), (0o600, "beef", "64 to 128 hex digits")):
            self.secret("t", mode, text)
            with open(self.pair(), "a") as f:
                f.write("  tenants: [{name: t, tables: [a], secret_file: %s}]\n"
                        "  replica_secret_file: %s\n" % (self.path("t"), self.path("t")))
            r = self.run_once("-c", self.path("site.yaml"), "--node", "store-a")
            self.assertEqual(r.returncode, 1)
            self.assertIn(self.path("t") + ": ", r.stderr)
            self.assertIn(says, r.stderr)

    def test_who_listens_to_the_world_without_secrets_is_warned(self):
        for host, warned in (("127.0.0.1", 0), ("0.0.0.0", 1)):
            p = self.start("--standalone", "--listen", host + ":0", "--shards", "2")
            wait_for("listening", lambda: sum(e["event"] == "listening" for e in p.events()) == 2)
            said = [e for e in p.events() if e["event"] == "no authentication"]
            self.assertEqual(len(said), warned, host)

    def test_a_backup_alone_keeps_trying(self):
        b = self.start("-c", self.pair(), "--node", "store-b")
        wait_for("a word about it",
                 lambda: any(e["event"] == "primary unreachable" for e in b.events()))
        self.assertIn("nothing listens", str(b.events()))
        r = self.run_once("-c", self.path("site.yaml"), "--node", "store-b", "--accept-loss")
        self.assertEqual(r.returncode, 2)
        b.send_signal(signal.SIGINT)
        self.assertEqual(b.wait(PATIENCE_S), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
