#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""lethe-steer on real interfaces, with pass_worker as its workers.

    client ─ in0 ═ inside ─ [ lethe-steer ] ─ outside ═ out0 ─ server
    10.0.0.2      10.0.0.1    │ memif │     198.51.100.1       198.51.100.2
                             w1      w2

Gates on counts and states. Needs root; runs alone; leaves nothing behind.
"""
import argparse
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "net"))
import netns  # noqa: E402
from lethe_site import Control, wait_for  # noqa: E402

SITE = """\
failure_timeout_ms: 400
run_dir: {run}
store: {{nodes: [{{name: none, listen: "127.0.0.1:7400"}}]}}
steering:
  control: {run}/steer.sock
  memif_dir: {run}
  probe_key_file: {run}/probe.key
  workers_max: 4
  inside: {{address: 10.0.0.1, next_hop: 10.0.0.2, serves: [],
           port: "net_af_packet0,iface={inside},framecnt=4096,blocksz=65536"}}
  outside: {{address: 198.51.100.1, next_hop: 198.51.100.2, serves: [203.0.113.0/28],
            port: "net_af_packet1,iface=outside,framecnt=4096,blocksz=65536"}}
chain: [nat44]
"""
FLOWS = 200
PACED_FLOWS, PACE_S = 24, 0.01
FORCED_RCVBUF = 33  # SO_RCVBUFFORCE: a test's own sockets lose nothing


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Echo(threading.Thread):
    """A UDP echo server in a namespace."""

    def __init__(self, namespace, address):
        super().__init__(daemon=True)
        self.namespace, self.address, self.ready = namespace, address, threading.Event()

    def run(self):
        netns.enter(self.namespace.fd)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, FORCED_RCVBUF, 8 << 20)
            s.bind(self.address)
            self.ready.set()
            while True:
                data, peer = s.recvfrom(2048)
                s.sendto(data, peer)


def in_namespace(namespace, function, *args):
    """function(*args) on a thread of its own inside the namespace; its value."""
    result = []

    def body():
        netns.enter(namespace.fd)
        try:
            result.append((True, function(*args)))
        except Exception as e:  # handed to the caller
            result.append((False, e))
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    good, value = result[0]
    if not good:
        raise value
    return value


def answered(server, flows, timeout_s):
    """How many of that many UDP flows get their echo, one datagram each."""
    sockets = []
    for i in range(flows):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(server)
        s.settimeout(timeout_s)
        sockets.append(s)
    for i, s in enumerate(sockets):
        s.send(b"%d" % i)
    got = 0
    for i, s in enumerate(sockets):
        try:
            got += s.recv(100) == b"%d" % i
        except (socket.timeout, ConnectionError):
            pass
        s.close()
    return got


class Paced(threading.Thread):
    """Numbered datagrams on UDP flows that never pause, and their echoes."""

    def __init__(self, namespace, server):
        super().__init__(daemon=True)
        self.namespace, self.server, self.stopping = namespace, server, threading.Event()
        self.sent, self.got, self.overtaken = 0, 0, 0
        self.start()

    def run(self):
        netns.enter(self.namespace.fd)
        flows, newest = [], {}
        for _ in range(PACED_FLOWS):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, FORCED_RCVBUF, 8 << 20)
            s.connect(self.server)
            flows.append(s)
        due, number, poller = time.monotonic(), 0, select.epoll()
        for s in flows:
            poller.register(s, select.EPOLLIN)
        by_fd, silent_since = {s.fileno(): s for s in flows}, None
        while silent_since is None or time.monotonic() - silent_since < 1.0:
            now = time.monotonic()
            if now >= due and not self.stopping.is_set():
                number, due = number + 1, max(due + PACE_S, now - PACE_S)
                for s in flows:
                    s.send(b"%d" % number)
                self.sent += len(flows)
            ready = poller.poll(PACE_S / 2)
            for fd, _ in ready:
                n = int(by_fd[fd].recv(100))
                self.got += 1
                self.overtaken += n < newest.get(fd, 0)
                newest[fd] = max(n, newest.get(fd, 0))
            if self.got == self.sent and self.stopping.is_set():
                break
            silent_since = None if ready or not self.stopping.is_set() else silent_since or now

    def finish(self):
        """(lost, overtaken)"""
        self.stopping.set()
        self.join()
        return self.sent - self.got, self.overtaken


class Site:
    SERVER = ("198.51.100.2", 7)

    def __init__(self, lab, build):
        self.lab, self.programs = lab, os.path.join(os.path.abspath(build), "steering")
        self.run_dir = tempfile.mkdtemp(prefix="lethe-")
        lab.ledger.note_folder(self.run_dir)
        with open(self.run_dir + "/probe.key", "w") as f:
            f.write(os.urandom(16).hex() + "\n")
        self.config = self.write_config("site.yaml", "inside")
        self.client, self.steer_ns, self.server = (lab.namespace(n) for n in ("c", "steer", "s"))
        lab.veth(self.client, "in0", self.steer_ns, "inside")
        lab.veth(self.server, "out0", self.steer_ns, "outside")
        self.client.ip("addr add 10.0.0.2/24 dev in0", "route add default via 10.0.0.1")
        self.server.ip("addr add 198.51.100.2/24 dev out0", "route add default via 198.51.100.1",
                       "route add 203.0.113.0/24 dev out0")
        self.echo = Echo(self.server, self.SERVER)
        self.echo.start()
        self.echo.ready.wait()
        self.steer, self.workers = None, {}

    def write_config(self, name, inside):
        path = os.path.join(self.run_dir, name)
        with open(path, "w") as f:
            f.write(SITE.format(run=self.run_dir, inside=inside))
        return path

    def start_steering(self):
        self.steer = self.lab.spawn("steer", [self.programs + "/lethe-steer", "-c", self.config],
                                    self.steer_ns)
        wait_for(lambda: self.stats(), 10, "steering to answer; see " + self.steer.log)

    def start(self, name, mode=""):
        self.workers[name] = self.lab.spawn(name, [
            self.programs + "/pass_worker", self.run_dir + "/steer.sock", name,
            "%s/%s.bell" % (self.run_dir, name), self.run_dir + "/probe.key", mode])

    def ask(self, request):
        try:
            with Control(self.run_dir + "/steer.sock", 6) as c:
                return c.ask(request)
        except (OSError, ValueError):
            return None

    def stats(self):
        return self.ask("stats")

    def stat(self, name):
        return self.stats()[name]

    def worker(self, name):
        for w in (self.ask("workers") or {}).get("workers", []):
            if w["name"] == name:
                return w
        return None

    def wait_state(self, name, *states):
        wait_for(lambda: (self.worker(name) or {"state": "absent"})["state"] in states, 10,
                 "%s to be %s; see %s" % (name, " or ".join(states), self.steer.log))

    def wait_buckets(self, **shares):
        """Until the table in use gives each worker its share (within one bucket)."""
        def so():
            have = {w["name"]: w["buckets"] for w in self.ask("workers")["workers"]}
            return all(abs(have.get(n, 0) - 65537 * s) <= 1 for n, s in shares.items())
        wait_for(so, 10, "shares of %s" % shares)

    def answered(self, flows=FLOWS, timeout_s=1.0):
        return in_namespace(self.client, answered, self.SERVER, flows, timeout_s)

    def all_answered(self, what):
        """A packet may be lost to a busy machine; not twice in three goes."""
        got = [self.answered() for _ in range(3)]
        check(sorted(got)[1] == FLOWS, "%s: of %d flows %s answered" % (what, FLOWS, got))

    def run_steer(self, *args):
        return self.steer_ns.run([self.programs + "/lethe-steer", *args], check=False, timeout=20)


# --- scenarios: in this order, each leaves w1 and w2 healthy ---------------------------------


def wrong_starts_say_why(site):
    for args, status, words in (
            (["--nonsense"], 2, "wrong option"), ([], 2, "-c site.yaml"),
            (["-c", "/nonexistent"], 1, "/nonexistent"),
            (["-c", site.write_config("nope.yaml", "nope")], 1, "nope does not exist")):
        done = site.run_steer(*args)
        check(done.returncode == status, "%s: status %d" % (args, done.returncode))
        check(words in done.stderr, "%s: says %r" % (args, done.stderr))
    site.steer_ns.run(["ethtool", "-K", "inside", "tx", "on"])
    done = site.run_steer("-c", site.config, "--check")
    check(done.returncode == 1 and "ethtool -K inside tx off gro off" in done.stderr, done.stderr)
    site.steer_ns.run(["ethtool", "-K", "inside", "tx", "off"])
    done = site.run_steer("-c", site.config, "--check")
    check(done.returncode == 0, done.stderr)


def flows_are_spread_and_answered(site):
    site.start_steering()
    check(site.answered(3, 0.3) == 0, "answered without a worker")
    check(site.stat('lethe_steer_drops_total{reason="no_worker"}') > 0, "no_worker is not counted")
    for name in ("w1", "w2"):
        site.start(name)
    site.wait_state("w1", "healthy")
    site.wait_state("w2", "healthy")
    site.wait_buckets(w1=0.5, w2=0.5)
    site.all_answered("two workers")
    for name in ("w1", "w2"):
        w = site.worker(name)
        check(w["packets_to"] > FLOWS and w["packets_to"] == w["packets_from"], w)


def a_flow_and_its_answers_meet_one_worker(site):
    for port in range(4000, 4032):
        there = site.ask("where udp 10.0.0.2 %d 198.51.100.2 53" % port)
        back = site.ask("where udp 198.51.100.2 53 10.0.0.2 %d" % port)
        check(there == back and there["name"] in ("w1", "w2"), (there, back))


def a_second_steering_is_refused(site):
    done = site.run_steer("-c", site.config, "--name", "other")
    check(done.returncode == 1 and "no front end 'other'" in done.stderr, done.stderr)
    done = site.run_steer("-c", site.config)
    check(done.returncode == 1 and "alive" in done.stderr, done.stderr)
    site.all_answered("after refused ones")


def arp_answers_for_what_is_served(site):
    mac = site.steer_ns.mac("outside")
    for address, served in (("203.0.113.0", True), ("203.0.113.15", True), ("203.0.113.16", False)):
        site.server.run(["ping", "-c1", "-W1", address], check=False)
        seen = site.server.run(["ip", "neigh", "show", address]).stdout
        check((mac in seen) == served, "%s: %s" % (address, seen))


def a_killed_worker_is_out_at_once_and_comes_back(site):
    for name, other in (("w1", "w2"), ("w2", "w1")):
        site.workers[name].kill()
        site.wait_buckets(**{name: 0, other: 1})
        site.all_answered("after kill -9 of " + name)
        site.start(name)
        site.wait_state(name, "healthy")
    site.wait_buckets(w1=0.5, w2=0.5)
    site.all_answered("after the restarts")


def a_stopped_worker_is_removed_and_returns(site):
    site.workers["w1"].signal(signal.SIGSTOP)
    site.wait_state("w1", "removed")
    site.wait_buckets(w1=0, w2=1)
    site.all_answered("one stopped")
    site.workers["w1"].signal(signal.SIGCONT)
    site.wait_state("w1", "healthy")
    site.wait_buckets(w1=0.5, w2=0.5)


def mute_and_forging_workers_get_nothing(site):
    for name, mode in (("m", "mute"), ("f", "forge")):
        forged = site.stat("lethe_steer_probes_forged_total")
        site.start(name, mode)
        wait_for(lambda: (site.worker(name) or {}).get("link"), 10, name + " to connect")
        if mode == "forge":
            wait_for(lambda: site.stat("lethe_steer_probes_forged_total") > forged + 4, 10, "forgeries")
        else:
            probes = site.stat("lethe_steer_probes_total")
            wait_for(lambda: site.stat("lethe_steer_probes_total") > probes + 20, 10, "probes")
        site.all_answered("beside " + name)
        w = site.worker(name)
        check(w["state"] == "waiting" and w["packets_to"] == 0, w)
        check(site.workers[name].stop() == 0, name + " did not end well")
        wait_for(lambda: site.worker(name) is None, 15, name + " to be gone")


def a_paused_steering_condemns_nobody(site):
    before = site.stat("lethe_steer_removals_total")
    for _ in range(3):
        site.steer.signal(signal.SIGSTOP)
        time.sleep(1.2)  # the fault: three times the failure timeout
        site.steer.signal(signal.SIGCONT)
        probes = site.stat("lethe_steer_probe_replies_total")
        wait_for(lambda: site.stat("lethe_steer_probe_replies_total") > probes + 8, 10, "replies")
    check(site.stat("lethe_steer_removals_total") == before, "a pause removed a worker")


def edge_pings(site):
    """Does the outside edge answer a ping?"""
    return site.server.run(["ping", "-n", "-c1", "-W1", "198.51.100.1"], check=False).returncode == 0


def the_last_worker_is_never_removed(site):
    """And routers see by ping that it does not serve."""
    answered = site.stat("lethe_steer_echo_answered_total")
    check(edge_pings(site), "an edge with healthy workers does not answer ping")
    check(site.stat("lethe_steer_echo_answered_total") == answered + 1, "somebody else answered")
    site.workers["w2"].signal(signal.SIGSTOP)
    site.wait_state("w2", "removed")
    site.workers["w1"].signal(signal.SIGSTOP)
    site.wait_state("w1", "removed")
    check(site.worker("w1")["in_table"], "the last one is out")
    check(site.stat("lethe_steer_last_worker_kept_total") >= 1, "not counted")
    check(not edge_pings(site), "an edge without a healthy worker answers ping")
    for name in ("w1", "w2"):
        site.workers[name].signal(signal.SIGCONT)
        site.wait_state(name, "healthy")
    site.wait_buckets(w1=0.5, w2=0.5)


def a_leaving_worker_loses_nothing(site):
    check(site.workers["w1"].stop() == 0, "w1 did not end well")
    wait_for(lambda: site.worker("w1") is None, 15, "w1 to be gone")
    site.wait_buckets(w2=1)
    site.all_answered("after the leave")
    check(site.ask("leave w1").get("error"), "left twice")
    site.start("w1")
    site.wait_state("w1", "healthy")


RELEASES = 'lethe_steer_hold_releases_total{reason="%s"}'


def under_paced_flows(site, mode):
    """A worker of that kind joins and leaves; (lost, overtaken), and which holds ended how."""
    before = site.stats()
    paced = Paced(site.client, site.SERVER)
    for _ in range(2):
        site.start("p", mode)
        site.wait_buckets(w1=1 / 3, w2=1 / 3, p=1 / 3)
        served = site.worker("p")["packets_to"]
        wait_for(lambda: site.worker("p")["packets_to"] > served + 200, 10, "packets to p")
        check(site.workers["p"].stop() == 0, "p did not end well")
        site.wait_buckets(w1=0.5, w2=0.5)
    after, result = site.stats(), paced.finish()
    print("     %-6s %d packets, %d held, lost %d, overtaken %d" % (
        mode or "quick", paced.sent, after["lethe_steer_held_total"] - before["lethe_steer_held_total"],
        *result), flush=True)
    check(after["lethe_steer_resteered_total"] == before["lethe_steer_resteered_total"], "resteered")
    return result, {r: after[RELEASES % r] - before[RELEASES % r]
                    for r in ("marker", "overdue", "full", "worker_gone")}


def planned_changes_lose_and_overtake_nothing(site):
    control = Paced(site.client, site.SERVER)
    wait_for(lambda: control.sent > 2000, 20, "the control run")
    check(control.finish() == (0, 0), "a run without change lost or overtook something")
    held = site.stat("lethe_steer_held_total")
    for mode in ("slow", ""):
        result, ends = under_paced_flows(site, mode)
        check(result == (0, 0), "%s: lost, overtaken %s" % (mode, result))
        # two joins that take from two, two leaves; Maglev moves a few more
        check(ends.pop("marker") >= 6 and not any(ends.values()), ends)
    check(site.stat("lethe_steer_held_total") > held, "nothing was held")
    wait_for(lambda: site.stat("lethe_steer_held_packets") == 0, 5, "nothing to be held")


def what_the_hold_prevents_is_seen(site):
    """Workers that return markers too early, or not at all: the check above can fail. The early
    one may also end before steering has read what it sent."""
    result, _ = under_paced_flows(site, "hasty")
    check(result[1] > 0, "hasty: lost, overtaken %s" % (result,))
    result, ends = under_paced_flows(site, "old")
    check(result[0] == 0 and ends["overdue"] >= 2, "old: lost, overtaken %s, %s" % (result, ends))


def flood(site, flows, packets, before_w2_goes_on=lambda: None):
    """Numbered datagrams, no faster than steering reads them, then w2 goes on; how many echoes, all in order?"""
    rx, newest, got = site.stat("lethe_steer_rx_packets_total"), {}, 0
    for n in range(packets):
        flows[n % len(flows)].send(b"%d" % n)
        if n % 500 == 499:
            wait_for(lambda: site.stat("lethe_steer_rx_packets_total") >= rx + n, 10, "steering to read")
    most = max(site.stat("lethe_steer_held_packets"), 1)
    before_w2_goes_on()
    site.workers["w2"].signal(signal.SIGCONT)
    ordered, quiet = True, 0
    while got < packets and quiet < 20:
        ready = select.select(flows, [], [], 0.1)[0]
        quiet = 0 if ready else quiet + 1
        for s in ready:
            n = int(s.recv(100))
            ordered &= n > newest.get(s, -1)
            newest[s], got = n, got + 1
    return got, ordered, most


def both_stand_still(site):
    """w1, which leaves, and w2; flows that were w1's, and the thread that asks for its leave."""
    def open_flows(socket_of):
        flows = []
        while len(flows) < 8:
            s = socket_of(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, FORCED_RCVBUF, 8 << 20)
            s.connect(site.SERVER)
            where = site.ask("where udp %s %d %s %d" % (*s.getsockname(), *site.SERVER))
            if where["name"] == "w1":
                flows.append(s)
        return flows
    flows = in_namespace(site.client, open_flows, socket.socket)
    for name in ("w1", "w2"):
        site.workers[name].signal(signal.SIGSTOP)
    asked = threading.Thread(target=site.ask, args=("leave w1",), daemon=True)
    asked.start()
    wait_for(lambda: site.worker("w1")["buckets"] == 0, 10, "w1 to be out of the table")
    return flows, asked


