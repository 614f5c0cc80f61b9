# SPDX-License-Identifier: BSD-3-Clause
"""What a run on the cluster says at its end: the table of faults, report.json, timeline.svg."""
import statistics

import chaos_plan
import report
import timeline
from timeline import GRID, MANY, SOME, WELL

COLOURS = {"delete": "#8fd08a", "delete by force": "#2a8f4e", "kill -9": "#2f2f35", "stop": "#9ecae1", "stop, long": "#3182bd",
           "roll out": "#e3bf3d", "scale": "#8c6d31", "drain": "#a86fa0", "cut off": "#fdae6b", "cut off, long": "#e6550d",
           "loss": "#bcb3dd", "delay": "#756bb1"}


class Picture(timeline.Picture):
    VICTIMS, COLOURS, LED_BY = chaos_plan.VICTIMS, COLOURS, ()
    WHAT, DID = "Lethe on a Kubernetes of two nodes", "%d connections: %s UDP packets came back, %s lines were answered"
    CURVES = timeline.Picture.CURVES[:2]

    def health(self):
        wanted = self.report["connections"]
        self.strip("connections", lambda a, b: timeline.BAD if b["broken"] > a["broken"] else
                   WELL if not b["late"] else SOME if b["late"] < wanted / 3 else MANY)
        self.strip("UDP flows", lambda a, b: WELL if not b["silent"] else SOME if b["silent"] < 6 else MANY)
        self.y += 4

    def who(self):
        """Pods that are ready, of those there should be; grey: the apiserver does not say."""
        for app in self.samples[0]["wanted"]:
            self.strip("%s ready" % app, lambda a, b, app=app: GRID if not b["ready"] else WELL
                       if b["ready"][app] >= b["wanted"][app] else MANY if not b["ready"][app] else SOME)
        self.y += 8


def table(args, run):
    by = report.counts(run)
    lines = ["%-19s %-16s %6s %9s   %-22s %s" % ("victim", "fault", "done", "effective", "well again s, p50 max",
                                                 "longest gap ms, UDP and TCP")]
    for p in args.pairs:
        rows = by.get((p.kind, p.victim), [])
        good = [r for r in rows if r["effective"]]
        well = [r["recovered"] - r["healed"] for r in good if r["recovered"]]
        lines.append("%-19s %-16s %6d %9d   %-22s %s" % (
            p.victim, p.kind, len(rows), len(good),
            "%10.1f %9.1f" % (statistics.median(well), max(well)) if well else "         –",
            "%8d %8d" % (max(r["gap_ms"] for r in good), max(r["tcp_ms"] for r in good)) if good else "       –"))
    return lines


def write(args, run):
    report.write(args, run, table(args, run), Picture, traffic=run.end_told)
