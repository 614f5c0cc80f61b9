#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The packages, installed by apt in a Debian of debootstrap's that has nothing else: a site is run there as the units
say (their ExecStart, their user and capabilities, their NOTIFY_SOCKET), packets pass; it is upgraded in the order of
docs/upgrade.md under connections that go on, to a package of the same programs and a newer number; and a purge leaves
nothing.

There is no systemd in a chroot: this reads the units and does what they say. The network is that of tests/net.
The bare root and the packages that apt fetches are kept in ${XDG_CACHE_HOME:-~/.cache}/lethe/debian.
"""
import fcntl
import glob
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../net"))
import network
import scene
import traffic
from lethe_site import SITE_YAML, wait_for
from netns import CLONE_NEWNS, MS_REC_PRIVATE, Lab, NetError, _libc, enter, require_root_and_tools
from unit import Supervisor, command, read_unit

SUITE = "bookworm"
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lethe", "debian")
SITE = "/etc/lethe/site.yaml"
MOUNTS = ["proc", "sys", "run", "dev/shm"]
STORES = ["store-a", "store-b", "store-c"]
CONNECTIONS = 64


def run(*words, check=True, timeout_s=900, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout_s, **more)
    if check and done.returncode:
        raise NetError("%s: %s" % (" ".join(words), done.stdout[-2000:]))
    return done.returncode, done.stdout


# --- the root --------------------------------------------------------------------------------------

def bare_root(to):
    """Unpacks the kept root; made anew if there is none."""
    os.makedirs(CACHE, exist_ok=True)
    kept = os.path.join(CACHE, SUITE + "-minbase.tar")
    with open(kept + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(kept):
            with tempfile.TemporaryDirectory(prefix="lethe-root-") as fresh:
                run("debootstrap", "--variant=minbase", SUITE, fresh + "/root")
                run("tar", "-C", fresh + "/root", "-cf", kept + ".new", ".")
                os.rename(kept + ".new", kept)
        run("tar", "-C", to, "-xpf", kept)


def mount(root):
    """In a mount namespace of this process: nothing of it is left behind, however it ends."""
    if _libc.unshare(CLONE_NEWNS) != 0 or _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0:
        raise NetError("no mount namespace of its own")
    for where, kind in zip(MOUNTS, ("proc", "sysfs", "tmpfs", "tmpfs")):
        os.makedirs(os.path.join(root, where), exist_ok=True)
        run("mount", "-t", kind, "none", os.path.join(root, where))
    archives = os.path.join(CACHE, "archives")
    os.makedirs(archives + "/partial", exist_ok=True)
    run("mount", "--bind", archives, root + "/var/cache/apt/archives")
    shutil.copy("/etc/resolv.conf", root + "/etc/resolv.conf")


class Root:
    def __init__(self, path, checks):
        self.path, self.checks, self.namespace = path, checks, None

    def inside(self):
        if self.namespace:
            enter(self.namespace.fd)
        os.chroot(self.path)
        os.chdir("/")

    def run(self, *words, **more):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8",
               "HOME": "/root"}
        return run(*words, preexec_fn=self.inside, env=env, **more)

    def apt(self, *words):
        return self.run("apt-get", "-q", "-y", "-o", "APT::Keep-Downloaded-Packages=true", *words)[1]

    def names(self):
        """Every file whose name has the package's in it."""
        found = self.run("find", "/", "-xdev", "-iname", "*lethe*", "-not", "-path", "/tmp/*")[1].split()
        return [f for f in found if not f.startswith("/run/")]

    def has(self, path):
        return os.path.lexists(self.path + path)


def install(root, debs, checks):
    before = root.names()
    checks.check("the root is clean", not before, str(before))
    for deb in debs:
        shutil.copy(deb, root.path + "/tmp/")
    root.apt("update")
    said = root.apt("install", "--no-install-recommends", *["/tmp/" + os.path.basename(d) for d in debs])
    checks.check("apt installs it, with what it needs", "Setting up lethe " in said, said[-300:])
    version = root.run("dpkg-query", "-W", "-f", "${Version}", "lethe")[1]
    checks.check("lethe --version", root.run("lethe", "--version")[1].split()[-1] == version, version)
    checks.check("nothing was started", not glob.glob(root.path + "/run/lethe*") and not living(root))
    checks.check("no unit was enabled", not root.run("find", "/etc/systemd", "-name", "*lethe*", check=False)[1])
    user = root.run("getent", "passwd", "lethe")[1].split(":")
    checks.check("the user cannot log in", user[6].strip().endswith("nologin"), str(user))
    code, said = root.run("lethe", "status", check=False)
    checks.check("without a controller `lethe` says what to do", code != 0 and "lethe up" in said, said)
    return int(user[2]), int(user[3])


