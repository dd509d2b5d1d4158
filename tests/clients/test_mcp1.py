"""The Python SDK's first generation (mcp 1.30.0) against both fixtures: what most agents use today."""

import contextlib

import pytest
from catalog import ERROR, LEGACY, LOGS, PROGRESS, PROMPTS, RESOURCES, SIMPLE, STATIC, TOOLS, url
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.shared.exceptions import McpError
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent

pytestmark = [
    pytest.mark.anyio,
    # the old name of the transport is the one that most programs still import
    pytest.mark.filterwarnings("ignore:Use `streamable_http_client` instead:DeprecationWarning"),
]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=["legacy", "dual"])
def service(request):
    return request.param


async def elicit(_context, params):
    return ElicitResult(action="accept", content={key: "Ada" for key in params.requestedSchema["properties"]})


async def sample(_context, _params):
    return CreateMessageResult(role="assistant", model="test", content=TextContent(type="text", text="Paris"))


async def roots(_context):
    return ListRootsResult(roots=[Root(uri="file:///home/ada")])


@contextlib.asynccontextmanager
async def session(service, logged=None):
    """An initialised session, and the server's answer to `initialize`."""
    async def log(params):
        if logged is not None:
            logged.append(params.data)

    async with (
        streamablehttp_client(url(service)) as (read, write, session_id),
        ClientSession(read, write, elicitation_callback=elicit, sampling_callback=sample, list_roots_callback=roots,
                      logging_callback=log) as s,
    ):
        hello = await s.initialize()
        assert session_id(), "a legacy session has an id"
        yield s, hello


def text(result):
    assert not result.isError, result
    return "\n".join(c.text for c in result.content if c.type == "text")


async def test_initialises_and_lists(service):
    async with session(service) as (s, hello):
        assert (hello.protocolVersion, hello.serverInfo.name) == (LEGACY, f"mcp-edge-fixture-{service}")
        assert len((await s.list_tools()).tools) == TOOLS
        assert len((await s.list_prompts()).prompts) == PROMPTS
        assert len((await s.list_resources()).resources) == RESOURCES
        await s.send_ping()


async def test_calls_reads_and_fails(service):
    async with session(service) as (s, _):
        assert text(await s.call_tool("test_simple_text")) == SIMPLE
        assert text(await s.call_tool("test_header_argument", {"region": "eu"})) == "Region: eu"
        assert (await s.read_resource(STATIC[0])).contents[0].text == STATIC[1]
        failed = await s.call_tool("test_error_handling")
        assert failed.isError and failed.content[0].text == ERROR
        with pytest.raises(McpError):
            await s.read_resource("test://nowhere")
        assert text(await s.call_tool("test_simple_text")) == SIMPLE


async def test_sees_progress_and_log_messages(service):
    seen, logged = [], []

    async def progress(done, total, _message):
        seen.append((done, total))

    async with session(service, logged) as (s, _):
        await s.set_logging_level("debug")
        assert text(await s.call_tool("test_tool_with_progress", progress_callback=progress)) == "Reported progress."
        assert text(await s.call_tool("test_tool_with_logging")) == "Logged three messages."
    assert (seen, logged) == (PROGRESS, LOGS)


async def test_the_server_asks_back(service):
    async with session(service) as (s, _):
        assert text(await s.call_tool("test_streaming_elicitation")) == "Hello, Ada!"
        assert text(await s.call_tool("test_sampling", {"prompt": "capital?"})) == "LLM response: Paris"
        assert text(await s.call_tool("test_input_required_result_list_roots")) == "Roots: file:///home/ada"
