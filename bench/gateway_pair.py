# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux NAT gateways, one active, whose conntrackd copies the active one's connections to the other.

    client router ──┬── gw-a (inside, outside, sync) ──┬── outside router      10.0.0.1 and 198.51.100.1 are
                    └── gw-b (inside, outside, sync) ──┘                       the active one's, and move
                               └── sync: conntrackd's dedicated link, and a heartbeat

It is tests/net/network.py, whose edge of steering is gw-a here. Kernel NAT: nftables' snat to the same external
addresses as Lethe's, and the stateful rules that conntrackd's manual goes with: what is not of a known connection
passes only as a SYN from inside. conntrackd's configuration is that of its package's examples but for addresses, and
that UDP is copied, too. Fail-over is what the package's primary-backup.sh does: the addresses move and are told by
gratuitous ARP, then conntrackd -c, -f, -R, -B; a gateway that comes back does -t and -n.

A failure: at one moment the active gateway's kernel drops all that comes by any of its links and all it would send;
then conntrackd gets SIGKILL and the links go down. Its kernel's table can still be read. It is found out by silence on
the sync link: a heartbeat of ours, five in each time-out; keepalived is not here. A gateway comes back as after a
reboot, with an empty table.

Owner: the main thread; the heartbeat has two threads of its own. One Pair a lab.
"""
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

import netns
import network
from lethe_site import wait_for
from netns import NetError

BEAT_PORT, SYNC_PORT = 3781, 3780
CATCH_UP_S = 30
OWN_BYTE = {"gw-a": 4, "gw-b": 5}        # last byte of a gateway's own addresses; 1 is the active one's
SYNC = {"gw-a": "10.255.0.51", "gw-b": "10.255.0.52"}
MODES = {"ftfw": "Mode FTFW {\n  }", "direct": "Mode FTFW {\n    DisableExternalCache Yes\n  }",
         "notrack": "Mode NOTRACK {\n  }",
         "alarm": "Mode ALARM {\n    RefreshTime 15\n    CacheTimeout 180\n  }"}

CONNTRACKD_CONF = """\
Sync {{
  {mode}
  UDP {{
    IPv4_address {own}
    IPv4_Destination_Address {other}
    Port {port}
    Interface sync
    SndSocketBuffer 1249280
    RcvSocketBuffer 1249280
    Checksum on
  }}
}}
General {{
  HashSize 32768
  HashLimit 131072
  LogFile {log}
  LockFile {run_dir}/{name}.lock
  UNIX {{
    Path {run_dir}/{name}.ctl
  }}
  NetlinkBufferSize 2097152
  NetlinkBufferSizeMaxGrowth 8388608
  Filter From Userspace {{
    Protocol Accept {{
      TCP
      UDP
    }}
    Address Ignore {{
      IPv4_address 127.0.0.1
      IPv4_address 10.255.0.51
      IPv4_address 10.255.0.52
    }}
  }}
}}
"""

RULES = """\
table ip lethe_bench {{
  chain post {{
    type nat hook postrouting priority srcnat;
    oifname "outside" ip saddr {inside} snat to {first}-{last}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "inside" ct state new tcp flags & (fin | syn | rst | ack) == syn accept
    iifname "inside" ct state new meta l4proto != tcp accept
  }}
}}
"""

# All at once, as when the power goes: links go down one by one, and what is copied meanwhile would not be lost. The
# chains are there from the start (hooks, too, come one by one); their drops come in one transaction of nft.
SILENT_HOOKS = """\
table netdev lethe_silence {
  chain inside { type filter hook ingress device inside priority -500; }
  chain outside { type filter hook ingress device outside priority -500; }
  chain sync { type filter hook ingress device sync priority -500; }
}
table ip lethe_silence {
  chain out { type filter hook output priority -500; }
}
"""
SILENCE = """\
add rule netdev lethe_silence inside drop
add rule netdev lethe_silence outside drop
add rule netdev lethe_silence sync drop
add rule ip lethe_silence out drop
"""

_ends = re.compile(r"\b(?:src|dst|sport|dport)=(\S+)")
_state = re.compile(r"\b(SYN_SENT2?|SYN_RECV|ESTABLISHED|FIN_WAIT|CLOSE_WAIT|LAST_ACK|TIME_WAIT|CLOSED?)\b")


def entries(text):
    """{(protocol, original tuple): (state, reply tuple)} of what came from inside, as conntrack and conntrackd print
    it; of its copies conntrackd does not print the reply's tuple."""
    found = {}
    for line in text.splitlines():
        ends = _ends.findall(line)
        if len(ends) in (4, 8) and ends[0].startswith("10.1."):
            state = _state.search(line)
            found[(line[:3], *ends[:4])] = (state.group(1) if state else "UDP", tuple(ends[4:]))
    return found


