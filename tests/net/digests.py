# SPDX-License-Identifier: BSD-3-Clause
"""Do all members of every shard's view hold one content?

Positions go on under traffic, and two processes are never asked at one moment. So what each member prints is
remembered, (log position, digest), and its marks, which all members take at the same positions; a position that all
have printed settles it. Two digests at one position are an error at once.

Who is a member only the newest view says, and it may change at any time: a primary that was stopped calls itself
one until it hears of its successor. Each view is therefore begun afresh, and who prints an older one is not of it.
"""
from netns import NetError


class Shard:
    def __init__(self, number, copies):
        self.number, self.copies = number, copies
        self.epoch, self.begun, self.seen = -1, None, {}

    def take(self, rows):
        """{name: what it prints now}; (position, digest) when the members agreed, None: not yet."""
        epoch = max((r["view_epoch"] for r in rows.values() if r["role"] == "primary"), default=-1)
        members = {n: r for n, r in rows.items()
                   if r["view_epoch"] == epoch and r["role"] in ("primary", "backup")}
        if len(members) != self.copies:
            return None
        if (epoch, members.keys()) != (self.epoch, self.seen.keys()):
            # marks that a member brought along are no word on this view
            self.epoch, self.begun = epoch, max(r["position"] for r in members.values())
            self.seen = {name: {} for name in members}
        for name, r in members.items():
            self.seen[name][r["position"]] = r["digest"]
            if r["mark_position"] > self.begun:
                self.seen[name][r["mark_position"]] = r["mark_digest"]
        return self.common()

    def common(self):
        (first, a), *others = self.seen.items()
        both = set(a)
        for name, b in others:
            both &= b.keys()
            for position in a.keys() & b.keys():
                if a[position] != b[position]:
                    raise NetError("shard %d at log position %d: digest %s at %s, %s at %s" % (
                        self.number, position, a[position], first, b[position], name))
        return (max(both), a[max(both)]) if both else None

    def __str__(self):
        return "shard %d: view %d since position %s, %s" % (self.number, self.epoch, self.begun, "; ".join(
            "%s printed %d, %s" % (n, len(s), sorted(s)[-3:]) for n, s in self.seen.items()))


class Digests:
    """connect(name): a control socket, or an OSError; names: of the stores."""

    def __init__(self, connect, names, shards, copies):
        self.connect, self.names, self.controls = connect, names, {}
        self.shards = [Shard(i, copies) for i in range(shards)]

    def ask(self, name):
        try:
            if name not in self.controls:
                self.controls[name] = self.connect(name)
            return self.controls[name].ask("digest")["shards"]
        except (OSError, ValueError):
            self.drop(name)
            return []

    def drop(self, name):
        control = self.controls.pop(name, None)
        if control:
            control.close()

    def look(self):
        """Asks every store once; [(position, digest)] by shard when all of them agreed, else None."""
        told = [(name, row) for name in self.names for row in self.ask(name)]
        found = [s.take({n: row for n, row in told if row["shard"] == s.number}) for s in self.shards]
        return found if all(found) else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in list(self.controls):
            self.drop(name)
