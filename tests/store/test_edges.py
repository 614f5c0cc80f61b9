#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Peers that misbehave, beside clients that do not: each is told clearly what is wrong, the others lose nothing.

    test_edges.py LETHE_STORE STORE_HISTORY

One store for all, and one history of well-behaved clients over all; it is judged at the end. Runs against
every build: what a sanitizer finds ends the store, and the test.
"""
import os
import random
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire  # noqa: E402
from history import History  # noqa: E402
from local_store import Process, ask, free_ports, wait_for  # noqa: E402
from wire import Closed, Connection  # noqa: E402

HISTORY, STORE = sys.argv.pop(), sys.argv.pop()
SHARDS = 2
CONNECTIONS = 2000
CONNECTIONS_LIMIT = 4096       # of a shard
MEMORY_MB = 4

OPEN = """
failure_timeout_ms: 1000
run_dir: {dir}
store:
  shards: 2
  limits: [{{tables: ["edges.memory"], memory_mb: {memory_mb}}}]
  nodes: [{{name: open, listen: "127.0.0.1:{port}"}}]
"""
CLOSED = """
run_dir: {dir}
store:
  shards: 2
  nodes: [{{name: closed, listen: "127.0.0.1:{port}"}}]
  tenants: [{{name: us, secret_file: {dir}/us.secret, tables: ["history.*"]}}]
