# SPDX-License-Identifier: BSD-3-Clause
"""Frames of the protocol by hand (common/wire/msg.h, txn.h), for clients that misbehave."""
import socket
import struct

BYTES_MAX, BATCH_MAX = 256 * 1024, 256
HELLO, WELCOME, ERROR, CLIENT_OPEN, CLIENT, TABLE_OPEN, TABLE, BATCH, RESULTS = range(1, 10)
MAGIC = 0x4548544C
HEAD = struct.Struct("<IBBHQQ")
TXN, OP, RESULT_HEAD = struct.Struct("<QHBBI"), struct.Struct("<BBBBBBHIBBHQQ"), struct.Struct("<QHBBB3x")
SCHEMA = struct.Struct("<24sBBHBBBBIIII")
INSERT, ADD, SCAN = 3, 6, 10
HASH, COUNTERS = 1, 3
STATUS = ["OK", "CONFLICT", "LIMIT", "EXHAUSTED", "NO_MEMORY", "BUSY", "BAD_REQUEST", "STALE_CLIENT"]

_CRC = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    _CRC.append(n)


def slot_of(key):
    crc = 0xFFFFFFFF
    for byte in key:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return ((crc ^ 0xFFFFFFFF) * 0x9E3779B1 & 0xFFFFFFFF) >> 24


def frame(kind, body, shard=0, proto=1, claim=None):
    """A whole frame; `claim`: the length it says it has."""
    body += bytes(-len(body) % 8)
    return HEAD.pack(claim or HEAD.size + len(body), kind, proto, shard, 0, 0) + body


def hello(shard=0, role=1):
    return frame(HELLO, struct.pack("<IBBBBQIIQ32s", MAGIC, 1, 1, role, 0, 0, 0, 0, 0, b""), shard)


def schema(name, kind=HASH, key_size=8, value_size=16, timeout_ms=0, max_entries=0):
    return SCHEMA.pack(name.encode(), kind, 0, 1, key_size, 0, key_size, 0, value_size, timeout_ms,
                       max_entries, 0) + bytes(64)


def op(code, table, key=b"", value=b""):
    tail = key + value
    size = OP.size + len(tail) + -len(tail) % 8
    return OP.pack(code, table, 0, 0, len(key), 0, len(value), 0, 0, 0, size, 0, 0) + tail + \
        bytes(-len(tail) % 8)


def txn(seq, slot, *ops):
    body = b"".join(ops)
    return TXN.pack(seq, TXN.size + len(body), slot, len(ops), 0) + body


def batch(client, ack, txns, shard=0, count=None):
    return frame(BATCH, struct.pack("<QQII", client, ack, len(txns) if count is None else count, 0) +
                 b"".join(txns), shard)


class Closed(Exception):
    """The store closed; the text is what it said before, or ""."""


class Connection:
    def __init__(self, port, timeout_s=30, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self.input = b""
        self.said = ""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # why, the next receive tells

    def receive(self):
        """(type, body) of the next frame. What the store says in an ERROR becomes a Closed."""
        while len(self.input) < HEAD.size or len(self.input) < HEAD.unpack_from(self.input)[0]:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(self.said)
            self.input += data
        size, kind = HEAD.unpack_from(self.input)[:2]
        body, self.input = self.input[HEAD.size:size], self.input[size:]
        if kind == ERROR:
            self.said = body[8:208].split(b"\0")[0].decode()
            return self.receive()
        return kind, body

    def expect(self, kind):
        got, body = self.receive()
        if got != kind:
            raise AssertionError("message type %d instead of %d" % (got, kind))
        return body

    def refusal(self):
        """What the store says before it closes; whatever else it says is passed over."""
        try:
            while True:
                self.receive()
        except Closed as e:
            return str(e)

    def open(self, shard=0):
        """HELLO and a client id."""
        self.send(hello(shard))
        self.expect(WELCOME)
        self.send(frame(CLIENT_OPEN, struct.pack("<Q", 1), shard))
        return struct.unpack_from("<QQ", self.expect(CLIENT))[1]

    def table(self, client, description, shard=0):
        """(id, what the store says)."""
        self.send(frame(TABLE_OPEN, struct.pack("<Q", client) + description, shard))
        body = self.expect(TABLE)
        return struct.unpack_from("<i", body, 24)[0], body[32:232].split(b"\0")[0].decode()

    def results(self):
        """[(seq, status)] of the next RESULTS."""
        body, out, at = self.expect(RESULTS), [], 16
        for _ in range(struct.unpack_from("<I", body, 8)[0]):
            seq, size, status, _, _ = RESULT_HEAD.unpack_from(body, at)
            out.append((seq, STATUS[status] if status < len(STATUS) else status))
            at += size
        return out

    def close(self):
        self.socket.close()
