#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TCP connections of every age, for conntrackd_failover.py: long-lived ones, and new ones at a steady rate.

    conntrackd_load.py --server 192.0.2.10 --count 200 --rate 200 --life 4 --every 0.25 \\
                       --from /proc/PID/ns/net=10.1.1.10-10.1.1.41 ...

What a connection says, what it is answered and what *broken* is: tests/net/traffic_lines.py, whose connections these
are. `count` live for ever; `rate` a second live for up to `life` seconds and are then closed by the client. Each says
its first line as soon as it is open, then one each `every` seconds, unless it waits for an answer.

Standard input, one JSON object a line, each answered by one:
    {"do": "status"}               counts
    {"do": "arm"}                  from now on nobody is closed whose life is over, so that those open at the
                                   failure are still there to be judged; and waiting is measured anew
    {"do": "judge", "at": t}       t: CLOCK_MONOTONIC of the failure. Each connection open at t is waited for, until
                                   it answered a line asked after this order, or broke: {"judged": [[age in s,
                                   "" or why it broke, longest wait for an answer in s], ...], "opening": n, of them
                                   "opening_broken": n}. *Opening* had sent its SYN at t and was not open yet.
    {"do": "finish"}               counts, then the end
One thread, one epoll, all client hosts.
"""
import argparse
import json
import os
import random
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "net"))
import traffic_lines  # noqa: E402



class Aged(traffic_lines.Connection):
    """One that knows when it began, and how it fared since the last order to arm."""
    syn_at = open_at = broken_at = None
    until, reason, wait_s, sure = 0.0, "", 0.0, False


traffic_lines.Connection, traffic_lines.TICK_S = Aged, 0.01


class Load(traffic_lines.Lines):
    def __init__(self, args):
        super().__init__(args)
        os.set_blocking(sys.stdin.fileno(), False)
        self.commands, self.due = b"", time.monotonic()
        self.armed, self.order_at = None, None    # the failure's cohort is kept; when it was to be judged
        self.at, self.cohort = 0.0, []
        self.fell = []                            # broken since armed

    def open_one(self, now):
        lasting = len(self.all) < self.args.count
        super().open_one(now)
        c, self.all[-1] = self.all[-1], None       # `all` only counts
        c.syn_at = now
        c.until = float("inf") if lasting else now + random.uniform(0.3, self.args.life)

    def connected(self, c, now):
        super().connected(c, now)
        if c.state == "open":
            c.open_at, c.next_at = now, now
            self.ask(c, now)

    def receive(self, c, now):
        asked = c.asked_at
        super().receive(c, now)
        if c.state == "open" and asked is not None and c.asked_at is None:
            c.wait_s = max(c.wait_s, now - asked)
            c.sure = self.order_at is not None and asked >= self.order_at

    def break_off(self, c, reason):
        super().break_off(c, reason)
        c.reason, c.broken_at = reason, time.monotonic()
        self.fell.append(c)

    def tick(self, now):
        while self.due <= now and not self.finishing:
            self.due = max(self.due + 1.0 / self.args.rate, now - 0.1)
            self.open_one(now)
        for c in list(self.by_fd.values()):
            if c.asked_at is not None:
                if now - c.asked_at > self.args.deadline:
                    self.break_off(c, "silent for %d s (%s)" % (self.args.deadline, c.state))
            elif c.state == "open" and now >= c.until and not self.armed:
                self.close(c, "done")
            elif c.state == "open" and now >= c.next_at:
                self.ask(c, now)
        if self.order_at and all(c.sure or c.reason for c in self.cohort):
            self.answer_judge()
        if self.finishing:
            for c in list(self.by_fd.values()):
                self.close(c, "done")

    # --- orders ------------------------------------------------------------------------------

    def counts(self):
        now = time.monotonic()
        asked = [now - c.asked_at for c in self.by_fd.values() if c.asked_at is not None]
        return {"begun": len(self.all), "opened": self.opened, "broken": self.broken, "answers": self.answers,
                "open": sum(c.state == "open" for c in self.by_fd.values()), "late": sum(a > 1 for a in asked),
                "reasons": self.reasons}

    def order_judge(self, at):
        fell = [c for c in self.fell if c.broken_at >= at and c.syn_at]
        self.at, self.order_at, self.armed = at, time.monotonic(), None
        self.cohort = [c for c in list(self.by_fd.values()) + fell if c.syn_at <= at]
        for c in self.cohort:    # kept until judged, however short its life
            c.until_then, c.until = c.until, float("inf")

    def answer_judge(self):
        opened = [c for c in self.cohort if c.open_at is not None and c.open_at <= self.at]
        opening = [c for c in self.cohort if c.open_at is None or c.open_at > self.at]
        for c in self.cohort:
            c.until = c.until_then
        say({"judged": [[round(self.at - c.open_at, 4), c.reason, round(c.wait_s, 4)] for c in opened],
             "opening": len(opening), "opening_broken": sum(bool(c.reason) for c in opening)})
        self.cohort, self.order_at, self.fell = [], None, []

    def command(self, c):
        if c["do"] == "arm":
            self.armed, self.fell = True, []
            for each in self.by_fd.values():
                each.wait_s, each.sure = 0.0, False
            say({"armed": True})
        elif c["do"] == "judge":
            self.order_judge(c["at"])
        else:
            self.finishing = c["do"] == "finish"
            say(self.counts())

    def read_commands(self):
        data = sys.stdin.buffer.raw.read(65536)
        if data == b"":
            self.finishing = True
            return
        *lines, self.commands = (self.commands + (data or b"")).split(b"\n")
        for line in lines:
            self.command(json.loads(line))

    def run(self):
        next_tick = time.monotonic()
        while not (self.finishing and not self.by_fd):
            for fd, _ in self.epoll.poll(max(0, next_tick - time.monotonic())):
                c, now = self.by_fd.get(fd), time.monotonic()
                if fd == sys.stdin.fileno():
                    self.read_commands()
                elif c and c.state == "connecting":
                    self.connected(c, now)
                elif c:
                    self.receive(c, now)
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + traffic_lines.TICK_S
                self.tick(now)


def say(what):
    print(json.dumps(what), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--server", action="append", required=True, help="address of a traffic_server.py; may repeat")
    p.add_argument("--from", action="append", required=True, help="namespace=first-last address of clients; may repeat")
    p.add_argument("--count", type=int, default=200, help="connections that stay (default: %(default)s)")
    p.add_argument("--rate", type=float, default=200, help="further ones a second (default: %(default)s)")
    p.add_argument("--life", type=float, default=4.0, help="seconds these live at most (default: %(default)s)")
    p.add_argument("--every", type=float, default=0.25, help="seconds between lines (default: %(default)s)")
    p.add_argument("--deadline", type=float, default=10.0, help="silent for longer is broken (default: %(default)s)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--epoch", type=float, default=time.time(), help="zero of the reasons' at_s")
    Load(p.parse_args()).run()


if __name__ == "__main__":
    main()