def both_serve_again(site):
    site.workers["w1"].kill()
    wait_for(lambda: site.worker("w1") is None, 15, "w1 to be gone")
    site.start("w1")
    site.wait_state("w1", "healthy")
    site.wait_state("w2", "healthy")
    site.wait_buckets(w1=0.5, w2=0.5)


def more_than_can_be_held_is_sent_on(site):
    """w1 stands still and leaves; its flows' packets are more than are held and than w2's ring takes,
    and w2 stands still, too, until all were sent."""
    before = site.stats()
    flows, asked = both_stand_still(site)
    got, ordered, most = flood(site, flows, 5000)
    site.workers["w1"].signal(signal.SIGCONT)
    asked.join(10)
    ends = {r: site.stat(RELEASES % r) - before[RELEASES % r] for r in ("full", "overdue")}
    print("     %d of 5000 answered, %d waited at most, %s" % (got, most, ends), flush=True)
    drops = {k: v - before[k] for k, v in site.stats().items() if "drops_total" in k and v > before.get(k, 0)}
    check(got == 5000 and ordered, "%d of 5000, in order: %s; drops %s" % (got, ordered, drops))
    check(sum(ends.values()) >= 1 and most > 1000, "%s, %d waited" % (ends, most))
    both_serve_again(site)


