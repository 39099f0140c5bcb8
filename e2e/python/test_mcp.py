"""Assistants as tools, with the official client of the Model Context Protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import Server, asked, until, write_project
from langgraph_sdk import get_sync_client
from mcp import Client, MCPError

GRAPHS = """
import asyncio
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    topic: str
    steps: int


async def echo(state: MessagesState):
    return {"messages": [{"role": "assistant", "content": "echo: " + state["messages"][-1].content}]}


async def first(state: State):
    if state["topic"] == "boom":
        raise ValueError("what is secret")
    return {"steps": 1}


async def second(state: State):
    if state["topic"] == "long":
        await asyncio.sleep(600)
    return {"steps": 2}


def kinds(config: RunnableConfig):
    return {"chat": chat, "walk": walk}[config["configurable"]["kind"]]


chat = StateGraph(MessagesState).add_node(echo).add_edge(START, "echo").compile()
walk = StateGraph(State).add_sequence([first, second]).add_edge(START, "first").compile()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mcp")
    graphs = {"chat": {"path": "./graphs.py:chat", "description": "Says it again"}, "walk": "./graphs.py:walk"}
    # Without a `kind` nobody can say what it takes.
    graphs["kinds"] = "./graphs.py:kinds"
    (folder / "project").mkdir()
    write_project(folder / "project", graphs, {"graphs.py": GRAPHS})
    server = Server(folder / "project", folder / "data")
    yield server
    server.stop()


def with_client(server: Server, use: Callable[[Client], Awaitable[Any]], mode: str = "auto") -> Any:
    async def connected() -> Any:
        async with Client(f"{server.url}/mcp", mode=mode) as client:
            return await use(client)

    return asyncio.run(asyncio.wait_for(connected(), 60))


def text_of(result: Any) -> str:
    (content,) = result.content
    return content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_finds_and_calls_tools(server: Server, mode: str) -> None:
    async def use(client: Client) -> Any:
        assert (client.protocol_version == "2026-07-28") == (mode == "auto")
        if mode == "legacy":
            await client.send_ping()
        said = await client.call_tool("chat", {"messages": "hello"})
        listed = await client.call_tool("chat", {"messages": [{"role": "user", "content": "a list"}]})
        walked = await client.call_tool("walk", {"topic": "looms"})
        return client.server_info, (await client.list_tools()).tools, said, listed, walked

    info, tools, said, listed, walked = with_client(server, use, mode)
    assert info.name == "Threadyard"
    tools = {tool.name: tool for tool in tools}
    assert {"chat", "walk"} <= set(tools) and "kinds" not in tools
    assert tools["chat"].description == "Says it again"
    assert tools["chat"].input_schema["properties"]["messages"]["type"] == "string"
    assert "$defs" not in tools["chat"].input_schema
    assert tools["walk"].description == "Tool based on the walk assistant"
    assert tools["walk"].input_schema["properties"]["steps"]["type"] == "integer"
    assert not said.is_error
    assert [it["content"] for it in json.loads(text_of(said))["messages"]] == ["hello", "echo: hello"]
    assert [it["content"] for it in json.loads(text_of(listed))["messages"]] == ["a list", "echo: a list"]
    assert json.loads(text_of(walked)) == {"topic": "looms", "steps": 2}


def test_steps_are_told_to_who_asks(server: Server) -> None:
    told: list[tuple[float, str | None]] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async def use(client: Client) -> Any:
        return await client.call_tool("walk", {"topic": "looms"}, progress_callback=heard)

    assert json.loads(text_of(with_client(server, use)))["steps"] == 2
    # Steps that come at once are told at once.
    assert ", ".join(str(message) for _, message in told) == "first, second"
    assert told[-1][0] == 2


def test_failures_are_results_and_wrong_calls_are_errors(server: Server) -> None:
    async def use(client: Client) -> Any:
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("nobody", {})
        return unknown.value.error, await client.call_tool("walk", {"topic": "boom"})

    unknown, failed = with_client(server, use)
    assert (unknown.code, unknown.message) == (-32602, "Unknown tool: nobody")
    assert failed.is_error
    assert text_of(failed) == "ValueError"


