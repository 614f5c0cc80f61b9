#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The driver for Kubernetes and an API server that does what real ones seldom do: it is silent, cuts off, forgets, is set back,
lists without an end, says what is no object, and has other certificates and tokens from one moment to the next. Here that
server is this test. Against a real one: tests/k8s/test_driver.py.

    kubernetes_server_test.py PATH_OF_KUBERNETES_LOOK [test_...]
"""
import http.server
import json
import os
import queue
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

PROGRAM = os.path.abspath(sys.argv[1])
PATIENCE_S = 60
failed = []


def check(what, ok, why=""):
    print("%s  %s%s" % ("ok    " if ok else "FAILED", what, "" if ok else ": %s" % (why,)), flush=True)
    if not ok:
        failed.append(what)


def pod(name, container="", phase="Running", end=None, **more):
    state = {"running": {"startedAt": "2026-05-04T10:11:12Z"}} if container else {}
    if end:
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "containerID": end}}
    status = {"name": "nf", "state": state, "containerID": container}
    return dict({"metadata": {"name": name, "uid": "u-" + name, "labels": {"app": "nf"}},
                 "spec": {"containers": [{"name": "nf"}]}, "status": {"phase": phase, "containerStatuses": [status]}}, **more)


class Answers:
    """What the server does; a test changes it."""

    def __init__(self):
        self.pods, self.version, self.deployments = [], "10", [deployment(3)]
        self.token = self.watch = self.list = None
        self.lists = self.watches = self.counted = 0
        self.over = threading.Event()


def deployment(replicas):
    return {"metadata": {"name": "nf"}, "spec": {"replicas": replicas}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def send(self, status, o):
        body = o if isinstance(o, bytes) else json.dumps(o).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def open(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def line(self, o):
        data = (o if isinstance(o, bytes) else json.dumps(o).encode()) + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def close(self):
        self.wfile.write(b"0\r\n\r\n")

    def good_watch(self, query):
        self.open()
        a.over.wait(float(query["timeoutSeconds"][0]) * 0.8)
        self.line({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": query["resourceVersion"][0]}}})
        self.close()

    def do_GET(self):
        try:
            self.answer()
        except (BrokenPipeError, ConnectionError, ssl.SSLError):
            self.close_connection = True

    def answer(self):
        path, _, words = self.path.partition("?")
        query = urllib.parse.parse_qs(words)
        pods = path.endswith("/pods")
        if a.token and self.headers.get("Authorization") != "Bearer " + a.token:
            self.send(401, {"message": "Unauthorized"})
        elif "watch" in query:
            a.watches += pods
            (a.watch if pods and a.watch else Handler.good_watch)(self, query)
        elif pods:
            a.lists += 1
            (a.list or Handler.good_list)(self, query)
        elif path.endswith("/deployments"):
            a.counted += 1
            self.send(200, {"metadata": {"resourceVersion": a.version}, "items": a.deployments})
        else:
            self.send(200, {"metadata": {"resourceVersion": a.version}, "items": []})

    def good_list(self, query):
        self.send(200, {"metadata": {"resourceVersion": a.version}, "items": a.pods})


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass

    def get_request(self):
        request, address = super().get_request()
        self.open.append(request)
        return request, address

    def end(self):
        """With all its connections."""
        self.shutdown()
        self.server_close()
        for s in self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def certificate(folder, name):
    """A CA, and a server's certificate of it."""
    at = os.path.join(folder, name)

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", at + "-ca.key", "-out",
            at + "-ca.crt", "-subj", "/CN=" + name, "-days", "2")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", at + ".key", "-out", at + ".csr",
            "-subj", "/CN=apiserver")
    with open(at + ".ext", "w") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", at + ".csr", "-CA", at + "-ca.crt", "-CAkey", at + "-ca.key", "-CAcreateserial", "-days", "2", "-extfile",
            at + ".ext", "-out", at + ".crt")
    return at