def what_waits_too_long_for_the_last_worker_is_dropped(site):
    """The same, but w2 does not go on in time: what its ring did not take is not given to it late."""
    dropped = 'lethe_steer_drops_total{reason="held_too_long"}'
    before = site.stat(dropped)
    flows, asked = both_stand_still(site)
    got, ordered, _ = flood(site, flows, 5000, lambda: wait_for(
        lambda: site.stat("lethe_steer_held_packets") == 0, 30, "what waits for w2 to be dropped"))
    site.workers["w1"].signal(signal.SIGCONT)
    asked.join(10)
    late = site.stat(dropped) - before
    check(late > 1000 and got + late == 5000 and ordered, "%d answered, %d dropped, in order: %s" % (got, late, ordered))
    both_serve_again(site)


def a_worker_killed_while_packets_are_held_costs_what_it_had(site):
    site.start("p", "slow")
    site.wait_buckets(w1=1 / 3, w2=1 / 3, p=1 / 3)
    gone = site.stat(RELEASES % "worker_gone")
    site.workers["p"].signal(signal.SIGSTOP)  # its markers will not come back
    check("error" not in (site.ask("leave p") or {"error": 1}), "leave was not answered")
    check(site.stat(RELEASES % "overdue") >= 1, "not overdue")
    site.workers["p"].signal(signal.SIGCONT)
    site.workers["p"].kill()
    wait_for(lambda: site.worker("p") is None, 15, "p to be gone")
    site.start("p", "slow")
    site.wait_buckets(w1=1 / 3, w2=1 / 3, p=1 / 3)
    site.workers["p"].signal(signal.SIGSTOP)
    asked = threading.Thread(target=site.ask, args=("leave p",), daemon=True)
    asked.start()
    wait_for(lambda: site.worker("p")["buckets"] == 0, 10, "p to be out of the table")
    site.workers["p"].kill()
    asked.join(10)
    check(not asked.is_alive(), "leave was not answered")
    wait_for(lambda: site.worker("p") is None, 15, "p to be gone")
    check(site.stat(RELEASES % "worker_gone") > gone or site.stat(RELEASES % "overdue") >= 2,
          "the hold did not end")
    site.wait_buckets(w1=0.5, w2=0.5)
    site.all_answered("after the kills")


