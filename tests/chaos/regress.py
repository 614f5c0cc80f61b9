#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the seeds of regressions.txt, each once: regress.py [words for chaos.py, as --build DIR --run DIR]."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def rows():
    """{words: [what was mended]}"""
    found = {}
    with open(os.path.join(HERE, "regressions.txt")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                words, _, mended = line.partition("|")
                seed, seconds, *more = words.split()
                found.setdefault(("--seed", seed, "--seconds", seconds, *more), []).append(mended.strip())
    return found


def main():
    failed = []
    for words, mended in rows().items():
        print("== %s: %s" % (" ".join(words), "; ".join(mended)), flush=True)
        done = subprocess.run([sys.executable, os.path.join(HERE, "chaos.py"), *words, *sys.argv[1:]])
        failed += [words] if done.returncode else []
    print("FAILED: %s" % ", ".join(" ".join(w) for w in failed) if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
