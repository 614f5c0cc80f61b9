#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The servers of one outside host: lines, UDP echo, and files over http.

    traffic_server.py ADDRESS

line server (port 7007)  answers line n of a connection with "<n> <chain>\\n", where n is read from
    the line and chain is the CRC-32 over all lines of this connection so far. A line that is not
    the successor of the last one is answered with "BAD ..." and the connection is closed.
UDP echo (port 7008)     returns the datagram with the source it saw appended (4 + 2 bytes).
http (port 8080)         /stream?bytes=N : N bytes that any client can compute again (stream_blocks).

One epoll loop serves lines and echoes; http has a process of its own, forked at the start.
"""
import http.server
import os
import select
import socket
import socketserver
import struct
import sys
import urllib.parse
import zlib

LINE_PORT, ECHO_PORT, HTTP_PORT = 7007, 7008, 8080
STREAM_BLOCK = 64 * 1024


def stream_blocks(total_bytes):
    """The body of /stream: numbered blocks, so that no two are equal."""
    filler = bytes((i * 2654435761 >> 13) & 255 for i in range(STREAM_BLOCK - 16))
    number = 0
    while total_bytes > 0:
        block = b"%015d\n" % number + filler
        yield block[:total_bytes]
        total_bytes -= STREAM_BLOCK
        number += 1


class StreamHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        if url.path != "/stream":
            self.send_error(404)
            return
        total = int(urllib.parse.parse_qs(url.query)["bytes"][0])
        self.send_response(200)
        self.send_header("Content-Length", str(total))
        self.end_headers()
        for block in stream_blocks(total):
            self.wfile.write(block)

    def log_message(self, *_):
        pass


class HttpServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET


class LineConnection:
    __slots__ = ("sock", "pending", "number", "chain")

    def __init__(self, sock):
        self.sock, self.pending, self.number, self.chain = sock, b"", 0, 0

    def answer(self, data):
        """Answers every complete line; False: the connection is over."""
        lines = (self.pending + data).split(b"\n")
        self.pending = lines.pop()
        replies = []
        for line in lines:
            number = int(line.split(b" ", 2)[1])
            if number != self.number + 1:
                replies.append(b"BAD expected %d got %d\n" % (self.number + 1, number))
                self.sock.send(b"".join(replies))
                return False
            self.number, self.chain = number, zlib.crc32(line, self.chain)
            replies.append(b"%d %08x\n" % (number, self.chain))
        if replies:
            self.sock.send(b"".join(replies))
        return len(self.pending) < 4096


class Server:
    def __init__(self, address):
        self.epoll = select.epoll()
        self.listener = socket.create_server((address, LINE_PORT), backlog=1024)
        self.listener.setblocking(False)
        self.echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.echo.bind((address, ECHO_PORT))
        self.echo.setblocking(False)
        self.connections = {}
        for s in (self.listener, self.echo):
            self.epoll.register(s, select.EPOLLIN)

    def run(self):
        while True:
            for fd, _ in self.epoll.poll():
                if fd == self.echo.fileno():
                    self.echo_all()
                elif fd == self.listener.fileno():
                    self.accept_all()
                else:
                    self.serve(fd)

    def echo_all(self):
        try:
            for _ in range(64):
                data, (host, port) = self.echo.recvfrom(2048)
                seen = socket.inet_aton(host) + struct.pack("!H", port)
                self.echo.sendto(data + seen, (host, port))
        except BlockingIOError:
            pass
        except OSError:
            pass  # an ICMP error about an earlier answer

    def accept_all(self):
        try:
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections[sock.fileno()] = LineConnection(sock)
                self.epoll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            pass

    def serve(self, fd):
        c = self.connections[fd]
        try:
            data = c.sock.recv(16384)
            goes_on = bool(data) and c.answer(data)
        except BlockingIOError:
            return
        except (OSError, ValueError, IndexError):
            goes_on = False
        if not goes_on:
            del self.connections[fd]
            self.epoll.unregister(fd)
            c.sock.close()


def main():
    address = sys.argv[1]
    starter = os.getpid()
    if os.fork() == 0:
        import netns
        netns.die_with(starter)
        HttpServer((address, HTTP_PORT), StreamHandler).serve_forever()
    Server(address).run()


if __name__ == "__main__":
    main()
