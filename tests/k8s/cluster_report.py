# SPDX-License-Identifier: BSD-3-Clause
"""What a run on the cluster measured: report.json and tables for people."""
import glob
import json
import os
import re

from kernel import hierarchies

MIB = 1 << 20


def median_and_worst(values):
    values = sorted(values)
    return (values[len(values) // 2], values[-1]) if values else (None, None)


def image_sizes(folder):
    """{image: archive_bytes, files_bytes: what is inside, unpacked}"""
    out = {}
    for archive in sorted(glob.glob(os.path.join(folder, "*.tar"))):
        name = os.path.basename(archive)[:-4]
        contents = os.path.join(folder, name + ".contents")
        with open(contents) as f:
            inside = sum(int(m.group(1)) for m in re.finditer(r"^[0-9a-f]{64}\s+(\d+)\s", f.read(), re.M))
        out[name] = {"archive_bytes": os.path.getsize(archive), "files_bytes": inside}
    return out


def _number(path, key=None):
    try:
        with open(path) as f:
            if key is None:
                return int(f.read())
            return next((int(line.split()[1]) for line in f if line.split()[0] == key), 0)
    except (OSError, ValueError):
        return None


def pod_memory(cluster, pods):
    """{app: [working set of each pod in bytes]}: what a node evicts by, file pages that could go left out."""
    memory = next(h for h in hierarchies() if os.path.exists(os.path.join(h, "memory.stat")) or h.endswith("/memory"))
    v2 = os.path.exists(os.path.join(memory, "cgroup.controllers"))
    usage, inactive = ("memory.current", "inactive_file") if v2 else ("memory.usage_in_bytes", "total_inactive_file")
    found = {}
    for node in cluster.nodes:
        for at, folders, _ in os.walk(os.path.join(memory, node.branch)):
            for f in folders:
                if f.startswith("pod"):
                    found[f[3:]] = os.path.join(at, f)
    out = {}
    for p in pods:
        at = found.get(p.uid)
        used = _number(os.path.join(at, usage)) if at else None
        if used is not None:
            out.setdefault(p.app, []).append(used - (_number(os.path.join(at, "memory.stat"), inactive) or 0))
    return out


def start_times(pods):
    """{app: median and worst ready_s, served_s} of pods that were created beside traffic."""
    out = {}
    for app in sorted({p.app for p in pods}):
        row = {"pods": sum(p.app == app for p in pods)}
        for key in ("ready_s", "served_s"):
            values = [getattr(p, key) for p in pods if p.app == app and getattr(p, key) is not None]
            row[key] = dict(zip(("median", "worst"), median_and_worst(values)), of=len(values))
        out[app] = row
    return out


# --- for people ------------------------------------------------------------------------------------

def table(head, rows):
    cells = [[("-" if c is None else "%.1f" % c if isinstance(c, float) else str(c)) for c in row] for row in [head, *rows]]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, width))) for row in cells)


def say(report):
    print("\n" + table(
        ["step", "new pods", "ready s", "gap UDP ms", "gap TCP ms", "pings lost", "of", "broken", ""],
        [[r["step"], r["created"], r["ready_s"], r["udp_ms"], r["tcp_ms"], r["lost"], r["pings"], r["broken"],
          "" if r["ok"] else "FAILED"] for r in report["steps"]]))
    print("\nready: until all pods were ready again. gap: the longest standstill of a flow; of UDP flows with a packet each 10 ms, of")
    print("TCP connections with a line each second (half seconds are seen). broken: connections and flows, in this step.\n")
    print(table(["pods", "memory MiB, median", "most", "created beside traffic", "Ready s, median", "worst",
                 "first packet s, median", "worst"],
                [[app, *[v / MIB if v else None for v in median_and_worst(report["memory_bytes"].get(app, []))],
                  r["pods"], r["ready_s"]["median"], r["ready_s"]["worst"], r["served_s"]["median"], r["served_s"]["worst"]]
                 for app, r in report["start"].items()]))
    print("\n" + table(["image", "archive MiB", "unpacked MiB"], [
        [name, s["archive_bytes"] / MIB, s["files_bytes"] / MIB] for name, s in report["images"].items()]))


def write(report, path):
    with open(path, "w") as f:
        json.dump(report, f, indent=1)