def the_last_worker_leaves_and_dies_under_packets(site):
    """Its end is seen while packets are put into its rings: they are removed all the same."""
    check(site.workers["w2"].stop() == 0, "w2 did not end well")
    site.wait_buckets(w1=1)
    paced, served = Paced(site.client, site.SERVER), site.worker("w1")["packets_to"]
    wait_for(lambda: site.worker("w1")["packets_to"] > served + 200, 10, "packets to w1")
    check(site.ask("leave w1")["last"], "w1 is not the last one")
    site.workers["w1"].kill()
    wait_for(lambda: site.worker("w1") is None, 15, "w1 to be gone")
    wait_for(lambda: not os.path.exists(site.run_dir + "/w1.inside.memif"), 5, "its ports to be removed")
    paced.finish()
    for name in ("w1", "w2"):
        site.start(name)
        site.wait_state(name, "healthy")
    site.wait_buckets(w1=0.5, w2=0.5)


def spray_uses_everybody_for_one_flow(site):
    check(site.ask("spray on") == {"ok": True, "spray": True}, "spray on")
    before = {n: site.worker(n)["packets_to"] for n in ("w1", "w2")}
    done = site.client.run(["ping", "-q", "-c", "100", "-i", "0.005", "198.51.100.2"])
    for name, n in before.items():
        check(site.worker(name)["packets_to"] - n > 50, "%s: %s" % (name, done.stdout))
    check(site.ask("spray off") == {"ok": True, "spray": False}, "spray off")
    check("error" in site.ask("spray maybe"), "spray maybe")


