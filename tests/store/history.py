# SPDX-License-Identifier: BSD-3-Clause
"""store_history, driven: commands in, JSON out (store_history.c says which)."""
import json
import select
import subprocess


class History:
    """`spawn(argv, stdin, stdout)` starts the program and returns its Popen."""

    def __init__(self, spawn, program, nodes, shards, namespaces=(), **options):
        argv = [program, "--nodes", ",".join(nodes), "--shards", str(shards)]
        for path in namespaces:
            argv += ["--in", path]
        for name, value in options.items():
            argv += ["--" + name.replace("_", "-"), str(value)]
        self.process = spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, command, timeout_s=10):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            raise OSError("store_history does not answer `%s` within %g s" % (command, timeout_s))
        line = self.process.stdout.readline()
        if not line:
            raise OSError("store_history ended, status %s" % self.process.wait())
        return json.loads(line)

    def status(self):
        return self.ask("status")

    def ready(self):
        """Every client is connected, leased, and has its tables."""
        s = self.status()
        return s["ready"] == s["clients"]

    def served(self, writes=3):
        """Every hash slot in use has acknowledged a write since the mark or point, and so many on average."""
        s = self.status()
        return s["slots_served"] == s["slots"] and s["writes"] >= writes * s["slots"]

    def end(self):
        """By force, if it is still there."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def finish(self, wait_s=10, timeout_s=240):
        result = self.ask("finish %d" % wait_s, timeout_s)
        self.process.wait()
        return result
