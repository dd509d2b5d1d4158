"""Every real server of the fleet through edge and sidecar, with a real MCP client (Python mcp 2.3.0).

    run.sh [--stdio] [--only git,time]

For each: connect, tools/list (as many as fleet.json says), the probe call (its text must be in the answer), the bad
call (it must fail in the way fleet.json says), the probe again. All 21 with `initialize`; those that speak 2026-07-28
a second time without. Then /health must call all of them healthy, and after the stop no process may be left.
--stdio speaks to the servers directly, with no edge: to see on whose side a failure lies.
"""

import argparse
import asyncio
import sys
import time

import fleet
from fleet import product
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import CallToolResult, Request

LEGACY, MODERN = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"), "2026-07-28"
AT_ONCE = 3  # visits at a time; a cold start keeps a core busy
VISIT_S = 90  # the longest visit to one server, cold start included
READY_S = 240  # the longest wait until all are healthy


class Wrong(Exception):
    """What one server did otherwise than fleet.json says."""


def text_of(result):
    return "\n".join(getattr(c, "text", "") or "" for c in result.content)


async def call(client, probe):
    """One tools/call; the arguments may be no object, which the client's own call_tool would refuse to send."""
    if isinstance(probe["arguments"], dict):
        return await client.call_tool(probe["tool"], probe["arguments"])
    params = {"name": probe["tool"], "arguments": probe["arguments"]}
    return await client.session.send_request(Request[dict, str](method="tools/call", params=params), CallToolResult)


async def good(client, probe):
    result = await call(client, probe)
    if result.is_error or probe["expect"] not in text_of(result):
        raise Wrong(f"{probe['tool']} lacks {probe['expect']!r}: {text_of(result)[:200]!r}")


async def bad(client, probe):
    try:
        result = await call(client, probe)
        kind = "isError" if result.is_error else "success"
    except MCPError as e:
        kind, result = "jsonrpc", e
    if kind != probe["expect_error"]:
        raise Wrong(f"bad {probe['tool']} ended as {kind}, not {probe['expect_error']}: {str(result)[:200]}")


async def visit(entry, where, mode):
    """All that one server must do in one era; seconds to the end of the first probe call."""
    started = time.monotonic()
    async with Client(where, mode=mode, read_timeout_seconds=VISIT_S) as client:
        if (client.protocol_version == MODERN) != (mode == MODERN) or client.protocol_version not in (*LEGACY, MODERN):
            raise Wrong(f"speaks {client.protocol_version} to a client in mode {mode}")
        tools = len((await client.list_tools()).tools)
        if tools != entry["tools"]:
            raise Wrong(f"{tools} tools, not {entry['tools']}")
        await good(client, entry["probe"])
        took = time.monotonic() - started
        await bad(client, entry["bad_probe"])
        await good(client, entry["probe"])
    return took


async def visit_and_tell(entry, where, mode, slots):
    """(took or None, what went wrong or None)."""
    async with slots:
        try:
            return await asyncio.wait_for(visit(entry, where, mode), VISIT_S), None
        except (Exception, asyncio.CancelledError) as e:  # one bad server must not end the run
            return None, " ".join(leaf(e).split())[:300]


def leaf(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def visit_all(entries, where):
    """{(name, era): (took, fault)} for all servers, a few at a time."""
    slots, jobs = asyncio.Semaphore(AT_ONCE), {}
    for entry in entries:
        for era in ("legacy", MODERN) if entry["era"] == "dual" else ("legacy",):
            jobs[entry["name"], era] = visit_and_tell(entry, where(entry), era, slots)
    return dict(zip(jobs, await asyncio.gather(*jobs.values())))


def table(entries, results):
    """Prints one line a server; returns the number of servers that did all they must, and the faults."""
    print(f"\n{'server':12}{'tools':>6}  {'2025 era':>10}{'2026 era':>10}")
    fine, faults = 0, []
    for entry in entries:
        cells, found = [], []
        for era in ("legacy", MODERN):
            took, fault = results.get((entry["name"], era), (None, None))
            cells.append("FAIL" if fault else f"{took:.2f} s" if took is not None else "-")
            found += [f"{entry['name']} ({era}): {fault}"] if fault else []
        print(f"{entry['name']:12}{entry['tools']:6}  {cells[0]:>10}{cells[1]:>10}")
        fine += not found
        faults += found
    return fine, faults


def unhealthy(edge, entries):
    """One sentence for each service that /health does not call healthy."""
    health = edge.health()
    found = []
    for entry in entries:
        said = product.service_entry(health, entry["name"]) or {"status": "not listed"}
        if said["status"] != "healthy":
            found.append(f"/health: {entry['name']} is {said['status']}: {said.get('reason')}")
    return found


def run(args, entries, family, env, folder):
    if args.stdio:
        def where(entry):
            command = entry["command"]
            return StdioServerParameters(command=command[0], args=command[1:], env={**env, **entry["env"]})
        return *table(entries, asyncio.run(visit_all(entries, where))), 0
    started = time.monotonic()
    edge = fleet.FleetEdge(family, env, dict(zip(("listen", "admin", "health"), product.free_ports(3))),
                           folder / "edge.log")
    edge.wait_ready(READY_S)
    try:
        product.wait_until(lambda: not unhealthy(edge, entries), READY_S, "")
        print(f"all {len(entries)} healthy after {time.monotonic() - started:.0f} s")
    except product.Failed:
        print(f"not all are healthy after {READY_S} s")
    fine, faults = table(entries, asyncio.run(visit_all(entries, lambda e: edge.url(e["name"]))))
    sick = unhealthy(edge, entries)
    if status := edge.stop():
        faults.append(f"mcp-edge ended with status {status}:\n{edge.last_words()}")
    helpers = [p for p in family.started if p is not edge.process]
    if left := family.orphans(but=helpers):
        faults.append("processes are left after the stop: " + "; ".join(left))
    return fine, faults + sick, len(entries) - len(sick)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--stdio", action="store_true")
    ap.add_argument("--only", type=lambda s: s.split(","))
    args = ap.parse_args()
    folder = product.ROOT / "target" / "fleet" / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    with product.Family() as family, fleet.surroundings(family) as env:
        everyone = fleet.fill(fleet.load(), env)
        entries = [e for e in everyone if not args.only or e["name"] in args.only]
        fine, faults, healthy = run(args, entries, family, env, folder)
    print(f"{fine}/{len(entries)} servers did all they must" + ("" if args.stdio else f", {healthy} healthy"))
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"logs: {folder}\n{fine} passed, {len(faults)} failed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    try:
        main()
    except product.Failed as problem:
        sys.exit(f"fleet: {problem}")
