"""Limits: requests that are too large or too many, and runs that wait."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import Server, make_key, until, write_project
from websockets import InvalidStatus
from websockets.sync.client import ClientConnection, connect

GRAPH = '''
import asyncio
import time
from pathlib import Path
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    gate: str
    began: float
    ended: float


async def node(state: State) -> State:
    began = time.time()
    while state.get("gate") and not Path(state["gate"]).exists():
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    return {"began": began, "ended": time.time()}


builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
graph = builder.compile()
'''
APP = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

async def echo(socket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)

async def tick(socket):
    await socket.accept()
    while True:
        await socket.send_text("tick")
        await asyncio.sleep(0.01)

async def upload(request):
    return PlainTextResponse(str(len(await request.body())))

app = Starlette(routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/tick", tick), Route("/upload", upload, methods=["POST"])])
"""
LIMITS = {
    "THREADYARD_MAX_BODY_BYTES": "10000",
    "THREADYARD_MAX_HEADER_BYTES": "16384",
    "THREADYARD_MAX_CONNECTIONS": "12",
    "THREADYARD_MAX_PENDING_RUNS_PER_USER": "3",
    "THREADYARD_MAX_RUNNING_RUNS_PER_USER": "1",
    "THREADYARD_MAX_RUNNING_RUNS_PER_ASSISTANT": "2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    write_project(folder / "project", {"g": "./g.py:graph"}, {"g.py": GRAPH}, auth={"keys": True})
    return folder


@pytest.fixture(scope="module")
def limited(folder: Path) -> Iterator[Server]:
    server = Server(folder / "project", folder / "data", **LIMITS)
    yield server
    server.stop()


@pytest.fixture
def client(limited: Server, folder: Path) -> Iterator[Callable[[str], httpx.Client]]:
    with ExitStack() as opened:

        def with_key(name: str) -> httpx.Client:
            headers = {"x-api-key": make_key(folder / "data", name)}
            return opened.enter_context(httpx.Client(base_url=limited.url, headers=headers, timeout=60))

        yield with_key


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with few places, an application of its own, and no question who calls."""
    folder = tmp_path_factory.mktemp("narrow")
    files = {"g.py": GRAPH, "app.py": APP}
    project = write_project(folder / "project", {"g": "./g.py:graph"}, files, http={"app": "./app.py:app"})
    server = Server(project, folder / "data", THREADYARD_MAX_CONNECTIONS="6")
    yield server
    server.stop()


EVENTS = "/threads/00000000-0000-4000-8000-000000000001/stream/events"


def opened(url: str, path: str, key: str | None = None) -> ClientConnection:
    """A WebSocket, as soon as there is room for it."""
    place = url.replace("http", "ws") + path
    for _ in range(600):
        try:
            return connect(place, open_timeout=60, additional_headers={"x-api-key": key} if key else {})
        except InvalidStatus as refused:
            assert refused.response.status_code in (429, 503) and refused.response.headers["retry-after"] == "1"
            time.sleep(0.1)
    pytest.fail("no connection is let in")


def run(**input: str) -> dict[str, object]:
    return {"assistant_id": "g", "input": input, "on_completion": "keep"}


def test_a_body_that_is_too_large_is_refused(client: Callable[[str], httpx.Client]) -> None:
    ann = client("ann")
    answer = ann.post("/threads", json={"metadata": {"a": "x" * 10_000}})
    assert (answer.status_code, answer.json()["detail"]) == (413, "the body is larger than this server reads")
    assert ann.post("/threads", json={"metadata": {"a": "x" * 9_000}}).status_code == 200


def test_headers_that_are_too_long_are_refused(limited: Server) -> None:
    refused = httpx.get(f"{limited.url}/ok", headers={"x-long": "x" * 20_000})
    assert refused.status_code == 431
    assert refused.json() == {"detail": "the first line and the headers have more than 16384 bytes together"}
    # These are not read to their end.
    assert httpx.get(f"{limited.url}/ok", headers={"x-long": "x" * 40_000}).status_code == 431
    assert httpx.get(f"{limited.url}/ok", headers={"x-long": "x" * 9_000}).status_code == 200


def test_connections_beyond_those_that_may_be_are_told_so(limited: Server) -> None:
    place, told = urlsplit(limited.url), []

    def heard() -> bool:
        # It is not waited long for who is turned away: a slow client may find the connection closed.
        with suppress(httpx.TransportError):
            told.append(httpx.get(f"{limited.url}/ok"))
        return bool(told)

    with ExitStack() as open_ones:
        for _ in range(12):
            open_ones.enter_context(socket.create_connection((place.hostname, place.port)))
        # A connection of before may have held a place until now, in place of one of these.
        while not (heard() and told[-1].status_code == 503):
            assert len(told) < 12, "nobody says that there is no place"
            open_ones.enter_context(socket.create_connection((place.hostname, place.port)))
        answer = told[-1]
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json() == {"detail": "too many connections; try again later"}
    until(lambda: heard() and told[-1].status_code == 200, "places are not given back")


@pytest.mark.parametrize("path", [EVENTS, "/echo", "/tick"])
def test_an_open_web_socket_has_the_place_of_a_connection(narrow: Server, path: str) -> None:
    def is_full() -> bool:
        try:
            return httpx.get(f"{narrow.url}/ok").status_code == 503
        except httpx.TransportError:
            # It is not waited long for who is turned away.
            return True

    until(lambda: not is_full(), "places are not given back")
    with ExitStack() as open_ones:
        for _ in range(6):
            open_ones.enter_context(opened(narrow.url, path)).ping().wait(60)
        assert all(is_full() for _ in range(20)), "an open one is not counted"
    until(lambda: not is_full(), "places are not given back")


def test_a_body_that_does_not_come_is_given_up(narrow: Server) -> None:
    place = urlsplit(narrow.url)
    with ExitStack() as open_ones:
        begun = []
        for path in ("/threads", "/upload"):
            stream = open_ones.enter_context(socket.create_connection((place.hostname, place.port), timeout=120))
            stream.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{{".encode())
            begun.append(stream)
        for stream in begun:
            with stream.makefile("rb") as answer:
                assert b" 408 " in (whole := answer.read()), whole


def test_runs_of_a_user_wait_for_each_other_and_too_many_are_refused(
    client: Callable[[str], httpx.Client], tmp_path: Path
) -> None:
    bob, cleo, dan = client("bob"), client("cleo"), client("dan")
    gate = tmp_path / "gate"
    held = run(gate=str(gate))
    runs = [bob.post("/runs", json=held).json() for _ in range(2)]
    until(lambda: bob.get(f"/threads/{runs[0]['thread_id']}/runs/{runs[0]['run_id']}").json()["status"] != "pending", "")
    runs += [bob.post("/runs", json=held).json() for _ in range(2)]
    refused = bob.post("/runs", json=run())
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
    assert refused.json()["detail"].startswith("3 runs of this user wait already")
    assert bob.post("/runs/batch", json=[run()]).status_code == 429
    # Another user has places of their own, though not more than the assistant has. Nobody is held up by what waits.
    assert cleo.post("/runs/wait", json=run()).status_code == 200
    gate.touch()
    times = []
    for it in runs:
        at = f"/threads/{it['thread_id']}/runs/{it['run_id']}"
        joined = bob.get(f"{at}/join")
        assert joined.status_code == 200
        assert bob.get(at).json()["status"] == "success"
        times.append((joined.json()["began"], joined.json()["ended"]))
    times.sort()
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times)), "they went one after the other"
    assert dan.post("/runs/wait", json=run()).status_code == 200


def test_a_caller_who_asks_too_often_is_told_when_to_ask_again(folder: Path, tmp_path: Path) -> None:
    rate = {"THREADYARD_MAX_REQUESTS_PER_SECOND": "1", "THREADYARD_MAX_REQUEST_BURST": "5"}
    server = Server(folder / "project", tmp_path / "keyed", **rate)
    open_to_all = write_project(tmp_path / "open", {"g": "./g.py:graph"}, {"g.py": GRAPH})
    alone = Server(open_to_all, tmp_path / "alone", **rate)
    try:
        ann, bob = make_key(tmp_path / "keyed", "ann"), make_key(tmp_path / "keyed", "bob")

        client = httpx.Client(timeout=60)

        def ask(url: str, key: str | None = None) -> httpx.Response:
            return client.post(f"{url}/threads/count", json={}, headers={"x-api-key": key} if key else {})

        for url, key in ((server.url, ann), (alone.url, None)):
            assert [ask(url, key).status_code for _ in range(5)] == [200] * 5
            # Meanwhile the bucket fills up again.
            refused = next((it for _ in range(100) if (it := ask(url, key)).status_code == 429), None)
            assert refused is not None and refused.headers["retry-after"] == "1"
            assert refused.json() == {"detail": "too many requests; ask more slowly"}
            assert httpx.get(f"{url}/ok").status_code == 200
            until(lambda url=url, key=key: ask(url, key).status_code == 200, "the bucket does not fill up again")
            # Commands on a WebSocket come out of the same bucket, also those that make no sense.
            for method in ("state.get", "subscription.unsubscribe", None):
                with opened(url, EVENTS, key) as open_one:
                    for id in range(100):
                        open_one.send(json.dumps({"id": id, "method": method}))
                    answers = [json.loads(open_one.recv(60)) for _ in range(100)]
                late = next((it for it in answers if it.get("message", "").startswith("429: ")), None)
                assert late is not None, f"{method} is not counted"
                assert late == {
                    "type": "error", "id": late["id"], "error": "unknown_error",
                    "message": "429: too many requests; ask more slowly", "retry_after": 1,
                }
        assert ask(server.url, bob).status_code == 200
        client.close()
    finally:
        server.stop()
        alone.stop()
