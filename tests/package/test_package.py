#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The Debian packages of this build, without installing them: what is in them, that units are right and harden, that
programs started as the units say speak to their supervisor.

    test_package.py --build build/dev --cpack /usr/bin/cpack      (root, for a network namespace)
"""
import argparse
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from unit import Supervisor, command, read_unit

UNITS = ["lethe-controller.service", "lethe-store@.service", "lethe-steer@.service", "lethe-nf@.service",
         "lethe-nexthop@.service"]
PROGRAMS = ["usr/bin/lethe"] + ["usr/sbin/lethe-" + p for p in ("controller", "store", "steer", "nf", "nexthop")]
EXPOSURE_MOST = 30  # of 100, as systemd-analyze counts
HERE = os.path.dirname(os.path.abspath(__file__))
failed = []


def check(what, ok, text=""):
    print("%s  %s%s" % ("ok    " if ok else "FAILED", what, ": " + str(text) if text and not ok else ""), flush=True)
    if not ok:
        failed.append(what)


def run(*words, **more):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more)
    return done.returncode, done.stdout


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def field(deb, name):
    return run("dpkg-deb", "-f", deb, name)[1].strip()


def check_content(debs, root):
    for deb in debs.values():
        code, listing = run("dpkg-deb", "-c", deb)
        rows = [line.split(None, 5) for line in listing.splitlines()]
        bad = [r for r in rows if r[1] != "root/root" or r[0] not in ("drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x")
               or (r[0] == "-rwxr-xr-x") != (re.match(r"\./usr/s?bin/.", r[5]) is not None)
               or not re.match(r"\./(usr/(bin|sbin|lib|share|include)?|$)", r[5])]
        check("%s: owners, modes, places" % os.path.basename(deb), not bad, bad)
    want = PROGRAMS + ["usr/lib/systemd/system/" + u for u in UNITS] + [
        "usr/share/doc/lethe/" + f for f in ("copyright", "changelog.gz", "examples/site.yaml", "operations.md", "upgrade.md")
    ] + ["usr/share/man/man1/lethe.1.gz", "usr/share/bash-completion/completions/lethe",
         "usr/share/lethe/observability/alerts.yaml", "usr/share/lethe/observability/dashboard.json",
         "usr/include/lethe/client/lethe.h", "usr/share/doc/liblethe-dev/copyright"]
    gone = [f for f in want if not os.path.isfile(os.path.join(root, f))]
    check("what is to be there is there", not gone, gone)
    page = gzip.open(os.path.join(root, "usr/share/man/man1/lethe.1.gz"), "rt").read()
    check("the manual page is one", page.startswith(".TH") and "hand\\-over" in page, page[:80])
    depends = field(debs["lethe"], "Depends")
    check("libraries are dependencies", all(d in depends for d in ("libc6 (", "libuv1", "libmicrohttpd", "adduser")), depends)
    for script in ("postinst", "prerm", "postrm"):
        code, text = run("dpkg-deb", "-I", debs["lethe"], script)
        parsed = run("sh", "-n", "-c", text)
        check("%s is a script that stops at errors" % script, code == 0 and text.startswith("#!/bin/sh")
              and "\nset -e\n" in text and parsed[0] == 0, parsed[1])
        check("%s starts nothing" % script, not re.search(r"systemctl (re)?start|enable|invoke", text))


def check_version(debs, root):
    version = field(debs["lethe"], "Version")
    said = {p: run(os.path.join(root, p), "--version")[1].split()[-1] for p in PROGRAMS}
    said["liblethe-dev"] = field(debs["liblethe-dev"], "Version")
    pc = next(os.path.join(d, "lethe.pc") for d, _, files in os.walk(root) if "lethe.pc" in files)
    said["lethe.pc"] = re.search(r"^Version: (.*)$", open(pc).read(), re.M).group(1)
    changes = gzip.open(os.path.join(root, "usr/share/doc/lethe/changelog.gz"), "rt").read()
    said["CHANGELOG"] = re.search(r"^## ([0-9.]+)", changes, re.M).group(1)
    check("one version", set(said.values()) == {version}, said)


def check_units(root):
    """By systemd's own words, in a folder that holds nothing but the package."""
    folder = os.path.join(root, "usr/lib/systemd/system")
    for target in ("network-online", "sysinit", "basic", "shutdown", "multi-user"):
        with open(os.path.join(folder, target + ".target"), "w") as f:
            f.write("[Unit]\nDescription=of the test\n")
    for name in UNITS:
        instance = name.replace("@", "@store-a")
        shutil.copy(os.path.join(folder, name), os.path.join(folder, instance)) if instance != name else None
        code, text = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "--root=" + root, instance)
        check("systemd finds %s right" % name, code == 0 and not text, text)
        code, text = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=%d" % EXPOSURE_MOST,
                         "--root=" + root, instance)
        check("%s is hardened: %s" % (name, text.strip().split("\n")[-1][2:]), code == 0, text)
        unit = read_unit(os.path.join(folder, name), "x")
        check("%s runs as a user of its own, restarts, is watched" % name, unit["User"] == ["lethe"]
              and unit["Type"] == ["notify"] and "WatchdogSec" in unit and unit["Restart"][0] in ("always", "on-failure"))
        check("%s: its program is in the package" % name, os.path.isfile(root + command(unit)[0]))
    unit = read_unit(os.path.join(folder, "lethe-controller.service"))
    check("programs outlive the controller", unit["KillMode"] == ["process"] and unit["OOMPolicy"] == ["continue"]
          and unit["RuntimeDirectoryPreserve"] == ["yes"])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write_site(folder, name):
    os.makedirs(folder + "/" + name, exist_ok=True)
    with open("%s/%s.yaml" % (folder, name), "w") as f:
        f.write("run_dir: %s/%s\nstore:\n  shards: 1\n  nodes: [{name: store-a, listen: \"127.0.0.1:%d\"}]\n"
                "chain: [monitor]\nnfs: {monitor: {}}\n"
                % (folder, name, free_port()))
    return f.name


