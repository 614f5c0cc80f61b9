#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Flows that come and go: new mappings all the time, and ports that can be given out again.

    traffic_churn.py --server 192.0.2.10 --rate 50 --from /proc/PID/ns/net=10.1.1.10-10.1.1.41 ...

`rate` times a second a TCP connection from a new port that sends one line, has it answered, and is reset
(so that its mapping dies early), and a UDP packet from a new port to the echo server. Runs until its
input ends; then one JSON line of counts. Nothing here is counted as broken: a connection attempt that
meets a fault is just one of many. One thread, one epoll.
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
from traffic_server import ECHO_PORT, LINE_PORT

LIFE_S = 5.0


class Churn:
    def __init__(self, args):
        self.args = args
        self.sources = [netns.parse_source(s) for s in getattr(args, "from")]
        self.epoll = select.epoll()
        self.epoll.register(sys.stdin, select.EPOLLIN)
        self.tcp = {}                      # fd -> [socket, asked]
        self.old = collections.deque()     # (until, socket)
        self.count = {"begun": 0, "answered": 0, "failed": 0}

    def open_socket(self, kind):
        n = self.count["begun"]
        fd, addresses = self.sources[n % len(self.sources)]
        netns.enter(fd)
        sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        sock.bind((addresses[n // len(self.sources) % len(addresses)], 0))
        return sock

    def begin(self, now):
        self.count["begun"] += 1
        udp = self.open_socket(socket.SOCK_DGRAM)
        udp.sendto(os.urandom(8) + b"churn", (self.args.server, ECHO_PORT))
        tcp = self.open_socket(socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tcp.connect_ex((self.args.server, LINE_PORT))
        self.tcp[tcp.fileno()] = [tcp, False]
        self.epoll.register(tcp, select.EPOLLOUT)
        self.old.append((now + LIFE_S, udp))
        self.old.append((now + LIFE_S, tcp))

    def progress(self, fd):
        sock, asked = self.tcp[fd]
        try:
            if not asked:
                sock.send(b"churn 1 x\n")
                self.tcp[fd][1] = True
                self.epoll.modify(sock, select.EPOLLIN)
                return
            self.count["answered"] += sock.recv(100).startswith(b"1 ")
        except OSError:
            self.count["failed"] += 1
        del self.tcp[fd]
        sock.close()                       # lingers 0 s: a reset

    def retire(self, now):
        while self.old and self.old[0][0] <= now:
            sock = self.old.popleft()[1]
            if self.tcp.pop(sock.fileno(), None):
                self.count["failed"] += 1
            sock.close()

    def run(self):
        due = time.monotonic()
        while True:
            for fd, _ in self.epoll.poll(max(0, due - time.monotonic())):
                if fd == sys.stdin.fileno():
                    print(json.dumps(self.count), flush=True)
                    return
                if fd in self.tcp:
                    self.progress(fd)
            now = time.monotonic()
            if now >= due:
                due = max(due + 1.0 / self.args.rate, now - 1)
                self.begin(now)
                self.retire(now)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--server", required=True)
    p.add_argument("--from", action="append", required=True)
    p.add_argument("--rate", type=float, default=50)
    Churn(p.parse_args()).run()


if __name__ == "__main__":
    main()
