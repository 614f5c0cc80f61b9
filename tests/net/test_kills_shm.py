#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The worker-kill test (test_kills.py) with workers that reach the store by shared memory.

A worker that dies leaves half-written rings; the store must notice each and serve the others. With the
tenth kill a primary of the store dies, too: workers go on with the next one, over its socket."""
import network
import scene
import test_kills
from elsewhere import ShmSite


def act(args):
    inner = test_kills.act(args)

    def play(lab, site, checks):
        inner(lab, site, checks)
        logs = "".join(open(site.instances[name].process.log).read() for name in site.stores)
        clients = [line for line in logs.split("\n") if "client connected" in line]
        by_shm = sum("from=shm" in line for line in clients)
        by_tcp = [line for line in clients
                  if any("from=%s:" % network.worker_address(w) in line for w in test_kills.WORKERS)]
        starts = sum(site.instances[w].starts for w in test_kills.WORKERS)
        checks.check("every worker's life had its connections by shared memory, none by tcp",
                     by_shm >= starts * site.shard_count and not by_tcp,
                     "%d connections, %d lives" % (by_shm, starts))
    return play


if __name__ == "__main__":
    arguments = scene.arguments(__doc__, kills=(10, "how many"))
    scene.play(arguments, act(arguments), site_class=ShmSite, stores=test_kills.STORES, etcd=True,
               **test_kills.SCARCE)
