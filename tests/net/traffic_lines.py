#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Long-lived TCP connections that notice when anything happens to them.

    traffic_lines.py --server 192.0.2.10 --server ... --count 512 \\
                     --from /proc/PID/ns/net=10.1.1.10-10.1.1.41 ... [--deadline 15]

Each connection sends a numbered line every second and checks the answer against what it must be
(traffic_server.py: the number and a CRC over all lines so far). *Broken* is: reset, closed, answered
wrongly, or silent beyond the deadline; also a connection that could not be opened by then. Nothing
is opened anew: a broken connection stays broken in the count.

Standard output, twice a second, and once more at the end: one JSON object of counts.
Standard input: the line "finish" (or its end) lets every connection send a last line and wait for
its answer, then ends the program. One thread, one epoll; one process for all client hosts: a socket
belongs to the namespace in which it was made.
"""
import argparse
import errno
import json
import os
import random
import select
import socket
import sys
import time
import zlib

import netns
from traffic_server import LINE_PORT

TICK_S = 0.02
REASONS_KEPT = 20


class Connection:
    __slots__ = ("id", "sock", "state", "number", "chain", "pending", "asked_at", "next_at")

    def __init__(self, number):
        self.id = number
        self.state = "new"      # new, connecting, open, done, broken
        self.number, self.chain, self.pending = 0, 0, b""
        self.asked_at = None    # when the unanswered line was sent


class Lines:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.epoll = select.epoll()
        self.epoll.register(sys.stdin, select.EPOLLIN)
        self.by_fd, self.all = {}, []
        self.opened = self.broken = self.answers = 0
        self.slowest_s = 0.0
        self.reasons = []
        self.finishing = False
        self.sources = [netns.parse_source(s) for s in getattr(args, "from")]

    def open_one(self, now):
        c = Connection(len(self.all))
        self.all.append(c)
        fd, addresses = self.sources[c.id % len(self.sources)]
        netns.enter(fd)
        c.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.sock.bind((addresses[c.id // len(self.sources) % len(addresses)], 0))
        c.state, c.asked_at = "connecting", now
        server = self.args.server[c.id // len(self.sources) % len(self.args.server)]
        error = c.sock.connect_ex((server, LINE_PORT))
        if error not in (0, errno.EINPROGRESS):
            self.break_off(c, "connect: " + os.strerror(error))
            return
        self.by_fd[c.sock.fileno()] = c
        self.epoll.register(c.sock, select.EPOLLIN | select.EPOLLOUT)

    def connected(self, c, now):
        error = c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.break_off(c, "connect: " + os.strerror(error))
            return
        self.epoll.modify(c.sock, select.EPOLLIN)
        self.opened += 1
        c.state, c.asked_at = "open", None
        c.next_at = now + self.random.random() * self.args.every

    def ask(self, c, now):
        c.number += 1
        line = b"%08x %d %08x" % (c.id, c.number, self.random.getrandbits(32))
        c.chain = zlib.crc32(line, c.chain)
        c.asked_at, c.next_at = now, max(now, c.next_at + self.args.every)
        try:
            c.sock.send(line + b"\n")
        except OSError as e:
            self.break_off(c, "send: " + (e.strerror or str(e)))

    def receive(self, c, now):
        try:
            data = c.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as e:
            self.break_off(c, "reset: " + (e.strerror or str(e)))
            return
        if not data:
            self.break_off(c, "closed by the other side")
            return
        c.pending += data
        if not c.pending.endswith(b"\n"):
            return
        want = b"%d %08x\n" % (c.number, c.chain)
        if c.asked_at is None or c.pending != want:
            self.break_off(c, "wrong answer: %r instead of %r" % (c.pending[:60], want))
            return
        self.slowest_s = max(self.slowest_s, now - c.asked_at)
        c.pending, c.asked_at = b"", None
        self.answers += 1
        if self.finishing:
            self.close(c, "done")

    def break_off(self, c, reason):
        self.broken += 1
        try:
            name = "%s:%d" % c.sock.getsockname()
        except OSError:
            name = "?"
        why = {"connection": c.id, "from": name, "line": c.number,
               "at_s": round(time.time() - self.args.epoch, 2), "reason": reason}
        print(json.dumps(why), file=sys.stderr, flush=True)
        if len(self.reasons) < REASONS_KEPT:
            self.reasons.append(why)
        self.close(c, "broken")

    def close(self, c, state):
        c.state = state
        self.by_fd.pop(c.sock.fileno(), None)
        c.sock.close()

    def tick(self, now):
        if len(self.all) < self.args.count and not self.finishing:
            for _ in range(min(self.args.ramp, self.args.count - len(self.all))):
                self.open_one(now)
        for c in list(self.by_fd.values()):
            if c.asked_at is not None:
                if now - c.asked_at > self.args.deadline:
                    self.break_off(c, "silent for %d s (%s)" % (self.args.deadline, c.state))
            elif c.state == "open" and (now >= c.next_at or self.finishing):
                self.ask(c, now)

    def report(self, last=False):
        live = sum(1 for c in self.by_fd.values() if c.state == "open")
        late = sum(1 for c in self.by_fd.values()
                   if c.asked_at is not None and time.monotonic() - c.asked_at > 1)
        done = sum(1 for c in self.all if c.state == "done")
        asked = min((c.asked_at for c in self.by_fd.values() if c.asked_at is not None), default=None)
        print(json.dumps({"wanted": self.args.count, "opened": self.opened, "live": live,
                          "kept": done if last else live, "broken": self.broken, "late": late,
                          "answers": self.answers, "waiting_ms": round(1000 * (time.monotonic() - asked)) if asked else 0,
                          "slowest_ms": round(self.slowest_s * 1000),
                          "reasons": self.reasons, "last": last}), flush=True)

    def run(self):
        next_tick = next_report = time.monotonic()
        while not (self.finishing and not self.by_fd):
            for fd, events in self.epoll.poll(max(0, next_tick - time.monotonic())):
                c = self.by_fd.get(fd)
                if fd == sys.stdin.fileno():
                    self.epoll.unregister(sys.stdin)
                    self.finishing = True
                elif c and c.state == "connecting":
                    self.connected(c, time.monotonic())
                elif c:
                    self.receive(c, time.monotonic())
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                self.tick(now)
            if now >= next_report:
                next_report = now + 0.5
                self.report()
        self.report(last=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--server", action="append", required=True)
    p.add_argument("--from", action="append", required=True)
    p.add_argument("--count", type=int, default=512)
    p.add_argument("--ramp", type=int, default=4, help="connections opened per 20 ms")
    p.add_argument("--every", type=float, default=1.0, help="seconds between lines")
    p.add_argument("--deadline", type=float, default=15.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--epoch", type=float, default=time.time(), help="zero of at_s")
    Lines(p.parse_args()).run()


if __name__ == "__main__":
    main()
