"""A sidecar that a test plays: it keeps the contract with the edge and serves no MCP.

The words after `--` say how it behaves:
  serve             healthy at once
  starting N        `starting` in its first N health answers, then healthy
  unhealthy         says that its command is missing
  silent            never says where it listens
  exit              writes to stderr and ends at once
  stubborn          healthy, and deaf to SIGTERM and to the end of stdin

Where the environment of the control line has FAKE_DIR, `{endpoint}.json` there says what it was given, `{endpoint}.up`
is there until it first answers as healthy, and `{endpoint}.calls` has one line for each call of /control.
"""

import argparse
import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time

parser = argparse.ArgumentParser()
for option in ("--listen", "--uds", "--service", "--endpoint", "--isolation", "--max-processes", "--start-timeout",
               "--idle-stop", "--cwd"):
    parser.add_argument(option)
parser.add_argument("--control-stdin", action="store_true", required=True)
parser.add_argument("command", nargs="+")
options = parser.parse_args()
mode, *rest = options.command

if mode == "exit":
    print("fake sidecar: cannot go on", file=sys.stderr)
    sys.exit(3)

control = json.loads(sys.stdin.readline())
folder = control["env"].get("FAKE_DIR")


def leave(*_):
    os._exit(0)


if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, leave)


def lifeline():
    sys.stdin.read()
    if mode != "stubborn":
        leave()


threading.Thread(target=lifeline, daemon=True).start()


def note(suffix, text, how):
    if folder:
        with open(os.path.join(folder, f"{options.endpoint}.{suffix}"), how) as file:
            file.write(text)


if folder:
    # How many starts are under way, this one included.
    note("up", "", "w")
    under_way = sum(name.endswith(".up") for name in os.listdir(folder))
    given = {"argv": sys.argv[1:], "variables": sorted(os.environ), "control": control, "under_way": under_way,
             "pid": os.getpid(), "group": os.getpgid(0)}
    note("json.part", json.dumps(given), "w")
    os.rename(os.path.join(folder, f"{options.endpoint}.json.part"), os.path.join(folder, f"{options.endpoint}.json"))

probes = 0


def health():
    global probes
    probes += 1
    report = {"status": "healthy", "service": options.service, "endpoint": options.endpoint, "stderr": []}
    if mode == "starting" and probes <= int(rest[0]):
        report["status"] = "starting"
    if mode == "unhealthy":
        report.update(status="unhealthy", reason="`no-such-command` not found", stderr=["sh: no-such-command"])
    if report["status"] != "starting" and folder and os.path.exists(os.path.join(folder, f"{options.endpoint}.up")):
        os.remove(os.path.join(folder, f"{options.endpoint}.up"))
    return (200 if report["status"] == "healthy" else 503), report


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, report):
        body = json.dumps(report).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self):
        if self.headers.get("Authorization") == f"Bearer {control['token']}":
            return True
        self.answer(401, {})
        return False

    def do_GET(self):
        if self.allowed():
            self.answer(*(health() if self.path.startswith("/health") else (404, {})))

    def do_POST(self):
        if self.allowed():
            note("calls", f"{self.path}\n", "a")
            self.answer(200, {})

    def address_string(self):
        return "edge"

    def log_message(self, *_):
        pass


if mode == "silent":
    while True:
        time.sleep(60)

if options.uds:
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
    server, place = Server(options.uds, Handler), options.uds
else:
    host, port = options.listen.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    place = "%s:%d" % server.server_address[:2]
print(f"listening {place}", flush=True)
server.serve_forever()
