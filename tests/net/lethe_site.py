# SPDX-License-Identifier: BSD-3-Clause
"""A whole Lethe site on one machine: its programs, in the network of network.py.

    client hosts ─ client router ─ [lethe-steer] ─ outside router ─ servers        (packets)
                                     │ memif │
                               lethe-nf  lethe-nf  lethe-nf                        (any number)
                                     │ tcp   │
                            lethe-store primary ── lethe-store backup              (all state)
                                      │
                                     etcd                                          (who is primary)

Without etcd the store is a static pair: store-a the primary, store-b its backup. With it, any number of
replicas settle by themselves who is what, and nobody here may assume it.

An instance is one program under one name (steer, w1, store-a); it may be killed and started again
under that name. A kill *counts* only if the victim had forwarded packets since its start.

Owner: the main thread starts and kills; anybody may ask and read.
"""
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time

import network
from digests import Digests
from netns import NetError

SITE_YAML = """\
# Written by tests/net/lethe_site.py.
failure_timeout_ms: {failure_timeout_ms}
run_dir: {run_dir}
store:
  shards: {shards}
  nodes:
{nodes}
{views}  tenants:
    - {{name: workers, secret_file: {run_dir}/workers.secret, tables: ["nat.*", "monitor.*", "history.*"]}}
  replica_secret_file: {run_dir}/replicas.secret
worker: {{tenant: workers, secret_file: {run_dir}/workers.secret}}
steering:
  control: {run_dir}/steer.sock
  memif_dir: {run_dir}
  probe_key_file: {run_dir}/probe.key
  workers_max: {workers_max}
  inside:
    address: {inside_address}
    next_hop: {inside_next_hop}
    serves: []
    port: "net_af_packet0,iface=inside,framecnt=4096,blocksz=65536"
  outside:
    address: {outside_address}
    next_hop: {outside_next_hop}
    serves: [{external}]
    port: "net_af_packet1,iface=outside,framecnt=4096,blocksz=65536"
chain: [{chain}]
nfs:
  nat44:
    inside: [{inside_prefix}]
    inside_address: {inside_address}
    outside_address: {outside_address}
    external: [{external}]
{nat44}"""