def start(root, unit, site, supervisor, watchdog_us=600000, more=(), before=()):
    """As the unit says, but of this package's folder and with this site's file."""
    words = command(unit)
    words[0] = root + words[0]
    words = list(before) + [site if w == "/etc/lethe/site.yaml" else w for w in words] + list(more)
    env = dict(os.environ, NOTIFY_SOCKET=supervisor.path, WATCHDOG_USEC=str(watchdog_us))
    return subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=open(site + ".log", "ab"), start_new_session=True)


def check_told(root, folder, name, instance, site, more=(), before=()):
    """READY=1, heartbeats, none while it is stopped, STOPPING=1."""
    unit = read_unit(os.path.join(root, "usr/lib/systemd/system", name), instance)
    s = Supervisor(folder + "/notify")
    p = start(root, unit, site, s, more=more, before=before)
    try:
        check("%s: READY=1" % name, s.wait("READY=1") is not None, s.heard)
        check("%s: heartbeats" % name, s.wait("WATCHDOG=1") is not None, s.heard)
        if name.startswith("lethe-controller"):
            path = "%s/site/pids/store-a.pid" % folder
            check("it says that it leads", s.wait("STATUS=leads, revision 1") is not None, s.heard)
            wait_for(lambda: os.path.exists(path) and os.path.getsize(path))
            pid = json.load(open(path))["pid"]
            with open("/proc/%d/environ" % pid) as f:
                text = f.read()
            check("what it starts is not the supervisor's", "NOTIFY_SOCKET" not in text and "WATCHDOG" not in text)
        p.send_signal(signal.SIGTERM)
        check("%s: STOPPING=1" % name, s.wait("STOPPING=1") is not None, s.heard)
        check("%s: SIGTERM ends it with 0" % name, p.wait(30) == 0)
    finally:
        p.kill()
        s.close()


def check_programs(root, folder):
    site = write_site(folder, "site")
    try:
        check_told(root, folder, "lethe-controller.service", "", site)
        # the store that it started lives on: the worker's
        check_told(root, folder, "lethe-nf@.service", "nf-9", site, ["--port", "inside=net_null0", "--port",
                                                                     "outside=net_null1"])
    finally:
        pids = folder + "/site/pids"
        for name in os.listdir(pids) if os.path.isdir(pids) else []:
            os.kill(json.load(open("%s/site/pids/%s" % (folder, name)))["pid"], signal.SIGKILL)
    check_told(root, folder, "lethe-store@.service", "store-a", write_site(folder, "alone"))
    check_told(root, folder, "lethe-nexthop@.service", "out", site, ["--route", "203.0.113.0/28", "--via", "127.0.0.1"],
               ["unshare", "-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]) # not into this host's routes
    if failed:
        for name in os.listdir(folder):
            if name.endswith(".log"):
                print(name, open(os.path.join(folder, name)).read()[-1500:])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build/dev")
    p.add_argument("--cpack", default="cpack")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        code, text = run(args.cpack, "--config", os.path.abspath(args.build) + "/CPackConfig.cmake", "-B", folder + "/packages")
        debs = {f.split("_")[0]: os.path.join(folder, "packages", f) for f in os.listdir(folder + "/packages")
                if f.endswith(".deb")} if code == 0 else {}
        check("two packages are made", set(debs) == {"lethe", "liblethe-dev"}, text)
        if not failed:
            root = folder + "/root"
            for deb in debs.values():
                run("dpkg-deb", "-x", deb, root)
            check_content(debs, root)
            check_version(debs, root)
            check_programs(root, folder)
            check_units(root)
    print("FAILED: " + ", ".join(failed) if failed else "passed")
    sys.exit(1 if failed else 0)


main()
