#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A run as a picture: traffic above, whose faults below, one time for all; violations in red.

    timeline.py report.json timeline.svg [from s] [to s]
"""
import json
import sys
from xml.sax.saxutils import escape

import plan

COLOURS = {"kill -9": "#2f2f35", "stop, short": "#9ecae1", "stop, long": "#3182bd", "restart": "#8fd08a",
           "drain": "#2a8f4e", "cut off": "#e6550d", "one way": "#fdae6b", "replicas cut": "#a63603",
           "replicas one way": "#d79b75", "loss": "#bcb3dd", "delay": "#756bb1", "disk full": "#8c6d31",
           "clock step": "#e3bf3d"}
INSTANCES = ["#4878a8", "#d9a441", "#5a9e6f", "#a86fa0", "#c97064", "#8a8a8a"]
WELL, SOME, MANY, BAD = "#dcefdc", "#f6d87a", "#ef9b3f", "#d4001a"
INK, FAINT, GRID = "#26262b", "#85858f", "#e6e6ea"
LEFT, RIGHT, TOP = 132, 92, 76
CURVE, STRIP, ROW = 62, 11, 21


class Picture:
    """Of a site; of something else, a subclass says what is different there."""
    VICTIMS, COLOURS = plan.VICTIMS, COLOURS
    WHAT = "a site of Lethe"
    DID = "%d connections: %s UDP packets came back, %s lines were answered, %s store operations"
    LED_BY = ("store-a", "store-b", "store-c", "controller-1", "controller-2")
    CURVES = (("UDP echoes", "answers / s", "udp", "#4878a8"), ("TCP lines", "answers / s", "answers", "#5a9e6f"),
              ("store clients", "answers / s", "writes", "#a86fa0"))

    def __init__(self, report, first=None, last=None):
        self.report = report
        self.started = report["started"]
        samples = report["samples"]
        self.first = samples[0]["at_s"] if first is None else first
        self.last = samples[-1]["at_s"] if last is None else last
        self.samples = [s for s in samples if self.first <= s["at_s"] <= self.last]
        self.faults = [dict(f, at=f["began"] - self.started, to=(f["healed"] or f["ended"]) - self.started,
                            well=(f["recovered"] or f["ended"]) - self.started) for f in report["faults"] if "ended" in f]
        self.faults = [f for f in self.faults if f["well"] >= self.first and f["at"] <= self.last]
        self.scale = min(16.0, max(1.2, 1340 / max(1.0, self.last - self.first)))
        self.width = LEFT + (self.last - self.first) * self.scale + RIGHT
        self.y, self.parts = TOP, []

    def x(self, seconds):
        return LEFT + (min(max(seconds, self.first), self.last) - self.first) * self.scale

    def add(self, text, *what):
        self.parts.append(text % what)

    def text(self, x, y, words, size=11, colour=INK, anchor="start", weight="normal"):
        self.add('<text x="%.1f" y="%.1f" font-size="%g" fill="%s" text-anchor="%s" font-weight="%s">%s</text>',
                 x, y, size, colour, anchor, weight, escape(words))

    def box(self, x, y, width, height, colour, more="", title=""):
        self.add('<rect x="%.2f" y="%.1f" width="%.2f" height="%.1f" fill="%s" %s>%s</rect>', x, y, max(width, 0.6), height,
                 colour, more, "<title>%s</title>" % escape(title) if title else "")

    # --- what is seen of traffic ----------------------------------------------------------------

    def rates(self, key):
        """[(seconds, per second)] between samples."""
        return [((a["at_s"] + b["at_s"]) / 2, max(0, b[key] - a[key]) / max(0.05, b["at_s"] - a["at_s"]))
                for a, b in zip(self.samples, self.samples[1:])]

    def curve(self, label, unit, key, colour):
        points = self.rates(key)
        values = sorted(v for _, v in points)
        most = max(1.25 * values[len(values) * 9 // 10], 1.0)   # a burst after a standstill may go beyond the frame
        bottom = self.y + CURVE
        line = " ".join("%.1f,%.1f" % (self.x(t), bottom - (CURVE - 8) * min(1.0, v / most)) for t, v in points)
        self.add('<polygon points="%.1f,%.1f %s %.1f,%.1f" fill="%s" fill-opacity="0.22"/>', self.x(points[0][0]), bottom,
                 line, self.x(points[-1][0]), bottom, colour)
        self.add('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.1"/>', line, colour)
        self.text(LEFT - 10, self.y + 30, label, anchor="end", weight="bold")
        self.text(LEFT - 10, self.y + 44, unit, 9.5, FAINT, "end")
        self.text(self.width - RIGHT + 6, self.y + 14, "%s" % "{:,.0f}".format(most).replace(",", " "), 9.5, FAINT)
        self.y = bottom + 6

    def strip(self, label, colour_of):
        """A line of health: colour_of(sample before, sample) at each moment."""
        self.text(LEFT - 10, self.y + 9, label, 9.5, INK, "end")
        begun, colour = self.samples[0]["at_s"], None
        for a, b in [*zip(self.samples, self.samples[1:]), (self.samples[-1], None)]:
            now = colour_of(a, b) if b else None
            if now != colour:
                if colour:
                    self.box(self.x(begun), self.y, self.x(a["at_s"]) - self.x(begun), STRIP - 2, colour)
                begun, colour = a["at_s"], now
        self.y += STRIP

    def health(self):
        wanted = self.report.get("connections") or 256

        def by(part):
            return BAD if part < 0 else WELL if part == 0 else SOME if part < 0.34 else MANY
        self.strip("connections", lambda a, b: by(-1 if b["broken"] > a["broken"] else b["late"] / wanted))
        self.strip("UDP flows", lambda a, b: by(b["silent"] / 40))
        self.strip("name look-ups", lambda a, b: SOME if b["dns_bad"] > a["dns_bad"] else WELL)
        self.strip("echoes", lambda a, b: WELL if b["ping"] > a["ping"] else MANY)
        self.strip("store clients", lambda a, b: WELL if b["writes"] > a["writes"] else MANY)
        self.y += 4

    def who(self):
        """Who leads: shards, controllers; how many workers."""
        names = ["store-a", "store-b", "store-c"]
        for shard in range(len(self.samples[0].get("leaders", []))):
            self.strip("shard %d is led by" % shard, lambda a, b, i=shard: INSTANCES[names.index(b["leaders"][i])]
                       if b["leaders"][i] in names else GRID)
        self.strip("controller", lambda a, b: INSTANCES[3 + b["controller"]] if b.get("controller") is not None
                   else GRID)
        self.strip("workers in use", lambda a, b: [GRID, "#c9d8ee", "#9fb9de", "#6f95ca", "#4878a8", "#34597f"][
            min(5, b.get("workers", 0))])
        self.y += 8

    # --- faults -----------------------------------------------------------------------------------

    def rows(self):
        for victim in self.VICTIMS:
            mine = [f for f in self.faults if f["victim"] == victim]
            clocks = [f for f in mine if f["kind"] == "clock step"]
            self.box(LEFT, self.y, self.width - LEFT - RIGHT, ROW - 3, "#f6f6f8")
            self.text(LEFT - 10, self.y + 13, victim, 11, INK, "end")
            done = sum(f["effective"] for f in mine)
            self.text(self.width - RIGHT + 6, self.y + 13, "%d" % done, 10.5, FAINT)
            for f in clocks:
                self.bar(f, self.y + ROW - 8, 5)
            for f in mine:
                if f["kind"] != "clock step":
                    self.bar(f, self.y, ROW - 3 if not clocks else ROW - 9)
            self.y += ROW

    def bar(self, f, y, height):
        colour = self.COLOURS[f["kind"]]
        title = "%s of %s (%s) at %.1f s, for %.2f s; well after %.2f s more; gap %s ms%s" % (
            f["kind"], f["what"], f["name"], f["at"], f["to"] - f["at"], f["well"] - f["to"], f["gap_ms"],
            "" if f["effective"] else "; had no effect")
        if f["kind"] != "clock step":
            self.box(self.x(f["to"]), y, self.x(f["well"]) - self.x(f["to"]), height, colour, 'fill-opacity="0.30"', title)
        if f["effective"]:
            self.box(self.x(f["at"]), y, max(1.6, self.x(f["to"]) - self.x(f["at"])), height, colour, "", title)
        else:
            self.box(self.x(f["at"]), y + 0.5, max(1.6, self.x(f["to"]) - self.x(f["at"])), height - 1, "none",
                     'stroke="%s"' % colour, title)

    def grid(self, bottom):
        span = self.last - self.first
        step = next(s for s in (5, 10, 30, 60, 120, 300, 600) if span / s <= 32 or s == 600)
        lines = []
        at = -(-self.first // step) * step
        while at <= self.last:
            lines.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%.1f" stroke="%s"/>' % (
                self.x(at), TOP - 6, self.x(at), bottom, GRID))
            lines.append('<text x="%.1f" y="%.1f" font-size="9.5" fill="%s" text-anchor="middle">%s</text>' % (
                self.x(at), bottom + 12, FAINT, "%d:%02d" % divmod(int(at), 60)))
            at += step
        self.parts[:0] = lines

    def violations(self, bottom):
        for v in self.report["violations"]:
            if self.first <= v["at_s"] <= self.last:
                x = self.x(v["at_s"])
                self.add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.6"><title>%s</title></line>',
                         x, TOP - 6, x, bottom, BAD, escape("%s: %s" % (v["what"], v["text"][:300])))
                self.text(x + 3, TOP - 8, v["what"][:40], 10, BAD)

    def legend(self):
        x, y = LEFT, self.y + 30
        for kind in self.COLOURS:
            wide = 24 + 6.3 * len(kind)
            if x + wide > self.width - 10:
                x, y = LEFT, y + 17
            self.box(x, y - 9, 12, 11, self.COLOURS[kind])
            self.text(x + 16, y, kind, 10.5)
            x += wide
        y += 19
        x = LEFT
        for i, words in enumerate(self.LED_BY):
            self.box(x, y - 9, 12, 11, INSTANCES[i])
            self.text(x + 16, y, words, 10.5)
            x += 26 + 6.3 * len(words)
        x += 20
        for colour, words in ((WELL, "all answered"), (SOME, "some wait"), (MANY, "a third or more wait"), (BAD, "broken")):
            self.box(x, y - 9, 12, 11, colour)
            self.text(x + 16, y, words, 10.5)
            x += 24 + 6.3 * len(words)
        y, x = y + 19, LEFT
        self.text(x, y, "pale behind a bar: healed, and on its way back to whole; outline: it had no effect; "
                  "low bars: clock steps; on the right: the top of each scale, effective faults", 10.5, FAINT)
        self.y = y + 14

    def heading(self):
        r = self.report
        effective = sum(f["effective"] for f in r["faults"])
        broken = r["samples"][-1]["broken"]
        self.text(LEFT, 30, "%d faults on purpose, %d broken connections, %d violations" % (
            effective, broken, len(r["violations"])), 21, BAD if r["violations"] else INK, weight="bold")
        self.text(LEFT, 50, "%s under seed %d for %s; %s" % (
            self.WHAT, r["seed"], "%d:%02d min" % divmod(int(r["seconds"]), 60),
            self.DID % (r.get("connections") or 0, *("{:,}".format(r["samples"][-1][k]).replace(",", " ")
                                                     for _, _, k, _ in self.CURVES))), 12, FAINT)

    def draw(self):
        self.heading()
        for curve in self.CURVES:
            self.curve(*curve)
        self.health()
        self.who()
        self.rows()
        bottom = self.y
        self.grid(bottom)
        self.violations(bottom)
        self.legend()
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" '
                'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">\n<rect width="100%%" height="100%%" fill="white"/>\n%s\n'
                '</svg>\n' % (self.width, self.y, self.width, self.y, "\n".join(self.parts)))


def write(report, path, first=None, last=None, picture=Picture):
    if len(report["samples"]) < 3:
        return                                # a picture of nothing
    with open(path, "w") as f:
        f.write(picture(report, first, last).draw())


if __name__ == "__main__":
    with open(sys.argv[1]) as source:
        write(json.load(source), sys.argv[2], *map(float, sys.argv[3:5]))
