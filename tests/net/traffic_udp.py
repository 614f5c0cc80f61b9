#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Paced UDP flows with numbered packets: the ruler that gaps are measured with.

    traffic_udp.py --server 192.0.2.74 --count 160 --from /proc/PID/ns/net=10.1.1.10-10.1.1.41 ...

Every flow is its own socket and sends to the echo server, which returns the packet and the source it
saw, so that the flow's outside end point is known. A *paced* flow sends every 10 ms, the others once
a second, which keeps their mappings alive. The *hole* of a flow is the longest time between two
answers since the last mark (the time until now included, if it has been silent since).

Standard input, one JSON object a line; each is answered by one JSON line:
    {"do": "flows"}               every flow's inside and outside end points
    {"do": "pace", "flows": [..]} these are the paced ones from now on
    {"do": "paced"}               per paced flow the number of answers since it became paced
    {"do": "mark"}                forget the holes so far
    {"do": "count"}               count answers from now on, keep the holes
    {"do": "holes"}               per paced flow: hole in ms, answers since the mark or count
    {"do": "since", "at": t}      the longest hole that ended after t (CLOCK_MONOTONIC), or goes on, in ms; and when
    {"do": "status"}              counts; silent: paced flows without an answer for 100 ms; quiet_ms: of the flow
                                  that waits longest for one
    {"do": "finish"}              counts, then the end (also at the end of the input)
