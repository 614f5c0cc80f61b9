# SPDX-License-Identifier: BSD-3-Clause
"""lethe-store on 127.0.0.1, for tests: processes, ports, control sockets, and patience."""
import json
import random
import socket
import subprocess
import time

PATIENCE_S = 120
# Below those that the kernel gives to outgoing connections: nobody takes one while its store is away.
PORTS = range(10000, 32000)


def wait_for(what, condition):
    """The first true value of condition()."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for: {what}")


def free_ports(n):
    """The first of n consecutive ports that are free now."""
    for first in random.sample(PORTS, 200):
        socks = [socket.socket() for _ in range(n)]
        try:
            for i, s in enumerate(socks):
                s.bind(("127.0.0.1", first + i))
            return first
        except OSError:
            continue
        finally:
            for s in socks:
                s.close()
    raise AssertionError("no free ports")


def ask(path, request):
    """The control socket's answer, or None while nobody is there."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        try:
            s.connect(path)
            s.sendall(request.encode() + b"\n")
            return json.loads(s.makefile().readline())
        except (OSError, ValueError):
            return None


class Process(subprocess.Popen):
    """A program whose output goes to a file."""

    def __init__(self, argv, log):
        self.log = log
        with open(log, "a") as f:
            super().__init__(argv, stdout=f, stderr=f)

    def text(self):
        with open(self.log) as log:
            return log.read()

    def events(self):
        return [json.loads(line) for line in self.text().splitlines(True)
                if line.startswith("{") and line.endswith("\n")]

    def stop(self):
        """SIGTERM; the exit status."""
        self.terminate()
        return self.wait(PATIENCE_S)

    def end(self):
        """By force, if it is still there."""
        self.kill()
        self.wait()
