#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Report: CPU seconds per second of an idle worker, steering and store. Gates on nothing about time."""
import json
import os
import time

import scene
from elsewhere import ShmSite
from lethe_site import Site

MEASURE_S = 10


def act(lab, site, checks):
    site.bring_up(["w1", "w2"])
    time.sleep(2)  # start-up work is not idling
    before = {n: i.process.cpu_seconds() for n, i in site.instances.items()}
    began = time.monotonic()
    time.sleep(MEASURE_S)
    took = time.monotonic() - began
    busy = {n: round((i.process.cpu_seconds() - before[n]) / took, 4)
            for n, i in site.instances.items()}
    for name, share in sorted(busy.items()):
        checks.say("idle %-8s %.2f %% of a CPU" % (name, 100 * share))
    with open(os.path.join(lab.folder, "idle.json"), "w") as f:
        json.dump({"cpu_seconds_per_second": busy, "measured_s": round(took, 1)}, f, indent=2)
    checks.check("every program is still there", all(i.running() for i in site.instances.values()))


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, transport=("tcp", "between workers and store: tcp or shm"))
    scene.play(arguments, act, site_class={"tcp": Site, "shm": ShmSite}[arguments.transport])
