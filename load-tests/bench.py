"""The same calls through every target, interleaved, on loopback: `make bench`.

Each round starts each target afresh, once per number of sessions, calls the demo server's `echo` for some seconds with
mcp-load, and stops it. Rounds are interleaved, so that what else the machine does hits all targets alike; the table
shows medians over the rounds. Absolute figures belong to the machine: ratios within one run are what travels.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "setup"))
import edge as product  # noqa: E402

PEERS = product.TOOLS / "bench"
SESSIONS = (1, 64)
FLEET = 21  # services of the edge whose idle memory is shown
MAX_PROCESSES = 80  # more than the sessions: the bound is not what is measured
RUN_S = 120  # the longest one measurement may take, start included


def demo():
    return [str(product.binary()), "demo"]


# === targets: each starts in `family` and gives the arguments that lead mcp-load to it, and the process to measure


def stdio(_family, _folder):
    return ["--", *demo()], None


def sidecar(family, folder):
    port = product.free_ports(1)[0]
    process = spawn(family, folder, [product.binary("mcp-sidecar"), "--listen", f"127.0.0.1:{port}", "--max-processes",
                                     MAX_PROCESSES, "--", *demo()])
    listening(port, "/health")
    return ["--http", f"127.0.0.1:{port}", "--path", "/mcp"], process


def edge_and_sidecar(family, folder):
    """As in production: every request carries a token and passes the whole chain."""
    env = {"MCP_JWT_SECRET": os.urandom(32).hex()}
    service = {"name": "demo", "command": demo(), "processes": {"max": MAX_PROCESSES}, "max_concurrent": 100}
    auth = 'auth:\n  jwt: [{issuer: mcp-edge, algorithms: [HS256], secret: "${MCP_JWT_SECRET}", audience: mcp-edge}]\n'
    tiers = ('  tiers:\n    bench: {requests_per_minute: -1, max_concurrent_requests: 100, weight: 1}\n'
             '  clients:\n    bench: {tier: bench, rate_limit: -1, concurrent_requests: 100}\n')
    running = product.Edge(family, folder, product.config([service], tiers + auth), env)
    minted = subprocess.run([product.binary(), "token", "mint", "--client", "bench"], env={**os.environ, **env},
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True)
    return ["--http", f"127.0.0.1:{running.ports['listen']}", "--path", "/mcp/demo", "--token",
            minted.stdout.strip()], running.process


def supergateway(family, folder):
    port = product.free_ports(1)[0]
    process = spawn(family, folder, ["node", PEERS / "npm/node_modules/supergateway/dist/index.js", "--stateful",
                                     "--outputTransport", "streamableHttp", "--streamableHttpPath", "/mcp", "--port",
                                     port, "--logLevel", "none", "--stdio", " ".join(demo())])
    listening(port, "/mcp")
    return ["--http", f"127.0.0.1:{port}", "--path", "/mcp"], process


def mcp_proxy(family, folder):
    port = product.free_ports(1)[0]
    process = spawn(family, folder, [PEERS / "venv/bin/mcp-proxy", "--host", "127.0.0.1", "--port", port, "--log-level",
                                     "ERROR", "--", *demo()])
    listening(port, "/mcp")
    return ["--http", f"127.0.0.1:{port}", "--path", "/mcp"], process


TARGETS = {"stdio alone": stdio, "sidecar": sidecar, "edge + sidecar": edge_and_sidecar,
           "supergateway 4.0.0 --stateful": supergateway, "mcp-proxy 0.13.0": mcp_proxy}


def spawn(family, folder, argv):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "target.log", "ab") as log:
        return family.spawn(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def listening(port, path):
    product.wait_until(lambda: product.http("GET", f"http://127.0.0.1:{port}{path}", timeout=5)[0] < 500, 60,
                       f"nothing answers on port {port}")


# === measuring


def measure(name, sessions, seconds, folder):
    """One line of mcp-load for one freshly started target; `idle_kib` is its own process before the first session."""
    with product.Family() as family:
        way, process = TARGETS[name](family, folder)
        idle = product.rss_kib(process.pid) if process else None
        tree = ["--tree", str(process.pid)] if process else []
        done = subprocess.run([product.binary("mcp-load"), "--sessions", str(sessions), "--seconds", str(seconds),
                               *tree, *way], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S)
        if done.returncode:
            raise product.Failed(f"{name}, {sessions} sessions: {done.stderr.strip()}")
        figures = json.loads(done.stdout)
        if figures["wrong"] or not figures["calls"]:
            raise product.Failed(f"{name}, {sessions} sessions: {figures['wrong']} wrong answers of {figures['calls']}")
        return {**figures, "idle_kib": idle}


def fleet_memory(folder):
    """Resident KiB of the edge's own process with FLEET services, idle."""
    with product.Family() as family:
        services = [{"name": f"demo{n:02}", "command": demo()} for n in range(FLEET)]
        running = product.Edge(family, folder, product.config(services), ready_s=120)
        time.sleep(2)
        return product.rss_kib(running.process.pid)


def medians(runs):
    """The median of each figure over the rounds; None where a target has no such figure."""
    return {key: statistics.median(r[key] for r in runs) if runs[0][key] is not None else None for key in runs[0]}


