#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What `lethe` shows of an answer whose every text holds commands for a terminal: letters, and none of the commands.
Here the controller is this test.

    shown_test.py PATH_OF_LETHE
"""
import http.server
import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading

PROGRAM = os.path.abspath(sys.argv[1])
EVIL = "x\u001b[2J\u001b]0;t\u0007\r\n\u009b31m\u007f\u202e"
failed = []


def figures(**more):
    return dict({"age_ms": 1, "uptime_ms": 5}, **more)


def program(**more):
    return dict({"name": EVIL, "kind": EVIL, "state": EVIL, "note": EVIL, "uptime_ms": 1, "restarts": 1, "figures": figures(),
                 "steering": {"age_ms": 1, "front": EVIL, "buckets": 1}}, **more)


ANSWERS = {
    "/v1/status": {
        "stale_after_ms": 1500, "site": {"chain": [EVIL], "revision": 1}, "controller": {"pid": 1, "active_ms": 1}, "etcd": None,
        "platform": {"where": EVIL, "known": False, "why": EVIL, "nodes": [{"name": EVIL, "ready": False, "cordoned": True}]},
        "groups": [{"name": EVIL, "replicas": 1, "running": 1, "ready": 1, "min": 1, "max": 1, "age_ms": 1}],
        "workers": [program(), program(draining={"since_ms": 1, "left": EVIL}), program(restart_in_ms=1, last_exit={"cause": EVIL})],
        "steering": [program(), program()], "stores": [program()],
        "shards": [{"shard": 0, "state": EVIL, "primary": EVIL, "backups": [EVIL], "age_ms": 1, "copies": 1, "copies_wanted": 2}],
        "alerts": [{"severity": EVIL, "subject": EVIL, "text": EVIL, "kind": EVIL, "since_ms": 1}]},
    "/v1/events": {"epoch": "e", "next": 1, "oldest": 1, "lost": 0, "events": [
        {"seq": 1, "time": EVIL, "kind": EVIL, "subject": EVIL, "cause": EVIL, "because": 1, "detail": {EVIL: EVIL}}]},
    "/v1/groups/nf/autoscale": {"group": EVIL, "why": EVIL, "policy": {}, "load": {}},
}


class Controller(http.server.BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        path = self.path.split("?")[0]
        found = ANSWERS.get(path)
        if path == "/v1/events" and "after=0" not in self.path:
            found = {"epoch": "e", "next": 1, "oldest": 1, "lost": 0, "events": []}
        body = json.dumps(found or {"error": EVIL}, ensure_ascii=False).encode()
        self.send_response(200 if found else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer

    def address_string(self):
        return "-"

    def log_message(self, *words):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def commands(text, allowed="\n"):
    """The characters that a terminal would obey."""
    return sorted({hex(ord(c)) for c in text if c not in allowed and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")})


def check(what, ok, text):
    print("%s  %s%s" % ("ok    " if ok else "FAILED", what, "" if ok else ": %r" % (text,)), flush=True)
    if not ok:
        failed.append(what)


def main():
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        server = Server(folder + "/api.sock", Controller)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for words in ("status", "events", "top --times 1", "autoscale nf", "kill a", "scale nf=2", "drain a", "-o json status",
                      "-o json events", "-o json --controller %s/api.sock top --times 1" % folder):
            done = subprocess.run([PROGRAM, "--controller", folder + "/api.sock", *words.split()], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=60)
            text = done.stdout.decode("utf-8", "surrogateescape")
            check("lethe %s: no commands" % words, "x" in text and not commands(text, "\n\x7f" if "-o json" in words else "\n"), text)
            if "-o json" in words and "events" in words:
                check("JSON is what was answered", json.loads(text.splitlines()[0]) == ANSWERS["/v1/events"]["events"][0], text)
        server.shutdown()
    print("FAILED: " + ", ".join(failed) if failed else "passed")
    sys.exit(1 if failed else 0)


main()
