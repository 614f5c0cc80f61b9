#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""lethe-controller as a program: options, who may ask at host:port, a site kept in a file, its end and its
successor. A site of one store, without etcd, steering and workers: no network of its own is needed.

    program_test.py PATH_OF_LETHE_CONTROLLER
"""
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(sys.argv[1])
failed = []


def check(what, ok, text=""):
    print("%s  %s%s" % ("ok    " if ok else "FAILED", what, ": " + str(text) if text and not ok else ""), flush=True)
    if not ok:
        failed.append(what)


def wait_for(condition, what, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            sys.exit("waited in vain for " + what)
        time.sleep(0.02)
    return value


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*args):
    done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    return done.returncode, done.stdout


def write(path, text, mode=0o600):
    with open(path, "w") as f:
        os.fchmod(f.fileno(), mode)
        f.write(text)
    return path


class Controller:
    def __init__(self, folder):
        self.folder, self.port, self.token = folder, free_port(), secrets.token_hex(24)
        write(folder + "/token", self.token + "\n")
        self.file = write(folder + "/site.yaml", "run_dir: %s/run\nstore:\n  shards: 1\n  nodes: [{name: store-a, listen: "
                          "\"127.0.0.1:%d\"}]\ncontroller: {listen: \"127.0.0.1:%d\", token_file: %s/token}\n"
                          % (folder, free_port(), self.port, folder))
        self.log = open(folder + "/log", "ab")
        self.process = None

    def start(self, *more):
        p = subprocess.Popen([PROGRAM, "-c", self.file, *more], stdout=self.log, stderr=self.log, start_new_session=True)
        self.process = self.process or p
        return p

    def ask(self, method, path, token, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            c.request(method, path, body and json.dumps(body), {"Authorization": token} if token else {})
            r = c.getresponse()
            return r.status, json.loads(r.read())
        except OSError:
            return 0, {}
        finally:
            c.close()

    def api(self, method, path, body=None):
        return self.ask(method, path, "Bearer " + self.token, body)

    def store(self, not_pid=None):
        """Its row, when it is ready, and another process than that."""
        status, answer = self.api("GET", "/v1/status")
        rows = answer["stores"] if status == 200 else []
        return rows[0] if rows and rows[0]["state"] == "ready" and rows[0]["pid"] != not_pid else None


def check_options(folder):
    code, text = run("--version")
    check("--version", code == 0 and text.startswith("lethe-controller "), text)
    check("--help", run("--help")[0] == 0)
    for args, says in (((), "-c FILE"), (("-x",), "--help"), (("-c", "/nonexistent"), "cannot be read"),
                       (("-c", folder + "/site.yaml", "more"), "no such argument"),
                       (("-c", write(folder + "/broken.yaml", "store: [")), "broken.yaml:2: this is not YAML"),
                       (("-c", write(folder + "/open.yaml", "store:\n  nodes: [{name: a, listen: \"h:1\"}]\n"
                                     "controller: {listen: \"0.0.0.0:1\"}\n")), "token_file: is missing")):
        code, text = run(*args)
        check("wrong: %s" % " ".join(args)[-40:], code == 2 and says in text, text)
    code, text = run("-c", folder + "/site.yaml", "--check")
    check("--check", code == 0 and "is right" in text, text)


def check_token(c):
    for token in (None, "", "Bearer", "Bearer ", "Bearer x", "Bearer " + c.token[:-1], "Bearer " + c.token + "x",
                  "Basic " + c.token, c.token):
        status, answer = c.ask("POST", "/v1/down", token, {"force": True})
        check("token %r is refused" % (token or "")[:12], status == 401 and "token" in answer["error"], answer)
    check("the right one is taken", c.api("GET", "/v1/site")[0] == 200)
    check("nothing was done", wait_for(c.store, "the store"))
    check("/healthz needs none", c.ask("GET", "/healthz", None)[0] == 200)


def check_odd_requests(c):
    """What may mean one thing to a proxy and another to us is refused, and what follows it is not read."""
    ask = "Host: x\r\nAuthorization: Bearer %s\r\n" % c.token
    behind = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for head, body in (("Content-Length: 2\r\nContent-Length: %d\r\n" % (2 + len(behind)), "{}"),
                       ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                       ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")):
        answer = raw(c, "POST /v1/instances/store-a/restart HTTP/1.1\r\n%s%s\r\n%s%s" % (ask, head, body, behind))
        check("two lengths: %s" % head.split("\r\n")[1], answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1, answer)
    for path in ("/v1/status%00", "/v1/instances/store-a%00/kill", "/healthz%00x"):
        answer = raw(c, "GET %s HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (path, ask))
        check("%s is no path" % path, answer.startswith(b"HTTP/1.1 404"), answer)
    answer = raw(c, "GET /v1/status HTTP/1.1\r\n%s\r\n%s" % (ask, behind))
    check("requests in a row are answered in a row", answer.count(b"HTTP/1.1 200") == 2, answer)
    with open(c.folder + "/log") as log:
        check("the token is in no log", c.token not in log.read())


def raw(c, text):
    with socket.create_connection(("127.0.0.1", c.port), 15) as s:
        s.sendall(text.encode())
        answer = b""
        try:
            while piece := s.recv(65536):
                answer += piece
        except ConnectionError:
            pass
        return answer


def check_crowd(c):
    """One host cannot take all the room there is: its further connections are closed at once."""
    crowd = []
    for _ in range(40):
        s = socket.create_connection(("127.0.0.1", c.port), 5)
        s.settimeout(0.05)
        s.sendall(b"GET /v1/status HTTP/1.1\r\n")
        crowd.append(s)

    def closed(s):
        try:
            return s.recv(1) == b""
        except socket.timeout:
            return False
        except OSError:
            return True
    wait_for(lambda: sum(map(closed, crowd)) >= 20, "a crowd of one address to be refused", 8)
    check("a crowd of one address is refused, not taken", True)
    for s in crowd:
        s.close()
    wait_for(lambda: c.store(), "the others to be answered again")


def metrics(c, path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        try:
            s.connect(c.folder + "/run/controller.metrics.sock")
        except OSError:
            return ""
        s.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    return answer.decode()


def check_metrics(c):
    text = metrics(c, "/metrics")
    for line in ('lethe_controller_leads 1', 'lethe_controller_instances_ready{kind="store"} 1',
                 'lethe_controller_group_replicas{group="nf"} 1', 'lethe_controller_revision 1'):
        check("metrics: " + line, "\n" + line + "\n" in text, text)
    check("ready, for the monitoring", metrics(c, "/readyz").startswith("HTTP/1.1 200")
          or metrics(c, "/readyz").startswith("HTTP/1.0 200"), metrics(c, "/readyz"))


def check_held_port(c):
    """Another process listens where the API is to: the site is kept, it is said, and the API opens afterwards."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", c.port))
        other.listen()
        p = c.start()
        wait_for(lambda: os.path.exists(c.folder + "/run/pids/store-a.pid"), "the store to be started")
        ready = wait_for(lambda: (lambda t: t if "cannot be asked" in t else "")(metrics(c, "/readyz")), "not ready")
        check("a held port: it is not ready, and says why", " 503 " in ready.split("\n")[0], ready)
        check("a held port: the site is kept all the same", p.poll() is None)
    wait_for(c.store, "the API to open when the port is free")
    wait_for(lambda: " 200 " in metrics(c, "/readyz").split("\n")[0], "it to be ready")


