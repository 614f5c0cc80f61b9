# SPDX-License-Identifier: BSD-3-Clause
"""All traffic of a site: starts servers and clients, knows how each is doing.

Every kind has start, status() (a dict, at any moment, never waits) and finish() (waits for its end;
returns a dict with "ok", and "why" if not). The heavy kinds are processes of their own
(traffic_lines.py, traffic_udp.py, curl, iperf3); a thread reads their output.
"""
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time

import network
from lethe_site import wait_for
from netns import NetError
from traffic_server import HTTP_PORT, stream_blocks

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"www.lethe.test": network.SERVERS["s1"], "iperf.lethe.test": network.SERVERS["s2"]}
IPERF_UP, IPERF_DOWN = 5201, 5202


def python(script, *args):
    return [sys.executable or "python3", os.path.join(HERE, script), *args]


def start_servers(lab):
    """Every server of the outside network."""
    for name, address in network.SERVERS.items():
        lab.spawn(name + "-server", python("traffic_server.py", address), lab.namespaces[name],
                  nice=-5)
    names = ["--address=/%s/%s" % item for item in NAMES.items()]
    lab.spawn("s1-dnsmasq", ["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--user=root",
                             "--conf-file=/dev/null", "--pid-file=", "--log-facility=-",
                             "--listen-address=" + network.SERVERS["s1"], "--bind-interfaces",
                             *names], lab.namespaces["s1"])
    for port in (IPERF_UP, IPERF_DOWN):
        lab.spawn("s2-iperf3-%d" % port, ["iperf3", "-s", "-p", str(port)], lab.namespaces["s2"])


