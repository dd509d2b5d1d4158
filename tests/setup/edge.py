"""Run programs for a test and know, at its end, that nothing of them is left.

The invariant: whoever uses `Family` becomes the subreaper of everything it starts, so a process that lost its parent
comes to this process and cannot hide. `Family.close()` ends what was started by its process id, and `orphans()` names
what still runs. Nothing is ever looked up or ended by name.

Standard library only; Linux. Every socket is on 127.0.0.1.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
FIXTURES = ROOT / "tests" / "fixtures"
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STOP_S = 20  # the longest a graceful stop may take before it counts as a hang
READY_S = 60  # the longest wait for /ready


class Failed(Exception):
    """What the test found wrong, in one sentence."""


# === processes


def subreaper():
    """Orphans below this process come to it instead of to init."""
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def stat(pid):
    """(parent, state, name) of a process, or None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return int(rest[1]), rest[0], name


def descendants(pid=None):
    """Process ids below `pid` (default: this process), nearest first; zombies count."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := stat(entry)):
            children.setdefault(found[0], []).append(int(entry))
    below, todo = [], [pid or os.getpid()]
    while todo:
        kids = children.get(todo.pop(0), [])
        below += kids
        todo += kids
    return below


def describe(pid):
    """`pid name: command line`, for messages."""
    found = stat(pid)
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        line = ""
    return f"{pid} {found[2] if found else '(gone)'} [{found[1] if found else '-'}]: {line[:120]}"


def reap(known):
    """Collect ended processes that came to us as orphans; those in `known` are left to their Popen objects."""
    for pid in descendants():
        found = stat(pid)
        if found and found[0] == os.getpid() and found[1] == "Z" and pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def rss_kib(pid):
    """Resident memory of one process in KiB; 0 if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def _own_group():
    """In the child: its own process group, and SIGKILL if the test is killed."""
    os.setsid()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Family:
    """What one test has started. Use it as a context manager; leaving it ends everything, by process id."""

    def __init__(self):
        subreaper()
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def spawn(self, argv, end=signal.SIGTERM, **how):
        """Starts a program; `end` is the signal that ends it gracefully, `how` goes to Popen."""
        process = subprocess.Popen([str(a) for a in argv], preexec_fn=_own_group, **how)
        process.end = end
        self.started.append(process)
        return process

    def orphans(self, within=5.0, but=()):
        """What still runs below us after `within` seconds, apart from the trees of `but`."""
        known = {p.pid for p in self.started}
        until = time.monotonic() + within
        while True:
            reap(known)
            for process in self.started:
                process.poll()
            spared = {p.pid for p in but} | {pid for p in but for pid in descendants(p.pid)}
            left = [pid for pid in descendants() if pid not in spared]
            if not left or time.monotonic() > until:
                return [describe(pid) for pid in left]
            time.sleep(0.05)

    def stop(self, process, within=STOP_S):
        """Ends one process and says its exit status; SIGKILL, and a failure, if it takes too long."""
        if process.poll() is None:
            process.send_signal(process.end)
        try:
            return process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"{process.args[0]} did not end within {within} s of signal {process.end}") from None

    def finish(self):
        """Stops everything that was started, gracefully and newest first; says what it left running."""
        for process in reversed(self.started):
            self.stop(process)
        left = self.orphans()
        self.close()
        return left

    def close(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(process.end)
        until = time.monotonic() + STOP_S
        for process in reversed(self.started):
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for _ in range(100):  # orphans of what had to be killed: end them too, so that no test leaves any
            left = [pid for pid in descendants() if (found := stat(pid)) and found[1] != "Z"]
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            reap(set())
            if not left:
                break
            time.sleep(0.02)
        self.started.clear()


# === sockets


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def http(method, url, body=None, headers=None, timeout=30):
    """(status, headers, body) whatever the status is."""
    data = json.dumps(body).encode() if isinstance(body, dict | list) else body
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.headers, e.read()


# === the product


def binary(name="mcp-edge"):
    """The program under test: $MCP_EDGE_BIN (a folder), else the newest of target/debug and target/release."""
    folders = [Path(os.environ["MCP_EDGE_BIN"])] if "MCP_EDGE_BIN" in os.environ else [
        ROOT / "target" / kind for kind in ("debug", "release")]
    found = [f / name for f in folders if (f / name).is_file()]
    if not found:
        raise Failed(f"{name} is not built in {' or '.join(map(str, folders))}: cargo build --workspace")
    return max(found, key=lambda p: p.stat().st_mtime)


class Edge:
    """One running mcp-edge on free ports, with its own state folder.

    `config` is the YAML text without its `edge:` section. `folder` keeps config, state and log.
    """

    def __init__(self, family, folder, config, env=None, ready_s=READY_S, wait=True):
        self.family, self.folder = family, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = dict(zip(("listen", "admin", "health"), free_ports(3)))
        lines = ["edge:", *(f"  {name}: 127.0.0.1:{port}" for name, port in self.ports.items())]
        self.config = self.folder / "edge.yaml"
        self.config.write_text("\n".join([*lines, f"  state_dir: {self.folder}/state", config]))
        self.log = self.folder / "edge.log"
        with open(self.log, "ab") as log:
            self.process = family.spawn(
                [binary(), "run", "-c", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, env={**os.environ, **(env or {})})
        if wait:
            self.wait_ready(ready_s)

    def url(self, service):
        return f"http://127.0.0.1:{self.ports['listen']}/mcp/{service}"

    def health_url(self, path="/health"):
        return f"http://127.0.0.1:{self.ports['health']}{path}"

    def last_words(self):
        return self.log.read_text(errors="replace")[-2000:]

    def wait_ready(self, within=READY_S):
        wait_until(lambda: self._alive() and http("GET", self.health_url("/ready"), timeout=5)[0] == 200, within,
                   lambda: f"/ready was not 200 within {within} s; the log ends with:\n{self.last_words()}")

    def _alive(self):
        if self.process.poll() is not None:
            raise Failed(f"mcp-edge ended with status {self.process.returncode}:\n{self.last_words()}")
        return True

    def health(self):
        """The JSON of /health, whatever its status."""
        return json.loads(http("GET", self.health_url())[2])

    def service_health(self, name):
        """The entry of one service in /health."""
        return service_entry(self.health(), name)

    def stop(self):
        return self.family.stop(self.process)

    def kill(self):
        """`kill -9` of the edge alone; what it started must follow by itself."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def service_entry(health, name):
    services = health.get("services", {})
    if isinstance(services, dict):
        return services.get(name)
    return next((s for s in services if s.get("name") == name), None)


def wait_until(true, within, otherwise):
    """Polls until `true()` holds; connection errors count as not yet."""
    until = time.monotonic() + within
    while True:
        try:
            if true():
                return
        except (OSError, ValueError):
            pass
        if time.monotonic() > until:
            raise Failed(otherwise() if callable(otherwise) else otherwise)
        time.sleep(0.05)


ANONYMOUS = "auth:\n  anonymous: {tier: enterprise}\n"


def config(services, auth=ANONYMOUS):
    """YAML text for services given as dicts; JSON is YAML, so nothing needs quoting."""
    lines = ["mcp:", "  services:", *(f"    - {json.dumps(s)}" for s in services)]
    return "\n".join([*lines, auth])


def fixture_services():
    """Both conformance fixtures as services `legacy` and `dual`."""
    node = next(iter(sorted(FIXTURES.glob("node_modules/node-linux-*/bin/node"))), "node")
    return [{"name": name, "command": [str(node), str(FIXTURES / f"{name}-server.mjs")]} for name in ("legacy", "dual")]


def fixture_urls(family, folder, how="edge"):
    """Starts both fixtures behind `how` and returns {service: URL}: "edge" (edge and sidecar, the product), "sidecar"
    (one sidecar each) or "direct" (their own HTTP), the last two to see on whose side a failure lies."""
    folder.mkdir(parents=True, exist_ok=True)
    services = fixture_services()
    if how == "edge":
        running = Edge(family, folder / "edge", config(services))
        return {s["name"]: running.url(s["name"]) for s in services}
    urls = {}
    for service, port in zip(services, free_ports(len(services))):
        name, at = service["name"], f"http://127.0.0.1:{port}"
        urls[name] = f"{at}/mcp"
        argv = [*service["command"], "--http", port] if how == "direct" else [
            binary("mcp-sidecar"), "--listen", f"127.0.0.1:{port}", "--", *service["command"]]
        with open(folder / f"{name}.log", "wb") as log:
            family.spawn(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # a fixture has no /health, but any answer says that it listens
        path, good = ("/mcp", range(200, 500)) if how == "direct" else ("/health", (200,))
        wait_until(lambda u=at + path, g=good: http("GET", u, timeout=5)[0] in g, READY_S,
                   f"{name} does not answer on {at}{path}: see {folder}/{name}.log")
    return urls


if __name__ == "__main__":
    sys.exit("this is a library; see tests/conformance/run.sh, tests/fleet/run.py and tests/http/")