def partial_checksums_are_counted(site):
    check(site.stat("lethe_steer_partial_checksums_total") == 0, "counted without cause")
    site.client.run(["ethtool", "-K", "in0", "tx", "on"])
    site.answered(10, 0.05)  # the server's kernel drops them
    site.client.run(["ethtool", "-K", "in0", "tx", "off"])
    check(site.stat("lethe_steer_partial_checksums_total") >= 10, "not counted")


def a_killed_steering_gets_its_workers_back(site):
    """Also when they are numbered anew: the second joins first."""
    first, number = site.ask("workers")["incarnation"], site.worker("w1")["worker"]
    second = "w1" if number else "w2"
    site.workers["w1" if second == "w2" else "w2"].signal(signal.SIGSTOP)
    site.steer.kill()
    site.start_steering()
    site.wait_state(second, "healthy")
    for name in ("w1", "w2"):
        site.workers[name].signal(signal.SIGCONT)
    for name in ("w1", "w2"):
        site.wait_state(name, "healthy")
    check(site.worker("w1")["worker"] != number, "not numbered anew")
    check(site.ask("workers")["incarnation"] != first, "the same incarnation")
    site.wait_buckets(w1=0.5, w2=0.5)
    site.all_answered("after kill -9 of steering")


def nothing_leaks_and_it_ends_well(site):
    def free():
        return site.stat("lethe_steer_buffers_free")
    wait_for(lambda: free() == 2047 + 4096, 5, "all packet buffers to be free, not %d" % free())
    dropped = {k: v for k, v in site.stats().items() if "drops_total" in k and v}
    print("     drops:", dropped, flush=True)
    check(site.steer.stop() == 0, "steering did not end well")
    left = [f for f in os.listdir(site.run_dir) if f.startswith("steer") or f.endswith(".memif")]
    check(left == [], "left behind: %s" % left)


