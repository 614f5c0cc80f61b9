#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Workers of steering's own host on a bridge, as a cluster's network plug-in makes it, and one on another host.

  clients ── steer ── servers          one tunnel address, 10.9.0.1, read on two interfaces
          tun0 │ │ cni0, a bridge: not there when steering starts, MTU 1400
      underlay │ └── w1 10.244.1.2     its packets to the address never cross tun0
      (router) └──── w2 10.9.2.1

Steering waits for the bridge, outlives its end, and takes it again. Each worker is killed under connections while the other
one serves; each interface has its own MTU; packets of a worker that come by the other interface than its joins are dropped.
The bridge's cable keeps the offloads that it is made with.
"""
import network
import scene
import test_tunnel
import traffic
from lethe_site import Site, wait_for

CONNECTIONS = 64
BRIDGE, GATEWAY = "cni0", "10.244.1.1"
STEER, ENDS = test_tunnel.STEER, {"w1": "10.244.1.2", "w2": "10.9.2.1"}
BY, FITS = {"w1": BRIDGE, "w2": "tun0"}, {"w1": 1350, "w2": 1450}
MORE = test_tunnel.DEVICE.replace("tun0", BRIDGE) % 3

# Run in a namespace: VXLAN frames, a UDP payload as hex, from another one's address.
SPOOF = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 0))
for i in range(5):
    s.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], 4789))
"""


class BridgeSite(Site):
    def write_config(self, path, **other):
        super().write_config(path, **other)
        with open(path) as f:
            text = f.read()
        text = text.replace("workers.secret}\nsteering:\n", "workers.secret, tunnel: {steering: [%s]}}\nsteering:\n"
                            "  tunnel: {address: %s, port: \"%s\", more_ports: [\"%s\"]}\n" % (
                                STEER, STEER, test_tunnel.DEVICE % 2, MORE))
        with open(path, "w") as f:
            f.write(text)

    def start_worker(self, name):
        return self._start(name, "worker", [self.programs + "/nf/lethe-nf", "-c", self.config, "--worker", name,
                                            "--tunnel", test_tunnel.DEVICE % 0], name)

    def told(self):
        return wait_for(lambda: self.ask("steer", "workers"), 20, "steering to answer")

    def workers(self):
        return {w["name"]: w for w in self.told()["workers"]}

    def bridge(self):
        """What steering says of it."""
        return next(i for i in self.told()["tunnel"] if i["interface"] == BRIDGE)

    def wait_bridge(self, up):
        wait_for(lambda: self.bridge()["up"] == up, 10, "steering to see that the bridge is %s; see %s" % (
            "there" if up else "gone", self.instances["steer"].process.log))

    def losses(self):
        return self.wait_stats("steer")["lethe_steer_tunnel_interface_losses_total{interface=\"%s\"}" % BRIDGE]


def attach(lab):
    """A pod's cable, as it is made: with its offloads."""
    steer, w1 = lab.namespaces["steer"], lab.namespaces["w1"]
    lab.veth(w1, "tun0", steer, "pod")
    for ns, name in ((w1, "tun0"), (steer, "pod")):
        ns.run(["ethtool", "-K", name, "tx", "on"])
    steer.ip("link set pod master %s" % BRIDGE)
    w1.ip("addr add %s/24 dev tun0" % ENDS["w1"], "route add default via %s" % GATEWAY)


def make_bridge(lab):
    lab.namespaces["steer"].ip("link add %s type bridge" % BRIDGE, "link set %s mtu 1400 up" % BRIDGE,
                               "addr add %s/24 dev %s" % (GATEWAY, BRIDGE))


def check_awaited(site, checks):
    away = not site.bridge()["up"]
    why = site.lab.namespaces["steer"].run(["curl", "-s", "-m", "2", "--unix-socket", site.run_dir + "/steer.metrics.sock",
                                            "http://steer/readyz"]).stdout
    checks.check("a bridge that is not there: said, and awaited", away and (
        "no worker answers" in why and "interface %s is not there yet" % BRIDGE in why), why.strip())


