# SPDX-License-Identifier: BSD-3-Clause
"""The network of a site, in namespaces, up to the two edges of steering.

  c1 10.1.1.10-41 ──┐                       steer                              ┌── s1 192.0.2.10
  c2 10.1.2.10-41 ──┤ client router   ┌───────────────┐   outside router       │   lines, echo, http, dns
  c3 10.1.3.10-41 ──┤ .2 ──────── .1 ─┤ inside outside├─ .1 ──────────── .2 ───┤
  c4 10.1.4.10-41 ──┘   10.0.0.0/24   └───────────────┘    198.51.100.0/24     └── s2 192.0.2.74
                                        w1  w2  w3 (memif)                         lines, echo, iperf3
                                         │   │   │
            management network ──────────┴───┴───┴────── 10.255.0.0/24 ── store-a, store-b, ..., etcd

Each box is a namespace; every worker, every store replica and etcd has its own on the management network,
so that it can be cut off alone. The edges of steering have no kernel address: lethe-steer answers ARP
for 10.0.0.1 and 198.51.100.1. The outside router sends the external addresses 203.0.113.0/28 there.
"""

CLIENTS = ["c1", "c2", "c3", "c4"]
CLIENT_FIRST, CLIENT_LAST = 10, 41  # last byte of each client host's addresses
INSIDE_ADDRESS, INSIDE_NEXT_HOP = "10.0.0.1", "10.0.0.2"
OUTSIDE_ADDRESS, OUTSIDE_NEXT_HOP = "198.51.100.1", "198.51.100.2"
INSIDE_PREFIX = "10.1.0.0/16"
EXTERNAL_PREFIX = "203.0.113.0/28"
EXTERNAL_ADDRESSES = ["203.0.113.%d" % i for i in range(1, 9)]
SERVERS = {"s1": "192.0.2.10", "s2": "192.0.2.74"}
STORES = {"store-a": "10.255.0.1", "store-b": "10.255.0.2", "store-c": "10.255.0.3",
          "store-d": "10.255.0.4"}
PAIR = ["store-a", "store-b"]    # a static pair: needs no etcd
ETCD = "10.255.0.9"
WORKERS_MAX = 8


def worker_address(name):
    return "10.255.0.%d" % (10 + int(name[1:]))


def store_client_address(number):
    return "10.255.0.%d" % (100 + number)


def build(lab, stores=PAIR):
    """Makes every namespace and cable."""
    _client_side(lab)
    steer = lab.namespace("steer")
    lab.veth(lab.namespaces["client-router"], "inside", steer, "inside")
    _outside(lab, steer)
    build_management(lab, stores)


def _client_side(lab):
    router = lab.namespace("client-router")
    router.sysctl("net.ipv4.ip_forward", 1)
    for number, name in enumerate(CLIENTS, 1):
        host = lab.namespace(name)
        lab.veth(host, "eth0", router, name)
        net = "10.1.%d." % number
        host.ip(*["addr add %s%d/24 dev eth0" % (net, i)
                  for i in range(CLIENT_FIRST, CLIENT_LAST + 1)],
                "route add default via %s1" % net)
        router.ip("addr add %s1/24 dev %s" % (net, name))


def _outside(lab, steer):
    router = lab.namespace("outside-router")
    router.sysctl("net.ipv4.ip_forward", 1)
    lab.veth(router, "outside", steer, "outside")
    router.ip("addr add %s/24 dev outside" % OUTSIDE_NEXT_HOP,
              "route add %s via %s" % (EXTERNAL_PREFIX, OUTSIDE_ADDRESS))
    client_router = lab.namespaces["client-router"]
    client_router.ip("addr add %s/24 dev inside" % INSIDE_NEXT_HOP,
                     "route add default via %s" % INSIDE_ADDRESS)
    for name, address in SERVERS.items():
        host = lab.namespace(name)
        lab.veth(host, "eth0", router, name)
        gateway = address.rsplit(".", 1)[0] + ".%d" % (int(address.rsplit(".", 1)[1]) - 9)
        router.ip("addr add %s/26 dev %s" % (gateway, name))
        host.ip("addr add %s/26 dev eth0" % address, "route add default via %s" % gateway)


def build_management(lab, stores):
    """The management network, store replicas on it."""
    bridge = lab.namespace("management")
    bridge.ip("link add br0 type bridge", "link set br0 up")
    for name in stores:
        attach_to_management(lab, name, STORES[name])


def attach_to_management(lab, name, address):
    """A namespace with one address on the management network."""
    if name in lab.namespaces:
        return
    bridge = lab.namespaces["management"]
    lab.veth(lab.namespace(name), "eth0", bridge, name)
    bridge.ip("link set %s master br0" % name)
    lab.namespaces[name].ip("addr add %s/24 dev eth0" % address)


def client_sources(lab):
    """--from arguments for the traffic programs: every address of every client host."""
    out = []
    for number, name in enumerate(CLIENTS, 1):
        out += ["--from", "%s=10.1.%d.%d-10.1.%d.%d" % (lab.namespaces[name].path(), number,
                                                        CLIENT_FIRST, number, CLIENT_LAST)]
    return out