SCENARIOS = [
    wrong_starts_say_why, flows_are_spread_and_answered, a_flow_and_its_answers_meet_one_worker,
    a_second_steering_is_refused, arp_answers_for_what_is_served,
    a_killed_worker_is_out_at_once_and_comes_back, a_stopped_worker_is_removed_and_returns,
    mute_and_forging_workers_get_nothing, a_paused_steering_condemns_nobody,
    the_last_worker_is_never_removed, a_leaving_worker_loses_nothing,
    planned_changes_lose_and_overtake_nothing, what_the_hold_prevents_is_seen,
    more_than_can_be_held_is_sent_on, what_waits_too_long_for_the_last_worker_is_dropped,
    a_worker_killed_while_packets_are_held_costs_what_it_had,
    the_last_worker_leaves_and_dies_under_packets,
    spray_uses_everybody_for_one_flow, partial_checksums_are_counted,
    a_killed_steering_gets_its_workers_back, nothing_leaks_and_it_ends_well,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--run", required=True)
    args = parser.parse_args()
    netns.require_root_and_tools(["ip", "ethtool", "ping"])
    with netns.Lab(args.run) as lab:
        site = Site(lab, args.build)
        try:
            for scenario in SCENARIOS:
                began = time.monotonic()
                scenario(site)
                print("ok   %-50s %5.1f s" % (scenario.__name__, time.monotonic() - began), flush=True)
        except (AssertionError, netns.NetError, subprocess.TimeoutExpired) as e:
            print("FAIL %s: %s\nlogs: %s" % (scenario.__name__, e, lab.logs), flush=True)
            return 1
        finally:
            shutil.rmtree(site.run_dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