# === the table


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=product.ROOT, capture_output=True, text=True).stdout.strip()


def number(value, unit=""):
    return "" if value is None else f"{value:,.0f}{unit}"


def row(name, f, base):
    mib = f"{f['idle_kib'] / 1024:.1f}" if f["idle_kib"] else ""
    ratio = f"{f['calls_per_second'] / base:.1f}x" if base else ""
    return (f"| {name} | {number(f['calls_per_second'])} | {ratio} | {number(f['p50_us'])} | {number(f['p99_us'])} | "
            f"{number(f['cpu_us_per_call'])} | {number(f['initialize_p50_us'])} | {mib} | {f['rss_kib'] / 1024:.0f} |")


def aims(results, edge_kib):
    """The aims that the project set itself, each with what was measured."""
    one, many = results[SESSIONS[0]], results[SESSIONS[-1]]
    alone, side, both = (one[name]["p50_us"] for name in ("stdio alone", "sidecar", "edge + sidecar"))
    other = "supergateway 4.0.0 --stateful"
    times = {n: results[n]["edge + sidecar"]["calls_per_second"] / results[n][other]["calls_per_second"] for n in results}
    lines = [("the sidecar adds to the stdio round trip, p50, 1 session", "≤ 150 µs", side - alone, 150, "µs"),
             ("the edge adds to that", "≤ 130 µs", both - side, 130, "µs"),
             ("p50 in all, 1 session", "≤ 300 µs", both, 300, "µs"),
             ("CPU a call of edge, sidecar and server, 64 sessions", "≤ 170 µs", many["edge + sidecar"]["cpu_us_per_call"], 170, "µs"),
             ("sidecar, resident, idle", "≤ 10 MiB", one["sidecar"]["idle_kib"] / 1024, 10, "MiB"),
             (f"edge, resident, {FLEET} services", "≤ 40 MiB", edge_kib / 1024, 40, "MiB")]
    out = ["| aim | | measured | met |", "|---|---|---|---|"]
    out += [f"| {what} | {aim} | {got:.1f} {unit} | {'yes' if got <= limit else 'no'} |" for what, aim, got, limit, unit in lines]
    for sessions, least in ((SESSIONS[0], 6), (SESSIONS[-1], 10)):
        out.append(f"| calls per second against supergateway `--stateful`, {sessions} session(s) | ≥ {least}x | "
                   f"{times[sessions]:.1f}x | {'yes' if times[sessions] >= least else 'no'} |")
    return out


def report(args, results, edge_kib):
    text = ["# Results", "",
            "Written by `make bench` (load-tests/bench.py says how): the demo server's `echo`, legacy sessions, one call in",
            "flight per session, everything on loopback, medians of interleaved rounds. Ratios travel, absolute figures do not.",
            "", f"- machine: {machine()}",
            f"- commit: {git('rev-parse', '--short=12', 'HEAD')}{' with local changes' if git('status', '--porcelain') else ''}, "
            f"{args.profile} build, {time.strftime('%Y-%m-%d')}",
            f"- {args.rounds} rounds of {args.seconds:g} s; load average {os.getloadavg()[0]:.1f} at the end",
            "- every request to edge + sidecar carries a token that is checked; the others check none",
            "- CPU is that of all processes of the target, the MCP server's included; memory idle is the target's own process",
            "  before the first session, memory in use that of the whole tree (a server process per session where isolated)"]
    for sessions, by_name in results.items():
        base = by_name["supergateway 4.0.0 --stateful"]["calls_per_second"]
        text += ["", f"## {sessions} session{'s' if sessions > 1 else ''}", "",
                 "| target | calls/s | against supergateway | p50 µs | p99 µs | CPU µs a call | initialize p50 µs | idle MiB | in use MiB |",
                 "|---|---|---|---|---|---|---|---|---|", *(row(name, f, base) for name, f in by_name.items())]
    return "\n".join([*text, "", "## Aims", "", *aims(results, edge_kib), ""])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--quick", action="store_true", help="one short round: to try the bench, not to quote")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=4)
    ap.add_argument("--profile", default="release", help="what was built; only printed")
    ap.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    args = ap.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, 1.0
    runs = {sessions: {name: [] for name in TARGETS} for sessions in SESSIONS}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for n in range(args.rounds):
            for sessions in SESSIONS:
                for name in TARGETS:
                    folder = Path(scratch) / f"{n}-{sessions}-{name.split()[0]}"
                    figures = measure(name, sessions, args.seconds, folder)
                    runs[sessions][name].append(figures)
                    print(f"round {n + 1}/{args.rounds}  {sessions:3} sessions  {name:30} "
                          f"{figures['calls_per_second']:8.0f} calls/s  p50 {figures['p50_us']} µs", flush=True)
        edge_kib = fleet_memory(Path(scratch) / "fleet")
    results = {sessions: {name: medians(r) for name, r in by_name.items()} for sessions, by_name in runs.items()}
    text = report(args, results, edge_kib)
    args.out.write_text(text)
    print(f"\n{text}\nwritten: {args.out}")


if __name__ == "__main__":
    try:
        main()
    except (product.Failed, subprocess.CalledProcessError) as problem:
        sys.exit(f"bench: {problem}")
