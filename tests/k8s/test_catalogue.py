#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""docs/cnti.md: each row has a verdict, and each test that it names is there."""
import ast
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "../../docs/cnti.md")
VERDICTS = ("passed", "in part", "refused", "none here")


def functions(name):
    with open(os.path.join(HERE, name)) as f:
        return {n.name for n in ast.walk(ast.parse(f.read())) if isinstance(n, ast.FunctionDef)}


def complaints(page):
    """Sentences. `file.py: function` names a test; a `function` that follows, or stands alone, is of the last file or test_cnti.py."""
    found, seen = [], {}
    for row in re.findall(r"^\| (`[a-z0-9_]+`.*|[a-z ]+\(of earlier.*) \| (.*?) \| (.*) \|$", page, re.M):
        tests, verdict, why = row
        file = "test_cnti.py"
        if verdict.split(",")[0] not in VERDICTS:
            found.append("%s: its verdict is %r, none of %s" % (tests, verdict, ", ".join(VERDICTS)))
        for t in re.findall(r"`([a-z0-9_]+)`", tests):
            seen[t] = seen.get(t, 0) + 1
        for name, function, alone in re.findall(r"`(\w+\.py)(?:: (\w+))?`|`([a-z]+_[a-z_]+)`", why):
            file = name or file
            if not os.path.exists(os.path.join(HERE, file)):
                found.append("%s: there is no tests/k8s/%s" % (tests, file))
            elif (function or alone) and (function or alone) not in functions(file):
                found.append("%s: %s has no %s" % (tests, file, function or alone))
    if len(seen) < 60:
        found.append("only %d tests of the catalogue are on the page" % len(seen))
    return found + ["%s stands there %d times" % t for t in seen.items() if t[1] > 1]


def main():
    with open(PAGE) as f:
        page = f.read()
    said = complaints(page)
    planted = complaints(page.replace("`lint.py: check_alias`", "`lint.py: check_aliases`").replace("| in part |", "| partly |", 1))
    if len(planted) != len(said) + 2:
        said.append("a test that is not there, and a verdict that is none, were not found: %s" % planted)
    print("\n".join(said) or "docs/cnti.md: every test that it names is there")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
