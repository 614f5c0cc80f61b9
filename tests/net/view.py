# SPDX-License-Identifier: BSD-3-Clause
"""What a person sees while a site runs: a picture twice a second on a terminal, lines elsewhere.

Watch is the observer: a thread that asks every instance for its counters twice a second and turns
them into rates. View draws what Watch knows; plain ANSI, made for 100 x 30. Neither changes anything.
"""
import os
import shutil
import sys
import threading
import time

BOLD, DIM, RED, GREEN, YELLOW, CYAN, OFF = (
    "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m", "\033[36m", "\033[0m")
STATE_LOOK = {"running": (GREEN, "●"), "starting": (YELLOW, "◌"), "paused": (YELLOW, "‖"),
              "killed": (RED, "✗"), "stopped": (DIM, "○"), "absent": (DIM, "·")}
EVENT_LOOK = {"fault": RED, "good": GREEN, "info": CYAN, "bad": BOLD + RED}
HISTORY = 48
BARS = " ▁▂▃▄▅▆▇█"


class Row:
    """What is known of one instance."""

    def __init__(self):
        self.packets_total = 0
        self.packets_s = self.in_flight = self.busy = self.mappings = None
        self.shards = {}         # store: mappings of those it is the primary of
        self.detail = ""
        self.last_at = self.last_packets = self.incarnation = None
        self.history = [0.0] * HISTORY


