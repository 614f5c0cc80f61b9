#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What `make run` shows: a NAT on real traffic whose parts are killed, and no connection notices.

    demo.py --build build/dev [--loaded] [--bulk-s N --pace X]

The site is brought up, scaled and taken down as an operator does it, by `lethe`; lethe-controller
starts again whatever is killed. Ends with a verdict and exit status 0 or 1; the same in
build/run/summary.json, every program's log in build/run/logs/. network.py draws the network,
controlled_site.py the programs.
"""
import argparse
import json
import os
import platform
import sys
import time

import network
import traffic
from gap import Faults, Gaps
from kept_site import KeptSite
from lethe_site import wait_for
from netns import Lab, NetError, require_root_and_tools
from view import BOLD, GREEN, OFF, RED, View, Watch

TOOLS = ["ip", "ethtool", "curl", "iperf3", "dig", "dnsmasq", "ping", "traceroute",
         "etcd"]
WORKERS = 2
CONNECTIONS = 512
CURL_BYTES_S = 8 << 20
IPERF_BITS_S = 50_000_000


class Verdict:
    """Rows of (what, ok, text, log); the demo passes when all are ok."""

    def __init__(self):
        self.rows = []

    def add(self, what, ok, text, log=None):
        self.rows.append((what, bool(ok), text, log))

    def add_result(self, what, result, text):
        why = result.get("why")
        self.add(what, result["ok"], text if not why else "%s — %s" % (text, why),
                 result.get("log"))

    def ok(self):
        """Only a verdict with rows can be good."""
        return bool(self.rows) and all(row[1] for row in self.rows)

    def show(self):
        """Connections first, then the faults, then the rest."""
        order = {"long-lived TCP connections": 0}
        self.rows.sort(key=lambda row: order.get(row[0], 1 if row[0].split()[0] in (
            "kill", "SIGSTOP", "lethe") else 2))
        colour = sys.stdout.isatty()
        good, bad, bold, off = (GREEN, RED, BOLD, OFF) if colour else ("", "", "", "")
        print("\n%sVERDICT%s" % (bold, off))
        for what, ok, text, log in self.rows:
            print("  %s%s%s %-34s %s" % (good if ok else bad, "ok    " if ok else "FAILED", off,
                                         what, text))
            if not ok and log:
                print("         %-34s see %s" % ("", log))


class Demo:
    def __init__(self, lab, args):
        self.lab, self.args = lab, args
        self.started = time.monotonic()
        self.epoch = time.time()
        self.verdict = Verdict()
        self.summary = {"connections_opened": 0, "connections_broken": 0, "kills": [],
                        "loaded": args.loaded}
        self.site = KeptSite(lab, args.build, replicas=WORKERS)
        self.watch = Watch(self.site)
        self.lines = self.udp = self.download = self.dns = self.ping = None
        self.status = ""
        self.view = View("Lethe: a NAT that survives being killed", self.watch, self.started, {
            "long-lived TCP": self.lines_text, "curl": self.curl_text, "dig, ping": self.small_text})

    # --- what the view says of the traffic -------------------------------------------------

    def lines_text(self):
        if not self.lines:
            return "–"
        s = self.lines.status()
        colour = (RED if s["broken"] else GREEN, OFF) if self.view.live else ("", "")
        return "%(opened)d opened, %(live)d live, " % s + "%s%d broken%s" % (
            colour[0], s["broken"], colour[1]) + \
            "; %(answers)d answers, %(late)d late, slowest %(slowest_ms)d ms" % s

    def curl_text(self):
        if not self.download:
            return "–"
        s = self.download.status()
        return "%d of %d MB" % (s["received"] >> 20, s["total"] >> 20)

    def small_text(self):
        if not self.dns:
            return "–"
        return "%(answered)d answered, %(failed)d failed" % self.dns.status() + \
               "; %(received)d echoes, %(rtt_ms).2f ms" % self.ping.status()

    # --- the story ---------------------------------------------------------------------------

    def lethe(self, *words):
        """What an operator types, shown."""
        line = self.view.event("$ lethe " + " ".join(words))
        began = time.monotonic()
        out = self.site.lethe(*words)
        self.view.event("done in %.1f s" % (time.monotonic() - began), "good", line)
        return out

    def run(self):
        self.view.set_phase("starting etcd; then one command brings up the rest")
        network.build(self.lab, [])
        if self.args.loaded:
            for i in range(2):
                self.lab.spawn("busy-%d" % i, ["sh", "-c", "while :; do :; done"])
        traffic.start_servers(self.lab)
        self.site.start_etcd()
        self.lethe("up", "site.yaml")
        self.site.start_controller("standby")
        self.start_traffic()
        self.break_things()
        self.view.set_phase("nothing more breaks: curl and iperf3 come to their end")
        self.status = self.site.lethe("status")
        self.finish_traffic()

    def start_traffic(self):
        self.view.set_phase("starting the traffic: %d connections, curl, iperf3, DNS, ping"
                            % CONNECTIONS)
        self.udp = traffic.Udp(self.lab)
        self.lines = traffic.Lines(self.lab, CONNECTIONS, epoch=self.epoch)
        self.download = traffic.Download(self.lab, self.args.bulk_s * CURL_BYTES_S, CURL_BYTES_S)
        self.iperf = [traffic.Iperf(self.lab, self.args.bulk_s, reverse, IPERF_BITS_S, host)
                      for reverse, host in ((False, "c1"), (True, "c2"))]
        self.dns, self.ping = traffic.Dns(self.lab), traffic.Ping(self.lab)
        self.lines.wait_opened()
        self.udp.wait_mapped()
        self.view.event("%d connections are open" % CONNECTIONS, "good")
        route = traffic.traceroute(self.lab)
        self.verdict.add_result("traceroute", route, " → ".join(route["hops"]))
        self.summary["traceroute"] = route

    def show_for(self, seconds):
        """Not a wait for anything: time for a person to look."""
        time.sleep(seconds * self.args.pace)

    def break_things(self):
        faults = Faults(self.site, Gaps(self.site, self.udp), self.started, self.view.event)
        self.summary["kills"] = faults.kills
        self.show_for(3)
        self.view.set_phase("kill -9 of worker nf-1: all its packets go to nf-2")
        faults.kill("nf-1")
        self.wait_workers(WORKERS)
        self.show_for(5)
        self.view.set_phase("two more workers: a planned change")
        self.scale(faults, 4)
        self.show_for(5)
        self.view.set_phase("kill -9 of worker nf-2: others go on with flows they have never seen")
        faults.kill("nf-2")
        self.wait_workers(4)
        self.show_for(5)
        self.view.set_phase("SIGSTOP of worker nf-3 for five seconds")
        faults.pause("nf-3", 5)
        self.show_for(5)
        self.view.set_phase("back to two workers: those that go finish what they hold")
        self.scale(faults, WORKERS)
        self.show_for(5)
        self.view.set_phase("kill -9 of the controller: nobody notices, and the other one leads")
        self.kill_controller(faults)
        self.show_for(3)
        self.kill_store(faults, "backup")
        self.show_for(5)
        self.kill_store(faults, "primary")
        self.show_for(5)
        self.kill_store(faults, "primary", "nf-1")
        self.show_for(3)
        self.check_copies()

    def wait_workers(self, number):
        self.site.wait_ready(number, 40)
        self.view.event("%d workers are ready" % number, "good")

    def scale(self, faults, replicas):
        faults.during("lethe scale nf=%d" % replicas, lambda: self.site.lethe(
            "scale", "nf=%d" % replicas))

    def kill_controller(self, faults):
        leads = self.site.status()["controller"]["pid"]
        faults.during("kill -9 of the controller", lambda: self.site.kill_controller(leads))
        wait_for(lambda: (self.site.status() or {"controller": {"pid": leads}})["controller"]["pid"] != leads,
                 30, "the other controller to lead; see " + self.lab.logs)
        self.view.event("the other controller leads", "good")

    def kill_store(self, faults, role, worker=None):
        """A replica dies, alone or in the same moment as a worker; a spare takes its place, and it comes back."""
        site, victims = self.site, [worker] if worker else []
        name = site.primary(0) if role == "primary" else wait_for(
            lambda: site.backups(0), 10, "shard 0 to have a backup")[0]
        self.view.set_phase("kill -9 of the store's %s, %s%s" % (
            role.upper() if role == "primary" else role, name,
            ", and of worker %s in the same moment" % worker if worker else ""))
        faults.kill(*victims, name, what=" (%s)" % role)
        began = time.monotonic()
        wait_for(site.caught_up, 30, "a spare to take the place of %s; see %s" % (name, self.lab.logs))
        self.view.event("every shard has two copies again, after %.1f s" % (time.monotonic() - began),
                        "good")
        self.site.wait_ready(WORKERS, 40)
        self.view.event("every program is back", "good")

    def check_copies(self):
        self.view.set_phase("do all replicas hold the same?")
        same = self.site.wait_same_digest()
        self.view.event("all replicas have one digest, " + ", ".join(
            "%s… at %d" % (digest[:6], position) for position, digest in same), "good")
        self.summary["copies"] = same
        self.verdict.add("store's copies", True, "; ".join(
            "shard %d: digest %s at log position %d" % (i, digest, position)
            for i, (position, digest) in enumerate(same)))

    def finish_traffic(self):
        v, s = self.verdict, self.summary
        curl = s["curl"] = self.download.finish()
        v.add_result("curl", curl, "%d bytes in %.1f s, checksum %s"
                     % (curl["bytes"], curl["seconds"],
                        "equal" if curl["sha256_equal"] else "WRONG"))
        for way, iperf in zip(("up", "down"), self.iperf):
            r = s["iperf3_" + way] = iperf.finish()
            v.add_result("iperf3 " + way, r, "%s Mbit/s, %s retransmits"
                         % (r.get("mbit_per_s", "?"), r.get("retransmits", "?")))
        dns, ping = self.dns.finish(), self.ping.finish()
        v.add_result("DNS", dns, "%(answered)d answered, %(failed)d failed" % dns)
        v.add_result("ping", ping, "%(received)d echoes received" % ping)
        udp = self.udp.finish()
        v.add_result("UDP flows", udp, "%d flows, %d sent, %d lost, %d remapped"
                     % (self.udp.count, udp["sent"], udp["sent"] - udp["received"],
                        udp["remapped"]))
        s.update(dns=dns, ping=ping, udp=udp)

    def finish_lines(self):
        """Also when something failed before: the count of broken connections is the verdict."""
        if not self.lines:
            return
        self.view.set_phase("every connection answers a last time")
        lines = self.lines.finish()
        self.summary.update(connections_opened=lines["opened"], connections_kept=lines["kept"],
                            connections_broken=lines["broken"], lines=lines)
        self.verdict.add_result("long-lived TCP connections", lines, "%(opened)d opened, %(kept)d "
                                "kept, %(broken)d broken; slowest answer %(slowest_ms)d ms" % lines)

    def check_programs(self):
        for name, status in self.site.ended_early().items():
            self.verdict.add(name, False, "ended by itself: %s" % status,
                             self.site.instances[name].process.log)
        for name, status in self.site.shut_down().items():
            self.verdict.add(name, False, "did not end with status 0: %s" % status,
                             self.site.instances[name].process.log)

    def judge_kills(self):
        for k in self.summary["kills"]:
            gap = "no end" if k["gap_ms"] is None else "gap %5d ms over %d flows" % (k["gap_ms"],
                                                                                    k["flows"])
            self.verdict.add(k["what"], k["gap_ms"] is not None, "at %5.1f s, %s" % (k["at_s"], gap))

    def close(self):
        self.watch.stop()
        self.view.close()
        self.site.close()

    def write_summary(self, path):
        self.summary.update(ok=self.verdict.ok(), kernel=platform.release(), cpus=os.cpu_count(),
                            seconds=round(time.monotonic() - self.started, 1),
                            checks=[{"what": w, "ok": ok, "text": text}
                                    for w, ok, text, _ in self.verdict.rows])
        with open(path, "w") as f:
            json.dump(self.summary, f, indent=2)
            f.write("\n")


def play(lab, args):
    demo = Demo(lab, args)
    try:
        try:
            demo.run()
        except (NetError, OSError) as e:
            demo.verdict.add("the demo", False, str(e), lab.logs)
        demo.finish_lines()
        demo.judge_kills()
        demo.check_programs()
    finally:
        demo.close()
    demo.write_summary(os.path.join(lab.folder, "summary.json"))
    if demo.status:
        print("\n$ lethe status                               (after the last kill)\n\n" + demo.status.rstrip())
    demo.verdict.show()
    print("\n  summary: %s   logs: %s" % (os.path.join(lab.folder, "summary.json"), lab.logs))
    return demo.verdict.ok()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build/dev", help="folder of the built programs")
    p.add_argument("--run", default="build/run", help="folder for logs and summary.json")
    p.add_argument("--loaded", action="store_true", help="two busy loops beside")
    p.add_argument("--bulk-s", type=int, default=75, help="how long iperf3 and curl go on")
    p.add_argument("--pace", type=float, default=1.0, help="times the pauses for the eye")
    args = p.parse_args()
    require_root_and_tools(TOOLS)
    try:
        with Lab(args.run) as lab:
            ok = play(lab, args)
    except NetError as e:
        sys.exit("demo: %s" % e)
    except KeyboardInterrupt:
        sys.exit("demo: stopped; everything is removed")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