def socket_in(ns, *kind):
    """A socket of another namespace."""
    with open("/proc/thread-self/ns/net") as home:
        netns.enter(ns.fd)
        try:
            return socket.socket(*kind)
        finally:
            netns.enter(home.fileno())


class Heartbeat:
    """From one gateway to the other; when was it last heard?"""

    def __init__(self, active, standby, timeout_s):
        self.timeout_s, self.ended = timeout_s, threading.Event()
        self.heard = time.monotonic()
        self.target = (SYNC[standby.name], BEAT_PORT)
        self.tx = socket_in(active.ns, socket.AF_INET, socket.SOCK_DGRAM)
        self.rx = socket_in(standby.ns, socket.AF_INET, socket.SOCK_DGRAM)
        self.rx.bind(self.target)
        self.rx.settimeout(timeout_s)
        for act in (self._send, self._receive):
            threading.Thread(target=act, daemon=True).start()

    def _send(self):
        while not self.ended.wait(self.timeout_s / 5):
            try:
                self.tx.sendto(b"beat", self.target)
            except OSError:
                pass  # the link is down: that is what this is for

    def _receive(self):
        while not self.ended.is_set():
            try:
                self.rx.recv(16)
                self.heard = time.monotonic()
            except OSError:
                pass

    def wait_silence(self):
        """Returns when the other gateway has been silent for the time-out."""
        while True:
            left = self.heard + self.timeout_s - time.monotonic()
            if left <= 0:
                return
            time.sleep(left)

    def close(self):
        self.ended.set()


class Ready:
    """A shell in a gateway that waits for the word: starting one takes longer than what it does."""

    def __init__(self, gateway, script):
        self.process = gateway.lab.spawn("shell-" + gateway.name, ["sh", "-c", "read go || exit 0; " + script],
                                         gateway.ns, stdin=subprocess.PIPE)

    def go(self):
        """Returns when it is done."""
        self.process.popen.communicate(b"go\n", timeout=60)