class Watch:
    def __init__(self, site, every_s=0.5):
        self.site, self.every_s = site, every_s
        self.asked = {"worker": self._worker, "store": self._store, "steering": self._steering}
        self.rows = {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join()

    def _run(self):
        while not self.stopping.wait(self.every_s):
            for name, instance in list(self.site.instances.items()):
                row = self.rows.setdefault(name, Row())
                asks = instance.kind in self.asked and instance.running() and \
                    instance.state in ("running", "starting")
                self._update(row, instance, self.site.stats(name, 0.2) if asks else None)

    def _update(self, row, instance, stats):
        now = time.monotonic()
        if not stats:
            row.packets_s = row.in_flight = row.busy = row.mappings = None
            row.last_at, row.shards = None, {}
        elif instance.kind in self.asked:
            packets = self.asked[instance.kind](row, stats)
            if row.last_at and row.incarnation == stats.get("pid"):
                row.packets_s = max(0, packets - row.last_packets) / (now - row.last_at)
            row.packets_total = packets
            row.last_at, row.last_packets, row.incarnation = now, packets, stats.get("pid")
        row.history = row.history[1:] + [row.packets_s or 0.0]

    @staticmethod
    def _worker(row, stats):
        row.in_flight = stats.get("lethe_worker_in_flight")
        row.busy = stats.get("lethe_worker_busy_permille", 0) / 10
        return stats.get("lethe_worker_tx_packets_total", 0)

    @staticmethod
    def _store(row, stats):
        shards = stats.get("shards", [])
        row.in_flight = sum(s["waiting"] for s in shards)
        row.shards = {s["shard"]: s["pool_used"] for s in shards if s["role"] == "primary"}
        row.mappings = sum(s["pool_used"] for s in shards)
        row.detail = "%s, log %s" % ("/".join(s["role"] for s in shards),
                                     number(sum(s["position"] for s in shards), 0))
        return sum(s["position"] for s in shards)

    @staticmethod
    def _steering(row, stats):
        row.busy = stats.get("lethe_steer_busy_permille", 0) / 10
        return stats.get("lethe_steer_tx_packets_total", 0)

    def mappings(self):
        """Mappings that live now: the primaries' pools in use."""
        known = {}
        for row in list(self.rows.values()):
            known.update(row.shards)
        return sum(known.values()) if known else None


def bars(history, width):
    """A line of little bars, the newest right."""
    part = history[-width:]
    most = max(max(part), 1.0)
    return "".join(BARS[min(8, int(8.99 * v / most))] for v in part)


def rule(text, width):
    return DIM + " " + (text + " " if text else "") + "─" * (width - len(text) - 3)


def number(value, width):
    return ("{:,.0f}".format(value) if value is not None else "–").replace(",", " ").rjust(width)


class View:
    """Events and progress; owns standard output until close()."""

    def __init__(self, title, watch, started, traffic):
        self.title, self.watch, self.started = title, watch, started
        self.traffic = traffic            # name -> function that returns a line of text
        self.events = []                  # [seconds, text, kind, outcome, its kind]
        self.phase = ""
        self.lock = threading.Lock()
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.stopping = threading.Event()
        if self.live:
            sys.stdout.write("\033[?1049h\033[?25l")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def event(self, text, kind="info", earlier=None):
        """A line of what happened; `earlier`: the event that this is the outcome of."""
        at = time.monotonic() - self.started
        with self.lock:
            if earlier is not None:
                earlier[3:] = [text, kind]
            else:
                earlier = [at, text, kind, "", kind]
                self.events.append(earlier)
        if not self.live:
            print("%6.1f s  %s" % (at, "   ".join(filter(None, (earlier[1], earlier[3])))),
                  flush=True)
        return earlier

    def set_phase(self, text):
        self.phase = text
        if not self.live:
            self.event("— " + text)

    def close(self):
        self.stopping.set()
        self.thread.join()
        if self.live:
            self._draw()
            sys.stdout.write("\033[?1049l\033[?25h")
            sys.stdout.flush()

    def _run(self):
        every_s = 0.5 if self.live else 5.0
        while not self.stopping.wait(every_s):
            if self.live:
                self._draw()
            else:
                self._progress()

    def _progress(self):
        parts = ["%s %s" % (n, number(r.packets_s, 0)) for n, r in sorted(self.watch.rows.items())
                 if self.watch.site.instances[n].kind == "worker"]
        print("%6.1f s  packets/s: %s; mappings %s; %s" % (
            time.monotonic() - self.started, ", ".join(parts) or "–",
            number(self.watch.mappings(), 0),
            "; ".join("%s: %s" % (n, f()) for n, f in self.traffic.items())), flush=True)

    # --- the picture ---------------------------------------------------------------------

    def _draw(self):
        size = shutil.get_terminal_size((100, 30))
        lines = self._lines(min(size.columns, 120), size.lines)
        with self.lock:
            sys.stdout.write("\033[H" + "".join(line + OFF + "\033[K\n" for line in
                                                 lines[:size.lines - 1]) + "\033[J")
            sys.stdout.flush()

    def _lines(self, width, height):
        passed = time.monotonic() - self.started
        clock = "%d:%02d" % divmod(int(passed), 60)
        lines = [BOLD + " " + self.title + OFF + clock.rjust(width - len(self.title) - 3),
                 " " + CYAN + self.phase, rule("", width)]
        lines += self._instances(width)
        lines.append(rule("traffic", width))
        for name, text in self.traffic.items():
            lines.append("  %-16s %s" % (name, text()))
        lines.append(rule("what happened", width))
        room = height - len(lines) - 2
        for at, text, kind, outcome, its_kind in self.events[-room:] if room > 0 else []:
            text = text.ljust(37 if outcome else 0)[:width - 12]
            lines.append("  %s%3d:%02d%s  %s%s%s%s" % (
                DIM, *divmod(int(at), 60), OFF, EVENT_LOOK[kind], text,
                EVENT_LOOK[its_kind], outcome[:max(0, width - 12 - len(text))]))
        return lines

    def _instances(self, width):
        head = "  %-10s %-11s %10s  %-26s %9s %9s %6s" % (
            "INSTANCE", "STATE", "PER SECOND", "", "MAPPINGS", "IN FLIGHT", "BUSY")
        lines = [BOLD + head[:width]]
        order = {"steering": 0, "worker": 1, "store": 2, "controller": 3, "etcd": 4}
        for name, i in sorted(list(self.watch.site.instances.items()),
                              key=lambda item: (order[item[1].kind], item[0])):
            row = self.watch.rows.get(name)
            if row is None:
                continue
            colour, sign = STATE_LOOK[i.state]
            state = "%s%s %-9s%s" % (colour, sign, i.state, OFF)
            graph = row.detail[:26].ljust(26) if i.kind == "store" else bars(row.history, 26)
            if i.kind in ("etcd", "controller"):
                lines.append("  %-10s %s" % (name, state))
                continue
            lines.append("  %-10s %s %s  %s%s%s %s %s %s" % (
                name, state, number(row.packets_s, 10), DIM if i.kind == "store" else CYAN, graph,
                OFF, number(row.mappings, 9) if i.kind == "store" else " " * 9,
                number(row.in_flight, 9) if i.kind != "steering" else " " * 9,
                ("%4.0f %%" % row.busy if row.busy is not None else "").rjust(6)))
        return lines
