#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Workers on other networks, reached by VXLAN through a router; each has joined both front ends.

             ┌─ steer ───┐
  clients ───┤           ├── servers        as in test_fronts.py; all MTUs are 1500, so 1450 are left inside
             └─ steer-2 ─┘
                  │ tun0 10.9.0.1, 10.9.3.1
           underlay (router) ── w1 10.9.1.1, w2 10.9.2.1 (tun0)       stranger 10.9.9.1

TCP with DF finds the MTU, ping is told it, what has no DF is cut; a link on the way that shrinks is noticed; weights 100:50; each packet goes back to the front
end that it came from; strangers' packets, joins with a wrong key and repeated joins have no effect; kill -9 of a
worker breaks no connection, a drain neither.
"""
import json
import sys
import time

import network
import scene
import test_fronts
import traffic
from lethe_site import wait_for

CONNECTIONS = 64
WEIGHTS = {"w1": 100, "w2": 50}
STEER, PORT, VNI = "10.9.0.1", 4789, 4097
ENDS = {"steer": STEER, "steer-2": "10.9.3.1", "w1": "10.9.1.1", "w2": "10.9.2.1", "stranger": "10.9.9.1"}
DEVICE = "net_af_packet%d,iface=tun0,framecnt=4096,blocksz=65536"
DOWNLOAD_BYTES = 24 << 20

# Run in a namespace. sniff: the first JOIN from one address to another, as hex. send: a UDP payload.
SNIFF = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.settimeout(10)
while True:
    f = s.recv(4096)
    if f[12:14] == b"\\x08\\0" and f[23] == 17 and f[36:38] == (4789).to_bytes(2, "big") \\
            and f[26:30] == socket.inet_aton(sys.argv[1]) and f[30:34] == socket.inet_aton(sys.argv[2]) \\
            and f[62:64] == b"\\x88\\xb5" and f[64:68] == b"1LHT":
        print(f[42:].hex())
        break
"""
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[3])):
    s.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 4789))
"""

# Run in a namespace: datagrams of 1500 bytes with DF, whatever the kernel has been told of the path.
FLOOD = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 3)  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
for i in range(int(sys.argv[2])):
    s.sendto(bytes(1472), (sys.argv[1], 9))
"""

# Run in a namespace: who has the site's key, and another's name, joins; what is answered, as "kind reason" a line.
TWIN = """
import ctypes, socket, struct, sys
to, key, name, vni, me = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4]), sys.argv[5]
message = struct.Struct("<IBBHQQQQHHHH12s32s")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 4789))
s.settimeout(5)
front = issued_us = 0
for seq in range(1, 4):
    body = message.pack(0x54484c31, 1, 1, 0, 77, seq, front, issued_us, 100, 1500, 0, 0, socket.inet_aton(me), name)
    tag = ctypes.create_string_buffer(8)
    ctypes.CDLL("libsodium.so.23").crypto_shorthash(tag, body, ctypes.c_ulonglong(len(body)), key)
    frame = (bytes(6) + b"\\2" + bytes(5) + b"\\x88\\xb5" + body + tag.raw).ljust(128, b"\\0")
    s.sendto(b"\\x08\\0\\0\\0" + vni.to_bytes(3, "big") + b"\\0" + frame, (to, 4789))
    told = message.unpack_from(s.recv(2048), 8 + 14)
    front, issued_us = told[6:8]
    print(told[1], told[10])
"""


def build_underlay(lab, ends=ENDS, workers=WEIGHTS):
    """A subnet each, and a router between them."""
    router = lab.namespace("underlay")
    router.sysctl("net.ipv4.ip_forward", 1)
    for name in workers:
        network.attach_to_management(lab, name, network.worker_address(name))
    for name, address in ends.items():
        end = lab.namespaces.get(name) or lab.namespace(name)
        gateway = address.rsplit(".", 1)[0] + ".2"
        lab.veth(end, "tun0", router, name)
        router.ip("addr add %s/24 dev %s" % (gateway, name))
        end.ip("addr add %s/24 dev tun0" % address, "route add 10.9.0.0/16 via %s" % gateway)