def test_a_named_assistant_is_a_tool_with_its_own_config(server: Server) -> None:
    client = get_sync_client(url=server.url)
    made = [client.assistants.create("walk", name="My Walk!", description=text) for text in ("old", "new")]
    try:
        tools = call(server, "tools/list").json()["result"]["tools"]
        assert [it["description"] for it in tools if it["name"] == "My_Walk"] == ["new"]
        answer = call(server, "tools/call", {"name": "My_Walk", "arguments": {"topic": "x"}}).json()
        assert "isError" not in answer["result"]
    finally:
        for it in made:
            client.assistants.delete(it["assistant_id"])


def test_the_tool_of_a_graph_is_nobody_elses(server: Server) -> None:
    client = get_sync_client(url=server.url)
    other = client.assistants.create("chat", name="walk", description="not the walk")
    nameless = client.assistants.create("walk", name="日本")
    try:
        tools = call(server, "tools/list").json()["result"]["tools"]
        assert [it["description"] for it in tools if it["name"] == "walk"] == ["Tool based on the walk assistant"]
        for name in ("walk", nameless["assistant_id"]):
            answer = call(server, "tools/call", {"name": name, "arguments": {"topic": "x"}}).json()
            assert json.loads(answer["result"]["content"][0]["text"]) == {"topic": "x", "steps": 2}, name
    finally:
        for it in (other, nameless):
            client.assistants.delete(it["assistant_id"])


@pytest.mark.parametrize("asks_for_progress", [False, True])
def test_who_leaves_stops_the_run(server: Server, asks_for_progress: bool) -> None:
    meta = {"_meta": {"progressToken": "p"}} if asks_for_progress else {}
    body = request("tools/call", {"name": "walk", "arguments": {"topic": "long"}, **meta})
    running = lambda: httpx.get(f"{server.url}/metrics?format=json").json()["queue"]["n_running"]  # noqa: E731
    with asked("POST", f"{server.url}/mcp", body, **JSON):
        until(lambda: running() == 1, "it does not begin")
    until(lambda: running() == 0, "it goes on")


def test_a_cancelled_call_stops_its_run_while_its_client_stays(server: Server) -> None:
    running = lambda: httpx.get(f"{server.url}/metrics?format=json").json()["queue"]["n_running"]  # noqa: E731

    async def use(client: Client) -> Any:
        call = asyncio.create_task(client.call_tool("walk", {"topic": "long"}))
        await asyncio.to_thread(until, lambda: running() == 1, "it does not begin")
        call.cancel()
        await asyncio.to_thread(until, lambda: running() == 0, "it goes on")
        return await client.call_tool("walk", {"topic": "looms"})

    assert not with_client(server, use).is_error


def test_runs_leave_no_threads(server: Server) -> None:
    call(server, "tools/call", {"name": "walk", "arguments": {"topic": "looms"}})
    client = get_sync_client(url=server.url)
    until(lambda: client.threads.count() == 0, "a thread was left")


JSON = {"accept": "application/json, text/event-stream"}


def request(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(server: Server, method: str, params: Any = None) -> httpx.Response:
    return httpx.post(f"{server.url}/mcp", json=request(method, params), headers=JSON)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("nope", 400),
        ("", 400),
        ("[]", 400),
        ("null", 400),
        ('"\\ud800"', 400),
        ("[" * 5000, 400),
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400),
        ('{"id":1,"method":"ping"}', 400),
        ('{"jsonrpc":"1.0","id":1,"method":"ping"}', 400),
        ('{"jsonrpc":"2.0","id":1}', 400),
        ('{"jsonrpc":"2.0","id":{},"method":"ping"}', 400),
        ('{"jsonrpc":"2.0","id":1,"method":5}', 400),
        ('{"jsonrpc":"2.0","method":"notifications/initialized"}', 202),
        ('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}', 202),
        ('{"jsonrpc":"2.0","id":1,"result":{}}', 202),
    ],
)
def test_what_is_no_request_is_not_answered_as_one(server: Server, body: str, status: int) -> None:
    answer = httpx.post(f"{server.url}/mcp", content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.content == b"" if status == 202 else answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("ping", [1], -32602),
        ("ping", "x", -32602),
        ("prompts/list", {}, -32601),
        ("tools/list", {"cursor": "x"}, -32602),
        ("tools/list", {"cursor": -1}, -32602),
        ("tools/call", None, -32602),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": 5}, -32602),
        ("tools/call", {"name": "chat", "arguments": []}, -32602),
        ("tools/call", {"name": "chat", "arguments": "x"}, -32602),
    ],
)
def test_wrong_params_are_refused(server: Server, method: str, params: Any, code: int) -> None:
    answer = call(server, method, params)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (200, code, 1)


