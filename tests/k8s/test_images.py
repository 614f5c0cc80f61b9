#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Images: made twice they have one digest; they hold what they need to run, as their user, and no shell."""
import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../net"))
from netns import require_root_and_tools  # noqa: E402

BUILD = os.path.join(HERE, "../../k8s/images/build.sh")
# image, what it is asked, capabilities of its program
IMAGES = {"lethe-store": ("lethe-store", None), "lethe-nf-rdma": ("lethe-nf", "cap_net_admin,cap_net_raw,cap_ipc_lock=ep"),
          "lethe-steer": ("lethe-steer", "cap_net_admin,cap_net_raw,cap_ipc_lock=ep")}
MOST_BYTES = 32 << 20


def build(folder, programs):
    done = subprocess.run([BUILD, "--build", programs, "--out", folder, *IMAGES], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=500)
    if done.returncode != 0:
        sys.exit("test_images: %s" % done.stderr)
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


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


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--build", required=True)
    options = arguments.parse_args()
    require_root_and_tools(["buildah", "setcap", "getcap"])
    failed = 0

    def check(good, what, why=""):
        nonlocal failed
        failed += not good
        print("%s %s%s" % ("ok  " if good else "FAIL", what, "" if good else ": " + why), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        first, second = (build(os.path.join(folder, n), options.build) for n in ("one", "two"))
        for image, (program, capabilities) in IMAGES.items():
            check(first[image][0] == second[image][0], "%s: two builds, one digest" % image,
                  "%s and %s" % (first[image][0], second[image][0]))
            root, config = unpack(os.path.join(folder, "one"), image)
            check(config["config"]["User"] == "10001:10001", "%s: not root" % image, str(config["config"]))
            # A file with capabilities starts only where these may be had: within our own bounds.
            done = subprocess.run(["chroot", "--userspec=10001:10001", root, "/usr/bin/" + program, "--version"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            check(done.returncode == 0 and program in done.stdout, "%s: %s starts" % (image, program), done.stdout)
            has = subprocess.run(["getcap", os.path.join(root, "usr/bin", program)], stdout=subprocess.PIPE,
                                 text=True).stdout.split()[1:]
            check(set(",".join(has).replace("=ep", "").split(",")) == set(
                (capabilities or "").replace("=ep", "").split(",")), "%s: capabilities %s" % (
                    image, capabilities or "none"), str(has))
            with open(os.path.join(folder, "one", image + ".contents")) as f:
                listed = {line.split()[2] for line in f}
            there = {"/" + os.path.relpath(os.path.join(at, n), root) for at, _, names in os.walk(root) for n in names
                     if not os.path.islink(os.path.join(at, n))}
            check(listed == there, "%s: the list of contents is right" % image, str(listed ^ there))
            check(not [p for p in there if "/bin/" in p and p != "/usr/bin/" + program], "%s: one program" % image)
            size = os.path.getsize(os.path.join(folder, "one", image + ".tar"))
            check(size < MOST_BYTES, "%s: %.1f MB" % (image, size / 1e6), "more than %d" % MOST_BYTES)
    print("%d failed" % failed if failed else "all is well")
    return 1 if failed else 0


sys.exit(main())