"""


class Store(Process):
    def __init__(self, folder, name, text, **keys):
        self.port, config = free_ports(SHARDS), os.path.join(folder, name + ".yaml")
        self.control = os.path.join(folder, name + ".sock")
        with open(config, "w") as f:
            f.write(text.format(dir=folder, port=self.port, **keys))
        super().__init__([STORE, "-c", config, "--node", name], os.path.join(folder, name + ".log"))
        self.shards()

    def shards(self):
        def stats():
            if self.poll() is not None:
                raise AssertionError("the store ended:\n" + self.text()[-4000:])
            return ask(self.control, "stats")
        return wait_for("stats of the store", stats)["shards"]

    def history(self, **options):
        return History(subprocess.Popen, HISTORY, ["127.0.0.1:%d" % self.port], SHARDS, slots=8,
                       clients=4, **options)


class Edges(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
        cls.tmp = tempfile.TemporaryDirectory()
        cls.store = Store(cls.tmp.name, "open", OPEN, memory_mb=MEMORY_MB)
        cls.clients = cls.store.history(rate=1000)
        wait_for("the clients", cls.clients.ready)
        cls.clients.ask("mark start")

    @classmethod
    def tearDownClass(cls):
        cls.clients.end()
        cls.store.end()
        cls.tmp.cleanup()

    def connect(self, shard=0, **options):
        c = Connection(self.store.port + shard, **options)
        self.addCleanup(c.close)
        return c

    def others_are_served(self):
        """Every hash slot of the well-behaved acknowledges writes from now on."""
        self.clients.ask("point")
        wait_for("writes of the others", self.clients.served)

    def tearDown(self):
        self.others_are_served()

    # --- frames ---

    def test_garbage_frames(self):
        rng = random.Random(7)
        good = wire.hello()
        rows = {
            "another protocol": b"GET / HTTP/1.0\r\nHost: nobody\r\n\r\n",
            "a length beyond any frame": wire.frame(wire.HELLO, bytes(80), claim=wire.BYTES_MAX + 8),
            "a length of nothing": bytes(64),
            "an unknown message": good + wire.frame(200, bytes(64)),
            "a message only replicas send": good + wire.frame(10, bytes(16)),
            "a txn that is longer than its batch": good + wire.batch(1, 0, [wire.TXN.pack(1, 4000, 0, 1, 0)]),
            "more txns than the batch has": good + wire.batch(1, 0, [], count=9),
        }
        for _ in range(50):
            rows["noise %d" % len(rows)] = rng.randbytes(rng.randrange(24, 3000))
            flipped = bytearray(good + wire.batch(1, 0, [wire.txn(1, 0, wire.op(wire.SCAN, 0))]))
            for _ in range(3):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            rows["flipped bits %d" % len(rows)] = bytes(flipped)
        for what, data in rows.items():
            with self.subTest(what):
                c = self.connect()
                c.send(data)
                c.socket.shutdown(socket.SHUT_WR)
                said = c.refusal()
                if not what.startswith(("noise", "flipped")):
                    self.assertNotEqual(said, "", "it closed without a word")

    def test_oversize_batch(self):
        c = self.connect()
        client = c.open()
        one = [wire.txn(i + 1, 0, wire.op(wire.SCAN, 0)) for i in range(wire.BATCH_MAX + 1)]
        c.send(wire.batch(client, 0, one))
        self.assertIn("too many txns", c.refusal())

    # --- who, and which tables ---

    def test_wrong_secret(self):
        for name in ("us", "stranger"):
            with open(os.path.join(self.tmp.name, name + ".secret"), "w") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write(secrets.token_hex(32) + "\n")
        closed = Store(self.tmp.name, "closed", CLOSED)
        path = os.path.join(self.tmp.name, "%s.secret")
        us = closed.history(rate=500, tenant="us", secret_file=path % "us")
        stranger = closed.history(rate=500, tenant="us", secret_file=path % "stranger")
        try:
            wait_for("who knows the secret", us.ready)
            wait_for("a refusal", lambda: "secret" in stranger.status()["troubles"][0])
            self.assertEqual(stranger.status()["ready"], 0)
            us.ask("mark")
            wait_for("writes", us.served)
            self.assertEqual(stranger.status()["told"], 0)
            told = us.finish()
            self.assertTrue(told["ok"], told)
        finally:
            us.end()
            stranger.end()
            self.assertEqual(closed.stop(), 0, closed.text()[-4000:])

    def test_wrong_schema(self):
        c = self.connect()
        client = c.open()
        self.assertGreaterEqual(c.table(client, wire.schema("edges.schema"))[0], 0)
        number, said = c.table(client, wire.schema("edges.schema", key_size=12))
        self.assertLess(number, 0)
        self.assertIn("edges.schema", said)
        for word in ("asked for", "key_size"):
            self.assertIn(word, said)
        number, said = c.table(client, wire.schema("edges.again"))
        self.assertGreaterEqual(number, 0, said)  # this connection may go on

    # --- limits ---

    def test_memory_limit(self):
        """Over the limit comes an error, for the tables it is the limit of and for no others."""
        c = self.connect()
        client = c.open()
        table, said = c.table(client, wire.schema("edges.memory", value_size=200))
        self.assertGreaterEqual(table, 0, said)
        seq, refused, stored = 0, 0, 0
        while refused < 10 and stored < 200000:
            seq, statuses = self.insert(c, client, table, seq, 100, range(128))  # of shard 0
            refused += statuses.count("NO_MEMORY")
            stored += statuses.count("OK")
            self.assertEqual(set(statuses) - {"OK", "NO_MEMORY"}, set())
        self.assertGreaterEqual(refused, 10, "%d entries of 200 bytes in %d MB" % (stored, MEMORY_MB))
        self.assertGreater(stored, 1000)

    # --- connections ---

    def insert(self, c, client, table, first, count, slots):
        """Inserts `count` keys, from `first` on, that hash into some slots; (next key, statuses)."""
        txns = []
        while len(txns) < count:
            first += 1
            key = first.to_bytes(8, "little")
            if wire.slot_of(key) in slots:
                txns.append(wire.txn(first, wire.slot_of(key), wire.op(wire.INSERT, table, key, bytes(200))))
        c.send(wire.batch(client, first - 8000 if first > 8000 else 0, txns))
        statuses = []
        while len(statuses) < count:
            statuses += [status for _, status in c.results()]
        return first, statuses

    def test_slow_reader(self):
        """Who asks for much and reads nothing is closed in time."""
        c = self.connect(receive_bytes=4096)
        client, seq = c.open(), 0
        table, said = c.table(client, wire.schema("edges.slow", value_size=200))
        self.assertGreaterEqual(table, 0, said)
        for _ in range(4):  # a scan of hash slot 0 is a whole result now
            seq, _ = self.insert(c, client, table, seq, 20, [0])
        c.socket.settimeout(0.2)
        before = sum(s["slow_readers"] for s in self.store.shards())

        def stalled():
            nonlocal seq
            try:
                c.socket.send(wire.batch(client, seq, [wire.txn(seq + i + 1, 0, wire.op(wire.SCAN, table))
                                                       for i in range(wire.BATCH_MAX)]))
                seq += wire.BATCH_MAX
            except (TimeoutError, ConnectionError):
                pass
            return sum(s["slow_readers"] for s in self.store.shards()) > before
        wait_for("the slow reader to be counted and closed", stalled)

    def test_half_open(self):
        """Who does not say HELLO is closed in time, with a word."""
        silent, half = self.connect(), self.connect()
        half.send(wire.hello()[:20])
        for c in (silent, half):
            self.assertIn("HELLO", c.refusal())

    def test_two_thousand_connections(self):
        """All are served; only beyond the limit comes an error, and nobody else is harmed."""
        many = []
        try:
            for i in range(CONNECTIONS):
                many.append(Connection(self.store.port))
                many[-1].send(wire.hello())
            for c in many:
                c.expect(wire.WELCOME)
            self.others_are_served()
            said = ""
            while len(many) < CONNECTIONS_LIMIT + 100 and not said:
                c = Connection(self.store.port)
                many.append(c)
                c.send(wire.hello())
                try:
                    c.expect(wire.WELCOME)
                except Closed as e:
                    said = str(e) or "nothing"
            self.assertIn("connections", said)
            self.others_are_served()
            for c in random.Random(1).sample(many[:CONNECTIONS], 50):
                c.send(wire.frame(wire.CLIENT_OPEN, (5).to_bytes(8, "little")))
                c.expect(wire.CLIENT)
        finally:
            for c in many:
                c.close()
        wait_for("their places to be free", lambda: self.store.shards()[0]["connections"] < 50)
        self.connect().open()

    def test_zz_the_others_lost_nothing(self):
        """The last: the verdict over everything."""
        told = self.clients.finish()
        self.assertTrue(told["ok"], told)
        self.assertEqual(told["unknown"], 0)
        self.assertEqual(self.store.stop(), 0, self.store.text()[-4000:])
        Edges.tearDown = lambda self: None


if __name__ == "__main__":
    unittest.main()
