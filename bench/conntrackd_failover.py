#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Question "conntrackd_failover": what do connections through a NAT notice when its box dies: two Linux gateways
whose conntrackd copies their connections, beside Lethe?

    clients ── gw-a | gw-b (kernel NAT, conntrackd) ── servers            gateway_pair.py
    clients ── steering, three NAT workers ────────── servers            tests/net/network.py
                    └── store: 2 shards of 2 (3) copies on 3 (4) nodes, etcd

The same clients, servers, addresses, load and failure time-out, one after the other in one run. The load: 200 TCP
connections that stay, and 200 new ones a second that live for up to 4 s; each says a line as soon as it is open and
each 250 ms, and is answered (conntrackd_load.py). Of 160 UDP flows 40 send each 10 ms: the ruler for outages.

Per event every connection open at the failure is judged. Broken: reset, closed, answered wrongly, or silent for
--silent-s. The outage is the longest hole of the paced UDP flows; *detected* is when the failure was known: of the
gateways by a heartbeat of this bench (the same time-out as Lethe's; keepalived is not used), of Lethe when steering has
taken the worker out, or a store has a new primary. *Waited* is how long the surviving connections waited for an answer.

Events:  gateway         the active gateway is silent on all its links at once, its conntrackd killed
         worker          kill -9 of a worker            primary         kill -9 of a store primary
         worker_silent   SIGSTOP of a worker            primary_silent  a store primary's cable pulled
         burst           gateway, resp. worker, amid --burst new UDP flows
         again           who died before has just come back and asked for the state: now the other one (the
                         active gateway, the shard's primary) dies. A shard whose last copy dies stands still
*_silent is what the gateway's event is like: nobody is told. A process that is killed closes its connections.

Lost: entries of the dead gateway's table that the other's lacks after the fail-over. Drift: entries that only one side
has, and that for a second, after some seconds of steady load and after the burst; of Lethe: whether all copies of the
store print one digest. CPU per new connection is that of the programs; the kernel's forwarding is nobody's.

Needs root. One thread and a heartbeat; leaves nothing behind (tests/net/netns.py).
"""
import argparse
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time

import report  # which knows where tests/net is
import gateway_pair
import netns
import network
import traffic
from gap import Gaps
from lethe_site import Site, wait_for
from netns import NetError
from report import ROOT, quantile

WORKERS = ["w1", "w2", "w3"]
STORES = ["store-a", "store-b", "store-c", "store-d"]
SHARDS = 2
AGES = (("<100ms", 0.1), ("<1s", 1.0), ("older", float("inf")))
NEVER_S = 20             # a shard without a primary for so long stands still
BURST_HEAD_S = 0.5       # so long a burst runs before the failure
PEERS = {  # key: (mode of gateway_pair, or copies of the store's shards; name)
    "ftfw": ("ftfw", "conntrackd FTFW"),
    "direct": ("direct", "conntrackd FTFW, no external cache"),
    "notrack": ("notrack", "conntrackd NOTRACK"),
    "alarm": ("alarm", "conntrackd ALARM"),
    "lethe": (2, "Lethe, 2 copies"),
    "lethe3": (3, "Lethe, 3 copies"),
}
KINDS = {True: ("gateway", "burst", "again"),
         False: ("worker", "primary", "worker_silent", "primary_silent", "burst", "again")}
EVENT_S, SET_UP_S = 5, 25
DEFAULT_PEERS = ["ftfw", "notrack", "lethe", "lethe3"]


class Load:
    """conntrackd_load.py, ordered about."""

    def __init__(self, lab, options):
        servers = [a for s in network.SERVERS.values() for a in ("--server", s)]
        self.process = lab.spawn(
            "load", [sys.executable, os.path.join(ROOT, "bench", "conntrackd_load.py"), *servers,
                     *network.client_sources(lab), "--count", str(options.lasting), "--rate", str(options.rate),
                     "--deadline", str(options.silent_s), "--seed", str(options.seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, nice=-5)
        self.replies, self.patience_s = queue.Queue(), 4 * options.silent_s + 30
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.popen.stdout:
            self.replies.put(json.loads(line))
        self.replies.put(None)

    def ask(self, do, **more):
        try:
            self.process.popen.stdin.write(json.dumps(dict(more, do=do)).encode() + b"\n")
            self.process.popen.stdin.flush()
            reply = self.replies.get(timeout=self.patience_s)
        except (OSError, queue.Empty):
            reply = None
        if reply is None:
            raise NetError("the load does not answer: see " + self.process.log)
        return reply


class Gateways(gateway_pair.Pair):
    edge = property(lambda self: self.active.ns)     # where the clients' packets arrive

    def prepare(self, gaps, kind, rng):
        gaps.prepare(None)

    def hit(self, kind):
        return self.fail()

    def channels(self):
        return [(g.ns, "sync") for g in (self.active, self.standby)]

    def first(self):
        return self.fail()

    def drifted(self):
        return self.drift()

    def trouble(self):
        """What conntrackd says went wrong, counted: {text: times}."""
        found = {}
        for g in (self.active, self.standby):
            with open(g.log()) as f:
                for line in f:
                    text = line.split(") ", 1)[-1].strip()
                    if "[ERROR]" in text or "[warning]" in text.lower():
                        found[text] = found.get(text, 0) + 1
        return found


class Lethe(Site):
    def __init__(self, lab, copies, options):
        super().__init__(lab, options.programs, shards=SHARDS, failure_timeout_ms=options.timeout_ms, etcd=True,
                         stores=STORES[:copies + 1], copies=copies, external=len(network.EXTERNAL_ADDRESSES))
        self.victim, self.shard, self.before = None, 0, None

    edge = property(lambda self: self.lab.namespaces["steer"])

    def prepare(self, gaps, kind, rng):
        """Chooses the victim, and the UDP flows that are to show the outage."""
        self.shard = rng.randrange(SHARDS) if not self.before else self.shard
        of_store = kind.startswith("primary") or kind == "again"
        self.victim = self.primary(self.shard) if of_store else rng.choice(WORKERS)
        gaps.prepare(None if of_store else self.victim)

    def hit(self, kind):
        if kind == "worker_silent":
            self.pause(self.victim)
        elif kind == "primary_silent":
            self.lab.namespaces["management"].ip("link set %s down" % self.victim)
        else:
            self.kill(self.victim)
        at = {"failed": time.monotonic()}
        try:
            wait_for(self.noticed, NEVER_S, "a successor", 0.002)
            at["detected"] = time.monotonic()
        except NetError:
            if kind != "again":      # which may take the last copy
                raise NetError("%s was not found dead in %d s; see %s" % (
                    self.victim, NEVER_S, self.lab.logs)) from None
        return at

    def channels(self):
        return [(self.lab.namespaces[n], "eth0") for n in self.stores]

    def first(self):
        """The death before the one that is judged."""
        self.shard, self.before = 0, self.primary(0)
        self.victim = self.before
        return self.hit("primary")

    def come_back(self):
        self.start_store(self.before)
        self.before = None

    def noticed(self):
        if self.victim in WORKERS:
            reply = self.ask("steer", "workers")
            return reply and not any(w["name"] == self.victim and w["in_table"] for w in reply["workers"])
        return all(self.leader(rows) not in (None, self.victim) for rows in self.replicas())

    def lost(self):
        return None

    def restore(self):
        if self.victim in WORKERS:
            if self.instances[self.victim].running():
                self.kill(self.victim)
            self.start_worker(self.victim)
            self.wait_worker(self.victim, 30)
        elif self.instances[self.victim].running():
            self.lab.namespaces["management"].ip("link set %s up" % self.victim)
        else:
            self.start_store(self.victim)
        wait_for(self.caught_up, 60, lambda: "every shard to have all its copies:\n" + self.told())

    def drifted(self):
        try:
            self.wait_same_digest(30)
            differing = 0
        except NetError:
            differing = 1
        return {"missing": differing, "stale": 0, "entries": self.mappings()}

    def cpu(self):
        """Of what keeps the state, and of what moves packets."""
        of = {"store": [n for n in self.instances if n in STORES], "workers": WORKERS, "steering": ["steer"]}
        return {k: sum(self.instances[n].process.cpu_seconds() for n in names) for k, names in of.items()}

    def trouble(self):
        return {}


# --- measuring -------------------------------------------------------------------------------------

def burst(lab, peer, options):
    """Starts options.burst new UDP flows of a packet each; the process."""
    argv = [options.programs + "/tests/net/flow_gen", "inside", peer.edge.mac("inside"), "10.1.128.1", "5000",
            str(options.burst), str(options.burst), str(options.burst_pps), "192.0.2.200", "9"]
    return lab.spawn("flow_gen", argv, lab.namespaces["client-router"])


def settle(load, udp):
    wait_for(lambda: not load.ask("status")["late"] and not udp.ask("status")["silent"], 60,
             "every connection to be answered; see " + load.process.log, 0.2)


def judged(load, at):
    """What became of the connections open at the failure."""
    reply = load.ask("judge", at=at)
    found = {"open": len(reply["judged"]), "broken": 0, "opening": reply["opening"],
             "opening_broken": reply["opening_broken"], "waits_ms": [], "reasons": {}}
    ages = {name: [0, 0] for name, _ in AGES}
    for age, reason, wait_s in reply["judged"]:
        of = ages[next(name for name, limit in AGES if age < limit)]
        of[0] += 1
        if reason:
            of[1] += 1
            found["broken"] += 1
            found["reasons"][reason] = found["reasons"].get(reason, 0) + 1
        else:
            found["waits_ms"].append(1000 * wait_s)
    return dict(found, ages=ages)


def one_event(lab, peer, kind, parts, options, rng):
    load, udp, gaps = parts
    settle(load, udp)
    if kind == "again":
        gaps.prepare(None)
        peer.first()
        gaps.measure(60)
        settle(load, udp)
    peer.prepare(gaps, kind, rng)
    remapped = udp.ask("status")["remapped"]
    load.ask("arm")
    if kind == "again":
        peer.come_back()
    if kind == "burst":
        burst(lab, peer, options)
        time.sleep(BURST_HEAD_S)  # the burst itself
    at = peer.hit(kind)
    gap_ms = gaps.measure(60) if "detected" in at else None    # None: it stands still, until people accept a loss
    found = {"gap_ms": gap_ms, "steps_ms": {k: round(1000 * (t - at["failed"])) for k, t in at.items()},
             "lost": peer.lost()}
    found.update(judged(load, at["failed"]), remapped=udp.ask("status")["remapped"] - remapped)
    if gap_ms is not None:
        peer.restore()
    return found


def tell(name, kind, i, r, options):
    """An event's line of progress."""
    print("%s: %s %d of %d: %d open, %d broken; %s%s" % (
        name, kind, i + 1, options.events, r["open"], r["broken"],
        "stands still" if r["gap_ms"] is None else "outage %d ms, detected after %d" % (
            r["gap_ms"], r["steps_ms"]["detected"]),
        "" if r["lost"] is None else "; %d entries lost" % sum(r["lost"].values())), file=sys.stderr, flush=True)


def steady(peer, load, options):
    """CPU microseconds per new connection, by program."""
    cpu, before = peer.cpu(), load.ask("status")
    time.sleep(options.steady_s)  # the measurement itself
    begun = load.ask("status")["begun"] - before["begun"]
    return {k: 1e6 * (v - cpu[k]) / begun for k, v in peer.cpu().items()}


def after_burst(lab, peer, options):
    burst(lab, peer, options).popen.wait(60)
    time.sleep(2.0)  # so long it may take to be copied; what is on its way then is not counted either (drift)
    return peer.drifted()


def narrow(lab, peer, options):
    """Every link that state is copied by is of --channel-mbit, with 50 ms of queue, in both directions."""
    if options.channel_mbit:
        for ns, interface in peer.channels():
            ns.run(["tc", "qdisc", "add", "dev", interface, "root", "tbf", "rate", "%gmbit" % options.channel_mbit,
                    "burst", "16k", "latency", "50ms"])


def measure(lab, peer, name, kinds, options):
    narrow(lab, peer, options)
    lab.namespaces["client-router"].ip("route add blackhole 10.1.128.0/17")
    lab.namespaces["outside-router"].ip("route add blackhole 192.0.2.200/32")
    for i in range(2 if options.loaded else 0):
        lab.spawn("busy-%d" % i, ["sh", "-c", "while :; do :; done"])
    load, udp = Load(lab, options), traffic.Udp(lab)
    wait_for(lambda: load.ask("status")["opened"] >= options.lasting, 60, "the lasting connections to open", 0.2)
    wait_for(lambda: udp.ask("status")["mapped"] == udp.count, 20, "every UDP flow", 0.1)
    time.sleep(options.warm_s)   # ages mix, and tables fill with connections that are over
    found = {"name": name, "cpu_us": steady(peer, load, options), "drift": {"steady": peer.drifted()},
             "events": {k: [] for k in kinds}}
    parts, rng = (load, udp, Gaps(peer, udp)), random.Random(options.seed)

    def event(kind, i):
        r = one_event(lab, peer, kind, parts, options, rng)
        tell(name, kind, i, r, options)
        found["events"][kind].append(r)
        return r["gap_ms"] is not None
    for i in range(options.events):
        for kind in kinds:
            if kind != "again":
                event(kind, i)
    settle(load, udp)
    found["drift"]["burst"] = after_burst(lab, peer, options)
    for i in range(options.events if "again" in kinds else 0):   # last: it may be the end
        if not event("again", i):
            break
    found.update(trouble=peer.trouble(), never=getattr(peer, "never", []))
    counts = load.ask("finish")
    found.update(begun=counts["begun"], broken_in_all=counts["broken"])
    return found


def run_peer(key, options):
    kind, name = PEERS[key]
    ours = not isinstance(kind, str)
    with netns.Lab(os.path.join(options.out, "conntrackd_failover", key)) as lab:
        network.build(lab, STORES[:kind + 1] if ours else [])
        traffic.start_servers(lab)
        peer = Lethe(lab, kind, options) if ours else Gateways(lab, kind, options.timeout_ms)
        try:
            peer.bring_up(*([WORKERS] if ours else []))
            return measure(lab, peer, name, [k for k in KINDS[not ours] if k in options.kinds], options)
        finally:
            peer.close()


# --- what it found ---------------------------------------------------------------------------------

def middle(values):
    return quantile(values, 0.5) if values else None


def summed(results):
    """Of all events of one kind with one peer."""
    ended = [r for r in results if r["gap_ms"] is not None]
    gaps, waits = [r["gap_ms"] for r in ended], [w for r in results for w in r["waits_ms"]]
    after = [r["gap_ms"] - r["steps_ms"]["detected"] for r in ended]
    detected = [r["steps_ms"]["detected"] for r in ended]
    ages = {name: [sum(r["ages"][name][i] for r in results) for i in (0, 1)] for name, _ in AGES}
    lost = {}
    for r in results:
        for state, n in (r["lost"] or {}).items():
            lost[state] = lost.get(state, 0) + n
    totals = {k: sum(r[k] for r in results) for k in ("open", "broken", "opening", "opening_broken", "remapped")}
    return dict(totals, metric="outage", unit="ms", median=middle(gaps), min=min(gaps, default=None),
                max=max(gaps, default=None), events=len(results), stood_still=len(results) - len(ended), values=gaps,
                detected_ms=middle(detected), after_detection_ms=middle(after),
                after_detection_max_ms=max(after, default=None), waited_p50_ms=middle(waits),
                waited_max_ms=max(waits, default=None),
                ages=ages, lost=None if results[0]["lost"] is None else lost,
                steps_ms=[r["steps_ms"] for r in results], reasons=[r["reasons"] for r in results if r["reasons"]])


def cases_of(found):
    cases = [dict(summed(results), name="%s, %s" % (f["name"], kind), peer=key, kind=kind)
             for key, f in found.items() for kind, results in f["events"].items()]
    for key, f in found.items():
        cases += [{"name": f["name"], "peer": key, "metric": "drift, " + when, "unit": "entries", **d}
                  for when, d in f["drift"].items()]
        cases += [{"name": "%s, %s" % (f["name"], who), "peer": key, "metric": "CPU per new connection", "unit": "us",
                   "median": us} for who, us in f["cpu_us"].items()]
    return cases


def ratios_of(cases):
    """Outages of the gateways over Lethe's silent worker's, and connections broken of a thousand."""
    events = {(c["peer"], c["kind"]): c for c in cases if "kind" in c}
    ratios = {"%s_%s_broken_per_1000" % key: 1000.0 * c["broken"] / max(1, c["open"]) for key, c in events.items()}
    for (peer, kind), c in events.items():
        for ours in ("worker", "worker_silent", "primary_silent"):
            if kind == "gateway" and ("lethe", ours) in events and c["median"]:
                ratios["%s_outage_over_lethe_%s_p50" % (peer, ours)] = c["median"] / events[("lethe", ours)]["median"]
    return ratios


def print_events(cases):
    print("\nA NAT's box dies: connections open then, broken of them, and that by age; in ms: p50 and max of the outage,\n"
          "p50 of the detection, p50 and max of what of the outage came after it, of what surviving connections waited\n")
    print("  %-47s %3s %6s %6s  %-8s %-8s %-8s %10s %9s %12s %12s %6s" % (
        "", "n", "open", "broken", *(name for name, _ in AGES), "outage", "detected", "after it", "waited", "lost"))
    for c in cases:
        if "kind" not in c:
            continue
        ages = ["%d/%d" % (c["ages"][name][1], c["ages"][name][0]) for name, _ in AGES]
        pairs = ["-" if c[low] is None else "%d, %d" % (c[low], c[high])
                 for low, high in (("median", "max"), ("after_detection_ms", "after_detection_max_ms"),
                                   ("waited_p50_ms", "waited_max_ms"))]
        lost = "-" if c["lost"] is None else "%d" % sum(c["lost"].values())
        detected = "-" if c["detected_ms"] is None else "%d" % c["detected_ms"]
        print("  %-47s %3d %6d %6d  %-8s %-8s %-8s %10s %9s %12s %12s %6s%s" % (
            c["name"], c["events"], c["open"], c["broken"], *ages, pairs[0], detected, pairs[1], pairs[2], lost,
            "  stands still" if c["stood_still"] else ""))


def print_rest(cases, found):
    print("\n  drift: entries that the standby lacks, and has too many\n")
    for c in cases:
        if c["metric"].startswith("drift"):
            said = "%s, of %d mappings" % ("copies differ" if c["missing"] else "one digest", c["entries"])
            if not c["peer"].startswith("lethe"):
                said = "%d lacking, %d too many, of %d" % (c["missing"], c["stale"], c["entries"])
            print("  %-50s %-14s %s" % (c["name"], c["metric"][7:], said))
    print("\n  CPU per new connection, of the programs\n")
    for c in cases:
        if c["metric"].startswith("CPU"):
            print("  %-50s %10.0f us" % (c["name"], c["median"]))
    print()
    for f in found.values():
        for text, n in sorted(f["trouble"].items()):
            print("  %s said %d times: %s" % (f["name"], n, text))
        for d in f["never"]:
            print("  %s: a standby had not caught up in %d s, it lacked %d of %d" % (
                f["name"], gateway_pair.CATCH_UP_S, d["missing"], d["entries"]))


def notes_of(options, seconds):
    return ["conntrackd's configuration is its package's example, with UDP; rules are stateful; fail-over is "
            "primary-backup.sh; detection is a heartbeat of this bench, silent for %d ms; Lethe's failure_timeout_ms is "
            "the same" % options.timeout_ms,
            "a front end of Lethe is not killed here (tests/net/test_fronts.py does it)",
            "%d lasting connections, %g new ones a second, broken when silent for %g s; burst: %d UDP flows at %d a "
            "second" % (options.lasting, options.rate, options.silent_s, options.burst, options.burst_pps),
            "between gateways, and between stores, %s; no latency: all is one machine" % (
                "%g Mbit/s" % options.channel_mbit if options.channel_mbit else "as fast as the machine is"),
            "seed %d, %d s in all%s" % (options.seed, seconds, ", two busy loops beside" if options.loaded else "")]


def show(found, options, seconds):
    cases = cases_of(found)
    ratios, notes = ratios_of(cases), notes_of(options, seconds)
    print_events(cases)
    print_rest(cases, found)
    for name, value in ratios.items():
        print("  %-54s %8.2f" % (name, value))
    report.write("conntrackd_failover", options.out, options.events, cases, ratios, notes)


# --- the command line ------------------------------------------------------------------------------

def positive(text):
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("'%s' is not above 0" % text)
    return int(value) if value == int(value) else value


def chosen_of(known):
    def choose(text):
        words = text.split(",")
        wrong = [w for w in words if w not in known]
        if wrong:
            raise argparse.ArgumentTypeError("no '%s'; there are %s" % (wrong[0], ", ".join(known)))
        return words
    return choose


def options_of(argv):
    kinds = list(dict.fromkeys(KINDS[True] + KINDS[False]))
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  conntrackd_failover.py --quick\n  conntrackd_failover.py --peers ftfw,lethe --kinds "
               "gateway,worker_silent --events 10\n  conntrackd_failover.py --peers ftfw --kinds burst --burst 60000 "
               "--burst-pps 60000")
    p.add_argument("--events", type=positive, default=3, help="of each kind, with each peer (default: %(default)s)")
    p.add_argument("--quick", action="store_true", help="1 event of each kind, FTFW and Lethe alone")
    p.add_argument("--peers", type=chosen_of(PEERS), default=DEFAULT_PEERS,
                   help="of %s (default: %s)" % (", ".join(PEERS), ",".join(DEFAULT_PEERS)))
    p.add_argument("--kinds", type=chosen_of(kinds), default=kinds, help="of %s (default: all)" % ", ".join(kinds))
    p.add_argument("--timeout-ms", type=positive, default=200,
                   help="until a box is dead, on both sides (default: %(default)s)")
    p.add_argument("--rate", type=positive, default=200, help="new connections a second (default: %(default)s)")
    p.add_argument("--lasting", type=positive, default=200, help="connections that stay (default: %(default)s)")
    p.add_argument("--silent-s", type=positive, default=10, help="silent for longer is broken (default: %(default)s)")
    p.add_argument("--steady-s", type=positive, default=8, help="over which CPU is measured (default: %(default)s)")
    p.add_argument("--warm-s", type=positive, default=5, help="of load before anything (default: %(default)s)")
    p.add_argument("--burst", type=positive, default=20000, help="new UDP flows of a burst (default: %(default)s)")
    p.add_argument("--burst-pps", type=positive, default=10000, help="of these a second (default: %(default)s)")
    p.add_argument("--channel-mbit", type=positive, default=0,
                   help="of each gateway's sync link, resp. each store's link (default: as fast as the machine)")
    p.add_argument("--loaded", action="store_true", help="two busy loops beside, on both sides")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--programs", default=os.path.join(ROOT, "build", "release"), help="default: %(default)s")
    p.add_argument("--out", default=os.path.join(ROOT, "build", "bench"), help="default: %(default)s")
    options = p.parse_args(argv)
    if options.quick:
        options.events, options.peers = 1, [k for k in options.peers if k in ("ftfw", "lethe")] or options.peers[:1]
    return options


def expected_s(options):
    events = sum(len([k for k in KINDS[isinstance(PEERS[key][0], str)] if k in options.kinds]) for key in options.peers)
    return int(len(options.peers) * (SET_UP_S + options.steady_s) + options.events * events * EVENT_S)


def main(argv):
    options = options_of(argv)
    netns.require_root_and_tools(["ip", "tc", "ethtool", "nft", "conntrack", "conntrackd", "etcd", "curl", "iperf3",
                                  "dnsmasq"])
    os.makedirs(options.out, exist_ok=True)
    started = time.monotonic()
    report.announce("conntrackd_failover", options, expected_s(options))
    found = {key: run_peer(key, options) for key in options.peers}
    show(found, options, time.monotonic() - started)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NetError as e:
        sys.exit("conntrackd_failover: %s" % e)