class Gateway:
    TAKE = "ip -batch - <<.\naddr add %s/24 dev inside\naddr add %s/24 dev outside\n.\n" % (
        network.INSIDE_ADDRESS, network.OUTSIDE_ADDRESS)
    FALL = "nft -f %s/silence"

    def __init__(self, pair, name, ns):
        self.pair, self.lab, self.name, self.ns, self.process = pair, pair.lab, name, ns, None
        self.other = next(n for n in SYNC if n != name)
        self.conf = os.path.join(pair.run_dir, name + ".conf")
        with open(self.conf, "w") as f:
            f.write(CONNTRACKD_CONF.format(mode=MODES[pair.mode], own=SYNC[name], other=SYNC[self.other], name=name,
                                           port=SYNC_PORT, run_dir=pair.run_dir, log=self.log()))
        ns.sysctl("net.ipv4.ip_forward", 1)
        rules = RULES.format(inside=network.INSIDE_PREFIX, first=network.EXTERNAL_ADDRESSES[0],
                             last=network.EXTERNAL_ADDRESSES[-1])
        for name, text in (("rules", rules), ("silence", SILENCE)):
            with open(os.path.join(pair.run_dir, name), "w") as f:
                f.write(text)
        ns.run(["nft", "-f", os.path.join(pair.run_dir, "rules")])
        ns.run(["nft", SILENT_HOOKS])
        self.told = [self._say_address("inside", network.INSIDE_ADDRESS),
                     self._say_address("outside", network.OUTSIDE_ADDRESS)]

    def log(self):
        return os.path.join(self.lab.logs, "conntrackd-%s.log" % self.name)

    def connect(self):
        """Links up, its own addresses and the routes that go with them."""
        own = OWN_BYTE[self.name]
        self.ns.ip("link set inside up", "link set outside up", "link set sync up",
                   "addr add 10.0.0.%d/24 dev inside" % own, "addr add 198.51.100.%d/24 dev outside" % own,
                   "addr add %s/24 dev sync" % SYNC[self.name],
                   "route add %s via %s" % (network.INSIDE_PREFIX, network.INSIDE_NEXT_HOP),
                   "route add default via %s" % network.OUTSIDE_NEXT_HOP)

    def start(self):
        self.process = self.lab.spawn("conntrackd-out-" + self.name, ["conntrackd", "-C", self.conf], self.ns)

        def answers():
            if not self.process.alive():
                raise NetError("conntrackd of %s ended at its start: see %s" % (self.name, self.log()))
            return self.ask("-s", check=False).returncode == 0
        wait_for(answers, 15, "conntrackd of %s; see %s" % (self.name, self.log()))

    def ask(self, *words, **options):
        return self.ns.run(["conntrackd", "-C", self.conf, *words], timeout=60, **options)

    def _say_address(self, interface, address):
        """A socket and the gratuitous ARP to send by it."""
        mac = bytes.fromhex(self.ns.mac(interface).replace(":", ""))
        ip = socket.inet_aton(address)
        arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, ip, b"\0" * 6, ip)
        s = socket_in(self.ns, socket.AF_PACKET, socket.SOCK_RAW)
        s.bind((interface, 0))
        return s, b"\xff" * 6 + mac + b"\x08\x06" + arp

    def take_addresses(self, ready=None):
        """The addresses of the active gateway, told to both sides."""
        (ready or self.ready(self.TAKE)).go()
        for s, frame in self.told:
            s.send(frame)

    def script(self, active):
        """What primary-backup.sh asks of conntrackd, in one shell as it does. Without a cache there is nothing to
        commit, and -t would empty the table that is copied into a minute later."""
        steps = ("-c", "-f", "-R", "-B") if active else ("-t", "-n")
        steps = [s for s in steps if self.pair.mode != "direct" or s not in ("-c", "-t")]
        return "; ".join("conntrackd -C %s %s" % (self.conf, s) for s in steps)

    def ready(self, script):
        return Ready(self, script)

    def kernel(self):
        return entries(self.ns.run(["conntrack", "-L"], timeout=60).stdout)

    def copied(self):
        """What it knows of the other's connections."""
        return self.kernel() if self.pair.mode == "direct" else entries(self.ask("-e").stdout)