def serve(port, at):
    server = Server(("127.0.0.1", port), Handler)
    server.open = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(at + ".crt", at + ".key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def write(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


def copy(of, to):
    with open(of) as f:
        write(to, f.read())


class Look:
    """The driver, and what it said."""

    def __init__(self, watch_s=60):
        global a
        a = Answers()
        self.watch_s, self.lines, self.ends, self.now = watch_s, queue.Queue(), [], {}

    def start(self):
        env = dict(os.environ, KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(port))
        self.process = subprocess.Popen([PROGRAM, account, str(self.watch_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=env)
        threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True).start()
        return self

    def read(self, out):
        for line in out:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            try:
                o = self.lines.get(timeout=0.05)
            except queue.Empty:
                o = {}
            if o is None or time.monotonic() > deadline:
                check(what, False, (self.now, self.ends, "lists %d, watches %d" % (a.lists, a.watches)))
                return False
            if "end" in o:
                self.ends.append(o)
            elif o:
                self.now = o
        check(what, True)
        return True

    def knows(self, *names):
        return self.now.get("known") and sorted(self.now["programs"]) == sorted(names)

    def stop(self):
        a.over.set()
        self.process.stdin.close()
        check("it ends in good order", self.process.wait(PATIENCE_S) == 0)


def test_odd_objects():
    """What is no pod, or none of ours, is passed over; what is one counts."""
    look = Look(4)
    a.pods = [None, 5, "x", [], {}, {"metadata": None}, {"metadata": {"name": "..", "uid": "u", "labels": {"app": "nf"}}},
              {"metadata": {"name": "nf-0", "uid": 7}}, pod("nf-1", "c://1", status={"containerStatuses": {"a": 1}, "phase": []}),
              pod("nf-2", "c://2"), pod("nf-\u001b[2J", "c://3"), {"metadata": {"name": "nf-4", "uid": "u4", "labels": {"app": "nf"}}}]
    a.deployments = [None, {"metadata": {"name": "nf"}, "spec": {"replicas": -1}}]
    look.start()
    look.until("pods without a status, and with one", lambda: look.knows("nf-1", "nf-2", "nf-4") and look.now["programs"]["nf-2"] == "runs")
    check("an absurd count is none", look.now["count"] is None, look.now)
    a.deployments = [deployment(2 ** 40), deployment("3"), deployment(4)]
    look.until("a count that can be is taken", lambda: look.now["count"] == 4)
    look.stop()


def test_cut_off():
    """Answers that end in the middle, are too long, or no JSON: asked again."""
    look = Look(4)
    a.pods = [pod("nf-1", "c://1")]

    def bad(handler, query):
        if a.lists == 1:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"items": [')
            handler.close_connection = True
        elif a.lists == 2:
            handler.send(200, b"[" * 100000)
        elif a.lists == 3:
            handler.send(200, b'{"items": [], "x": "' + b"x" * (17 << 20) + b'"}')
        elif a.lists == 4:
            handler.send(200, {"items": [], "metadata": {"resourceVersion": 5}})
        else:
            handler.good_list(query)
    a.list = bad
    look.start()
    look.until("the fifth list is believed", lambda: look.knows("nf-1"))
    check("and none before", a.lists == 5, a.lists)
    look.stop()


def test_no_end_of_pages():
    look = Look()

    def endless(handler, query):
        handler.send(200, {"metadata": {"resourceVersion": "1", "continue": "t%d" % a.lists}, "items": []})
    a.list = endless
    look.start()
    look.until("a list without an end is given up", lambda: look.now.get("too_many"))
    lists, counted = a.lists, a.counted
    look.until("it is tried again", lambda: a.lists > lists)
    check("but not at once", a.counted >= counted + 2, (a.counted, counted))
    look.stop()


def test_pods_that_are_over():
    """Thousands of evicted pods take no place."""
    look = Look(4)
    a.pods = [pod("nf-e%d" % i, phase="Failed") for i in range(400)] + [pod("nf-1", "c://1")]
    look.start()
    look.until("the one that runs is known", lambda: look.knows("nf-1"))
    check("they are not too many", not look.now["too_many"], look.now)
    said = queue.Queue()

    def watch(handler, query):
        handler.open()
        handler.line({"type": "MODIFIED", "object": said.get(timeout=PATIENCE_S)})
        a.over.wait()
    a.watch = watch
    over = pod("nf-1", phase="Failed", end="c://1")
    over["metadata"]["resourceVersion"] = "11"
    said.put(over)
    look.until("its end is told", lambda: look.ends and look.ends[0]["proven"] and "kubelet" in look.ends[0]["how"])
    look.until("and it is none any more", lambda: look.knows())
    look.stop()


def test_silent_watch():
    """A watch that nobody answers; and one that is opened and has no end."""
    for opened in (False, True):
        look = Look(4)
        a.pods = [pod("nf-1", "c://1")]

        def silent(handler, query):
            if a.watches > 1:
                handler.good_watch(query)
                return
            if opened:
                handler.open()
            a.over.wait()
        a.watch = silent
        look.start()
        look.until("the next watch, after one that is silent" + (" once opened" if opened else ""), lambda: a.watches > 1)
        a.pods.append(pod("nf-2", "c://2"))
        look.until("it goes on", lambda: look.now.get("known"))
        look.stop()


def test_set_back():
    """etcd restored from yesterday: the version that was reached is one of the future."""
    for status in (200, 504):
        look = Look(2)
        a.pods, a.version = [pod("nf-1", "c://1")], "1000"

        def watch(handler, query):
            if a.version == "1000" or query["resourceVersion"][0] == a.version:
                handler.good_watch(query)
            elif status == 200:
                handler.open()
                a.over.wait(float(query["timeoutSeconds"][0]))
                handler.close()
            else:
                handler.send(504, {"message": "Too large resource version: 1000, current: 7"})
        a.watch = watch
        look.start()
        look.until("as it was", lambda: look.knows("nf-1"))
        a.pods, a.version = [pod("nf-0", "c://0")], "7"
        look.until("set back, it is listed again; the watch is answered with %d" % status, lambda: look.knows("nf-0"))
        check("who is not there any more is not said to be dead", look.ends and not look.ends[0]["proven"], look.ends)
        look.stop()


def test_lines():
    """What is no event ends the watch, and a list follows; what came before it counts."""
    bad = [b"no JSON", b"[]", b"5", b'{"type": "MODIFIED"}', b'{"type": "ADDED", "object": {"metadata": {}}}',
           b'{"type": "ERROR", "object": {"code": 410}}', b'{"type": "NEW", "object": {}}', b'{"x":' * 5000, b"x" * (5 << 20)]
    look = Look(60)
    a.version = "7"

    def watch(handler, query):
        n = a.watches - 1
        if n >= len(bad):
            handler.good_watch(query)
            return
        handler.open()
        good = pod("nf-%d" % n, "c://%d" % n)
        good["metadata"]["resourceVersion"] = str(100 + n)
        a.pods.append(good)
        handler.line({"type": "ADDED", "object": good})
        handler.line(bad[n])
        a.over.wait()
    a.watch = watch
    look.start()
    look.until("all of them are got over", lambda: look.knows(*("nf-%d" % i for i in range(len(bad)))))
    look.until("by a list each", lambda: a.lists == len(bad) + 1)
    check("and nobody died of it", not look.ends, look.ends)
    look.stop()


def test_rotation():
    """Another token, another CA: both files are read again."""
    global server
    look = Look(2)
    a.pods, a.token = [pod("nf-1", "c://1")], "first"
    write(account + "/token", "first\n")
    look.start()
    look.until("by the first token", lambda: look.knows("nf-1"))
    a.token = "second"
    look.until("an old token is refused", lambda: "nauthorized" in look.now["why"])
    write(account + "/token", "second\n")
    look.until("the second one is read", lambda: look.knows("nf-1"))
    a.over.set()
    server.end()
    a.pods, a.over = [pod("nf-2", "c://2")], threading.Event()
    a.version = "20"
    a.watch = lambda handler, query: handler.send(410, {}) if query["resourceVersion"][0] == "10" else handler.good_watch(query)
    server = serve(port, other)
    look.until("another CA is not believed", lambda: not look.now["known"] and "ertificate" in look.now["why"])
    copy(other + "-ca.crt", account + "/ca.crt")
    look.until("until its file says so", lambda: look.knows("nf-2"))
    look.stop()


def all_at_once(names):
    """Each by a process of its own: they mostly wait."""
    began = [(name, subprocess.Popen([sys.executable, __file__, PROGRAM, name], stdout=subprocess.PIPE, text=True)) for name in names]
    for name, process in began:
        said = process.communicate()[0]
        print(said, end="")
        if process.returncode:
            failed.append(name)


tests = [name for name in globals() if name.startswith("test_")]
if len(sys.argv) < 3:
    all_at_once(tests)
else:
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        first, other, account = certificate(folder, "first"), certificate(folder, "other"), folder + "/account"
        os.mkdir(account)
        write(account + "/namespace", "lethe")
        write(account + "/token", "first")
        copy(first + "-ca.crt", account + "/ca.crt")
        server = serve(0, first)
        port = server.server_address[1]
        began = time.monotonic()
        globals()[sys.argv[2]]()
        print("        %s: %.1f s" % (sys.argv[2], time.monotonic() - began), flush=True)
if failed or len(sys.argv) < 3:
    print("FAILED: " + ", ".join(failed) if failed else "passed")
sys.exit(1 if failed else 0)
