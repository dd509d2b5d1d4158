"""The Python SDK's second generation (mcp 2.3.0) against both fixtures, in each way it can negotiate."""

import base64

import anyio
import pytest
from catalog import ERROR, LEGACY, LOGS, MODERN, PNG_SIZE, PROGRESS, PROMPTS, RESOURCES, SIMPLE, STATIC, TOOLS, url
from mcp import Client, MCPError
from mcp_types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent

pytestmark = pytest.mark.anyio

# service, the client's mode, the revision that must come out of it
WAYS = [("legacy", "legacy", LEGACY), ("legacy", "auto", LEGACY), ("dual", "legacy", LEGACY),
        ("dual", "auto", MODERN), ("dual", MODERN, MODERN)]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def way(request):
    return request.param


class Person:
    """What the client answers when the server asks, and what it was told on the way."""

    def __init__(self, name="Ada"):
        self.name, self.asked, self.logged = name, [], []

    async def elicit(self, _context, params):
        self.asked.append(params.message)
        fields = params.requested_schema["properties"]
        return ElicitResult(action="accept", content={
            key: True if schema["type"] == "boolean" else self.name for key, schema in fields.items()})

    async def sample(self, _context, params):
        self.asked.append("sampling")
        return CreateMessageResult(role="assistant", model="test", content=TextContent(
            type="text", text=f"{self.name} says Paris"))

    async def roots(self, _context):
        return ListRootsResult(roots=[Root(uri="file:///home/ada")])

    async def log(self, params):
        self.logged.append(params.data)


def client(way, person=None):
    person = person or Person()
    return Client(url(way[0]), mode=way[1], read_timeout_seconds=30, elicitation_callback=person.elicit,
                  sampling_callback=person.sample, list_roots_callback=person.roots, logging_callback=person.log,
                  log_level="debug")


def text(result):
    assert not result.is_error, result
    return "\n".join(c.text for c in result.content if c.type == "text")


async def test_negotiates_the_revision(way):
    async with client(way) as c:
        assert c.protocol_version == way[2]
        if c.server_info:  # a pinned client never asks
            assert c.server_info.name == f"mcp-edge-fixture-{way[0]}"
        else:
            assert way[1] == MODERN


async def test_lists_everything(way):
    async with client(way) as c:
        tools = (await c.list_tools()).tools
        assert len(tools) == TOOLS
        schema = next(t for t in tools if t.name == "json_schema_2020_12_tool").input_schema
        assert schema["$defs"]["address"]["$anchor"] == "addressDef"  # unknown keywords come through
        assert len((await c.list_prompts()).prompts) == PROMPTS
        assert len((await c.list_resources()).resources) == RESOURCES


async def test_calls_tools(way):
    async with client(way) as c:
        await c.list_tools()
        assert text(await c.call_tool("test_simple_text")) == SIMPLE
        assert text(await c.call_tool("test_header_argument", {"region": "Zürich"})) == "Region: Zürich"
        image = (await c.call_tool("test_image_content")).content[0]
        assert image.mime_type == "image/png" and len(base64.b64decode(image.data)) == PNG_SIZE


async def test_reads_and_prompts(way):
    async with client(way) as c:
        assert (await c.read_resource(STATIC[0])).contents[0].text == STATIC[1]
        prompt = await c.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert prompt.messages[0].content.text == "Prompt with arguments: arg1='a', arg2='b'"


async def test_sees_progress(way):
    seen = []

    async def progress(done, total, _message):
        seen.append((done, total))

    async with client(way) as c:
        assert text(await c.call_tool("test_tool_with_progress", progress_callback=progress)) == "Reported progress."
    assert seen == PROGRESS


async def test_sees_log_messages(way):
    person = Person()
    async with client(way, person) as c:
        assert text(await c.call_tool("test_tool_with_logging")) == "Logged three messages."
    assert person.logged == LOGS


async def test_a_failing_tool_is_a_result(way):
    async with client(way) as c:
        failed = await c.call_tool("test_error_handling")
        assert failed.is_error and failed.content[0].text == ERROR
        assert text(await c.call_tool("test_simple_text")) == SIMPLE  # and nothing else broke


async def test_an_unknown_resource_is_an_error(way):
    async with client(way) as c:
        with pytest.raises(MCPError) as error:
            await c.read_resource("test://nowhere")
        assert error.value.error.code == -32602


async def test_elicitation_reaches_the_person(way):
    person = Person()
    async with client(way, person) as c:
        assert text(await c.call_tool("test_streaming_elicitation")) == "Hello, Ada!"
    assert person.asked == ["What is your name?"]


async def test_two_rounds_of_questions(way):
    person = Person()
    async with client(way, person) as c:
        assert text(await c.call_tool("test_input_required_result_multi_round")) == "Ada likes Ada"
    assert [q[:6] for q in person.asked] == ["Step 1", "Step 2"]


async def test_sampling_and_roots(way):
    async with client(way) as c:
        assert text(await c.call_tool("test_sampling", {"prompt": "capital?"})) == "LLM response: Ada says Paris"
        roots = await c.call_tool("test_input_required_result_list_roots")
        assert text(roots) == "Roots: file:///home/ada"


async def test_parallel_calls_do_not_mix(way):
    """Two calls with progress at once: each callback sees its own three reports."""
    seen = {"one": [], "two": []}

    async def call(c, name):
        async def progress(done, total, _message):
            seen[name].append((done, total))

        await c.call_tool("test_tool_with_progress", progress_callback=progress)

    async with client(way) as c, anyio.create_task_group() as group:
        for name in seen:
            group.start_soon(call, c, name)
    assert seen == {"one": PROGRESS, "two": PROGRESS}


async def test_parallel_clients_do_not_mix(way):
    """Two clients at once, asked the same question: each greeting has its own person's name."""
    heard = {}

    async def visit(name):
        async with client(way, Person(name)) as c:
            heard[name] = text(await c.call_tool("test_streaming_elicitation"))

    async with anyio.create_task_group() as group:
        for name in ("Ada", "Grace"):
            group.start_soon(visit, name)
    assert heard == {"Ada": "Hello, Ada!", "Grace": "Hello, Grace!"}
