#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""512 connections while every packet goes to a random worker: the plainest proof of statelessness."""
import time

import scene
import traffic

CONNECTIONS = 512
WORKERS = ["w1", "w2", "w3"]
TRAFFIC_S = 15


def act(lab, site, checks):
    site.bring_up(WORKERS)
    before = {w: site.forwarded(w) for w in WORKERS}
    lines, udp = traffic.Lines(lab, CONNECTIONS), traffic.Udp(lab)
    lines.wait_opened()
    answers = lines.status()["answers"]
    time.sleep(TRAFFIC_S)  # how long the traffic lasts, not a wait
    after = {w: site.forwarded(w) for w in WORKERS}
    shares = {w: after[w] - before[w] for w in WORKERS}
    checks.check("every worker had its share", min(shares.values()) * 2 > max(shares.values()),
                 str(shares))
    checks.check("answers", lines.status()["answers"] > answers + CONNECTIONS)
    checks.result("connections", lines.finish())
    checks.result("UDP flows", udp.finish())


if __name__ == "__main__":
    scene.play(scene.arguments(__doc__), act, spray=True)
