#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the programs say and do when something is wrong: clear errors, the right exit status, and
patience where waiting helps. Each row names the words that the message must have."""
import os
import subprocess
import sys

import network
import scene
import traffic
from gap import Gaps
from lethe_site import wait_for

PROGRAMS = ["statestore/lethe-store", "steering/lethe-steer", "nf/lethe-nf"]
NODE = {"statestore/lethe-store": ["--node", "store-a"], "nf/lethe-nf": ["--worker", "w1"],
        "steering/lethe-steer": []}


class Runner:
    def __init__(self, lab, site, checks):
        self.lab, self.site, self.checks = lab, site, checks

    def run(self, program, *argv, namespace="store-a", before=()):
        """Exit status and everything it said; a program that goes on running is a NetError. `before`: words before it."""
        try:
            done = self.lab.namespaces[namespace].run(
                [*before, os.path.join(self.site.programs, program), *argv], check=False, timeout=10)
            return done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            return "still running after 10 s", ""

    def expect(self, what, status, words, program, *argv, **where):
        got, text = self.run(program, *argv, **where)
        missing = [w for w in words if w not in text]
        self.checks.check("%s: %s" % (os.path.basename(program), what),
                          got == status and not missing,
                          said(text, words) if got == status and not missing else
                          "status %s instead of %s, without %s: %s" % (got, status, missing,
                                                                       text.strip()[:600]))


def said(text, words):
    """The line that has the words."""
    lines = text.strip().split("\n")
    return next((line for line in lines if all(w in line for w in words)), lines[0])[:400]


def config_with(site, name, old, new, **keys):
    """A copy of the site's configuration with one change; its path, and the changed line's number."""
    path = os.path.join(site.run_dir, name)
    site.write_config(path, **keys)
    with open(path) as f:
        text = f.read()
    assert old in text
    number = text[:text.index(old)].count("\n") + 1
    with open(path, "w") as f:
        f.write(text.replace(old, new, 1))
    return path, number


def wrong_words(r):
    key_path, key_line = config_with(r.site, "key.yaml", "memif_dir:", "memif_folder:")
    yaml_path, _ = config_with(r.site, "syntax.yaml", "shards: 2", "shards: [2")
    number_path, number_line = config_with(r.site, "number.yaml", "shards: 2", "shards: two")
    for p in PROGRAMS:
        who = NODE[p]
        r.expect("--version", 0, [os.path.basename(p)], p, "--version")
        r.expect("--help", 0, ["-c", "--check"], p, "--help")
        r.expect("wrong option", 2, ["--help"], p, "--no-such-option")
        r.expect("right configuration", 0, [], p, "-c", r.site.config, "--check", *who,
                 namespace="steer")
        status = 1 if p != "nf/lethe-nf" else 2
        r.expect("no configuration", status, ["nowhere.yaml"], p, "-c", "nowhere.yaml", *who)
        r.expect("unknown key", status, ["key.yaml:%d" % key_line, "memif_folder"], p, "-c",
                 key_path, *who)
        r.expect("no YAML", status, ["syntax.yaml"], p, "-c", yaml_path, *who)
        r.expect("no number", status, ["number.yaml:%d" % number_line, "shards"], p, "-c",
                 number_path, *who)
    address, _ = config_with(r.site, "address.yaml", "inside_address: 10.0.0.1",
                             "inside_address: 10.0.0.300")
    r.expect("wrong address of an NF", 2, ["address.yaml", "inside_address", "10.0.0.300"],
             "nf/lethe-nf", "-c", address, "--check")
    chain, _ = config_with(r.site, "chain.yaml", "chain: [nat44", "chain: [nat46")
    r.expect("unknown NF", 2, ["chain.yaml", "nat46", "nat44"], "nf/lethe-nf", "-c", chain, "--check")
    r.expect("unknown node", 1, ["store-z"], "statestore/lethe-store", "-c", r.site.config, "--node",
             "store-z")


def patience(r):
    """A worker without a store goes on trying, says so, and serves as soon as there is one."""
    site, checks = r.site, r.checks
    site.start_steering()
    worker = site.start_worker("w1")

    def log():
        with open(worker.process.log) as f:
            return f.read()
    wait_for(lambda: network.STORES["store-a"] in log(), 15, "the worker to name the store it cannot "
             "reach; see " + worker.process.log)
    checks.check("lethe-nf: unreachable store: says so, goes on", worker.running(),
                 [line for line in log().splitlines() if network.STORES["store-a"] in line][0][:230])
    backup = site.start_store("store-b")
    wait_for(lambda: "unreachable" in open(backup.process.log).read(), 15, "the backup to say that its "
             "primary is away; see " + backup.process.log)
    checks.check("lethe-store: unreachable primary: says so, goes on", backup.running())
    site.start_store("store-a")
    wait_for(site.caught_up, 20, "the backup to join the primary that came later")
    site.wait_worker("w1")
    checks.check("lethe-nf: serves as soon as the store is there", "w1" in site.healthy())


def busy(r):
    site = r.site
    r.expect("port in use", 1, ["7400", "in use"], "statestore/lethe-store", "--standalone",
             "--listen", network.STORES["store-a"] + ":7400", namespace="store-a")
    r.expect("a second steering", 1, ["another process", "steer.bell"], "steering/lethe-steer", "-c", site.config,
             namespace="steer")
    r.expect("a second worker of one name", 1, ["w1"], "nf/lethe-nf", "-c", site.config,
             "--worker", "w1", namespace="w1")
    r.checks.check("the first ones go on", {"w1", "steer", "store-a", "store-b"} ==
                   {n for n, i in site.instances.items() if i.running() and site.stats(n)})
    wait_for(lambda: "w1" in site.healthy(), 10, "w1 to be in steering's table")


def wrong_schema(r):
    """Two workers with different time-outs would each believe in another table."""
    path, _ = config_with(r.site, "schema.yaml", "  nat44:\n", "  nat44:\n    udp_s: 150\n")
    network.attach_to_management(r.lab, "w7", network.worker_address("w7"))
    r.expect("wrong schema names both", 1, ["nat.map.udp", "150000", "300000"], "nf/lethe-nf", "-c",
             path, "--worker", "w7", namespace="w7")


def drain(r):
    """SIGTERM under traffic: leaves steering, finishes, exits 0; nothing breaks."""
    site, checks = r.site, r.checks
    site.start_worker("w2")
    site.wait_worker("w2")
    lines, udp = traffic.Lines(r.lab, 128), traffic.Udp(r.lab)
    lines.wait_opened()
    udp.wait_mapped()
    gaps = Gaps(site, udp)
    gaps.prepare("w1")
    before = udp.ask("status")
    status = site.stop("w1")
    gap_ms = gaps.measure()
    after = udp.ask("status")
    lost = (after["sent"] - after["received"]) - (before["sent"] - before["received"])
    checks.check("lethe-nf: SIGTERM under traffic", status == 0, "status %s, gap %d ms, about %d of %d "
                 "packets lost" % (status, gap_ms, lost, after["sent"] - before["sent"]),
                 site.instances["w1"].process.log)
    checks.result("connections", lines.finish())
    checks.result("UDP flows", udp.finish())


def offloads(r):
    """Partial checksums and super-packets: refused at the start, counted when they come later."""
    site, checks, ns = r.site, r.checks, r.lab.namespaces

    def unsound():
        s = site.stats("steer")
        return s["lethe_steer_partial_checksums_total"] + sum(
            v for k, v in s.items() if "drops_total" in k and ("oversized" in k or "truncated" in k))
    start = unsound()
    ns["client-router"].run(["ethtool", "-K", "inside", "tx", "on"])
    ns["client-router"].run(["curl", "-s", "-m", "1", "http://192.0.2.10:8080/"], check=False)
    ns["client-router"].run(["ethtool", "-K", "inside", "tx", "off"])
    checks.check("lethe-steer: partial checksums are counted", unsound() > start,
                 "%d more" % (unsound() - start))
    site.stop("steer")
    ns["steer"].run(["ethtool", "-K", "inside", "tx", "on"])
    r.expect("offloads on: refuses", 1, ["ethtool -K inside"], "steering/lethe-steer", "-c",
             site.config, namespace="steer")
    ns["steer"].run(["ethtool", "-K", "inside", "tx", "off", "gro", "off"])
    r.expect("its rings may not be locked", 1, ["locked memory", "0 KiB", "CAP_IPC_LOCK"], "steering/lethe-steer", "-c",
             site.config, namespace="steer", before=["setpriv", "--bounding-set", "-ipc_lock", "prlimit", "--memlock=0:0"])
    r.expect("no such interface", 1, ["inside"], "steering/lethe-steer", "-c", site.config,
             namespace="s1")


def tunnels(r):
    """Before anything runs; the management interface of w1's host stands for an underlay."""
    def steer(name, address, device):
        path, _ = config_with(r.site, name, "  control:", "  tunnel: {address: %s, port: \"%s\"}\n  control:" % (
            address, device))
        return "steering/lethe-steer", "-c", path, "--check"
    network.attach_to_management(r.lab, "w1", network.worker_address("w1"))
    here, device = network.worker_address("w1"), "net_af_packet2,iface=%s"
    r.expect("a tunnel's address that is not there", 1, ["interface inside", "does not have the tunnel's address"],
             *steer("tunnel1.yaml", "10.9.0.1", device % "inside"), namespace="steer")
    r.expect("a tunnel's interface that is not there", 1, ["interface nosuch", "No such device"],
             *steer("tunnel2.yaml", "10.9.0.1", device % "nosuch"), namespace="steer")
    r.expect("a tunnel's device without an interface", 1, ["net_null2", "names no interface"],
             *steer("tunnel3.yaml", "10.9.0.1", "net_null2"), namespace="steer")
    worker = ("nf/lethe-nf", "-c", r.site.config, "--worker", "w1", "--tunnel", device % "eth0")
    r.expect("a tunnel to nowhere", 1, ["worker.tunnel"], *worker, namespace="w1")
    path, _ = config_with(r.site, "tunnel4.yaml", "worker: {", "worker: {tunnel: {steering: [10.9.0.1]}, ")
    holder = r.lab.spawn("port-holder", [sys.executable, "-c", "import socket\ns = socket.socket(socket.AF_INET, "
                         "socket.SOCK_DGRAM)\ns.bind(('%s', 4789))\ninput()" % here], r.lab.namespaces["w1"],
                         stdin=subprocess.PIPE)
    wait_for(lambda: ":12B5" in r.lab.namespaces["w1"].run(["cat", "/proc/net/udp"]).stdout, 10, "a holder of UDP port 4789")
    r.expect("a tunnel's port in use", 1, ["UDP port 4789", "in use"], "nf/lethe-nf", "-c", path, *worker[3:],
             namespace="w1")
    holder.kill()


def act(lab, site, checks):
    r = Runner(lab, site, checks)
    wrong_words(r)
    tunnels(r)
    patience(r)
    busy(r)
    wrong_schema(r)
    drain(r)
    offloads(r)


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act)