def check_one(lab, site, lines, name, client, checks):
    """It serves alone: connections go on, what fits its interface passes, what does not is told (once a client)."""
    def ping(size):
        return lab.namespaces[client].run(["ping", "-n", "-c", "2", "-i", "0.1", "-W", "3", "-M", "do", "-s", str(size - 28),
                                         network.SERVERS["s1"]], check=False).stdout.strip()
    answers = lines.status()["answers"]
    wait_for(lambda: lines.status()["answers"] > answers + CONNECTIONS, 20, "answers by %s alone" % name)
    fits, told = ping(FITS[name]), ping(FITS[name] + 1)
    checks.check("%s by %s: %d bytes with DF pass, one more is told" % (name, BY[name], FITS[name]),
                 " 0% packet loss" in fits and "mtu = %d" % FITS[name] in told, told.split("\n")[1])


def check_kills(lab, site, lines, checks):
    for name, other, client in (("w2", "w1", "c1"), ("w1", "w2", "c2")):
        site.kill(name)
        wait_for(lambda: site.healthy() == [other], 10, "steering to take %s out" % name)
        check_one(lab, site, lines, other, client, checks)
        if other == "w1":
            checks.result("a download through the bridge", traffic.Download(lab, 4 << 20, 100 << 20, "c3").finish())
        site.start_worker(name)
        site.wait_worker(name)


def check_astray(lab, site, checks):
    """A neighbour on the bridge speaks with the other worker's address: packets, and what w2 never sent."""
    w1 = lab.namespaces["w1"]

    def dropped():
        return site.wait_stats("steer")["lethe_steer_drops_total{reason=\"tunnel_other_interface\"}"]
    before = dropped()
    w1.ip("addr add %s/32 dev lo" % ENDS["w2"])
    packet = bytes.fromhex("02000000000102000000000208004500001c00010000401166cf0a0101010a0000010001000200080000")
    w1.run(["python3", "-c", SPOOF, ENDS["w2"], STEER, test_tunnel.vxlan(test_tunnel.VNI, packet).hex()])
    wait_for(lambda: dropped() >= before + 5, 10, "steering to count what came by the wrong interface")
    w1.ip("addr del %s/32 dev lo" % ENDS["w2"])
    checks.check("packets by another interface than the worker's joins are dropped", sorted(site.healthy()) == ["w1", "w2"])


def check_bridge_ends(lab, site, lines, checks):
    """It is deleted under its worker, and made again."""
    steer, before = lab.namespaces["steer"], site.losses()
    steer.ip("link del %s" % BRIDGE)
    wait_for(lambda: site.healthy() == ["w2"], 10, "steering to take w1 out")
    site.wait_bridge(False)
    checks.check("a bridge that ends is counted", site.losses() == before + 1, "%d" % site.losses())
    check_one(lab, site, lines, "w2", "c4", checks)
    make_bridge(lab)
    steer.ip("link set pod master %s" % BRIDGE)
    lab.namespaces["w1"].ip("neigh flush dev tun0")
    site.wait_worker("w1")
    checks.check("and is used again when it is back", site.bridge()["up"] and site.workers()["w1"]["interface"] == BRIDGE)


def act(lab, site, checks):
    test_tunnel.build_underlay(lab, {"steer": STEER, "w2": ENDS["w2"]}, ENDS)
    for name in site.stores:
        site.start_store(name)
    site.start_steering()
    before = test_tunnel.unreachables(lab, "steer")
    check_awaited(site, checks)
    site.start_worker("w2")
    site.wait_worker("w2")
    lines = traffic.Lines(lab, CONNECTIONS, every_s=0.3)
    make_bridge(lab)
    site.wait_bridge(True)
    attach(lab)
    site.start_worker("w1")
    site.wait_worker("w1")
    told = site.workers()
    checks.check("both workers serve, each by its interface", all(
        told[n]["interface"] == BY[n] and told[n]["mtu"] == FITS[n] and told[n]["address"] == ENDS[n] for n in ENDS),
                 str({n: (w["interface"], w["mtu"]) for n, w in told.items()}))
    lines.wait_opened()
    check_kills(lab, site, lines, checks)
    check_astray(lab, site, checks)
    check_bridge_ends(lab, site, lines, checks)
    sent = test_tunnel.unreachables(lab, "steer")
    checks.check("steering's kernel sent no ICMP unreachables", sent == before, "%d, %d" % (before, sent))
    checks.result("connections", lines.finish())


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, site_class=BridgeSite)
