# SPDX-License-Identifier: BSD-3-Clause
"""What a run says at its end: the table of pairs, report.json, timeline.svg."""
import json
import os

import plan
import timeline


def counts(run):
    """{(kind, victim): records}"""
    found = {}
    for r in run.records:
        found.setdefault((r["kind"], r["victim"]), []).append(r)
    return found


def too_few(args, run):
    by = counts(run)
    return ["%s of %s: %d effective" % (p.kind, p.victim, sum(r["effective"] for r in by.get((p.kind, p.victim), [])))
            for p in args.pairs if sum(r["effective"] for r in by.get((p.kind, p.victim), [])) < args.least]


def table(args, run):
    by = counts(run)
    lines = ["%-14s %-12s %9s %9s   %s" % ("victim", "kind", "injected", "effective", "gap ms, p50 and longest")]
    for p in sorted(args.pairs, key=lambda p: (plan.VICTIMS.index(p.victim), plan.KINDS.index(p.kind))):
        rows = by.get((p.kind, p.victim), [])
        gaps = sorted(r["gap_ms"] for r in rows if r["effective"] and r["gap_ms"] is not None)
        lines.append("%-14s %-12s %9d %9d   %s" % (
            p.victim, p.kind, len(rows), sum(r["effective"] for r in rows),
            "%5d %6d" % (gaps[len(gaps) // 2], gaps[-1]) if gaps else "    –"))
    return lines


def write(args, run, lines, picture=timeline.Picture, **more):
    """lines: the table, for people. more: what else report.json tells."""
    print("\n".join(lines))
    effective = [r for r in run.records if r["effective"]]
    print("%d faults, %d effective, %d of %d pairs, in %.0f s; most memory, MB: %s" % (
        len(run.records), len(effective), len({(r["kind"], r["victim"]) for r in effective}), len(args.pairs),
        args.seconds, dict(run.memory_most_mb)))
    out = {"seed": args.seed, "seconds": args.seconds, "violations": run.violations, "faults": run.records,
           "samples": run.samples, "memory_most_mb": dict(run.memory_most_mb), "started": run.started,
           "connections": args.connections, **more}
    with open(os.path.join(args.run, "report.json"), "w") as f:
        json.dump(out, f)
    timeline.write(out, os.path.join(args.run, "timeline.svg"), picture=picture)
