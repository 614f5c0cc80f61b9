#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""store_history tells a store that keeps its word from one that does not.

    test_history.py LETHE_STORE STORE_HISTORY
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from history import History  # noqa: E402
from local_store import Process, free_ports, wait_for  # noqa: E402

HISTORY, STORE = sys.argv.pop(), sys.argv.pop()
SHARDS = 2


class Verdicts(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.port = free_ports(SHARDS)
        self.store = None
        self.start_store()
        self.clients = History(subprocess.Popen, HISTORY, ["127.0.0.1:%d" % self.port], SHARDS,
                               slots=8, clients=4, rate=4000, lease_ms=50000)
        wait_for("the clients", self.clients.ready)
        self.clients.ask("mark start")

    def tearDown(self):
        self.store.end()
        self.clients.end()
        self.tmp.cleanup()

    def start_store(self):
        if self.store:
            self.store.end()
        self.store = Process([STORE, "--standalone", "--shards", str(SHARDS), "--listen",
                              "127.0.0.1:%d" % self.port], os.path.join(self.tmp.name, "store.log"))

    def test_a_store_that_keeps_its_word(self):
        wait_for("writes", lambda: self.clients.served(200))
        told = self.clients.finish()
        self.assertTrue(told["ok"], told)
        self.assertEqual(told["unknown"], 0)
        self.assertGreater(told["done"], 1000)

    def test_a_store_that_forgets_everything(self):
        wait_for("writes", lambda: self.clients.served(50))
        self.start_store()  # empty, and does not say that it is another one
        self.clients.ask("mark forgot")
        wait_for("writes after it", lambda: self.clients.served(50))
        told = self.clients.finish()
        self.assertFalse(told["ok"], told)
        self.assertFalse(told["linearizable"], told)

    def test_a_killed_client_leaves_unknown_outcomes(self):
        wait_for("writes", lambda: self.clients.served(20))
        self.clients.ask("mark kill")
        self.store.send_signal(signal.SIGSTOP)
        wait_for("operations under way", lambda: self.clients.status()["waiting"] > 4)
        os.kill(self.clients.status()["pids"][0], signal.SIGKILL)
        wait_for("its end", lambda: self.clients.status()["pids"] == [0])
        self.store.send_signal(signal.SIGCONT)
        self.assertTrue(self.clients.ask("respawn 0")["ok"])
        wait_for("the clients", self.clients.ready)
        self.clients.ask("gap")
        self.clients.ask("mark again")
        wait_for("writes", lambda: self.clients.served(20))
        told = self.clients.finish()
        self.assertTrue(told["ok"], told)
        self.assertGreater(told["unknown"], 0)


if __name__ == "__main__":
    unittest.main()