class Pair:
    spray = True      # gap.py: every flow crosses the victim

    def __init__(self, lab, mode, timeout_ms):
        """mode: one of MODES. Needs network.build(lab, [])."""
        from test_fronts import routers  # whose network it is: two of everything between the routers
        self.lab, self.mode, self.timeout_s = lab, mode, timeout_ms / 1000.0
        self.run_dir = tempfile.mkdtemp(prefix="lethe-")
        lab.ledger.note_folder(self.run_dir)
        routers(lab, lab.namespace("gw-b"), ("inside", "outside"))
        lab.namespaces["client-router"].ip("route add default via " + network.INSIDE_ADDRESS)
        lab.namespaces["outside-router"].ip("route add %s via %s" % (network.EXTERNAL_PREFIX, network.OUTSIDE_ADDRESS))
        self.active = Gateway(self, "gw-a", lab.namespaces["steer"])
        self.standby = Gateway(self, "gw-b", lab.namespaces["gw-b"])
        bridge = lab.namespaces["management"]
        for g in (self.active, self.standby):
            lab.veth(g.ns, "sync", bridge, g.name)
            bridge.ip("link set %s master br0" % g.name)
        self.beats, self.dead = None, None
        self.never = []       # what the standby lacked when it had not caught up in time

    def bring_up(self):
        for g in (self.active, self.standby):
            g.connect()
            g.start()
        self.active.take_addresses()
        self.active.ready(self.active.script(True)).go()
        self.standby.ready(self.standby.script(False)).go()
        self.watch()

    def watch(self):
        """The heartbeat, and everything ready for a failure."""
        self.beats = Heartbeat(self.active, self.standby, self.timeout_s)
        self.fall = self.active.ready(Gateway.FALL % self.run_dir)
        self.take, self.commit = self.standby.ready(Gateway.TAKE), self.standby.ready(self.standby.script(True))

    def fail(self):
        """The active gateway dies, the other takes over: when, as CLOCK_MONOTONIC."""
        dead, self.dead = self.active, self.active
        self.fall.go()
        at = {"failed": time.monotonic()}
        dead.process.kill()
        dead.ns.ip("link set inside down", "link set outside down", "link set sync down")
        self.beats.wait_silence()
        at["detected"] = time.monotonic()
        self.standby.take_addresses(self.take)
        at["addresses"] = time.monotonic()
        self.commit.go()
        at["committed"] = time.monotonic()
        self.beats.close()
        self.active, self.standby = self.standby, dead
        return at

    def lost(self):
        """Entries of the dead gateway's table that the one that took over has not, or with another end point:
        {state: count}."""
        has, lost = self.active.kernel(), {}
        for key, (state, reply) in self.dead.kernel().items():
            if has.get(key, (None, None))[1] != reply:
                lost[state] = lost.get(state, 0) + 1
        return lost

    def restore(self):
        self.come_back()
        self.catch_up()

    def come_back(self):
        """The dead gateway comes back, as the standby, with an empty table; it has asked for the other's by the end."""
        g = self.dead
        g.ns.ip(*["addr flush dev %s" % i for i in ("inside", "outside", "sync")])
        g.ns.run(["nft", "flush table netdev lethe_silence; flush table ip lethe_silence"])
        g.ns.run(["conntrack", "-F"])
        for leftover in (".lock", ".ctl"):
            if os.path.exists(os.path.join(self.run_dir, g.name + leftover)):
                os.unlink(os.path.join(self.run_dir, g.name + leftover))
        g.connect()
        g.start()
        g.ready(g.script(False)).go()
        self.watch()

    def catch_up(self):
        """Until the standby has all but one in a hundred; how long that may take, differs (alarm: a whole refresh)."""
        deadline = time.monotonic() + CATCH_UP_S
        while True:
            found = self.drift()
            if found["missing"] <= found["entries"] / 100:
                return
            if time.monotonic() > deadline:
                self.never.append(found)
                return

    def drift(self):
        """What the standby's copy lacks, and has too much, and that for a second: {"missing", "stale"}, and of how
        many. What differs now and not a second later was on its way."""
        def differing():
            there, copy = self.active.kernel(), self.standby.copied()
            again = self.active.kernel()
            missing = {k for k in there if k in again and k not in copy}
            return missing, {k for k in copy if k not in there and k not in again}, len(again)
        missing, stale, total = differing()
        time.sleep(1.0)  # long beside a message's way: what still differs then differs for good
        later = differing()
        return {"missing": len(missing & later[0]), "stale": len(stale & later[1]), "entries": total}

    def cpu(self):
        return {"conntrackd": sum(g.process.cpu_seconds() for g in (self.active, self.standby))}

    def close(self):
        if self.beats:
            self.beats.close()
        shutil.rmtree(self.run_dir, ignore_errors=True)
