"""The user's own HTTP application: its routes before ours, its middleware around ours, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from conftest import Server, asked, free_port, until, write_project
from websockets.sync.client import connect

GRAPHS = """
import asyncio, time
from pathlib import Path
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

async def drip(state):
    for number in range(state["n"]):
        get_stream_writer()({"number": number})
        await asyncio.sleep(state.get("pause", 0))
        while "gate" in state and not Path(f"{state['gate']}-{number}").exists():
            await asyncio.sleep(0.02)
    return {"done": True}

def block(state):
    folder = Path(state["folder"])
    (folder / "blocks").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)

def one(work):
    builder = StateGraph(dict)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    return builder.compile()

drip, block = one(drip), one(block)
"""
STARLETTE = """
import asyncio, hashlib, os
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

HERE = Path(__file__).parent

class Stamp:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["path"].endswith("/alias"):
            scope = {**scope, "path": scope["path"].removesuffix("alias") + "info"}
        scope = {**scope, "headers": [*scope["headers"], (b"x-stamp", b"of-middleware")]}

        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-stamp", b"yes")]
            await send(message)

        await self.app(scope, receive, stamped)

class Gate(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        if request.headers.get("x-blocked"):
            return PlainTextResponse("not you", 451)
        return await call_next(request)

@asynccontextmanager
async def lifespan(app):
    with (HERE / "events").open("a") as events:
        events.write("start\\n")
    yield {"greeting": "hello"}
    with (HERE / "events").open("a") as events:
        events.write("end\\n")

async def hello(request):
    return JSONResponse({"greeting": request.state.greeting, "pid": os.getpid(), "client": request.client.host,
                         "path": request.url.path, "q": request.query_params.get("q")})

async def override(request):
    return JSONResponse({"overridden": await request.json()})

def value_error(request):
    raise ValueError("bad value")

def teapot(request):
    raise HTTPException(418, "teapot", headers={"x-pot": "1"})

def crash(request):
    raise RuntimeError("s3cret of a crash")

async def upload(request):
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return JSONResponse({"sha256": digest.hexdigest(), "size": size})

SENT = []
async def download(request):
    async def pieces():
        SENT.clear()
        for number in range(int(request.query_params["pieces"])):
            SENT.append(number)
            yield bytes([number % 251]) * 65536
    return StreamingResponse(pieces())

async def sent(request):
    return JSONResponse(len(SENT))

async def slow(request):
    (HERE / "came").touch()
    while (await request.receive())["type"] != "http.disconnect":
        pass
    (HERE / "left").touch()
    return PlainTextResponse("gone")

async def echo(socket):
    if socket.headers.get("x-refuse"):
        return await socket.close()
    await socket.accept(subprotocol="chat" if "chat" in socket.scope["subprotocols"] else None)
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            return await socket.close(4001, "so long")
        if message.get("text") is not None:
            await socket.send_text(message["text"].upper())
        else:
            await socket.send_bytes(message["bytes"][::-1])
    (HERE / "closed").write_text(str(message["code"]))

app = Starlette(
    routes=[
        Route("/hello", hello), Route("/hello/{name}", hello), Route("/ok", override),
        Route("/assistants/search", override, methods=["POST"]), Route("/threads", hello, methods=["GET"]),
        Route("/value-error", value_error), Route("/teapot", teapot), Route("/crash", crash),
        Route("/upload", upload, methods=["POST"]), Route("/download", download), Route("/sent", sent),
        Route("/slow", slow), WebSocketRoute("/echo", echo), Mount("/sub", routes=[Route("/hello", hello)]),
    ],
    middleware=[Middleware(Stamp), Middleware(Gate)],
    lifespan=lifespan,
)
"""
FASTAPI = """
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

class Thread(BaseModel):
    name: str

app = FastAPI()

@app.get("/broken")
async def broken():
    async def pieces():
        yield b"a" * 10
        raise RuntimeError("half way")
    return StreamingResponse(pieces())

@app.post("/greetings/{number}")
async def greet(number: int, thread: Thread) -> Thread:
    return Thread(name=thread.name * number)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _serving(tmp_path_factory.mktemp("starlette"), STARLETTE)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _serving(tmp_path_factory.mktemp("fastapi"), FASTAPI)


AUTH = """
from langgraph_sdk import Auth

auth = Auth()

@auth.authenticate
async def who(authorization: str | None):
    if not authorization:
        raise Auth.exceptions.HTTPException(status_code=401, detail="who are you", headers={"x-why": "no name"})
    return {"identity": authorization.removeprefix("Bearer "), "permissions": ["read"], "team": "blue"}
"""
GUARDED = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

HEARD = []

class Listen:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        HEARD.append(scope.get("path"))
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            scope = {**scope, "path": scope["path"].removeprefix("/v1"), "user": scope.get("user") or "nobody"}
        await self.app(scope, receive, send)

async def me(request):
    return JSONResponse({"who": request.user.identity, "team": request.user.team, "may": request.auth.scopes})

async def heard(request):
    return JSONResponse(HEARD)

async def socket(socket):
    await socket.accept()
    await socket.send_text(socket.user.identity)
    await socket.close()

app = Starlette(
    routes=[Route("/me", me), Route("/heard", heard), WebSocketRoute("/ws", socket)], middleware=[Middleware(Listen)]
)
"""


@pytest.fixture(scope="module", params=["auth_first", "middleware_first"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    files = {"graphs.py": GRAPHS, "webapp.py": GUARDED, "authn.py": AUTH}
    http = {"app": "./webapp.py:app", "enable_custom_route_auth": True, "middleware_order": request.param}
    auth = {"path": "./authn.py:auth"}
    project = write_project(folder / "project", {"drip": "./graphs.py:drip"}, files, http=http, auth=auth)
    server = Server(project, folder / "data")
    server.order = request.param  # type: ignore[attr-defined]
    yield server
    server.stop()


def test_its_routes_know_who_calls(guarded: Server) -> None:
    alice = {"authorization": "Bearer alice"}
    answer = httpx.get(f"{guarded.url}/me")
    assert (answer.status_code, answer.json()) == (401, {"detail": "who are you"})
    assert httpx.get(f"{guarded.url}/me", headers=alice).json() == {"who": "alice", "team": "blue", "may": ["read"]}
    assert httpx.get(f"{guarded.url}/info").status_code == 200
    assert httpx.post(f"{guarded.url}/threads", json={}).status_code == 401
    assert httpx.post(f"{guarded.url}/threads/search", json={}, headers=alice).status_code == 200
    heard = httpx.get(f"{guarded.url}/heard", headers=alice).json()
    first = guarded.order == "auth_first"  # type: ignore[attr-defined]
    assert "/threads/search" in heard and ("/threads" not in heard) == first, "who is not let in is not heard of"
    for path in ("/me%0A", "/v1/me", "/v1/me%0A"):
        answer = httpx.get(f"{guarded.url}{path}")
        assert (answer.status_code, answer.json()) == (401, {"detail": "who are you"}), path
        assert answer.headers["www-authenticate"] == 'Bearer realm="threadyard"', path
        assert answer.headers["x-why"] == "no name", path
        assert httpx.get(f"{guarded.url}{path}", headers=alice).json()["who"] == "alice", path
    assert httpx.get(f"{guarded.url}/v1/info").status_code == (401 if first else 200), "our routes have their own guard"
    assert httpx.post(f"{guarded.url}/v1/threads/search", json={}).status_code == 401
    url = guarded.url.replace("http", "ws") + "/ws"
    with connect(url, additional_headers=alice, open_timeout=60) as socket:
        assert socket.recv() == "alice"
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(url, open_timeout=60)
    assert refused.value.response.status_code == 403


def _serving(folder: Path, app: str) -> Iterator[Server]:
    graphs = {"drip": "./graphs.py:drip", "block": "./graphs.py:block"}
    files = {"graphs.py": GRAPHS, "webapp.py": app}
    http = {"app": "./webapp.py:app", "configurable_headers": {"includes": ["x-stamp"]}}
    project = write_project(folder / "project", graphs, files, http=http)
    server = Server(project, folder / "data")
    server.project = project  # type: ignore[attr-defined]
    yield server
    server.stop()


def folder_of(server: Server) -> Path:
    return server.project  # type: ignore[attr-defined,no-any-return]


def test_its_routes_come_first_but_for_the_health_check(server: Server) -> None:
    said = httpx.get(f"{server.url}/hello/you%20there?q=%C3%A9").json()
    assert said["greeting"] == "hello" and said["client"] == "127.0.0.1" and said["q"] == "é"
    assert httpx.get(f"{server.url}/sub/hello").json()["path"] == "/sub/hello"
    assert httpx.post(f"{server.url}/assistants/search", json={"a": 1}).json() == {"overridden": {"a": 1}}
    assert httpx.get(f"{server.url}/threads").json()["path"] == "/threads"
    assert "thread_id" in httpx.post(f"{server.url}/threads", json={}).json(), "a route is its methods, too"
    assert httpx.get(f"{server.url}/ok").json()["ok"] is True
    for method, path in (("GET", "/nothing"), ("GET", "/sub/nothing"), ("DELETE", "/hello"), ("GET", "/hello/")):
        answer = httpx.request(method, f"{server.url}{path}")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"}), path


def test_exceptions_are_answered(server: Server) -> None:
    answer = httpx.get(f"{server.url}/value-error")
    assert (answer.status_code, answer.json()) == (400, {"detail": "bad value"})
    answer = httpx.get(f"{server.url}/teapot")
    assert (answer.status_code, answer.json(), answer.headers["x-pot"]) == (418, {"detail": "teapot"}, "1")
    answer = httpx.get(f"{server.url}/crash")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    server.wait_for_log("s3cret of a crash")


def test_an_answer_that_breaks_off_does_not_seem_to_be_whole(fast: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{fast.url}/broken")


def test_its_middleware_is_around_our_routes(server: Server) -> None:
    answer = httpx.post(f"{server.url}/threads", json={})
    assert answer.status_code == 200 and answer.headers["x-stamp"] == "yes"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert httpx.get(f"{server.url}/alias").json()["flags"]["assistants"] is True, "it may lead elsewhere"
    assert httpx.get(f"{server.url}/info", headers={"x-blocked": "1"}).status_code == 451
    body = {"assistant_id": "drip", "input": {"n": 1}}
    run = httpx.post(f"{server.url}/runs", json=body, headers={"x-request-id": "rid-9"}).json()
    seen = run["kwargs"]["config"]["configurable"]
    assert seen["x-stamp"] == "of-middleware" and seen["langgraph_request_id"] == "rid-9"
    assert httpx.post(f"{server.url}/runs/wait", content=b"{").status_code == 422


def test_a_stream_is_live_through_middleware(server: Server, tmp_path: Path) -> None:
    body = {"assistant_id": "drip", "input": {"n": 3, "gate": str(tmp_path / "gate")}, "stream_mode": "custom"}
    came = []
    with httpx.stream("POST", f"{server.url}/runs/stream", json=body, timeout=60) as answer:
        assert answer.headers["x-stamp"] == "yes" and answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: ") and "number" in line:
                # The next one is sent when this one was heard.
                came.append(json.loads(line.removeprefix("data: "))["number"])
                (tmp_path / f"gate-{came[-1]}").touch()
    assert came == [0, 1, 2]


def test_who_leaves_is_noticed_on_both_sides(server: Server) -> None:
    with asked("GET", f"{server.url}/slow"):
        until((folder_of(server) / "came").exists, "the request does not reach the application")
    until((folder_of(server) / "left").exists, "the application did not hear that its client has left")

    thread = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
    body = {"assistant_id": "drip", "input": {"n": 10_000, "pause": 0.05}, "stream_mode": "custom"}
    runs = f"{server.url}/threads/{thread}/runs"
    with httpx.stream("POST", f"{runs}/stream", json={**body, "on_disconnect": "cancel"}, timeout=60) as answer:
        next(answer.iter_lines())
    until(lambda: httpx.get(runs).json()[0]["status"] == "interrupted", "the run did not hear that its client has left")


def test_big_bodies_go_both_ways_in_small_steps(server: Server) -> None:
    piece = os.urandom(1 << 20)
    body = (piece for _ in range(40))
    said = httpx.post(f"{server.url}/upload", content=body, timeout=60).json()
    assert said == {"sha256": hashlib.sha256(piece * 40).hexdigest(), "size": 40 << 20}

    with httpx.stream("GET", f"{server.url}/download?pieces=1600", timeout=60) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        made = [-1]

        def rests() -> bool:
            time.sleep(0.5)
            made.append(httpx.get(f"{server.url}/sent").json())
            return made[-1] == made[-2]

        until(rests, "it goes on for a client that does not read")
        ahead = made[-1]
        assert ahead < 400, f"{ahead} pieces were made for a client that does not read"
        size = 65536 + sum(len(piece) for piece in pieces)
    assert size - 65536 <= 1600 * 65536 and httpx.get(f"{server.url}/sent").json() == 1600


def test_web_sockets(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/echo"
    with connect(url, subprotocols=["other", "chat"], open_timeout=60) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "chat"
        socket.send("hello")
        assert socket.recv() == "HELLO"
        big = os.urandom(700_000)
        socket.send(big)
        assert socket.recv() == big[::-1]
        for _ in range(30):
            socket.send("é" * 30_000)
            assert socket.recv() == "É" * 30_000
        socket.close(4007)
    closed = folder_of(server) / "closed"
    until(lambda: closed.exists() and closed.read_text() == "4007", "the application did not hear of the close")
    with connect(url, open_timeout=60) as socket:
        socket.send("bye")
        with pytest.raises(websockets.ConnectionClosed):
            socket.recv()
        assert (socket.close_code, socket.close_reason) == (4001, "so long")
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(url, additional_headers={"x-refuse": "1"}, open_timeout=60)
    assert refused.value.response.status_code == 403


def test_it_answers_while_graphs_block_their_worker(server: Server, tmp_path: Path) -> None:
    body = {"assistant_id": "block", "input": {"folder": str(tmp_path)}}
    run = threading.Thread(target=lambda: httpx.post(f"{server.url}/runs/wait", json=body, timeout=120))
    run.start()
    try:
        until((tmp_path / "blocks").exists, "the graph does not begin")
        assert httpx.get(f"{server.url}/hello").status_code == 200
    finally:
        (tmp_path / "go").touch()
    run.join()


def test_a_process_that_dies_is_replaced(server: Server) -> None:
    pid = httpx.get(f"{server.url}/hello").json()["pid"]
    run = httpx.post(f"{server.url}/runs", json={"assistant_id": "drip", "input": {"n": 1}}).json()
    os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        answer = httpx.get(f"{server.url}/hello")
        assert answer.status_code in (200, 500, 503)
        return answer.status_code == 200 and answer.json()["pid"] != pid

    until(answers, "there is no other process")
    assert httpx.get(f"{server.url}/ok").status_code == 200
    assert "run_id" in run


def test_fastapi_is_validated_and_documented(fast: Server) -> None:
    answer = httpx.post(f"{fast.url}/greetings/2", json={"name": "a"})
    assert answer.json() == {"name": "aa"}
    assert httpx.post(f"{fast.url}/greetings/x", json={"name": "a"}).status_code == 422
    document = httpx.get(f"{fast.url}/openapi.json").json()
    assert document["info"]["title"] != "FastAPI" and "/threads" in document["paths"]
    schema = document["paths"]["/greetings/{number}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["required"] == ["name"]
    assert "thread_id" in document["components"]["schemas"]["Thread"]["properties"], "ours keeps its name"
    assert "/greetings/{number}" in httpx.get(f"{fast.url}/docs").text


def test_without_middleware_our_routes_take_no_detour(fast: Server) -> None:
    os.kill(process := _process_of(fast), signal.SIGSTOP)
    try:
        assert "thread_id" in httpx.post(f"{fast.url}/threads", json={}).json()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{fast.url}/greetings/2", json={"name": "a"}, timeout=0.5)
    finally:
        os.kill(process, signal.SIGCONT)


def _process_of(server: Server) -> int:
    """The process of the application: the newest worker, since the graphs are loaded first."""
    zygotes = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split()
    workers = subprocess.run(["pgrep", "-P", ",".join(zygotes)], capture_output=True, text=True).stdout.split()
    return max(map(int, workers))


def test_its_lifespan_begins_and_ends_with_the_server(serve: Any, tmp_path: Path) -> None:
    http = {"app": "./webapp.py:app", "mount_prefix": "/my/api"}
    project = write_project(tmp_path / "p", {"drip": "./graphs.py:drip"}, {"graphs.py": GRAPHS, "webapp.py": STARLETTE}, http=http)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = [os.environ["THREADYARD_BIN"], "serve", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--data-dir", str(tmp_path / "d"), "--config", str(project / "langgraph.json")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        root = f"http://127.0.0.1:{port}"

        def is_up() -> bool:
            try:
                return httpx.get(f"{root}/my/api/hello", timeout=60).status_code == 200
            except httpx.TransportError:
                return False

        until(is_up, (tmp_path / "log").read_text, 180)
        assert (project / "events").read_text() == "start\n"
        assert httpx.get(f"{root}/my/api/hello").json()["path"] == "/my/api/hello"
        assert httpx.get(f"{root}/my/api/alias").json()["flags"]["crons"] is True
        assert httpx.get(f"{root}/hello").status_code == 404
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert (project / "events").read_text() == "start\nend\n"


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("app = 5", "expected a Starlette or FastAPI application"),
        ("", "has no `app`"),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        ("from starlette.applications import Starlette\n\nasync def boom(app):\n    raise RuntimeError('no database')\n    yield\n\n"
         "app = Starlette(lifespan=boom)", "no database"),
    ],
)
def test_an_application_that_can_t_be_started_stops_the_start(tmp_path: Path, app: str, said: str) -> None:
    project = write_project(tmp_path, {"a": "./graphs.py:drip"}, {"graphs.py": GRAPHS, "webapp.py": app}, http={"app": "./webapp.py:app"})
    command = [os.environ["THREADYARD_BIN"], "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--data-dir", str(tmp_path / "data"), "--config", str(project / "langgraph.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "error: " in done.stderr and "http.app" in done.stderr and said in done.stderr


def test_changed_code_is_loaded(tmp_path: Path) -> None:
    app = "from fastapi import FastAPI\n\napp = FastAPI()\n\n@app.get('/version')\ndef version():\n    return 1\n"
    project = write_project(tmp_path / "p", {"a": "./graphs.py:drip"}, {"graphs.py": GRAPHS, "webapp.py": app}, http={"app": "./webapp.py:app"})
    server = Server(project, tmp_path / "data", reload=True)
    try:
        assert httpx.get(f"{server.url}/version").json() == 1
        (project / "webapp.py").write_text(app.replace("return 1", "return 2").replace("'/version'", "'/version2'"))
        until(lambda: httpx.get(f"{server.url}/version2").status_code == 200, server.log)
        assert httpx.get(f"{server.url}/version2").json() == 2
        assert httpx.get(f"{server.url}/version").status_code == 404
    finally:
        server.stop()


