# SPDX-License-Identifier: BSD-3-Clause
"""A unit as a supervisor reads it, and the supervisor's end of sd_notify(3)."""
import os
import shlex
import socket
import threading
import time


def read_unit(path, instance=""):
    """{key: [values]} of [Service], %i and continuation lines resolved."""
    keys, section = {}, ""
    with open(path) as f:
        text = f.read().replace("\\\n", " ")
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;":
            key, value = line.split("=", 1)
            keys.setdefault(key, []).append(value.replace("%i", instance))
    return keys


def command(unit, key="ExecStart"):
    """Its words; $LETHE_OPTIONS is empty unless the host says else."""
    return [w for w in shlex.split(unit[key][0]) if w != "$LETHE_OPTIONS"]


class Supervisor:
    """Listens at a NOTIFY_SOCKET, all the time: a thread."""

    def __init__(self, path):
        self.path, self.heard, self.at = path, [], 0
        self.news = threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while (text := self.socket.recv(4096).decode()) != "closed":
            with self.news:
                self.heard.append(text)
                self.news.notify_all()

    def wait(self, line, timeout_s=60):
        """Until a datagram after those that were waited for has that line; the datagram, None: it never came."""
        deadline = time.monotonic() + timeout_s
        with self.news:
            while True:
                while self.at < len(self.heard):
                    self.at += 1
                    if line in self.heard[self.at - 1].split("\n"):
                        return self.heard[self.at - 1]
                if not self.news.wait(max(0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return None

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"closed", self.path)
        self.thread.join()
        self.socket.close()
        os.unlink(self.path)
