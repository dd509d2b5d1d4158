"""The MCP Inspector (2.12.0) from its command line: each command is a whole visit, from handshake to goodbye."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from catalog import ERROR, PROMPTS, RESOURCES, SIMPLE, STATIC, TOOLS, url

NPM = Path(__file__).resolve().parents[2] / ".tools" / "npm" / "inspector"
NODE = next(iter(sorted(NPM.glob("node_modules/node-linux-*/bin/node"))), "node")  # it needs Node 22.19
LAUNCHER = NPM / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"


@pytest.fixture(params=["legacy", "dual"])
def service(request):
    return request.param


def inspector(service, method, *more):
    """(exit status, what it printed as JSON, what it complained)."""
    done = subprocess.run(
        [NODE, LAUNCHER, "--cli", url(service), "--transport", "http", "--method", method, *more],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1"})
    try:
        said = json.loads(done.stdout)
    except ValueError:
        said = None
    return done.returncode, said, done.stderr + ("" if said else done.stdout)


def succeed(service, method, *more):
    status, said, complaint = inspector(service, method, *more)
    assert status == 0 and said is not None, complaint
    return said


def test_lists(service):
    assert len(succeed(service, "tools/list")["tools"]) == TOOLS
    assert len(succeed(service, "prompts/list")["prompts"]) == PROMPTS
    assert len(succeed(service, "resources/list")["resources"]) == RESOURCES


def test_calls(service):
    said = succeed(service, "tools/call", "--tool-name", "test_simple_text")
    assert said["content"] == [{"type": "text", "text": SIMPLE}]
    said = succeed(service, "tools/call", "--tool-name", "test_header_argument", "--tool-arg", "region=eu")
    assert said["content"][0]["text"] == "Region: eu"


def test_sees_a_call_with_progress_to_its_end(service):
    said = succeed(service, "tools/call", "--tool-name", "test_tool_with_progress")
    assert said["content"][0]["text"] == "Reported progress."


def test_reads(service):
    assert succeed(service, "resources/read", "--uri", STATIC[0])["contents"][0]["text"] == STATIC[1]


def test_shows_a_tool_error(service):
    _, said, complaint = inspector(service, "tools/call", "--tool-name", "test_error_handling")
    assert said is not None, complaint
    assert said["isError"] is True and said["content"][0]["text"] == ERROR


def test_shows_a_protocol_error(service):
    status, _, complaint = inspector(service, "resources/read", "--uri", "test://nowhere")
    assert status != 0 and "nowhere" in complaint
