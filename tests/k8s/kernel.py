# SPDX-License-Identifier: BSD-3-Clause
"""What kubelets change of a kernel that all tests of this machine share, and how it becomes as it was.

    hold(), release()   around what changes SYSCTLS
    branch(name)        the name of a control group of ours
    put_right()         after runs that were killed: their settings, their control groups

The settings before the first of several runs at once are in RECORD, with who runs; the last to leave puts them back. Who
died without a word is known by its process's number and start time.
"""
import contextlib
import fcntl
import glob
import json
import os
import re

from netns import _start_time

CONTROLLERS = "/sys/fs/cgroup"
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
RECORD = "/run/lethe-test-kernel.json"
PROC = "/proc/sys/"


def _me():
    return [os.getpid(), _start_time(os.getpid())]


@contextlib.contextmanager
def _record():
    """The record to be changed, by one at a time; who is dead is not in it any more."""
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    with open(RECORD, "a+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        f.seek(0)
        try:
            record = json.load(f)
        except ValueError:
            record = {"before": None, "runs": []}
        record["runs"] = [r for r in record["runs"] if _start_time(r[0]) == r[1]]
        yield record
        if not record["runs"] and record["before"]:
            for key, value in record["before"].items():
                with open(PROC + key, "w") as to:
                    to.write(value)
            record["before"] = None
        f.truncate(0)
        json.dump(record, f)


def hold():
    with _record() as record:
        if not record["before"]:
            record["before"] = {}
            for key in SYSCTLS:
                with open(PROC + key) as f:
                    record["before"][key] = f.read()
        record["runs"].append(_me())


def release():
    with _record() as record:
        record["runs"] = [r for r in record["runs"] if r != _me()]


def hierarchies():
    """Folders of the controllers: one each (version 1), or one for all."""
    if os.path.exists(CONTROLLERS + "/cgroup.controllers"):
        return [CONTROLLERS]
    return [h for h in glob.glob(CONTROLLERS + "/*") if os.path.exists(h + "/cgroup.procs") and
            os.path.basename(h) != "unified"]


def branch(name):
    return "lethe-%d-%s-%s" % (*_me(), name)


def remove_empty(folder):
    """A control group; False: somebody is in it."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def put_right():
    with _record():
        pass                      # the dead are gone from it; if they were the last, their settings, too
    for h in [*hierarchies(), CONTROLLERS + "/unified"]:
        for folder in glob.glob(h + "/lethe-*"):
            owner = re.fullmatch(r"lethe-(\d+)-(\d+)-n\d+", os.path.basename(folder))
            if owner and _start_time(int(owner[1])) != owner[2]:
                for at, _, _ in os.walk(folder, topdown=False):
                    remove_empty(at)