def check_standby(c):
    """With an address of its own it tells its supervisor that it lives, and that it does not lead yet."""
    port = free_port()
    p = c.start("--metrics", "127.0.0.1:%d" % port)

    def get(path):
        h = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        try:
            h.request("GET", path)
            r = h.getresponse()
            return r.status, r.read().decode()
        except OSError:
            return None
        finally:
            h.close()
    wait_for(lambda: get("/healthz"), "a standby's port")
    until, said = time.monotonic() + 6, (200, "")    # longer than a loop may stand still
    while time.monotonic() < until and said[0] == 200:
        said = get("/healthz")
        time.sleep(0.1)
    check("a standby lives all the time", said[0] == 200, said)
    status, text = get("/readyz")
    check("a standby is not ready", status == 503 and "waits until it leads" in text, text)
    check("a standby's metrics say so", "\nlethe_controller_leads 0\n" in get("/metrics")[1])
    c.standby = get
    return p


def check_lives(c):
    """Ends and successors: the store goes on, the state stays."""
    pid = wait_for(c.store, "the store to be ready")["pid"]
    second = check_standby(c)
    status, _ = c.api("PUT", "/v1/groups/nf/autoscale", {"busy_high_permille": 650})
    check("a change is kept", status == 200)
    c.process.kill()
    c.process.wait()
    wait_for(lambda: c.store(), "the second controller")
    wait_for(lambda: c.standby("/readyz")[0] == 200, "the second one to be ready")
    groups = c.api("GET", "/v1/groups")[1]
    check("kill -9: the next one leads, the store lives, the change stands",
          wait_for(c.store, "the store")["pid"] == pid and groups[0]["autoscale"]["busy_high_permille"] == 650)
    c.process = second
    second.send_signal(signal.SIGTERM)
    check("SIGTERM ends it with 0", second.wait(20) == 0)
    os.kill(pid, 0)
    c.process = None
    c.start()
    wait_for(lambda: c.store(), "a third controller")
    check("the store outlived it", wait_for(c.store, "the store")["pid"] == pid)
    os.kill(pid, signal.SIGKILL)
    s = wait_for(lambda: c.store(pid), "the store to be started again")
    check("a dead one is started again", s["restarts"] == 1)
    status, answer = c.api("POST", "/v1/instances/store-a/kill", {})
    check("what nobody takes over from is not killed without force", status == 403 and "its shards LOST" in answer["error"], answer)
    status, answer = c.api("POST", "/v1/instances/store-a/drain")
    check("the only store is not drained", status == 400, answer)
    status, answer = c.api("POST", "/v1/instances/store-a/kill", {"force": True})
    check("by force it is", status == 200, answer)
    wait_for(lambda: c.store(s["pid"]), "the store once more")
    status, answer = c.api("POST", "/v1/down", {"force": True})
    check("down is taken", status == 200, answer)
    wait_for(lambda: c.api("GET", "/v1/status")[1].get("stores", [{"pid": 1}])[0]["pid"] is None, "the store to end")
    c.process.send_signal(signal.SIGTERM)
    check("and it ends", c.process.wait(20) == 0)


def main():
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        c = Controller(folder)
        check_options(folder)
        write(folder + "/token", c.token, 0o644)
        p = c.start()
        check("a token that others may read: it does not serve", p.wait(20) == 1)
        c.process = None
        os.chmod(folder + "/token", 0o600)
        try:
            check_held_port(c)
            wait_for(lambda: c.store(), "the store to be ready")
            check_token(c)
            check_odd_requests(c)
            check_crowd(c)
            check_metrics(c)
            check_lives(c)
        finally:
            if c.process and c.process.poll() is None:
                c.process.kill()
            for name in os.listdir(folder + "/run/pids"):
                try:
                    os.kill(json.load(open(folder + "/run/pids/" + name))["pid"], signal.SIGKILL)
                except (OSError, ValueError):
                    continue
            if failed:
                print(open(folder + "/log").read()[-4000:])
    print("FAILED: " + ", ".join(failed) if failed else "passed")
    sys.exit(1 if failed else 0)


main()