WITHOUT_HANDSHAKE = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": WITHOUT_HANDSHAKE, "io.modelcontextprotocol/clientCapabilities": {}}


def call_by_itself(server: Server, method: str, params: Any, **headers: str) -> httpx.Response:
    said = {"mcp-protocol-version": WITHOUT_HANDSHAKE, "mcp-method": method, **headers}
    body = request(method, {"_meta": META, **params})
    return httpx.post(f"{server.url}/mcp", json=body, headers={**JSON, **said})


def test_calls_without_a_handshake_say_and_hear_everything_at_once(server: Server) -> None:
    found = call_by_itself(server, "server/discover", {}).json()["result"]
    assert found["supportedVersions"] == [WITHOUT_HANDSHAKE] and found["capabilities"] == {"tools": {}}
    listed = call_by_itself(server, "tools/list", {}).json()["result"]
    for result in (found, listed):
        assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "Threadyard"
    walk = {"name": "walk", "arguments": {"topic": "looms"}}
    result = call_by_itself(server, "tools/call", walk, **{"mcp-name": "walk"}).json()["result"]
    assert (result["resultType"], json.loads(result["content"][0]["text"])["steps"]) == ("complete", 2)
    # Others hear nothing of that.
    assert set(call(server, "tools/call", walk).json()["result"]) == {"content"}


@pytest.mark.parametrize(
    ("method", "params", "headers", "status", "code"),
    [
        ("ping", {}, {}, 404, -32601),
        ("initialize", {}, {}, 404, -32601),
        ("tools/list", {"cursor": "x"}, {}, 400, -32602),
        ("tools/list", {"_meta": {}}, {}, 400, -32602),
        ("tools/list", {}, {"mcp-method": "tools/call"}, 400, -32020),
        ("tools/call", {"name": "walk"}, {}, 400, -32020),
        ("tools/call", {"name": "nobody"}, {"mcp-name": "nobody"}, 400, -32602),
    ],
)
def test_calls_without_a_handshake_are_refused_in_the_words_of_http(
    server: Server, method: str, params: Any, headers: dict[str, str], status: int, code: int
) -> None:
    answer = call_by_itself(server, method, params, **headers)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (status, code, 1)


def test_a_version_that_is_not_spoken_is_told_which_are(server: Server) -> None:
    meta = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    answer = call_by_itself(server, "tools/list", {"_meta": meta}, **{"mcp-protocol-version": "2099-01-01"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32022)
    assert answer.json()["error"]["data"] == {"supported": [WITHOUT_HANDSHAKE], "requested": "2099-01-01"}


def test_there_is_nothing_behind_the_end_of_the_list(server: Server) -> None:
    assert call(server, "tools/list", {"cursor": str(2**64 - 1)}).json()["result"] == {"tools": []}


def test_the_transport_is_without_sessions(server: Server) -> None:
    url = f"{server.url}/mcp"
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert httpx.post(url, json=ping, headers={"accept": "text/plain"}).status_code == 400
    assert httpx.get(url, headers=JSON).status_code == 405
    assert httpx.delete(url, headers=JSON).status_code == 404
    moved = httpx.post(f"{url}/", json=ping, headers=JSON)
    assert (moved.status_code, moved.headers["location"]) == (307, "/mcp")
    answer = httpx.post(url, json=ping, headers=JSON)
    assert answer.json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert "mcp-session-id" not in answer.headers
    for wanted, given in [("2024-11-05", "2024-11-05"), ("1999-01-01", "2025-11-25"), (5, "2025-11-25")]:
        result = call(server, "initialize", {"protocolVersion": wanted}).json()["result"]
        assert result["protocolVersion"] == given
