#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Question "store_failover": for how long does nobody get a write acknowledged when a primary dies,
stops or is cut off, and what of the acknowledged is lost? Lethe's store beside a real Redis Cluster.

    hub (bridge) ── load: paced writers, a third of them in the victim's range
      ├── node 1 ── node 2 ── ...   one network namespace each

Every node has a network namespace of its own, so that a cut (nft drops all it sends and receives)
resets nothing. Per event: a fresh load flows; a random range's primary is killed (SIGKILL), stopped
(SIGSTOP) or cut off; when the range's writers flow again it is started again, continued, or joined,
and the load goes on until the cluster is whole; then every acknowledged key is read back. The gap is
the longest time without an acknowledged write in that range (failover_load.c).

During a cut one more writer stands on the victim's side, as a client on the same host would; what it
had acknowledged and finds gone is counted apart (lost_inside).

Needs root. One thread; leaves nothing behind (tests/net/netns.py).
"""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

import report  # which knows where tests/net is
import netns
from lethe_site import Control, wait_for
from netns import NetError
from report import quantile

KINDS = ("kill", "stop", "cut")
KIND_NAMES = {"kill": "kill -9", "stop": "SIGSTOP", "cut": "partition"}
RANGES = 3
HOLD_S = 0.5        # the load flows so long before an event, and after the cluster is whole again
WHOLE_S = 60
CUT = """table inet cut {
  chain in { type filter hook input priority 0; iifname != "lo" drop; }
  chain out { type filter hook output priority 0; oifname != "lo" drop; }
}
"""


class Net:
    """A bridge in the hub's namespace, where this process lives, too; a namespace per node."""

    def __init__(self, lab):
        self.lab = lab
        self.hub = lab.namespace("hub")
        netns.enter(self.hub.fd)
        self.hub.ip("link add br0 type bridge", "link set br0 up", "address add 10.77.0.254/24 dev br0")
        self.nodes = 0

    def node(self):
        """A namespace and its address."""
        self.nodes += 1
        n, cable = self.nodes, "n%d" % self.nodes
        ns = self.lab.namespace(cable)
        self.lab.veth(self.hub, cable, ns, "eth0")
        self.hub.ip("link set %s master br0" % cable)
        ns.ip("address add 10.77.0.%d/24 dev eth0" % n)
        return ns, "10.77.0.%d" % n


def nft(ns, text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True,
                   preexec_fn=lambda: netns.enter(ns.fd))


class Cluster:
    """Nodes that are killed, stopped, cut off and healed. A peer fills in the rest."""
    name = key = None
    kind = None       # of failover_load
    expected_s = 3    # of one event, for the announcement

    def __init__(self, net, programs, folder):
        self.net, self.lab, self.programs, self.folder = net, net.lab, programs, folder
        self.place = []       # (namespace, address)
        self.process = []

    def addresses(self):
        raise NotImplementedError

    def start_node(self, i):
        raise NotImplementedError

    def primary_of(self, rng):
        raise NotImplementedError

    def whole(self):
        raise NotImplementedError

    def wait_whole(self):
        wait_for(self.whole, WHOLE_S, "all of %s to be well" % self.name, 0.05)

    def hit(self, i, kind):
        if kind == "cut":
            nft(self.place[i][0], CUT)
        else:
            self.process[i].signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)

    def heal(self, i, kind):
        if kind == "cut":
            nft(self.place[i][0], "delete table inet cut\n")
        elif kind == "stop":
            self.process[i].signal(signal.SIGCONT)
        else:
            self.process[i].kill()
            self.start_node(i)

    def describe(self):
        """How it looks, when something does not come."""
        return ""

    def stop(self):
        for p in self.process:
            p.kill()


# --- Redis Cluster ------------------------------------------------------------------------------

class Resp:
    """One question to a redis-server; its answer as text. OSError when there is none."""

    def __init__(self, address, timeout_s=0.5):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.stream = self.socket.makefile("rb")

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        head = self.stream.readline().decode()
        if head.startswith("$"):
            return self.stream.read(int(head[1:]) + 2).decode()
        return head[1:].strip()

    def close(self):
        self.stream.close()
        self.socket.close()