class Lines:
    """Long-lived TCP connections with a numbered line every second (traffic_lines.py)."""

    def __init__(self, lab, count=512, deadline_s=15, epoch=None, every_s=1.0, ramp=4, servers=None, sources=None):
        """servers, sources: addresses and --from arguments, where the network is another than network.py's."""
        self.latest = {"wanted": count, "opened": 0, "live": 0, "kept": 0, "broken": 0, "late": 0,
                       "answers": 0, "slowest_ms": 0, "reasons": [], "last": False}
        servers = [a for s in servers or network.SERVERS.values() for a in ("--server", s)]
        self.process = lab.spawn(
            "lines", python("traffic_lines.py", *servers, *(sources or network.client_sources(lab)),
                            "--count", str(count), "--deadline", str(deadline_s),
                            "--every", str(every_s), "--epoch", str(epoch or time.time()),
                            "--ramp", str(ramp)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, nice=-5)
        self.count, self.deadline_s = count, deadline_s
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.popen.stdout:
            self.latest = json.loads(line)

    def status(self):
        return self.latest

    def wait_opened(self, timeout_s=30):
        wait_for(lambda: self.status()["opened"] == self.count, timeout_s, lambda: "%d connections to open, not %d; see %s" % (
            self.count, self.status()["opened"], self.process.log))

    def finish(self):
        self.process.popen.stdin.close()
        self.reader.join(2 * self.deadline_s + 5)
        s = dict(self.latest)
        s["ok"] = (s["last"] and s["opened"] == s["wanted"] == s["kept"] and s["broken"] == 0)
        if not s["last"]:
            s["why"] = "the client program ended early"
        elif s["broken"]:
            s["why"] = "; ".join("%(from)s line %(line)d at %(at_s).1f s: %(reason)s" % r
                                 for r in s["reasons"][:3])
        elif not s["ok"]:
            s["why"] = "only %d of %d opened" % (s["opened"], s["wanted"])
        s["log"] = self.process.log
        return s


class Udp:
    """Paced UDP flows (traffic_udp.py): asks are answered within a moment."""

    def __init__(self, lab, count=160, sources=None):
        self.process = lab.spawn(
            "udp", python("traffic_udp.py", "--server", network.SERVERS["s2"],
                          *(sources or network.client_sources(lab)), "--count", str(count)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, nice=-10)
        self.count = count
        self.replies = queue.Queue()
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.popen.stdout:
            self.replies.put(json.loads(line))
        self.replies.put(None)

    def ask(self, do, **more):
        with self.lock:
            try:
                stdin = self.process.popen.stdin
                stdin.write(json.dumps(dict(more, do=do)).encode() + b"\n")
                stdin.flush()
                reply = self.replies.get(timeout=20)
            except (OSError, queue.Empty):
                reply = None
        if reply is None:
            raise NetError("the UDP client does not answer: see " + self.process.log)
        return reply

    def wait_mapped(self, timeout_s=20):
        """Until every flow had an answer: its mapping is there."""
        wait_for(lambda: self.ask("status")["mapped"] == self.count, timeout_s, "every UDP flow to be answered; see " +
                 self.process.log, 0.1)

    def finish(self):
        s = self.ask("finish")
        s["ok"] = s["wrong"] == 0 and s["remapped"] == 0 and s["mapped"] == self.count
        if not s["ok"]:
            s["why"] = ("%(wrong)d answers for another flow, %(remapped)d changes of the outside end "
                        "point, %(mapped)d flows ever answered" % s)
        s["log"] = self.process.log
        return s


class Churn:
    """Short TCP and UDP flows all the time (traffic_churn.py)."""

    def __init__(self, lab, rate, sources=None):
        self.process = lab.spawn(
            "churn", python("traffic_churn.py", "--server", network.SERVERS["s1"],
                            *(sources or network.client_sources(lab)), "--rate", str(rate)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def finish(self):
        out = self.process.popen.communicate(timeout=20)[0]
        result = dict(json.loads(out) if out else {}, log=self.process.log)
        result["ok"] = result.get("answered", 0) > 0
        return result


class Download:
    """A large curl download; its content is compared with what it must be."""

    def __init__(self, lab, total_bytes, bytes_per_s, host="c1"):
        self.total = total_bytes
        url = "http://%s:%d/stream?bytes=%d" % (network.SERVERS["s1"], HTTP_PORT, total_bytes)
        self.process = lab.spawn("curl", ["curl", "--silent", "--show-error", "--fail",
                                          "--speed-limit", "1", "--speed-time", "15",
                                          "--limit-rate", str(bytes_per_s), url],
                                 lab.namespaces[host], stdout=subprocess.PIPE)
        self.received, self.digest = 0, hashlib.sha256()
        self.started = time.monotonic()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            block = self.process.popen.stdout.read1(1 << 20)
            if not block:
                return
            self.received += len(block)
            self.digest.update(block)

    def status(self):
        return {"received": self.received, "total": self.total}

    def finish(self, timeout_s=120):
        self.reader.join(timeout_s)
        status = None if self.reader.is_alive() else self.process.popen.wait()
        want = hashlib.sha256()
        for block in stream_blocks(self.total):
            want.update(block)
        same = self.digest.digest() == want.digest()
        result = {"ok": status == 0 and same, "bytes": self.received, "exit_status": status,
                  "sha256_equal": same, "log": self.process.log,
                  "seconds": round(time.monotonic() - self.started, 1)}
        if not result["ok"]:
            result["why"] = ("curl's exit status %s" % status if status != 0 else
                             "the checksum differs") + " after %d of %d bytes" % (self.received,
                                                                                  self.total)
        return result


class Iperf:
    """One iperf3 TCP run; `reverse`: the server sends."""

    def __init__(self, lab, seconds, reverse, bits_per_s, host):
        self.name = "iperf3-" + ("down" if reverse else "up")
        self.out = os.path.join(lab.logs, self.name + ".json")
        argv = ["iperf3", "-c", network.SERVERS["s2"], "-t", str(seconds), "-J",
                "-p", str(IPERF_DOWN if reverse else IPERF_UP)]
        argv += ["-b", str(bits_per_s)] if bits_per_s else []
        argv += ["-R"] if reverse else []
        with open(self.out, "wb") as out:
            self.process = lab.spawn(self.name, argv, lab.namespaces[host], stdout=out)
        self.seconds = seconds

    def finish(self):
        result = {"ok": False, "log": self.out}
        try:
            result["exit_status"] = self.process.popen.wait(self.seconds + 30)
            with open(self.out) as f:
                report = json.load(f)
            if "error" in report:
                result["why"] = "iperf3: " + report["error"]
                return result
            result["mbit_per_s"] = round(report["end"]["sum_received"]["bits_per_second"] / 1e6, 1)
            result["retransmits"] = report["end"]["sum_sent"].get("retransmits", 0)
            result["ok"] = result["exit_status"] == 0 and result["mbit_per_s"] > 0
            if not result["ok"]:
                result["why"] = "exit status %d" % result["exit_status"]
        except subprocess.TimeoutExpired:
            self.process.kill()
            result["why"] = "did not end"
        except (ValueError, KeyError) as e:
            result["why"] = "unreadable report: %r" % e
        return result


class Dns:
    """A dig every `every_s` seconds, as resolvers are used: three tries of two seconds."""

    def __init__(self, lab, host="c2", every_s=1.0):
        loop = ("while :; do dig +short +tries=3 +time=2 @%s www.lethe.test || echo FAILED;"
                " sleep %s; done" % (network.SERVERS["s1"], every_s))
        self.process = lab.spawn("dig", ["sh", "-c", loop], lab.namespaces[host],
                                 stdout=subprocess.PIPE)
        self.good = self.bad = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.popen.stdout:
            if line.strip().decode() == NAMES["www.lethe.test"]:
                self.good += 1
            elif not line.startswith(b";;"):
                self.bad += 1

    def status(self):
        return {"answered": self.good, "failed": self.bad}

    def finish(self):
        self.process.stop()
        result = dict(self.status(), ok=self.good > 0 and self.bad == 0, log=self.process.log)
        if not result["ok"]:
            result["why"] = "%d of %d questions without the right answer" % (
                self.bad, self.good + self.bad)
        return result


class Ping:
    """Echo requests five times a second, until finished."""

    def __init__(self, lab, host="c3"):
        self.process = lab.spawn("ping", ["ping", "-n", "-i", "0.2", network.SERVERS["s2"]],
                                 lab.namespaces[host], stdout=subprocess.PIPE)
        self.received = self.last = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.popen.stdout:
            m = re.search(rb"icmp_seq=(\d+) ttl=.*time=([0-9.]+)", line)
            if m:
                self.received, self.last = self.received + 1, float(m.group(2))

    def status(self):
        return {"received": self.received, "rtt_ms": self.last}

    def finish(self):
        """Lost echoes are no failure (a gap loses some); silence is, and so is none at the end."""
        before = self.received
        deadline = time.monotonic() + 5
        while self.received < before + 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.process.stop()
        ok = self.received >= before + 3
        result = {"ok": ok, "received": self.received, "rtt_ms": self.last,
                  "log": self.process.log}
        if not ok:
            result["why"] = "no echo in the last 5 s"
        return result


def traceroute(lab, host="c4", icmp=False):
    """The path to s1: client's gateway, client router's next hop (the NAT), outside router, s1."""
    argv = ["traceroute", "-n", "-q", "2", "-w", "2", "-m", "8"] + (["-I"] if icmp else [])
    done = lab.namespaces[host].run(argv + [network.SERVERS["s1"]], check=False)
    hops = []
    for line in done.stdout.splitlines()[1:]:
        addresses = re.findall(r"\d+\.\d+\.\d+\.\d+", line)
        hops.append(addresses[0] if addresses else "*")
    # the hop that is the NAT answers with an address of the site's inside
    want = ["10.1.%d.1" % (network.CLIENTS.index(host) + 1), network.INSIDE_ADDRESS,
            network.OUTSIDE_NEXT_HOP, network.SERVERS["s1"]]
    result = {"ok": hops == want, "hops": hops}
    if not result["ok"]:
        result["why"] = "hops %s instead of %s" % (" ".join(hops), " ".join(want))
    return result
