# SPDX-License-Identifier: BSD-3-Clause
"""flow_pulse: live connections whose every packet is numbered, driven phase by phase."""
import json
import os
import queue
import subprocess
import threading

import network
from netns import NetError

ANSWER_S = 120   # the longest an order may take: a drain that waits for silent connections


class Pulse:
    """All its flows and connections are open when the constructor returns."""

    def __init__(self, lab, programs, udp, tcp):
        self.connections = udp + tcp
        server = "%s=%s" % (lab.namespaces["s1"].path(), network.SERVERS["s1"])
        self.process = lab.spawn(
            "flow_pulse", [os.path.join(programs, "tests/net/flow_pulse"), "--server", server,
                           *network.client_sources(lab), "--udp", str(udp), "--tcp", str(tcp)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, nice=-5)
        self.answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._answer("%d connections to open" % self.connections)

    def _read(self):
        for line in self.process.popen.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def _answer(self, what):
        try:
            answer = self.answers.get(timeout=ANSWER_S)
        except queue.Empty:
            answer = None
        if answer is None:
            raise NetError("waited in vain for %s; see %s" % (what, self.process.log))
        return answer

    def order(self, text):
        try:
            self.process.popen.stdin.write(text.encode() + b"\n")
            self.process.popen.stdin.flush()
        except OSError as e:
            raise NetError("flow_pulse is gone: %s; see %s" % (e, self.process.log)) from None

    def pace(self, pulses_per_s):
        self.order("pace %d" % pulses_per_s)

    def press(self, packets_per_s):
        self.order("press %d" % packets_per_s)

    def slow(self, pids):
        """These processes stand still again and again, a few milliseconds each; []: nobody any more."""
        self.order(" ".join(["slow"] + [str(p) for p in pids]))

    def drain(self, phase):
        """Sending stops until everything has come, or nothing comes any more; what was counted since the last time."""
        self.order("drain " + phase)
        return self._answer("the counts of " + phase)

    def finish(self):
        """A last record on every connection; the counts since the last drain."""
        self.order("finish")
        return self._answer("the last counts")