class Redis(Cluster):
    kind = "redis"
    expected_s = 9

    def __init__(self, net, programs, folder, timeout_ms):
        super().__init__(net, programs, folder)
        self.timeout_ms = timeout_ms
        self.key = self.name = "redis"
        self.config = ("3 masters + 3 replicas, cluster-node-timeout %d, appendonly yes, appendfsync "
                       "everysec" % timeout_ms)
        for i in range(6):
            self.place.append(net.node())
            os.makedirs(self.dir(i))
            self.process.append(None)
            self.start_node(i)
        wait_for(lambda: all(self.ask(i, "PING") == "PONG" for i in range(6)), 10, "redis-server")
        netns.run(["redis-cli", "--cluster", "create"] + self.addresses().split(",") +
                  ["--cluster-replicas", "1", "--cluster-yes"])

    def dir(self, i):
        return os.path.join(self.folder, "redis%d" % i)

    def addresses(self):
        return ",".join("%s:7000" % address for _, address in self.place)

    def start_node(self, i):
        ns, address = self.place[i]
        self.process[i] = self.lab.spawn("redis%d" % i, [
            "redis-server", "--port", "7000", "--bind", address, "--protected-mode", "no",
            "--dir", self.dir(i), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(self.timeout_ms),
            "--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no",
            "--repl-diskless-sync-delay", "0"], ns)

    def ask(self, i, command):
        try:
            r = Resp(self.place[i][1] + ":7000")
            try:
                return r.ask(command)
            finally:
                r.close()
        except (OSError, ValueError):
            return ""

    def nodes_seen_by(self, i):
        """CLUSTER NODES as [(address, flags, slots)]."""
        lines = [line.split() for line in self.ask(i, "CLUSTER NODES").splitlines() if line]
        return [(f[1].split("@")[0], f[2].split(","), f[8:]) for f in lines]

    def primary_of(self, rng):
        slot = 16384 * (2 * rng + 1) // (2 * RANGES)
        for address, flags, slots in self.nodes_seen_by(0):
            for s in slots:
                first, _, last = s.partition("-")
                if "master" in flags and int(first) <= slot <= int(last or first):
                    return self.addresses().split(",").index(address)
        raise NetError("no master has slot %d" % slot)

    def whole(self):
        for i in range(6):
            seen = self.nodes_seen_by(i)
            if len(seen) != 6 or any(set(f) & {"fail", "fail?", "handshake", "noaddr"} for _, f, _ in seen):
                return False
            info = self.ask(i, "INFO replication")
            if "role:slave" in info:
                if "master_link_status:up" not in info or "master_sync_in_progress:1" in info:
                    return False
            elif "connected_slaves:1" not in info or "state=online" not in info:
                return False
            if "cluster_state:ok" not in self.ask(i, "CLUSTER INFO"):
                return False
        return True


# --- Lethe's store -------------------------------------------------------------------------------

SITE = """\
failure_timeout_ms: {timeout_ms}
run_dir: {run_dir}
store:
  shards: {ranges}
  copies: 2
  etcd: ["{etcd}"]
  nodes:
{nodes}"""
NODES = ("a", "b", "c")
PORT = 7400


