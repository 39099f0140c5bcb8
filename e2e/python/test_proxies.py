"""Who asks, as a proxy says it: believed of those that the operator names, and of nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Server, until, write_project

GRAPH = """
from langgraph.graph import START, StateGraph

def work(state, config):
    return {"who": config["configurable"].get("langgraph_auth_user_id")}

builder = StateGraph(dict)
builder.add_node("work", work)
builder.add_edge(START, "work")
graph = builder.compile()
"""
APP = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

class Around:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)

async def me(request):
    return JSONResponse({"client": request.client.host, "scheme": request.url.scheme})

app = Starlette(routes=[Route("/me", me)], middleware=[Middleware(Around)])
"""
AUTH = """
from langgraph_sdk import Auth

auth = Auth()

@auth.authenticate
async def authenticate(request):
    return f"{request.url.scheme} from {request.client.host}"
"""
SAID = {"x-forwarded-for": "6.6.6.6, 198.51.100.7", "x-forwarded-proto": "https"}


def project(folder: Path, **http: str) -> Path:
    files = {"work.py": GRAPH, "webapp.py": APP}
    return write_project(folder / "project", {"work": "./work.py:graph"}, files, http=http)


def card(server: Server) -> str:
    (assistant,) = httpx.post(f"{server.url}/assistants/search", json={}, headers=SAID).json()
    place = f"{server.url}/a2a/{assistant['assistant_id']}/.well-known/agent-card.json"
    return httpx.get(place, headers=SAID).json()["url"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("app", [True, False])
def test_a_trusted_proxy_says_who_asks(serve: Any, tmp_path: Path, app: bool) -> None:
    http = {"app": "./webapp.py:app"} if app else {}
    server = serve(project(tmp_path, **http), LOG_JSON="true", THREADYARD_MAX_REQUESTS_PER_SECOND="1")
    if app:
        assert httpx.get(f"{server.url}/me", headers=SAID).json() == {"client": "198.51.100.7", "scheme": "https"}
        assert httpx.get(f"{server.url}/me").json() == {"client": "127.0.0.1", "scheme": "http"}
    # Each is counted by itself, and both behind middleware as well.
    counted = f"{server.url}/threads/count"
    ask = lambda who: httpx.post(counted, json={}, headers={"x-forwarded-for": who}).status_code  # noqa: E731
    assert [ask(f"198.51.100.{n}") for n in range(5)] == [200] * 5
    assert any(ask("198.51.100.99") == 429 for _ in range(100))
    assert ask("198.51.100.98") == 200

    def logged() -> set[str]:
        return {json.loads(line).get("client") for line in server.log().splitlines() if line.startswith("{")}

    until(lambda: {"198.51.100.98", "198.51.100.99"} <= logged(), server.log)


@pytest.mark.parametrize("app", [True, False])
def test_handlers_of_authentication_hear_who_asks(serve: Any, tmp_path: Path, app: bool) -> None:
    files = {"work.py": GRAPH, "webapp.py": APP, "guard.py": AUTH}
    http = {"app": "./webapp.py:app"} if app else {}
    graphs = {"work": "./work.py:graph"}
    server = serve(write_project(tmp_path / "project", graphs, files, auth={"path": "./guard.py:auth"}, http=http))
    run = {"assistant_id": "work", "input": {}}
    who = lambda **headers: httpx.post(f"{server.url}/runs/wait", json=run, headers=headers).json()["who"]  # noqa: E731
    assert who(**SAID) == "https from 198.51.100.7"
    assert who() == "http from 127.0.0.1"


def test_cards_lead_where_the_client_asked(serve: Any, tmp_path: Path) -> None:
    assert card(serve(project(tmp_path))).startswith("https://127.0.0.1:")


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8"])
def test_nobody_else_is_believed(serve: Any, tmp_path: Path, trusted: str) -> None:
    server = serve(project(tmp_path, app="./webapp.py:app"), FORWARDED_ALLOW_IPS=trusted, LOG_JSON="true")
    assert httpx.get(f"{server.url}/me", headers=SAID).json() == {"client": "127.0.0.1", "scheme": "http"}
    assert card(server).startswith("http://127.0.0.1:")
    assert "198.51.100.7" not in server.log()


def test_what_is_no_address_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no network such as"):
        Server(project(tmp_path), tmp_path / "data", FORWARDED_ALLOW_IPS="proxy.example")
