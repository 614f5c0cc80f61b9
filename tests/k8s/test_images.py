#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Images: made twice they have one digest; they hold what they need to run, as their user, and no shell.

A table of their sizes, and what these are of; with more in a file (--json).
"""
import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../net"))
from netns import die_with, require_root_and_tools  # noqa: E402

BUILD = os.path.join(HERE, "../../k8s/images/build.sh")
RAW, LOCK = {"cap_net_admin", "cap_net_raw", "cap_ipc_lock"}, {"cap_ipc_lock"}
# image, its program, capabilities of that
IMAGES = {"lethe-store": ("lethe-store", set()), "lethe-store-rdma": ("lethe-store", LOCK), "lethe-nf": ("lethe-nf", RAW),
          "lethe-nf-rdma": ("lethe-nf", RAW), "lethe-steer": ("lethe-steer", RAW),
          "lethe-controller": ("lethe-controller", set()), "lethe-cli": ("lethe", set()), "lethe-etcd": ("etcd", set())}
BESIDE = {"lethe-controller": ["/usr/bin/lethe"]}     # for `kubectl exec`
MOST_BYTES = 32 << 20


def build(folders, programs):
    """The same into each folder, at once; image -> digest, a folder."""
    runs = [subprocess.Popen([BUILD, "--build", programs, "--out", folder, *IMAGES], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, preexec_fn=lambda: die_with(os.getppid()))
            for folder in folders]
    made = []
    for run in runs:
        out, err = run.communicate()
        if run.returncode != 0:
            sys.exit("test_images: %s" % err)
        made.append({line.split()[0]: line.split()[1] for line in out.splitlines()})
    return made


def contents(folder, image):
    """path -> (bytes, package, or "-")."""
    with open(os.path.join(folder, image + ".contents")) as f:
        return {path: (int(size), package) for _, size, path, package in (line.split() for line in f)}


def report(folder, image, program, digest):
    listed = contents(folder, image)
    own, _ = listed["/usr/bin/" + program]
    packages = {}
    for path, (size, package) in listed.items():
        if path != "/usr/bin/" + program and package != "-":
            packages[package] = packages.get(package, 0) + size
    return {"digest": digest, "archive_bytes": os.path.getsize(os.path.join(folder, image + ".tar")),
            "files": len(listed), "bytes": sum(size for size, _ in listed.values()), "program_bytes": own,
            "packages": dict(sorted(packages.items(), key=lambda p: -p[1]))}


def unpack(folder, image):
    """Its one layer, and its configuration."""
    to = os.path.join(folder, image)
    os.makedirs(to)
    with tarfile.open(os.path.join(folder, image + ".tar")) as archive:
        def blob(digest):
            return archive.extractfile("blobs/sha256/" + digest.split(":")[1])
        index = json.load(archive.extractfile("index.json"))
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        layer = os.path.join(folder, image + ".layer")
        with open(layer, "wb") as f:
            f.write(blob(manifest["layers"][0]["digest"]).read())
        subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-xzf", layer, "-C", to], check=True)
        return to, json.load(blob(manifest["config"]["digest"]))


class Test:
    def __init__(self, folder):
        self.folder, self.failed = folder, 0

    def check(self, good, what, why=""):
        self.failed += not good
        if not good:
            print("FAIL %s: %s" % (what, why), flush=True)

    def image(self, image):
        program, capabilities = IMAGES[image]
        root, config = unpack(self.folder, image)
        self.check(config["config"]["User"] == "10001:10001", "%s is not root" % image, str(config["config"]))
        # A file with capabilities starts only where these may be had: within our own bounds.
        done = subprocess.run(["chroot", "--userspec=10001:10001", root, "/usr/bin/" + program, "--version"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.check(done.returncode == 0 and program in done.stdout, "%s: %s starts" % (image, program), done.stdout)
        said = subprocess.run(["getcap", os.path.join(root, "usr/bin", program)], stdout=subprocess.PIPE, text=True).stdout
        has = set(filter(None, "".join(said.split()[1:]).replace("=ep", "").split(",")))
        self.check(has == capabilities, "%s: its capabilities are %s" % (image, sorted(capabilities)), str(sorted(has)))
        listed = set(contents(self.folder, image))
        there = {"/" + os.path.relpath(os.path.join(at, n), root) for at, _, names in os.walk(root) for n in names
                 if not os.path.islink(os.path.join(at, n))}
        self.check(listed == there, "%s: the list of contents is right" % image, str(listed ^ there))
        more = [p for p in there if "/bin/" in p and p != "/usr/bin/" + program]
        self.check(more == BESIDE.get(image, []), "%s has its program and no other" % image, str(more))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--json")
    options = arguments.parse_args()
    require_root_and_tools(["buildah", "setcap", "getcap"])
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        one, two = os.path.join(folder, "one"), os.path.join(folder, "two")
        first, second = build((one, two), options.build)
        test, table = Test(one), {}
        print("%-18s %8s %8s %8s %5s  %s" % ("MB", "archive", "files", "program", "files", "most of the others"))
        for image, (program, _) in IMAGES.items():
            test.check(first[image] == second[image], "%s: two builds, one digest" % image, second[image])
            test.image(image)
            r = table[image] = report(one, image, program, first[image])
            test.check(r["archive_bytes"] < MOST_BYTES, "%s is small" % image, "more than %d bytes" % MOST_BYTES)
            print("%-18s %8.1f %8.1f %8.1f %5d  %s" % (
                image, r["archive_bytes"] / 1e6, r["bytes"] / 1e6, r["program_bytes"] / 1e6, r["files"],
                ", ".join("%s %.1f" % (p.split("=")[0], n / 1e6) for p, n in list(r["packages"].items())[:3])))
    if options.json:
        with open(options.json, "w") as f:
            json.dump(table, f, indent=1)
    print("%d failed" % test.failed if test.failed else "two builds each, one digest; all is well")
    return 1 if test.failed else 0


sys.exit(main())
