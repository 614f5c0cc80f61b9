#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seed corpora that are committed beside it; run it only to add seeds.

fuzz_wire    every golden message, and txns and results alone
fuzz_site    the sample site.yaml, whole and in parts, and texts broken in known ways
fuzz_views   views and registrations as a store writes them, and broken ones
fuzz_request each request to the controller's API, requests that cannot be, desired states as kept
fuzz_ask     answers to the controller by HTTP: an object, refusals, addresses
fuzz_kubernetes  two objects each, as an API server tells them: pods in each state, lists, lines of a watch
fuzz_packet  8 control bytes (see fuzz_packet.c), then a frame: each protocol, fragments, ICMP
             errors that quote each, options, wrong lengths and checksums, and what is no IPv4
"""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")


def write(target, name, data):
    with open(os.path.join(HERE, "corpus", target, name), "wb") as f:
        f.write(data)


# --- requests to the controller --------------------------------------------------------------

def requests():
    with open(os.path.join(ROOT, "orchestrator", "openapi.json")) as f:
        paths = json.load(f)["paths"]
    bodies = {"scale": '{"replicas": 3}', "kill": '{"force": true}', "restart": '{"force": false}',
              "down": '{"force": true}', "autoscale": '{"enabled": true, "busy_high_permille": 800}',
              "plan": '{"queue_high": 10, "cooldown_ms": 0}', "site": KEPT_SITE,
              "trace": '{"flow": "udp 10.1.0.5:5353 > 192.0.2.10:53", "seconds": 10}'}
    queries = {"events": "after=3&wait_ms=10&limit=5", "trace": "limit=5"}
    for path, methods in paths.items():
        for method in methods:
            real = path.replace("{group}", "nf").replace("{instance}", "nf-1").replace("{shard}", "1")
            last = real.rsplit("/", 1)[1]
            body = bodies.get(last, "{}" if method == "post" else "") if method != "get" else ""
            query = queries.get(last, "") if method == "get" else "revision=7"
            yield method + real.replace("/", "_"), "%s\n%s\n%s\n%s" % (method.upper(), real, query, body)
    yield "traversal", "GET\n/v1/instances/../../etc/passwd\n\n"
    yield "method", "DELETE\n/v1/status\n\n"
    yield "number", 'POST\n/v1/groups/nf/scale\n\n{"replicas": 1e99}'
    yield "twice", 'POST\n/v1/groups/nf/scale\n\n{"replicas": 1, "replicas": 2}'
    kept = {"revision": 3, "down": False, "site": KEPT_SITE, "stopped": ["b"],
            "groups": [{"name": "nf", "replicas": 2, "autoscale": {"enabled": True}}]}
    yield "kept", json.dumps(kept)
    yield "kept_wrong", json.dumps(dict(kept, stopped=["x"]))


KEPT_SITE = ("store:\n  etcd: [\"h:1\"]\n  nodes:\n    - {name: a, listen: \"h:1\"}\n    - {name: b, listen: \"h:9\"}\n"
             "groups: [{name: nf, max: 4}]\n")


# --- what an API server of Kubernetes tells ---------------------------------------------------

def kubernetes():
    a, b = "containerd://" + "0a" * 32, "containerd://" + "bf" * 32
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": a}}
    states = {
        "waiting": ({"waiting": {"reason": "ContainerCreating"}}, "", {}),
        "running": ({"running": {"startedAt": "2026-05-04T10:11:12Z"}}, a, {}),
        "again": ({"running": {"startedAt": "2026-05-04T10:12:12Z"}}, b, ended),
        "ended": (ended, a, {}),
    }

    def pod(state, deleted):
        now, identity, last = states[state]
        meta = {"name": "nf-5d4f8b6c9-x2x4z", "uid": "9a1f7a8e-41a4", "resourceVersion": "812", "labels": {"app": "nf"}}
        if deleted:
            meta.update(deletionTimestamp="2026-05-04T10:12:12Z", deletionGracePeriodSeconds=20)
        return {"metadata": meta, "spec": {"nodeName": "n1", "containers": [
            {"name": "nf", "ports": [{"name": "metrics", "containerPort": 9471}]}]},
            "status": {"phase": "Running", "hostIP": "10.88.0.1", "podIP": "10.244.1.7", "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "no node fits"}], "containerStatuses": [
                    {"name": "nf", "containerID": identity, "state": now, "lastState": last}]}}
    for state in states:
        for deleted in (False, True):
            yield state + "_deleted" * deleted, json.dumps(pod("running", False)) + "\n" + json.dumps(pod(state, deleted))
    node = {"metadata": {"name": "n1", "resourceVersion": "9"}, "spec": {"unschedulable": True},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    deployment = {"metadata": {"name": "nf", "resourceVersion": "9"}, "spec": {"replicas": 3}}
    yield "others", json.dumps(node) + "\n" + json.dumps(deployment)
    yield "list", json.dumps({"metadata": {"resourceVersion": "77", "continue": "eyJ2_-"}, "items": [pod("running", False), node]})
    yield "watch", json.dumps({"type": "DELETED", "object": pod("ended", True)}) + "\n" + json.dumps(
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version", "reason": "Expired"}})


# --- packets ---------------------------------------------------------------------------------

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def put16(data, at, value):
    return data[:at] + struct.pack(">H", value) + data[at + 2:]


SRC, DST = bytes([10, 1, 0, 5]), bytes([198, 51, 100, 9])


def ipv4(proto, body, frag=0, ttl=64, options=b"", src=SRC, dst=DST, total=None):
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | words, 0, total or words * 4 + len(body), 0x1234,
                       frag, ttl, proto, 0, src, dst) + options
    return put16(head, 10, checksum(head)) + body


def pseudo(proto, body, src, dst):
    return src + dst + struct.pack(">BBH", 0, proto, len(body))


def tcp(data=b"", flags=0x10, options=b"", src=SRC, dst=DST):
    body = struct.pack(">HHIIBBHHH", 40000, 443, 1, 2, (5 + len(options) // 4) << 4, flags, 4096,
                       0, 0) + options + data
    return put16(body, 16, checksum(pseudo(6, body, src, dst) + body))


def udp(data=b"hello", zero=False):
    body = struct.pack(">HHHH", 5353, 53, 8 + len(data), 0) + data
    return body if zero else put16(body, 6, checksum(pseudo(17, body, SRC, DST) + body))


def icmp(kind, code, rest, data):
    body = struct.pack(">BBHI", kind, code, 0, rest) + data
    return put16(body, 2, checksum(body))


def ethernet(payload, kind=0x0800):
    return bytes.fromhex("020000000002020000000001") + struct.pack(">H", kind) + payload


def ipv6(proto, body):
    return struct.pack(">IHBB", 6 << 28, len(body), proto, 64) + b"\x20\x01" + b"\1" * 14 + \
        b"\x20\x01" + b"\2" * 14 + body


def packets():
    syn = ipv4(6, tcp(flags=2, options=bytes.fromhex("020405b40402080a0000000100000000" "01030307")))
    data = ipv4(17, udp())
    echo = ipv4(1, icmp(8, 0, 0x77770001, b"x" * 32))
    yield "tcp_syn", ethernet(syn)
    yield "tcp_data", ethernet(ipv4(6, tcp(b"GET / HTTP/1.1\r\n\r\n")))
    yield "tcp_odd", ethernet(ipv4(6, tcp(b"abc")))
    yield "udp", ethernet(data)
    yield "udp_padded", ethernet(data) + b"\0" * 20
    yield "udp_no_checksum", ethernet(ipv4(17, udp(zero=True)))
    yield "udp_bad_length", ethernet(ipv4(17, struct.pack(">HHHH", 1, 2, 900, 0)))
    yield "echo_request", ethernet(echo)
    yield "echo_reply", ethernet(ipv4(1, icmp(0, 0, 0x77770001, b"x" * 32), src=DST, dst=SRC))
    yield "icmp_timestamp", ethernet(ipv4(1, icmp(13, 0, 5, b"\0" * 12)))
    for name, quoted in (("tcp", syn), ("udp", data), ("echo", echo)):
        for kind, code in ((3, 1), (11, 0), (3, 4)):
            yield "error_%d_%d_%s" % (kind, code, name), ethernet(
                ipv4(1, icmp(kind, code, 1400 if code == 4 else 0, quoted), src=DST, dst=SRC))
    yield "error_quotes_28", ethernet(ipv4(1, icmp(3, 3, 0, syn[:28]), src=DST, dst=SRC))
    yield "error_quotes_24", ethernet(ipv4(1, icmp(3, 3, 0, syn[:24]), src=DST, dst=SRC))
    yield "error_quotes_nothing", ethernet(ipv4(1, icmp(3, 3, 0, b""), src=DST, dst=SRC))
    yield "error_quotes_error", ethernet(ipv4(1, icmp(3, 3, 0, ipv4(1, icmp(3, 3, 0, data)))))
    yield "fragment_first", ethernet(ipv4(17, udp(b"y" * 56), frag=0x2000))
    yield "fragment_later", ethernet(ipv4(17, b"y" * 64, frag=0x2008))
    yield "fragment_last", ethernet(ipv4(17, b"y" * 11, frag=0x0010))
    yield "fragment_tiny", ethernet(ipv4(6, b"y" * 16, frag=0x0001))
    yield "options", ethernet(ipv4(17, udp(), options=b"\1\1\7\7\4\0\0\0\0\0\0\0"))
    yield "options_open", ethernet(ipv4(17, udp(), options=b"\7\x28\4\0"))
    yield "ttl_1", ethernet(ipv4(17, udp(), ttl=1))
    yield "gre", ethernet(ipv4(47, b"\0\0\x08\0" + data))
    yield "multicast", ethernet(ipv4(17, udp(), dst=bytes([224, 0, 0, 1])))
    yield "super", ethernet(ipv4(6, tcp(b"z" * 100), total=9000))
    yield "truncated", ethernet(syn)[:40]
    yield "bad_checksum", ethernet(put16(data, 10, 0x1111))
    yield "ihl_4", ethernet(b"\x44" + data[1:])
    yield "arp", ethernet(struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + b"\2" * 20, 0x0806)
    yield "ipv6_udp", ethernet(ipv6(17, udp()), 0x86dd)
    yield "ipv6_tcp", ethernet(ipv6(6, tcp(b"abc")), 0x86dd)
    yield "ipv6_echo", ethernet(ipv6(58, icmp(128, 0, 0x77770001, b"x" * 8)), 0x86dd)
    yield "ipv6_error", ethernet(ipv6(58, icmp(1, 4, 0, ipv6(17, udp()))), 0x86dd)
    yield "ipv6_fragment", ethernet(ipv6(44, b"\x11\0\0\1" + b"\0" * 12), 0x86dd)
    yield "nothing", b""


# --- wire --------------------------------------------------------------------------------------

def wire():
    golden = os.path.join(ROOT, "tests", "golden", "v2")
    for name in sorted(os.listdir(golden)):
        with open(os.path.join(golden, name), "rb") as f:
            frame = f.read()
        yield "v2_" + name[:-4], frame
        if name == "results.bin":
            yield "result_moved", frame[-24:]
    golden = os.path.join(ROOT, "tests", "golden", "v1")
    for name in sorted(os.listdir(golden)):
        with open(os.path.join(golden, name), "rb") as f:
            frame = f.read()
        yield name[:-4], frame
        if name == "batch.bin":
            first = struct.unpack_from("<H", frame, 48 + 8)[0]
            yield "txn_get_or_create", frame[48:48 + first]
            yield "txn_add_limit", frame[48 + first:]
            yield "batch_empty", struct.pack("<IB", 48, 8) + b"\1" + b"\0" * 42
        if name == "error.bin":
            yield "error_full", frame[:32] + b"t" * 199 + b"\0"
        if name == "results.bin":
            yield "result_hit", frame[40:88]
            yield "result_limit", frame[88:]
    scan = struct.pack("<BBBBBBHIBBHQQ", 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 32, 7, 0)
    yield "txn_scan", struct.pack("<QHBBI", 9, 48, 0, 1, 0) + scan
    get = struct.pack("<BBBBBBHIBBHQQ", 1, 1, 2, 0, 4, 0, 0, 0, 0, 0, 40, 0, 0) + b"keyA\0\0\0\0"
    patches = [(0, 2, 0, 8, 0, 0), (0, 1, 0, 4, 0, 4), (0, 0, 9, 8, 1, 0), (0, 2, 4, 4, 2, 4)]
    insert = struct.pack("<BBBBBBHIBBHQQ", 3, 2, 8, 0, 8, 4, 8, 5000, 1, 8, 32 + 24 + 32, 0, 0) + \
        b"keyBkeyBparentP.valueVV." + \
        b"".join(struct.pack("<BBBBBBH", op, what, off, n, into, 0, at)
                 for op, what, off, n, into, at in patches)
    yield "txn_patches", struct.pack("<QHBBI", 9, 16 + len(get) + len(insert), 3, 2, 0) + get + insert
    entry = struct.pack("<QHHI", 5, 4, 8, 100) + b"keyyvaluevalu\0\0\0"[:12] + b"\0" * 4
    value = entry * 2
    yield "result_scan", struct.pack("<QHBBBBH", 9, 16 + 24 + len(value), 0, 1, 0, 0, 0) + \
        struct.pack("<BBHIQII", 0, 3, len(value), 2, 0, 0, 24 + len(value)) + value


# --- site.yaml -----------------------------------------------------------------------------------

NODE = "store:\n  nodes:\n    - {name: a, listen: \"127.0.0.1:7400\"}\n"
SITES = {
    "smallest": NODE,
    "empty": "",
    "three_nodes": NODE + "    - {name: b, listen: \"b:7400\"}\n    - {name: c, listen: \"[::1]:7400\"}\n",
    "numbers": "failure_timeout_ms: 60\n" + NODE + "  shards: 16\n  memory_mb: 512\n"
               "  client_lease_ms: 5000\nworker: {mbufs: 2048, window_bursts: 1}\n",
    "steering": NODE + "steering:\n  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p, "
                "serves: [10.0.0.0/24, 10.2.0.1]}\n  outside: {address: 10.9.0.1, next_hop: "
                "10.9.0.2, port: q}\n  maglev_size: 251\n  workers_max: 2\n",
    "tunnel": NODE + "steering:\n  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n  outside: {address: "
              "10.9.0.1, next_hop: 10.9.0.2, port: q}\n  tunnel: {address: 10.9.0.1, port: \"p,iface=t\", more_ports: "
              "[\"net_q,iface=u\", \"net_r,iface=v\"], vni: 7, mtu: 1400}\nworker: {tunnel: {steering: [10.9.0.1]}}\ngroups: [{name: nf, weight: 7}]\n",
    "nfs": NODE + "chain: [nat44]\nnfs:\n  nat44: {external: [203.0.113.1], udp_s: 300, quiet: true}\n",
    "nfs_unknown": NODE + "nfs:\n  nat66: {}\n",
    "unknown_key": NODE + "stor: 1\n",
    "twice": NODE + "run_dir: a\nrun_dir: b\n",
    "alias": NODE + "chain: &c [a]\nrun_dir: *c\n",
    "two_documents": NODE + "---\na: b\n",
    "complex_key": "? [a, b]\n: 1\n",
    "missing": "store:\n  nodes:\n    - name: a\n",
    "wrong_type": "store:\n  nodes: [1, [2]]\n",
    "deep": NODE + "nfs: " + "[" * 20 + "]" * 20 + "\n",
    "tab": "store:\n\tshards: 1\n",
    "literal": NODE + "run_dir: |\n  a\n  b\n",
    "tags": NODE + "run_dir: !!str 3\nchain: !!seq [a]\n",
    "escapes": NODE + "run_dir: \"\\x01\\u263a\\n\"\n",
    "bom": "\ufeff" + NODE,
    "crlf": NODE.replace("\n", "\r\n"),
    "secrets": NODE + "  tenants:\n    - {name: t, secret_file: f, tables: [\"nat.*\", m]}\n"
               "  replica_secret_file: g\nworker: {tenant: t, secret_file: f}\n",
    "groups": NODE + "controller: {listen: \"127.0.0.1:9\", token_file: t}\ngroups:\n  - {name: nf, replicas: 2, "
              "limits: {memory_mb: 512}}\n  - name: canary\n    min: 0\n    replicas: 0\n    program: /p\n"
              "    autoscale: {enabled: true, busy_low_permille: 1}\n",
    "groups_wrong": NODE + "groups: [{name: nf, replicas: 99}, {name: nf}]\n",
    "prefix_wrong": NODE + "steering:\n  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p, "
                    "serves: [10.0.0.1/24]}\n",
}


def tunnel():
    """Outer headers, and the messages of joining (common/packet/tunnel.h); the target mends sums and tags."""
    def outer(inner, vni=4097, src_port=0xc001, frag=0x4000, flags=8, ihl=5):
        udp = struct.pack(">HHHH", src_port, 4789, 16 + len(inner), 0)
        ip = struct.pack(">BBHHHBBH", 0x40 | ihl, 0, 4 * ihl + 16 + len(inner), 0, frag, 64, 17, 0)
        ip += bytes([10, 9, 0, 1, 10, 9, 1, 1]) + b"\1" * (4 * ihl - 20)
        vxlan = bytes([flags, 0, 0, 0]) + struct.pack(">I", vni << 8)
        return bytes([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]) + ip + udp + vxlan + inner

    def message(kind, seq=1, front=5, issued=19000000, incarnation=77, name=b"w1", weight=100, mtu=1500, reason=0):
        return bytes([2] * 12) + b"\x88\xb5" + struct.pack(
            "<IBBHQQQQHHHH12s32s8s14x", 0x54484c31, kind, 1, 3, incarnation, seq, front, issued, weight, mtu, reason, 0,
            bytes([2, 0, 0, 0, 0, 5] * 2), name, b"")

    inner = bytes([2] * 12) + b"\x08\0" + bytes(40)
    yield "packet", outer(inner)
    yield "packet_outside", outer(inner, vni=4098)
    yield "options", outer(inner, ihl=6)
    yield "fragment", outer(inner, frag=0x2000)
    yield "no_vni", outer(inner, flags=0)
    yield "short", outer(inner[:14])
    for kind in range(1, 9):
        yield "message_%d" % kind, outer(message(kind))
    yield "old", outer(message(1, issued=1))
    yield "unknown_front", outer(message(1, front=0, issued=0))
    yield "bad_name", outer(message(1, name=b".w"))
    yield "refused", outer(message(6, reason=2))
    yield "long_answer", outer(message(4) + bytes(120))


def views():
    """What stands in etcd (statestore/server/views_json.h)."""
    member = '{"node":%d,"incarnation":"%d"}'
    return {
        "view": '{"epoch":1,"members":[%s],"accepted_loss":false}' % (member % (1, 17)),
        "view_of_three": '{"epoch":7,"members":[%s,%s,%s],"accepted_loss":true}'
                         % (member % (3, 2**63), member % (1, 18), member % (16, 2**64 - 1)),
        "twice": '{"epoch":7,"members":[%s,%s]}' % (member % (3, 1), member % (3, 2)),
        "no_members": '{"epoch":7,"members":[]}',
        "registration": '{"incarnation":"17","name":"a","listen":"h:1","holds":[["17",1,0],["18",0,9]]}',
        "registration_short": '{"incarnation":"1001"}',
        "holds_broken": '{"incarnation":"17","holds":[["x",1,0]]}',
        "no_object": "[1]",
    }


ANSWERS = {
    "stats": '{"instance": "w1", "pid": 7, "uptime_ms": 12, "lethe_worker_busy_permille": 5}',
    "workers": '{"spray": false, "workers": [{"name": "w1", "state": "healthy", "in_table": true}]}',
    "error": '{"error": "the loop does not answer: \\u00fc"}',
    "refusal": "here are /metrics, /healthz and /readyz; /v1/ask/stats\nand a second line\x1b[31m",
    "list": "[1, 2]", "half": '{"a": ', "address": "http://10.244.1.7:9471", "address6": "http://[fe80::1]:9471",
    "name": "http://localhost:80",
}


def main():
    for target in ("fuzz_wire", "fuzz_site", "fuzz_packet", "fuzz_views", "fuzz_request", "fuzz_ask", "fuzz_tunnel",
                   "fuzz_kubernetes"):
        os.makedirs(os.path.join(HERE, "corpus", target), exist_ok=True)
    for name, frame in wire():
        write("fuzz_wire", name, frame)
    for name, text in SITES.items():
        write("fuzz_site", name, text.encode())
    for name, text in views().items():
        write("fuzz_views", name, text.encode())
    for name, frame in tunnel():
        write("fuzz_tunnel", name, b"\3" + frame)
    for name, text in kubernetes():
        write("fuzz_kubernetes", name, text.encode())
    for name, text in requests():
        write("fuzz_request", name, text.encode())
    for name, text in ANSWERS.items():
        write("fuzz_ask", name, struct.pack("<H", 200) + text.encode())
    with open(os.path.join(ROOT, "site.yaml"), "rb") as f:
        write("fuzz_site", "sample", f.read())
    for i, (name, frame) in enumerate(packets()):
        control = bytes([i * 37 & 0xf1, i * 3 & 0xff, 203, 0, 113, i, 0x1f, 0x90 + i])
        write("fuzz_packet", name, control + frame)


main()