def living(root):
    """Processes in that root."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/root" % pid) == root.path:
                found.append(int(pid))
        except OSError:
            continue
    return found


# --- units, as a supervisor would ---------------------------------------------------------------------------

class Unit:
    """A unit's program, started as it says: user, capabilities, folders, a socket to tell."""

    def __init__(self, root, name, instance, owner):
        self.root, self.name = root, name + ("@" + instance if instance else "")
        self.keys = read_unit("%s/usr/lib/systemd/system/%s%s.service" % (root.path, name, "@" if instance else ""), instance)
        self.owner, self.process, self.supervisor = owner, None, None

    def as_user(self, words):
        k = self.keys
        caps = ["+" + c[4:].lower() for c in k["AmbientCapabilities"][0].split()]
        bound = ["+" + c[4:].lower() for c in k["CapabilityBoundingSet"][0].split()]
        return ["setpriv", "--reuid", k["User"][0], "--regid", k["Group"][0], "--init-groups", "--no-new-privs",
                "--bounding-set=" + ",".join(["-all"] + bound), "--inh-caps=" + ",".join(["-all"] + caps),
                "--ambient-caps=" + ",".join(["-all"] + caps), "--"] + words

    def start(self):
        run_dir = self.root.path + "/run/" + self.keys["RuntimeDirectory"][0]
        os.makedirs(run_dir, exist_ok=True)
        os.chown(run_dir, *self.owner)
        path = "/run/notify-" + self.name
        if not self.supervisor:
            self.supervisor = Supervisor(self.root.path + path)
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "900000",
               "RUNTIME_DIRECTORY": "/run/" + self.keys["RuntimeDirectory"][0]}
        with open(self.root.path + "/tmp/%s.log" % self.name, "ab") as log:
            self.process = subprocess.Popen(self.as_user(command(self.keys)), preexec_fn=self.root.inside, env=env,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.root.lab.ledger.note_process(self.process.pid)

    def ready(self, checks):
        told = self.supervisor.wait("READY=1") and self.supervisor.wait("WATCHDOG=1")
        return checks.check("%s: READY=1 and heartbeats" % self.name, told is not None,
                            "" if told else str(self.supervisor.heard[-5:]) + self.log())

    def log(self):
        with open(self.root.path + "/tmp/%s.log" % self.name) as f:
            return f.read()[-1500:]

    def stop(self, checks):
        self.process.send_signal(signal.SIGTERM)
        told = self.supervisor.wait("STOPPING=1")
        checks.check("%s: SIGTERM: STOPPING=1, and ends with 0" % self.name, told and self.process.wait(40) == 0, self.log()
                     if self.process.poll() != 0 else "")


def write_site(root, owner):
    """Three stores, a front end, workers; everything on this host."""
    keys = dict(run_dir="/run/lethe", failure_timeout_ms=1000, shards=2, chain="nat44, monitor", nat44="",
                views="  etcd: [\"127.0.0.1:2379\"]\n  copies: 2\n",
                nodes="\n".join("    - {name: %s, listen: \"127.0.0.1:%d\"}" % (n, 7400 + 10 * i)
                                for i, n in enumerate(STORES)),
                workers_max=4, inside_address=network.INSIDE_ADDRESS, inside_next_hop=network.INSIDE_NEXT_HOP,
                outside_address=network.OUTSIDE_ADDRESS, outside_next_hop=network.OUTSIDE_NEXT_HOP,
                inside_prefix=network.INSIDE_PREFIX, external=", ".join(network.EXTERNAL_ADDRESSES[:2]))
    text = SITE_YAML.format(**keys)
    for name, size in (("probe.key", 16), ("workers.secret", 32), ("replicas.secret", 32)):
        text = text.replace("/run/lethe/" + name, "/etc/lethe/" + name)
        with open(root.path + "/etc/lethe/" + name, "w") as f:
            os.fchmod(f.fileno(), 0o600)
            os.fchown(f.fileno(), *owner)
            f.write(secrets.token_hex(size) + "\n")
    with open(root.path + SITE, "w") as f:
        f.write(text + "groups: [{name: nf, replicas: 2, max: 3}]\n")


def start_etcd(lab, folder):
    """This machine's: Debian's is a recommendation of the package, and another host's, usually."""
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    lab.spawn("etcd", ["etcd", "--data-dir", folder + "/etcd", "--listen-client-urls", client, "--advertise-client-urls",
                       client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster",
                       "default=" + peer, "--unsafe-no-fsync"], lab.namespaces["steer"])
    wait_for(lambda: lab.namespaces["steer"].run(["curl", "-s", "-m", "1", client + "/health"], check=False).returncode
             == 0, 20, "etcd to answer")


def packets_pass(lab):
    return lab.namespaces["c1"].run(["ping", "-c", "3", "-i", "0.2", "-W", "2", network.SERVERS["s1"]],
                                    check=False).returncode == 0


def lethe(root, *words, **more):
    return root.run("lethe", "-c", SITE, *words, **more)


def well(root):
    return lethe(root, "status", "--well", check=False)[0] == 0


def wait_well(root, what):
    wait_for(lambda: well(root), 60, lambda: what + ": " + lethe(root, "status", check=False)[1])


def pids(root):
    s = json.loads(lethe(root, "-o", "json", "status")[1])
    return {p["name"]: p["pid"] for kind in ("workers", "steering", "stores") for p in s[kind]}


def newer(root, deb):
    """The same package under a newer number, in the root."""
    with tempfile.TemporaryDirectory(prefix="lethe-deb-") as folder:
        run("dpkg-deb", "-R", deb, folder + "/deb")
        control = folder + "/deb/DEBIAN/control"
        with open(control) as f:
            text = f.read()
        version = next(line.split()[1] for line in text.split("\n") if line.startswith("Version:"))
        with open(control, "w") as f:
            f.write(text.replace("Version: " + version, "Version: " + version + "+1"))
        run("dpkg-deb", "--root-owner-group", "-b", folder + "/deb", root.path + "/tmp/newer.deb")
    return version


def upgrade(root, lab, c, deb, checks):
    """docs/upgrade.md, step by step."""
    lines = traffic.Lines(lab, CONNECTIONS)
    lines.wait_opened()
    before = pids(root)
    version = newer(root, deb)
    root.apt("install", "--no-install-recommends", "/tmp/newer.deb")
    checks.check("1: a newer package stops and starts nothing", pids(root) == before and well(root))
    c.stop(checks)
    c.start()
    c.ready(checks)
    wait_well(root, "the site under the restarted controller")
    checks.check("2: the controller is restarted, its programs are not", pids(root) == before)
    leads = {s["primary"] for s in json.loads(lethe(root, "-o", "json", "status")[1])["shards"]}
    for step, names, more in ((3, sorted(STORES, key=lambda s: s in leads), []),
                              (4, sorted(n for n in before if n.startswith("nf-")), []), (5, ["steer"], ["--force"])):
        for name in names:
            code, said = lethe(root, "restart", name, *more, check=False)
            checks.check("%d: restart %s" % (step, name), code == 0, said.strip() if code else "")
            wait_well(root, "the site after a restart of " + name)
    now = pids(root)
    same = set(now.values()) & set(before.values())
    checks.check("every program is a new process", not same, str(now) if same else "")
    answers = lines.status()["answers"]
    wait_for(lambda: lines.status()["answers"] > answers + CONNECTIONS, 20, "answers after the upgrade")
    root.apt("install", "--no-install-recommends", "--allow-downgrades", "/tmp/" + os.path.basename(deb))
    checks.check("and back: the older package stops and starts nothing", pids(root) == now and well(root)
                 and root.run("dpkg-query", "-W", "-f", "${Version}", "lethe")[1] == version)
    checks.result("connections", lines.finish())


def by_the_controller(root, lab, owner, deb, checks):
    c = Unit(root, "lethe-controller", "", owner)
    c.start()
    c.ready(checks)
    wait_well(root, "the site to be well")
    checks.check("the site is well", True)
    checks.check("packets pass", packets_pass(lab))
    code, said = lethe(root, "doctor", check=False)
    checks.check("doctor knows what to say", "etcd" in said, said[-600:])
    code, said = root.run(*command(c.keys, "ExecReload"), check=False)
    checks.check("reload takes the file", code == 0, said)
    before = set(living(root)) - {c.process.pid}
    c.process.kill()
    c.process.wait()
    checks.check("the controller's end is not its programs'", packets_pass(lab) and set(living(root)) == before)
    c.start()
    c.ready(checks)
    wait_well(root, "the site under the next controller")
    checks.check("the next one finds them", set(living(root)) - {c.process.pid} == before)
    upgrade(root, lab, c, deb, checks)
    code, said = lethe(root, "down", "--force", check=False)
    checks.check("down", code == 0, said)
    c.stop(checks)


def by_units_alone(root, lab, owner, checks):
    """Another site, as far as etcd knows: of the one before every copy is gone, which it would say."""
    with open(root.path + SITE) as f:
        text = f.read()
    with open(root.path + SITE, "w") as f:
        f.write(text.replace("  copies: 2\n", "  copies: 2\n  etcd_prefix: /lethe/second\n"))
    units = [Unit(root, "lethe-store", n, owner) for n in STORES] + [Unit(root, "lethe-steer", "steer", owner)] + [
        Unit(root, "lethe-nf", n, owner) for n in ("nf-1", "nf-2")]
    for u in units:
        u.start()
    for u in units:
        u.ready(checks)
    wait_for(lambda: packets_pass(lab), 20, "packets to pass without a controller")
    checks.check("packets pass without a controller", True)
    for u in reversed(units):
        u.stop(checks)


def purge(root, checks):
    checks.check("everything has ended", not living(root), str(living(root)))
    for path in glob.glob(root.path + "/etc/lethe/*"):
        os.unlink(path) # what people wrote is theirs to remove
    open(root.path + "/var/lib/lethe/left", "w").close()
    root.apt("purge", "lethe", "liblethe-dev")
    left = root.names()
    checks.check("a purge leaves nothing", not left and not root.has("/var/lib/lethe") and not root.has("/etc/lethe"), str(left))


def play(args, checks, folder):
    run(args.cpack, "--config", os.path.abspath(args.build) + "/CPackConfig.cmake", "-B", folder + "/packages")
    path = folder + "/root"
    os.mkdir(path)
    os.chmod(path, 0o755)
    bare_root(path)
    mount(path)
    root = Root(path, checks)
    owner = install(root, glob.glob(folder + "/packages/*.deb"), checks)
    with Lab(args.run) as lab:
        network.build(lab, [])
        traffic.start_servers(lab)
        start_etcd(lab, folder)
        root.lab, root.namespace = lab, lab.namespaces["steer"]
        try:
            write_site(root, owner)
            by_the_controller(root, lab, owner, glob.glob(folder + "/packages/lethe_*.deb")[0], checks)
            by_units_alone(root, lab, owner, checks)
        finally:
            for pid in living(root):
                os.kill(pid, signal.SIGKILL)
    root.namespace = None
    purge(root, checks)


def main():
    args = scene.arguments(__doc__, cpack=("cpack", "the program"))
    require_root_and_tools(scene.TOOLS + ["ping", "debootstrap", "tar", "dpkg-deb"])
    checks = scene.Checks()
    folder = tempfile.mkdtemp(prefix="lethe-package-")
    try:
        play(args, checks, folder)
    except (NetError, OSError, subprocess.SubprocessError) as e:
        checks.check("the test", False, str(e))
    finally:
        for where in MOUNTS + ["var/cache/apt/archives"]:
            run("umount", "-l", os.path.join(folder, "root", where), check=False)
        # never through a mount that is still there: what is mounted is the machine's
        run("rm", "-rf", "--one-file-system", folder, check=False)
    print("FAILED: " + ", ".join(checks.failed) if checks.failed else "passed")
    sys.exit(1 if checks.failed else 0)


main()
