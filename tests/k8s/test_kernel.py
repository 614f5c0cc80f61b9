#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""kernel.py, on folders that look like the kernel's: settings and control groups after runs that were killed."""
import os
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../net"), HERE]
import kernel                 # noqa: E402
from netns import die_with    # noqa: E402


def setting(key, value=None):
    with open(kernel.PROC + key, "r" if value is None else "w") as f:
        return f.read() if value is None else f.write(value)


def run():
    """A run in a process of its own, as a kubelet of its would have it; returns when it has begun."""
    ours, theirs = os.pipe()
    starter, pid = os.getpid(), os.fork()
    if pid == 0:
        die_with(starter)
        kernel.hold()
        for key in kernel.SYSCTLS:
            setting(key, "1")
        os.makedirs(os.path.join(kernel.CONTROLLERS, "cpu", kernel.branch("n1"), "kubepods"))
        signal.signal(signal.SIGTERM, lambda *_: (kernel.release(), os._exit(0)))
        os.write(theirs, b"x")
        while True:
            signal.pause()
    os.close(theirs)
    assert os.read(ours, 1) == b"x", "the run ended at its start"
    os.close(ours)
    return pid


def end(pid, how):
    os.kill(pid, how)
    os.waitpid(pid, 0)


def branches():
    return [n for n in os.listdir(os.path.join(kernel.CONTROLLERS, "cpu")) if n.startswith("lethe-")]


def main():
    with tempfile.TemporaryDirectory() as folder:
        kernel.RECORD, kernel.PROC = folder + "/run/record", folder + "/proc/"
        kernel.CONTROLLERS = folder + "/cgroup"
        os.makedirs(kernel.CONTROLLERS + "/cpu/somebody-else")
        open(kernel.CONTROLLERS + "/cpu/cgroup.procs", "w").close()
        for key in kernel.SYSCTLS:
            os.makedirs(os.path.dirname(kernel.PROC + key), exist_ok=True)
            setting(key, "0")
        first, second = run(), run()
        end(first, signal.SIGTERM)
        assert setting(kernel.SYSCTLS[0]) == "1", "put back while another run needed it"
        end(second, signal.SIGTERM)
        assert [setting(k) for k in kernel.SYSCTLS] == ["0"] * 3, "not put back by the last run"
        first, second = run(), run()
        end(first, signal.SIGKILL)
        kernel.put_right()
        assert setting(kernel.SYSCTLS[0]) == "1", "put back after one was killed, and another needed it"
        assert len(branches()) == 1, "of the living and of others, no control group may go: %s" % branches()
        end(second, signal.SIGKILL)
        kernel.put_right()
        assert [setting(k) for k in kernel.SYSCTLS] == ["0"] * 3, "not put back after all were killed"
        assert not branches(), branches()
        assert os.path.isdir(kernel.CONTROLLERS + "/cpu/somebody-else")
    print("all is well")


main()
