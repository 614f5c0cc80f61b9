# SPDX-License-Identifier: BSD-3-Clause
"""A unit as a supervisor reads it, and the supervisor's end of sd_notify(3)."""
import os
import shlex
import socket
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
    """Listens at a NOTIFY_SOCKET."""

    def __init__(self, path):
        self.path, self.heard = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)

    def wait(self, line, timeout_s=60):
        """Until a datagram has that line; the datagram, None when it never came."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                text = self.socket.recv(4096).decode()
            except socket.timeout:
                break
            self.heard.append(text)
            if line in text.split("\n"):
                return text
        return None

    def close(self):
        self.socket.close()
        os.unlink(self.path)
