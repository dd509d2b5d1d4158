"""An MCP server with the worst family: a child in its own session that ignores every polite signal, and a
grandchild below that. Both write a line `server's id, own id` to the file given as argument. For tests of trees."""

import json
import os
import signal
import sys
import time

SECONDS = 600  # a bound, should a test fail to end it


def stubborn(depth, path, server):
    """A process that leaves the group and the session, and wants to live."""
    if os.fork():
        return
    os.setsid()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if depth:
        stubborn(depth - 1, path, server)
    with open(path, "a") as f:
        f.write(f"{server} {os.getpid()}\n")
    time.sleep(SECONDS)
    os._exit(0)


def answer(message):
    method = message["method"]
    if method == "initialize":
        return {"result": {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                           "serverInfo": {"name": "tree", "version": "1"}}}
    if method == "tools/list":
        return {"result": {"tools": [{"name": "pid", "description": "This process", "inputSchema": {"type": "object"}}]}}
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": str(os.getpid())}]}}
    return {"error": {"code": -32601, "message": "Method not found"}}


stubborn(1, sys.argv[1], os.getpid())
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer(message)}), flush=True)