One thread, one epoll, all client hosts.
"""
import argparse
import collections
import json
import os
import select
import socket
import struct
import sys
import time

import netns
from traffic_server import ECHO_PORT

PACE_S = 0.010
KEEP_ALIVE_S = 1.0
HOLE_S = 0.030                # shorter ones are not remembered one by one
STEPS = 5                     # paced flows are spread over the 10 ms in this many bursts
HEAD = struct.Struct("!8sII")  # a name no other flow of this run has, flow, number
SEEN = struct.Struct("!4sH")


class Flow:
    __slots__ = ("id", "sock", "name", "number", "paced", "last", "hole", "answers", "paced_answers",
                 "keep_at", "inner", "outer")


class Flows:
    def __init__(self, args):
        self.args = args
        self.epoll = select.epoll()
        self.epoll.register(sys.stdin, select.EPOLLIN)
        os.set_blocking(sys.stdin.fileno(), False)
        self.commands = b""
        self.sources = [netns.parse_source(s) for s in getattr(args, "from")]
        self.sent = self.received = self.remapped = self.wrong = self.refused = 0
        self.run_name = os.urandom(4)
        self.flows = [self.open_flow(i) for i in range(args.count)]
        self.by_fd = {f.sock.fileno(): f for f in self.flows}
        self.steps = [[] for _ in range(STEPS)]
        self.long_holes = collections.deque(maxlen=20000)  # (end, seconds)

    def open_socket(self, number):
        fd, addresses = self.sources[number % len(self.sources)]
        netns.enter(fd)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((addresses[number // len(self.sources) % len(addresses)], 0))
        sock.connect((self.args.server, ECHO_PORT))
        return sock

    def open_flow(self, number):
        f = Flow()
        f.id, f.sock = number, self.open_socket(number)
        f.name = self.run_name + struct.pack("!I", number)
        f.inner, f.outer = "%s:%d" % f.sock.getsockname(), None
        f.number = f.answers = f.paced_answers = 0
        f.paced, f.last, f.hole = False, None, 0.0
        f.keep_at = time.monotonic() + KEEP_ALIVE_S * number / self.args.count
        self.epoll.register(f.sock, select.EPOLLIN)
        return f

    def send(self, f):
        f.number += 1
        self.sent += 1
        try:
            f.sock.send(HEAD.pack(f.name, f.id, f.number))
        except OSError:
            self.refused += 1  # an ICMP error about an earlier packet: a lost packet like any

    def receive(self, f, now):
        try:
            while True:
                data = f.sock.recv(256)
                self.accept(f, data, now)
        except BlockingIOError:
            pass
        except OSError:
            self.refused += 1

    def accept(self, f, data, now):
        if len(data) != HEAD.size + SEEN.size:
            self.wrong += 1
            return
        name, number, sequence = HEAD.unpack_from(data)
        if name != f.name or number != f.id or sequence > f.number:
            self.wrong += 1  # another flow's packet
            return
        host, port = SEEN.unpack_from(data, HEAD.size)
        outer = "%s:%d" % (socket.inet_ntoa(host), port)
        if outer != f.outer:
            self.remapped += f.outer is not None
            f.outer = outer
        if f.last is not None and f.paced:
            f.hole = max(f.hole, now - f.last)
            if f.paced_answers and now - f.last > HOLE_S:
                self.long_holes.append((now, now - f.last))
        f.last = now
        f.answers += 1
        f.paced_answers += 1
        self.received += 1

    def command(self, c, now):
        do = c["do"]
        if do == "flows":
            return {"flows": [[f.id, f.inner, f.outer] for f in self.flows if f.outer],
                    "server": "%s:%d" % (self.args.server, ECHO_PORT)}
        if do == "pace":
            for f in self.flows:
                f.paced = False
            for i in c["flows"]:
                self.flows[i].paced, self.flows[i].paced_answers = True, 0
            paced = [f for f in self.flows if f.paced]
            self.steps = [paced[i::STEPS] for i in range(STEPS)]
            return {"paced": len(paced)}
        if do == "paced":
            return {"answers": {f.id: f.paced_answers for f in self.flows if f.paced}}
        if do == "mark":
            for f in self.flows:
                f.hole, f.answers = 0.0, 0
            return {"marked": True}
        if do == "count":
            for f in self.flows:
                f.answers = 0
            return {"counting": True}
        if do == "holes":
            return {"holes": {f.id: [round(1000 * max(f.hole, now - (f.last or now))), f.answers]
                              for f in self.flows if f.paced}}
        if do == "since":
            open_holes = ((now, now - f.last) for f in self.flows if f.paced and f.paced_answers)
            end, hole = max([h for h in self.long_holes if h[0] >= c["at"]] + list(open_holes),
                            key=lambda h: h[1], default=(now, 0))
            return {"hole_ms": round(1000 * hole), "ended": end}
        if do == "finish":
            self.over = True
        return {"sent": self.sent, "received": self.received, "remapped": self.remapped,
                "wrong": self.wrong, "refused": self.refused,
                "mapped": sum(1 for f in self.flows if f.outer),
                "paced": sum(len(s) for s in self.steps),
                "quiet_ms": round(1000 * max((now - f.last for f in self.flows if f.last), default=0)),
                "silent": sum(1 for f in self.flows if f.paced and now - (f.last or 0) > 0.1)}

    def read_commands(self, now):
        data = sys.stdin.buffer.raw.read(65536)
        if data == b"":
            self.over = True
            return
        *lines, self.commands = (self.commands + data).split(b"\n")
        for line in lines:
            print(json.dumps(self.command(json.loads(line), now)), flush=True)

    def run(self):
        self.over = False
        step, next_step = 0, time.monotonic()
        while not self.over:
            for fd, _ in self.epoll.poll(max(0, next_step - time.monotonic()), 256):
                now = time.monotonic()
                if fd == sys.stdin.fileno():
                    self.read_commands(now)
                else:
                    self.receive(self.by_fd[fd], now)
            now = time.monotonic()
            if now < next_step:
                continue
            next_step = max(next_step + PACE_S / STEPS, now - PACE_S)
            for f in self.steps[step % STEPS]:
                self.send(f)
            step += 1
            if step % STEPS == 0:
                for f in self.flows:
                    if now >= f.keep_at:
                        f.keep_at += KEEP_ALIVE_S
                        if not f.paced:
                            self.send(f)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--server", required=True)
    p.add_argument("--from", action="append", required=True)
    p.add_argument("--count", type=int, default=160)
    Flows(p.parse_args()).run()


if __name__ == "__main__":
    main()
