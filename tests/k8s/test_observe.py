#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What chaos keeps of a pod that is not ready: its own words, each once, in the run's folder. Programs are made up here."""
import http.server
import os
import sys
import tempfile
import threading
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../net")]

from chaos_observe import Programs                 # noqa: E402


class Program(http.server.BaseHTTPRequestHandler):
    answer = 503, "shard 2 has\nno primary"

    def do_GET(self):
        status, text = self.answer if self.path == "/readyz" else (200, "lethe_store_serving{shard=\"2\"} 1\n")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def pod(uid, address, port):
    return {"metadata": {"name": "store-1", "uid": uid, "labels": {"app": "store"}}, "status": {"podIP": address},
            "spec": {"containers": [{"ports": [{"name": "metrics", "containerPort": port}],
                                     "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}}}]}}


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Program)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there, wrong = [], []
    with tempfile.TemporaryDirectory() as folder, open("/proc/self/ns/net") as here:
        plane = types.SimpleNamespace(namespace=types.SimpleNamespace(fd=here.fileno()))
        programs = Programs(plane, lambda: there, folder)

        def expect(p, ready, words):
            there[:] = [p]
            programs.ask()
            uid = p["metadata"]["uid"]
            if programs.said[uid][1] != ready or not programs.words[uid].startswith(words):
                wrong.append("%s: ready %s, %s" % (uid, programs.said[uid][1], programs.words[uid]))
        first, second = pod("a", "127.0.0.1", server.server_port), pod("b", None, 1)
        for _ in range(2):
            expect(first, False, "503: shard 2 has no primary")
        if programs.said["a"][2] != {"lethe_store_serving": {'shard="2"': 1.0}}:
            wrong.append("its figures: %s" % (programs.said["a"],))
        Program.answer = 200, "ok"
        expect(first, True, "200: ok")
        server.shutdown()
        server.server_close()
        expect(first, False, "no answer: [Errno 111]")
        expect(second, False, "no answer: it has no address yet")
        with open(os.path.join(folder, "readyz-store-1")) as f:
            said = [line.split(" ", 1)[1][:20] for line in f]
        if said != ["a 503: shard 2 has n", "a 200: ok\n", "a no answer: [Errno ", "b no answer: it has "]:
            wrong.append("kept: %s" % said)
    for line in wrong:
        print("FAILED  " + line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