class TunnelSite(test_fronts.FrontsSite):
    def write_config(self, path, **other):
        super().write_config(path, **other)
        with open(path) as f:
            text = f.read()
        fronts = [ENDS[f] for f in test_fronts.FRONTS]
        text = text.replace("workers.secret}\nsteering:\n", "workers.secret, tunnel: {steering: [%s]}}\n"
                            "steering:\n  tunnel: {address: %s, port: \"%s\"}\n" % (
                                ", ".join(fronts), STEER, DEVICE % 2))
        text = text.replace("    - name: steer-2\n", "    - name: steer-2\n      tunnel: {address: %s, port: \"%s\"}\n" % (
            fronts[1], DEVICE % 2))
        with open(path, "w") as f:
            f.write(text)

    def start_worker(self, name):
        return self._start(name, "worker", [
            self.programs + "/nf/lethe-nf", "-c", self.config, "--worker", name, "--tunnel", DEVICE % 0,
            "--address", ENDS[name], "--weight", str(WEIGHTS[name])], name)

    def workers(self, front="steer"):
        return {w["name"]: w for w in self.ask(front, "workers")["workers"]}

    def healthy(self, front=None):
        """By all front ends."""
        found = [set(super(TunnelSite, self).healthy(f)) for f in ([front] if front else test_fronts.FRONTS)]
        return sorted(set.intersection(*found))

    def bring_up(self):
        self.bring_up_store()
        for front in test_fronts.FRONTS:
            self.start_front(front)
        for name in WEIGHTS:
            self.start_worker(name)
        for router in self.routers:
            router.watch(self.programs)
        for name in WEIGHTS:
            self.wait_worker(name)
        self.wait_fronts(test_fronts.FRONTS)

    def drops(self, name, reason):
        kind = "steer" if name == "steer" else "worker"
        return self.wait_stats(name)["lethe_%s_drops_total{reason=\"%s\"}" % (kind, reason)]

    def both(self, count):
        """Of both front ends together."""
        return sum(self.wait_stats(f)["lethe_steer_" + count] for f in test_fronts.FRONTS)


def vxlan(vni, frame):
    return b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0" + frame


def check_weights(site, checks):
    for front in test_fronts.FRONTS:
        told = wait_for(lambda: (lambda w: w if len(w) == 2 and all(x["buckets"] for x in w.values()) else None)(
            site.workers(front)), 10, "both workers in the table of " + front)
        buckets = {name: w["buckets"] for name, w in told.items()}
        checks.check("weights 100 and 50 show in the table of " + front,
                     abs(buckets["w1"] - 2 * buckets["w2"]) <= 6, str(buckets))
        checks.check("%s knows its workers" % front, all(
            w["via"] == "tunnel" and w["mtu"] == 1450 and w["address"] == ENDS[name] and w["weight"] == WEIGHTS[name]
            for name, w in told.items()), json.dumps(told))


