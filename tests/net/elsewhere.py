# SPDX-License-Identifier: BSD-3-Clause
"""Sites whose workers reach their state otherwise than by tcp: by shared memory, or in a Redis Cluster.

    w1 w2 w3 ── shm ── store-a, store-b          w1 w2 w3 ── 6 redis-servers (3 masters, 3 replicas)

A Unix socket is found by its path, so namespaces of the network do not part workers and store.
"""
import os
import re

import network
from lethe_site import Site, wait_for
from netns import NetError

REDIS, REDIS_PORT, REDIS_NODES = "10.255.0.8", 6379, 6


class Rewritten(Site):
    """A site whose file is changed once more after lethe_site wrote it."""

    def write_config(self, path, **other):
        super().write_config(path, **other)
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(self.rewrite(text))


class ShmSite(Rewritten):
    def rewrite(self, text):
        text = re.sub(r"\{name: (store-\w), ", r"{name: \1, shm: %s/\1, " % self.run_dir, text)
        return text.replace("worker: {", "worker: {transport: shm, ")


class RedisSite(Rewritten):
    """Without a store; its redis-servers are instances r0 to r5, all in one namespace."""

    def rewrite(self, text):
        seeds = ",".join("%s:%d" % (REDIS, REDIS_PORT + i) for i in range(3))
        return re.sub(r"store:\n.*?^worker: \{.*?\}$", "worker: {redis: \"%s\"}" % seeds, text,
                      flags=re.S | re.M)

    def primary(self, shard=0):
        """No kill of a worker takes a master with it: that may lose what was acknowledged."""
        return None

    def redis_cli(self, port, *command):
        done = self.lab.namespaces["redis"].run(["redis-cli", "-h", REDIS, "-p", str(port), *command],
                                                check=False)
        return done.stdout if done.returncode == 0 else ""

    def start_redis(self, number):
        folder = os.path.join(self.run_dir, "r%d" % number)
        os.makedirs(folder, exist_ok=True)
        i = self._start("r%d" % number, "store", [
            "redis-server", "--port", str(REDIS_PORT + number), "--bind", REDIS, "--dir", folder, "--save", "",
            "--appendonly", "no", "--protected-mode", "no", "--cluster-enabled", "yes",
            "--cluster-node-timeout", "1000", "--cluster-allow-replica-migration", "no"], "redis")
        wait_for(lambda: self.redis_cli(REDIS_PORT + number, "ping").strip() == "PONG", 15,
                 "redis-server to answer; see " + i.process.log)
        i.state = "running"
        return i

    def bring_up_store(self):
        network.attach_to_management(self.lab, "redis", REDIS)
        for number in range(REDIS_NODES):
            self.start_redis(number)
        nodes = ["%s:%d" % (REDIS, REDIS_PORT + i) for i in range(REDIS_NODES)]
        made = self.lab.namespaces["redis"].run(
            ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"],
            check=False)
        if made.returncode:
            raise NetError("redis-cli --cluster create: " + (made.stdout + made.stderr)[-300:])
        wait_for(self.cluster_whole, 20, "three masters with a replica each")

    def cluster_whole(self):
        nodes = self.redis_cli(REDIS_PORT, "cluster", "nodes").strip().split("\n")
        return "cluster_state:ok" in self.redis_cli(REDIS_PORT, "cluster", "info") and \
            sum("slave" in n and "fail" not in n for n in nodes) == 3