def wait_for(condition, timeout_s, what, every_s=0.02):
    """Until condition() is true; its value. A NetError naming `what` (or what it then returns) when it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise NetError("waited %g s in vain for %s" % (timeout_s, what() if callable(what) else what))
        time.sleep(every_s)


class Control:
    """A program's control socket: one request a line, one JSON object a line back."""

    def __init__(self, path, timeout_s=2.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rwb")

    def ask(self, request):
        self.stream.write(request.encode() + b"\n")
        self.stream.flush()
        reply = self.stream.readline()
        if not reply.endswith(b"\n"):
            raise OSError("no whole reply")
        return json.loads(reply)

    def close(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Instance:
    def __init__(self, name, kind):
        self.name, self.kind = name, kind
        self.process = None
        self.state = "absent"     # starting, running, paused, killed, stopped
        self.starts = self.kills = 0

    def running(self):
        return self.process is not None and self.process.alive()


class Site:
    def __init__(self, lab, build, shards=2, failure_timeout_ms=500, chain="nat44, monitor",
                 spray=False, external=2, nat44="", stores=network.PAIR, etcd=False, copies=2, store=""):
        """stores: names of network.STORES; `store`: further lines of site.yaml's store."""
        self.lab = lab
        self.programs = os.path.abspath(build)
        self.run_dir = tempfile.mkdtemp(prefix="lethe-")  # short: a socket's path has 107 bytes
        lab.ledger.note_folder(self.run_dir)
        self.spray, self.stores, self.copies_wanted = spray, list(stores), copies
        self.shard_count = shards
        self.instances = {}
        self.views = "  etcd: [\"%s:2379\"]\n  copies: %d\n" % (network.ETCD, copies) if etcd else ""
        self.config = os.path.join(lab.folder, "site.yaml")
        for name, size in (("probe.key", 16), ("workers.secret", 32), ("replicas.secret", 32)):
            with open(os.path.join(self.run_dir, name), "w") as f:
                os.fchmod(f.fileno(), 0o600)
                f.write(secrets.token_hex(size) + "\n")
        self.keys = dict(
            run_dir=self.run_dir, failure_timeout_ms=failure_timeout_ms, shards=shards, chain=chain,
            nodes="\n".join("    - {name: %s, listen: \"%s:7400\"}" % (name, network.STORES[name])
                            for name in self.stores), views=self.views + store,
            workers_max=network.WORKERS_MAX, inside_address=network.INSIDE_ADDRESS,
            inside_next_hop=network.INSIDE_NEXT_HOP, outside_address=network.OUTSIDE_ADDRESS,
            outside_next_hop=network.OUTSIDE_NEXT_HOP, inside_prefix=network.INSIDE_PREFIX,
            external=", ".join(network.EXTERNAL_ADDRESSES[:external]), nat44=nat44)
        self.write_config(self.config)

    def write_config(self, path, **other):
        """site.yaml, with some keys other than this site's own."""
        with open(path, "w") as f:
            f.write(SITE_YAML.format(**dict(self.keys, **other)))

    def close(self):
        """Processes are the lab's to stop; this is the folder of sockets."""
        shutil.rmtree(self.run_dir, ignore_errors=True)

    # --- starting ------------------------------------------------------------------------

    def _start(self, name, kind, argv, namespace):
        i = self.instances.setdefault(name, Instance(name, kind))
        if i.running():
            raise NetError("%s is running already" % name)
        i.process = self.lab.spawn(name, argv, self.lab.namespaces[namespace])
        i.state, i.starts = "starting", i.starts + 1
        return i

    def start_etcd(self):
        """Its data stays: started again it knows what it knew."""
        network.attach_to_management(self.lab, "etcd", network.ETCD)
        client, peer = "http://%s:2379" % network.ETCD, "http://127.0.0.1:2380"
        i = self._start("etcd", "etcd", [
            "etcd", "--name", "etcd", "--data-dir", os.path.join(self.run_dir, "etcd"),
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls",
            peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "etcd=" + peer], "etcd")
        wait_for(self.etcd_answers, 20, "etcd to answer; see " + i.process.log)
        i.state = "running"
        return i

    def etcd_answers(self):
        if not self.instances["etcd"].running():
            raise NetError("etcd ended at its start: see " + self.instances["etcd"].process.log)
        return self.lab.namespaces["etcd"].run(
            ["curl", "-s", "-m", "1", "http://%s:2379/health" % network.ETCD], check=False).returncode == 0

    def start_store(self, name):
        i = self._start(name, "store", [self.programs + "/statestore/lethe-store", "-c", self.config,
                                        "--node", name], name)
        self.wait_answers(name)
        return i

    def start_steering(self):
        argv = [self.programs + "/steering/lethe-steer", "-c", self.config]
        i = self._start("steer", "steering", argv + (["--spray"] if self.spray else []), "steer")
        self.wait_answers("steer")
        return i

    def start_worker(self, name):
        """Starts it and returns at once; wait_worker waits until it is served packets."""
        network.attach_to_management(self.lab, name, network.worker_address(name))
        return self._start(name, "worker", [self.programs + "/nf/lethe-nf", "-c", self.config,
                                            "--worker", name], name)

    def wait_answers(self, name):
        i = self.instances[name]

        def answers():
            if not i.running():
                raise NetError("%s ended at its start: see %s" % (name, i.process.log))
            return self.stats(name)
        wait_for(answers, 15, "the control socket of %s; see %s" % (name, i.process.log))
        i.state = "running"

    def wait_worker(self, name, timeout_s=15):
        """Until the worker answers and steering counts it among the healthy."""
        self.wait_answers(name)
        wait_for(lambda: name in self.healthy(), timeout_s,
                 "steering to use %s; see %s" % (name, self.instances[name].process.log))

    # --- asking --------------------------------------------------------------------------

    def socket_of(self, name):
        return os.path.join(self.run_dir, name + ".sock")

    def ask(self, name, request, timeout_s=1.0):
        """The reply, or None when nobody answers in time."""
        try:
            with Control(self.socket_of(name), timeout_s) as c:
                return c.ask(request)
        except (OSError, ValueError):
            return None

    def stats(self, name, timeout_s=1.0):
        return self.ask(name, "stats", timeout_s)

    def wait_stats(self, name):
        """The same, waited for: a busy machine may keep it from answering at once."""
        return wait_for(lambda: self.stats(name), 20, "stats of %s; see %s" % (
            name, self.instances[name].process.log))

    def healthy(self):
        reply = self.ask("steer", "workers") or {}
        return [w["name"] for w in reply.get("workers", []) if w["in_table"] and w["link"]]

    def forwarded(self, name):
        """Packets this worker has sent on since its process started."""
        stats = self.stats(name) or {}
        return sum(v for k, v in stats.items() if k.startswith("lethe_worker_tx_packets_total"))

    def shards(self, name):
        """What a store replica says of each of its shards; []: no answer."""
        return (self.stats(name) or {}).get("shards", [])

    def replicas(self, timeout_s=1.0):
        """[{name: what it says of the shard}] by shard, of the stores that answer."""
        found = [{} for _ in range(self.shard_count)]
        for name in self.stores:
            i = self.instances.get(name)
            if i and i.running() and i.state != "paused":
                for row in (self.stats(name, timeout_s) or {}).get("shards", []):
                    found[row["shard"]][name] = row
        return found

    @staticmethod
    def leader(rows):
        """Who is the shard's primary by the newest view, None: nobody says so. A deposed one that was
        cut off may still think so."""
        known = [(row["view_epoch"], name) for name, row in rows.items() if row["role"] == "primary"]
        return max(known)[1] if known else None

    def primary(self, shard=0):
        """Waits until there is one; its name."""
        return wait_for(lambda: self.leader(self.replicas()[shard]), 20,
                        "shard %d to have a primary; see %s" % (shard, self.lab.logs))

    def backups(self, shard=0):
        """Names of those in its view now that are not its primary."""
        rows = self.replicas()[shard]
        leader = self.leader(rows)
        return sorted(name for name, row in rows.items() if leader and row["role"] == "backup"
                      and row["view_epoch"] == rows[leader]["view_epoch"])

    def copies(self):
        """In-view replicas of the shard that has fewest, as its primary says; 0: one has no primary."""
        least = self.copies_wanted
        for rows in self.replicas():
            leader = self.leader(rows)
            least = min(least, rows[leader]["copies"] if leader else 0)
        return least

    def mappings(self):
        """External end points in use."""
        return sum(rows[self.leader(rows)]["pool_used"] for rows in self.replicas() if self.leader(rows))

    def wait_same_digest(self, timeout_s=60):
        """Until all members of every shard's view printed one digest at one log position:
        [(position, digest), ...]."""
        with Digests(lambda name: Control(self.socket_of(name)), self.stores, self.shard_count,
                     self.copies_wanted) as digests:
            return wait_for(digests.look, timeout_s, lambda: (
                "all replicas to print one digest at one log position: %s\n%s" % (
                    "\n".join(map(str, digests.shards)), self.told())), 0.001)

    def told(self):
        """What every replica says of itself, for people."""
        keys = ("role", "view_epoch", "copies", "position", "commit", "digest", "replicas_connected",
                "primary", "primary_by", "primary_unreachable_ms", "collecting", "proposal_open_ms", "trouble")
        lines = []
        for name in self.stores:
            i = self.instances.get(name)
            rows = self.shards(name)
            lines += ["%s, shard %d: %s" % (name, row["shard"], ", ".join("%s %s" % (k, row[k]) for k in keys))
                      for row in rows]
            lines += [] if rows else ["%s: no answer, %s" % (name, i.state if i else "never started")]
        return "\n".join(lines + ["see " + self.lab.logs])

    def caught_up(self):
        """Number of shards, when every one has all the copies it is to have, each known to itself, and each
        heard by its primary just now (a lease says so); else 0. Who is not heard is about to leave the view."""
        rows = self.replicas()
        whole = all(self.leader(r) and self._whole(r, r[self.leader(r)]) for r in rows)
        return len(rows) if whole else 0

    def _whole(self, rows, leader):
        backups = sum(s["role"] == "backup" and s["view_epoch"] == leader["view_epoch"]
                      for s in rows.values())
        heard = not backups or leader["lease_left_ms"]
        return leader["copies"] == self.copies_wanted == backups + 1 and heard

    def has_other_copies(self, name):
        """Of every shard, a member of its newest view lives that is not `name`."""
        def other(rows):
            newest = max(r["view_epoch"] for r in rows.values())
            return any(n != name and r["view_epoch"] == newest and r["role"] in ("primary", "backup")
                       for n, r in rows.items())
        return all(rows and other(rows) for rows in self.replicas())

    # --- breaking ------------------------------------------------------------------------

    def kill(self, name):
        """kill -9."""
        i = self.instances[name]
        i.process.kill()
        i.state, i.kills = "killed", i.kills + 1

    def pause(self, name):
        self.instances[name].process.signal(signal.SIGSTOP)
        self.instances[name].state = "paused"

    def resume(self, name):
        self.instances[name].process.signal(signal.SIGCONT)
        self.instances[name].state = "running"

    def stop(self, name):
        """SIGTERM; the exit status."""
        i = self.instances[name]
        status = i.process.stop(20)
        i.state = "stopped"
        return status

    # --- as a whole ----------------------------------------------------------------------

    def bring_up_store(self):
        """etcd if there is to be one, the replicas, every view whole."""
        if self.views:
            self.start_etcd()
        for name in self.stores:
            self.start_store(name)
        wait_for(self.caught_up, 30, lambda: "every shard of the store to have %d copies:\n%s"
                 % (self.copies_wanted, self.told()))

    def bring_up(self, workers):
        """The store, steering, workers in steering's table."""
        self.bring_up_store()
        self.start_steering()
        for name in workers:
            self.start_worker(name)
        for name in workers:
            self.wait_worker(name)

    def shut_down(self):
        """SIGTERM to every program, workers first; {name: exit status} of those that were not 0."""
        order = {"worker": 0, "steering": 1, "store": 2, "etcd": 3}
        wrong = {}
        for name, i in sorted(self.instances.items(), key=lambda item: (order[item[1].kind], item[0])):
            if i.running():
                status = self.stop(name)
                if status != 0 and i.kind != "etcd":  # etcd ends by its own signal
                    wrong[name] = status
        return wrong

    def ended_early(self):
        """Instances whose process ended without our doing: a crash."""
        return {n: i.process.popen.returncode for n, i in self.instances.items()
                if i.process and not i.process.alive() and i.state not in ("killed", "stopped")}