def check_origins(site, checks):
    """The workers' books at each front end, after echoes and transfers alone: what went out came back."""
    for front in test_fronts.FRONTS:
        for name, w in site.workers(front).items():
            lost = abs(w["packets_to"] - w["packets_from"])
            checks.check("%s returned to %s what it had from there" % (name, front),
                         w["packets_to"] > 20 and lost <= 20 + w["packets_to"] // 50, "%d, %d" % (w["packets_to"], w["packets_from"]))


def check_path_mtu(lab, site, checks):
    c1, server = lab.namespaces["c1"], network.SERVERS["s1"]
    fits = c1.run(["ping", "-n", "-c", "3", "-i", "0.1", "-W", "5", "-M", "do", "-s", "1422", server], check=False)
    checks.check("1450 bytes with DF pass", " 0% packet loss" in fits.stdout, fits.stdout.strip().split("\n")[-2])
    told = c1.run(["ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", "-M", "do", "-s", "1423", server], check=False)
    checks.check("1451 bytes with DF are answered with the MTU", any(
        "From %s " % a in told.stdout for a in test_fronts.INSIDE.values()) and "mtu = 1450" in told.stdout,
                 told.stdout.strip())
    # af_packet hands larger datagrams over in one piece, and edges refuse those
    cut = c1.run(["ping", "-n", "-c", "5", "-i", "0.2", "-W", "5", "-M", "dont", "-s", "1472",
                  network.SERVERS["s2"]], check=False)
    checks.check("1500 bytes without DF pass in fragments", " 0% packet loss" in cut.stdout, cut.stdout.strip())
    checks.check("and were cut by steering", site.both("fragmented_total") > 0)


def check_rate_limit(lab, site, checks):
    """ICMP errors are few however many packets are too large; the rest is counted."""
    def figures():
        return site.both("packet_too_big_total"), site.both("drops_total{reason=\"too_big_for_tunnel\"}")
    answered, dropped = figures()
    lab.namespaces["c4"].run([sys.executable, "-c", FLOOD, network.SERVERS["s1"], "4000"])
    wait_for(lambda: sum(figures()) > answered + dropped + 2000, 10, "steering to have counted them")
    answered, dropped = figures()[0] - answered, figures()[1] - dropped
    checks.check("few of many packets that are too large are answered", 100 <= answered < dropped,
                 "%d answered, %d dropped" % (answered, dropped))


def check_transfers(lab, site, checks):
    before = site.both("packet_too_big_total")
    up = traffic.Iperf(lab, 2, False, 0, "c2")
    down = traffic.Download(lab, DOWNLOAD_BYTES, 100 << 20, "c3")
    checks.result("upload", up.finish())
    checks.result("download", down.finish())
    told = site.both("packet_too_big_total") - before
    checks.check("both were told the MTU", 2 <= told < 2000, "%d ICMP errors" % told)


def check_strangers(lab, site, checks):
    stranger = lab.namespaces["stranger"]

    def send(to, payload, times=5):
        stranger.run([sys.executable, "-c", SEND, to, payload.hex(), str(times)])
    join = bytes.fromhex(lab.namespaces["underlay"].run(
        [sys.executable, "-c", SNIFF, ENDS["w1"], STEER]).stdout.strip())
    forged = bytearray(join)
    forged[8 + 14 + 8] ^= 1  # its incarnation: the tag is wrong now
    packet = bytes.fromhex("02000000000102000000000208004500001c00010000401166cf0a0101010a0000010001000200080000")
    rows = [  # to, payload, who counts it, as what
        (STEER, vxlan(VNI, packet), "steer", "tunnel_stranger"),
        (STEER, vxlan(VNI + 1, packet), "steer", "tunnel_stranger"),
        (STEER, vxlan(VNI + 2, packet), "steer", "tunnel_wrong_vni"),
        (STEER, b"\0" + vxlan(VNI, packet)[1:], "steer", "tunnel_bad_outer"),
        (STEER, bytes(forged), "steer", "tunnel_forged"),
        (STEER, join, "steer", "tunnel_replayed"),
        (ENDS["w1"], vxlan(VNI, packet), "w1", "tunnel_stranger"),
        (ENDS["w1"], join, "w1", "tunnel_stranger"),
    ]
    known = {n: (w["worker"], w["address"], w["state"]) for n, w in site.workers().items()}
    for to, payload, who, reason in rows:
        before = site.drops(who, reason)
        send(to, payload)
        try:
            wait_for(lambda: site.drops(who, reason) >= before + 5, 10, reason)
            checks.check("a stranger's packets at %s are counted: %s" % (who, reason), True)
        except scene.NetError as e:
            checks.check("a stranger's packets at %s are counted: %s" % (who, reason), False, str(e))
    with open(site.run_dir + "/probe.key") as f:
        key = f.read().strip()
    twin = stranger.run([sys.executable, "-c", TWIN, STEER, key, "w1", str(VNI), ENDS["stranger"]]).stdout.split("\n")
    checks.check("a living worker's twin is refused: its name is taken", twin[:3] == ["5 0", "6 2", "6 2"], str(twin))
    now = {n: (w["worker"], w["address"], w["state"]) for n, w in site.workers().items()}
    checks.check("and have no effect", now == known, str(now))
    check_intercepted(lab, site, send, checks)


def check_intercepted(lab, site, send, checks):
    """A JOIN of w1 that has not come to steering yet comes from elsewhere: fresh, genuine, and of no effect."""
    underlay, forged = lab.namespaces["underlay"], site.drops("steer", "tunnel_forged")
    underlay.ip("rule add iif w1 to %s prio 1 blackhole" % STEER)
    join = underlay.run([sys.executable, "-c", SNIFF, ENDS["w1"], STEER]).stdout.strip()
    send(STEER, bytes.fromhex(join), 1)
    try:
        wait_for(lambda: site.drops("steer", "tunnel_forged") > forged, 5, "it to be counted")
        checks.check("a JOIN from another address than its sender's is counted as forged", True)
    except scene.NetError as e:
        checks.check("a JOIN from another address than its sender's is counted as forged", False, str(e))
    checks.check("and moves nobody", site.workers()["w1"]["address"] == ENDS["w1"], str(site.workers()["w1"]))
    underlay.ip("rule del iif w1 to %s prio 1 blackhole" % STEER)
    site.wait_worker("w1")


def unreachables(lab, name):
    """ICMP unreachables that its kernel has sent."""
    lines = [line.split() for line in lab.namespaces[name].run(["cat", "/proc/net/snmp"]).stdout.splitlines()
             if line.startswith("Icmp:")]
    return int(dict(zip(*lines))["OutDestUnreachs"])


def check_shrinking_path(lab, site, checks):
    """A link on the way carries less than both ends' interfaces: workers' joins find that out."""
    lab.namespaces["underlay"].ip(*["link set %s mtu 1400" % front for front in test_fronts.FRONTS])
    told = wait_for(lambda: (lambda m: m if set(m) == {1350} else None)(
        [w["mtu"] for f in test_fronts.FRONTS for w in site.workers(f).values()]), 20, "workers to tell the new MTU")
    fits = lab.namespaces["c1"].run(["ping", "-n", "-c", "3", "-i", "0.1", "-W", "5", "-M", "do", "-s", "1322",
                                     network.SERVERS["s2"]], check=False)
    checks.check("a path of 1400 bytes is found out, and 1350 pass", len(told) == 4 and " 0% packet loss" in fits.stdout,
                 fits.stdout.strip().split("\n")[-2])


def check_pause(site, checks):
    """A worker that stood still for longer than max_hold_ms drops what has come meanwhile."""
    before, stopped = site.drops("w2", "away"), time.monotonic()
    site.pause("w2")
    wait_for(lambda: site.healthy() == ["w1"] and time.monotonic() - stopped > 1.3, 10, "steering to take w2 out")
    site.resume("w2")
    site.wait_worker("w2")
    dropped = site.drops("w2", "away") - before
    checks.check("a worker that was stopped drops what came meanwhile", dropped > 0, "%d frames" % dropped)


def check_kill_and_drain(lab, site, lines, checks):
    site.kill("w1")
    wait_for(lambda: site.healthy() == ["w2"], 10, "steering to take w1 out")
    answers = lines.status()["answers"]
    wait_for(lambda: lines.status()["answers"] > answers + CONNECTIONS, 20, "answers by w2 alone")
    site.start_worker("w1")
    site.wait_worker("w1")
    status = site.stop("w2")
    checks.check("w2 drained by SIGTERM", status == 0 and "w2" not in site.healthy(), "status %s" % status)
    wait_for(lambda: not any("w2" in site.workers(f) for f in test_fronts.FRONTS), 10, "its places to be free")
    answers = lines.status()["answers"]
    wait_for(lambda: lines.status()["answers"] > answers + CONNECTIONS, 20, "answers by w1 alone")


def act(lab, site, checks):
    build_underlay(lab)
    lab.namespaces["w1"].ip(  # another address comes first there
        "addr flush dev tun0", "addr add 10.8.0.1/32 dev tun0", "addr add %s/24 dev tun0" % ENDS["w1"],
        "route add 10.9.0.0/16 via 10.9.1.2")
    site.bring_up()
    before = {name: unreachables(lab, name) for name in ("steer", "steer-2", "w1", "w2")}  # some: before the port was taken
    check_weights(site, checks)
    lines = traffic.Lines(lab, CONNECTIONS, every_s=0.5)
    lines.wait_opened()
    check_path_mtu(lab, site, checks)
    check_rate_limit(lab, site, checks)
    check_transfers(lab, site, checks)
    check_origins(site, checks)
    check_strangers(lab, site, checks)
    sent = {name: unreachables(lab, name) for name in before}
    checks.check("nobody's kernel sent ICMP unreachables", sent == before, "%s, %s" % (before, sent))
    check_shrinking_path(lab, site, checks)
    check_pause(site, checks)
    check_kill_and_drain(lab, site, lines, checks)
    checks.result("connections", lines.finish())


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=TunnelSite)
