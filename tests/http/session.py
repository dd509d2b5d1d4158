"""The least MCP client that a test needs: one legacy session over plain HTTP, standard library only."""

import json

from edge import http

HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def request(number, method, params):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def message(headers, body):
    """The JSON-RPC answer, whether it came as JSON or as the last event of a stream."""
    if headers.get_content_type() == "text/event-stream":
        data = [line[5:] for line in body.decode().splitlines() if line.startswith("data:") and len(line) > 6]
        body = data[-1]
    return json.loads(body) if body else None


class Session:
    """One MCP session: `initialize` on construction, then calls."""

    def __init__(self, url):
        self.url, self.number = url, 0
        status, headers, body = http("POST", url, request(0, "initialize", {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}), HEADERS)
        assert status == 200, (status, body)
        self.headers = {**HEADERS, "Mcp-Session-Id": headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
        status, _, body = http("POST", url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, self.headers)
        assert (status, body) == (202, b"")

    def post(self, method, params, timeout=30):
        """(HTTP status, JSON-RPC message or None)."""
        self.number += 1
        status, headers, body = http("POST", self.url, request(self.number, method, params), self.headers, timeout)
        return status, message(headers, body)

    def call(self, tool, arguments=None):
        """The text of a tool's result; anything else fails the test."""
        status, answer = self.post("tools/call", {"name": tool, "arguments": arguments or {}})
        assert status == 200 and "result" in answer, (status, answer)
        return answer["result"]["content"][0]["text"]

    def end(self):
        return http("DELETE", self.url, headers=self.headers)[0]