class Lethe(Cluster):
    """Three nodes, a shard for each range, primary and one backup; views in etcd, in the hub."""
    kind = "lethe"

    def __init__(self, net, programs, folder, timeout_ms):
        super().__init__(net, programs, folder)
        self.name = "store, failure_timeout_ms %d" % timeout_ms
        self.config = ("3 nodes, %d shards of 2 copies each, views in one etcd, failure_timeout_ms %d"
                       % (RANGES, timeout_ms))
        self.etcd = self.start_etcd(folder)
        self.place = [net.node() for _ in NODES]
        nodes = "".join('    - {name: %s, listen: "%s:%d"}\n' % (name, address, PORT)
                        for name, (_, address) in zip(NODES, self.place))
        with open(os.path.join(folder, "site.yaml"), "w") as f:
            f.write(SITE.format(timeout_ms=timeout_ms, run_dir=folder, ranges=RANGES, nodes=nodes,
                                etcd="10.77.0.254:2379"))
        self.process = [None] * len(NODES)
        for i in range(len(NODES)):
            self.start_node(i)

    def start_etcd(self, folder):
        client, peer = "http://10.77.0.254:2379", "http://10.77.0.254:2380"
        etcd = self.lab.spawn("etcd", [
            "etcd", "--data-dir", os.path.join(folder, "etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer])

        def listens():
            try:
                socket.create_connection(("10.77.0.254", 2379), 0.2).close()
                return True
            except OSError:
                return False
        wait_for(listens, 20, "etcd")
        return etcd

    def addresses(self):
        return ",".join("%s:%d" % (address, PORT) for _, address in self.place)

    def start_node(self, i):
        self.process[i] = self.lab.spawn("store-" + NODES[i], [
            os.path.join(self.programs, "statestore", "lethe-store"), "-c",
            os.path.join(self.folder, "site.yaml"), "--node", NODES[i]], self.place[i][0])

    def shards(self, i):
        """What node i says of each shard it has; nothing if it does not answer."""
        try:
            with Control(os.path.join(self.folder, NODES[i] + ".sock"), 1.0) as c:
                return {s["shard"]: s for s in c.ask("stats")["shards"]}
        except (OSError, ValueError, KeyError):
            return {}

    def primary_of(self, rng):
        for i in range(len(NODES)):
            if self.shards(i).get(rng, {}).get("role") == "primary":
                return i
        raise NetError("no node is primary of shard %d" % rng)

    def whole(self):
        """Every shard has one primary and two copies, and every node answers."""
        rows = [self.shards(i) for i in range(len(NODES))]
        return all(rows) and all(
            [r[rng]["copies"] for r in rows if r.get(rng, {}).get("role") == "primary"] == [2]
            for rng in range(RANGES))

    def describe(self):
        return "".join("\n  %s: shard %d: %s, epoch %d, %d copies, primary %s, %s" % (
            NODES[i], s["shard"], s["role"], s["view_epoch"], s["copies"], s["primary"], s["trouble"] or "well")
            for i in range(len(NODES)) for s in self.shards(i).values())

    def stop(self):
        super().stop()
        self.etcd.kill()


# --- one event ----------------------------------------------------------------------------------

class Load:
    """failover_load, asked over its stdin."""

    def __init__(self, cluster, options, namespace=None, inside=None):
        argv = [os.path.join(cluster.programs, "bench", "failover_load"), "--peer", cluster.kind,
                "--nodes", cluster.addresses(), "--ranges", str(RANGES),
                "--interval-us", str(options.interval_us)]
        argv += ["--writers", str(options.writers)] if inside is None else \
                ["--writers", "1", "--inside", str(inside)]
        self.process = cluster.lab.spawn("load", argv, namespace, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self.hear()

    def hear(self):
        line = self.process.popen.stdout.readline()
        if not line:
            raise NetError("the load ended: see " + self.process.log)
        return json.loads(line)

    def ask(self, text):
        self.process.popen.stdin.write(text.encode() + b"\n")
        self.process.popen.stdin.flush()
        return self.hear()

    def stop(self):
        result = self.ask("stop")
        self.process.popen.wait(10)
        return result


def one_event(cluster, options, kind, rng):
    cluster.wait_whole()
    victim = cluster.primary_of(rng)
    load = Load(cluster, options)
    inside = Load(cluster, options, cluster.place[victim][0], rng) if kind == "cut" else None
    time.sleep(HOLD_S)
    now = time.monotonic_ns()
    for one in filter(None, (load, inside)):
        one.ask("event %d %d" % (rng, now))
    cluster.hit(victim, kind)
    if not load.ask("flowing 50 %d" % WHOLE_S)["flowing"]:
        raise NetError("no write to range %d was acknowledged for %d s after %s of %s's node %d%s" % (
            rng, WHOLE_S, kind, cluster.name, victim + 1, cluster.describe()))
    cluster.heal(victim, kind)
    cluster.wait_whole()
    time.sleep(HOLD_S)
    result = load.stop()
    result["lost_inside"] = inside.stop()["lost"] if inside else 0
    if result["unread"]:
        raise NetError("%d acknowledged keys of %s could not be read back" % (result["unread"], cluster.name))
    return result


def events_of(cluster, options, rng):
    """{kind: [result]}"""
    found = {kind: [] for kind in options.kinds}
    for i in range(options.events):
        for kind in options.kinds:
            r = one_event(cluster, options, kind, rng.randrange(RANGES))
            found[kind].append(r)
            print("%s: %s %d of %d: gap %.1f ms, %d acknowledged, %d lost%s" % (
                cluster.name, KIND_NAMES[kind], i + 1, options.events, r["gap_ms"], r["acked"], r["lost"],
                ", %d inside" % r["lost_inside"] if r["lost_inside"] else ""), file=sys.stderr, flush=True)
    return found


# --- what it found ---------------------------------------------------------------------------------

def cases_of(cluster_name, kind, results):
    gaps = [r["gap_ms"] for r in results]
    name = "%s, %s" % (cluster_name, KIND_NAMES[kind])
    case = {"name": name, "metric": "write gap", "unit": "ms", "median": quantile(gaps, 0.5),
            "p99": quantile(gaps, 0.99), "min": min(gaps), "max": max(gaps), "events": len(gaps),
            "values": gaps}
    counts = {k: sum(r[k] for r in results) for k in ("acked", "lost", "lost_inside", "failed_attempts")}
    counts["gap_before_max_ms"] = max(r["gap_before_ms"] for r in results)
    return dict(case, **counts)


def ratios_of(found):
    """redis over each store configuration, by kind."""
    ratios = {}
    redis = {k: [r["gap_ms"] for r in rs] for k, rs in found.get("redis", ({}, None))[0].items()}
    for key, (by_kind, _) in found.items():
        if key == "redis":
            continue
        for kind, results in by_kind.items():
            if redis.get(kind) and results:
                ours = quantile([r["gap_ms"] for r in results], 0.5)
                ratios["redis_gap_over_%s_gap_p50_%s" % (key, kind)] = quantile(redis[kind], 0.5) / ours
    return ratios


def tell(found, options, seconds):
    cases = [cases_of(cluster.name, kind, results)
             for by_kind, cluster in found.values() for kind, results in by_kind.items() if results]
    ratios = ratios_of(found)
    print("\nWrite gap when a primary goes, and acknowledged writes lost\n")
    print("  %-44s %7s %10s %10s %10s %10s %9s %6s %7s" % (
        "", "events", "p50 ms", "p99 ms", "max ms", "before ms", "acked", "lost", "inside"))
    for c in cases:
        print("  %-44s %7d %10.1f %10.1f %10.1f %10.1f %9d %6d %7s" % (
            c["name"], c["events"], c["median"], c["p99"], c["max"], c["gap_before_max_ms"], c["acked"],
            c["lost"], c["lost_inside"] if KIND_NAMES["cut"] in c["name"] else "-"))
    print()
    for name, value in ratios.items():
        hoped = "   hoped for: 48" if name == "redis_gap_over_store_gap_p50_kill" else ""
        print("  %-46s %8.1f%s" % (name, value, hoped))
    notes = ["%s: %s" % (cluster.name, cluster.config) for _, cluster in found.values()]
    notes += ["%d writers, each a write per %.1f ms; a third of them write to the victim's range; before: the "
              "longest gap before any event; inside: acknowledged to a writer on the victim's side of the "
              "partition, and lost" % (options.writers, options.interval_us / 1000),
              "seed %d, %d s in all" % (options.seed, seconds)]
    report.write("store_failover", options.out, options.events, cases, ratios, notes)


def options_of(argv):
    p = report.failover_options(__doc__, 20, 2, KINDS)
    p.add_argument("--timeout-ms", type=int, default=50, help="failure_timeout_ms of store")
    p.add_argument("--writers", type=int, default=12, help="default: %(default)s")
    p.add_argument("--interval-us", type=int, default=4000, help="of a writer (default: %(default)s)")
    p.add_argument("--redis-timeout-ms", type=int, default=1000, help="cluster-node-timeout, and store_slow's")
    return p.parse_args(argv)


def makers(options):
    """(expected seconds of an event, how to make the cluster) of each peer asked for."""
    known = {"redis": (Redis, options.redis_timeout_ms), "store": (Lethe, options.timeout_ms),
             "store_slow": (Lethe, options.redis_timeout_ms)}
    return [(key,) + known[key] for key in options.peers]


def main(argv):
    options = options_of(argv)
    netns.require_root_and_tools(["ip", "nft", "ethtool", "redis-server", "redis-cli"])
    os.makedirs(options.out, exist_ok=True)
    started = time.monotonic()
    peers = makers(options)
    expected = sum(kind.expected_s for _, kind, _ in peers) * options.events * len(options.kinds)
    report.announce("store_failover", options, expected)
    found = {}
    for key, kind, timeout_ms in peers:
        with tempfile.TemporaryDirectory(prefix="lethe-") as folder, \
                netns.Lab(os.path.join(options.out, "store_failover")) as lab:
            cluster = kind(Net(lab), options.programs, folder, timeout_ms)
            found[key] = (events_of(cluster, options, random.Random(options.seed)), cluster)
            cluster.stop()
    tell(found, options, time.monotonic() - started)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NetError as e:
        sys.exit("store_failover: %s" % e)
