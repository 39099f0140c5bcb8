"""Webhooks that lead to a route of the project's own application: told like any receiver, and leading nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, Server, until, write_project
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import UnprocessableEntityError
from standardwebhooks.webhooks import Webhook

GRAPH = """
from langgraph.graph import START, StateGraph

builder = StateGraph(dict)
builder.add_node("work", lambda state: {"done": True})
builder.add_edge(START, "work")
graph = builder.compile()
"""
APP = """
from pathlib import Path
import json

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

HERE = Path(__file__).parent
ANSWERS = [500]

class Lead:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        # Into a route of the server, as middleware may.
        if scope.get("path") == "/astray":
            scope = {**scope, "path": "/threads", "raw_path": b"/threads"}
        await self.app(scope, receive, send)

async def done(request):
    body = (await request.body()).decode()
    with (HERE / "told").open("a") as told:
        who = request.user.identity if "user" in request.scope else None
        told.write(json.dumps({"headers": dict(request.headers), "body": body, "path": request.url.path, "who": who,
                               "query": request.url.query, "client": request.client}) + "\\n")
    return JSONResponse({}, status_code=ANSWERS.pop() if ANSWERS and "fail" in request.url.query else 200)

async def astray(request):
    return JSONResponse({})

app = Starlette(routes=[Route("/done/{name}", done, methods=["POST"]), Route("/astray", astray, methods=["POST"])],
                middleware=[Middleware(Lead)])
"""
AUTH = """
from langgraph_sdk import Auth

auth = Auth()

@auth.authenticate
async def who(authorization: str | None):
    if not authorization:
        raise Auth.exceptions.HTTPException(status_code=401, detail="who are you")
    return {"identity": authorization.removeprefix("Bearer ")}
"""
HEADERS = {"X-Own": "${{ env.LG_WEBHOOK_OWN }}"}


def made(folder: Path, webhooks: dict[str, Any] | None = None, **config: Any) -> Path:
    files = {"work.py": GRAPH, "webapp.py": APP, "authn.py": AUTH}
    http = {"app": "./webapp.py:app", **config.pop("http", {})}
    webhooks = {"headers": HEADERS, **(webhooks or {})}
    return write_project(folder, {"work": "./work.py:graph"}, files, http=http, webhooks=webhooks, **config)


def told(project: Path) -> list[dict[str, Any]]:
    file = project / "told"
    text = file.read_text() if file.exists() else ""
    # The last line may be on its way.
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def deliveries(server: Server, **query: Any) -> list[dict[str, Any]]:
    return httpx.post(f"{server.url}/webhooks/deliveries/search", json=query).json()  # type: ignore[no-any-return]


def test_a_route_is_told_signed_and_again(serve: Any, tmp_path: Path) -> None:
    project = made(tmp_path / "project")
    server = serve(project, LG_WEBHOOK_OWN="0wn")
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    run = client.runs.create(thread, "work", input={}, webhook="/done/ä?fail=1&token=s3cret")
    until(lambda: len(told(project)) == 2, "it is not told again")
    first, second = told(project)
    assert (first["path"], first["query"]) == ("/done/ä", "fail=1&token=s3cret")
    assert (first["headers"]["host"], first["headers"]["x-own"], first["client"]) == ("api", "0wn", None)
    assert first["body"] == second["body"] and json.loads(first["body"])["run_id"] == run["run_id"]
    assert "s3cret" not in first["body"]
    assert [it["headers"]["webhook-attempt"] for it in (first, second)] == ["1", "2"]
    secret = httpx.get(f"{server.url}/webhooks/secret", params={"origin": "/done/ä"}).json()
    assert secret["origin"] == "/"
    Webhook(secret["key"]).verify(first["body"], first["headers"])
    place = f"{server.url}/threads/{thread}/runs/{run['run_id']}/deliveries"
    until(lambda: httpx.get(place).json()[0]["state"] == "delivered", "it is not delivered")
    (shown,) = httpx.get(place).json()
    assert [it["status"] for it in shown["attempts"]] == [500, 200]
    assert "s3cret" not in str(shown) + server.log() + str(deliveries(server))
    tried = httpx.post(f"{server.url}/webhooks/test", json={"url": "/done/tried"}).json()
    assert tried["status"] == 200 and told(project)[-1]["path"] == "/done/tried"


def test_what_a_dead_server_owes_is_told_by_the_next(serve: Any, tmp_path: Path) -> None:
    project = made(tmp_path / "project")
    server = serve(project, LG_WEBHOOK_OWN="0wn", THREADYARD_KILL_AT="delivery.claimed")
    get_sync_client(url=server.url).runs.create(None, "work", input={}, webhook="/done/late")
    server.process.wait(60)
    assert told(project) == []
    serve(project, LG_WEBHOOK_OWN="0wn", THREADYARD_LEASE_SECS="8")
    until(lambda: [it["path"] for it in told(project)] == ["/done/late"], "it is lost", 120)


def test_no_delivery_reaches_a_route_of_the_server(serve: Any, tmp_path: Path) -> None:
    server = serve(made(tmp_path / "project"), LG_WEBHOOK_OWN="0wn")
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    webhooks = ["/threads", "/astray", "/ok", "/done", "/webhooks/secret/rotate"]
    for webhook in webhooks:
        client.runs.create(thread, "work", input={}, webhook=webhook)
    came = lambda: {it["url"]: it["last_status"] for it in deliveries(server)}  # noqa: E731
    until(lambda: came() == dict.fromkeys(webhooks, 404), lambda: f"{came()}")
    assert client.threads.count() == 1


def test_a_guarded_route_is_told_who_made_the_run(serve: Any, tmp_path: Path) -> None:
    http, auth = {"enable_custom_route_auth": True}, {"path": "./authn.py:auth"}
    # The credentials that all receivers get must not open what its maker could not.
    webhooks = {"headers": {**HEADERS, "Authorization": "Bearer root"}}
    project = made(tmp_path / "project", webhooks, http=http, auth=auth)
    server = serve(project, LG_WEBHOOK_OWN="0wn")
    assert httpx.post(f"{server.url}/done/me").status_code == 401
    ann = get_sync_client(url=server.url, headers={"authorization": "Bearer ann"})
    ann.runs.create(None, "work", input={}, webhook="/done/me")
    until(lambda: len(told(project)) == 1, "it is not told")
    (only,) = told(project)
    assert only["who"] == "ann" and "langgraph_auth_user" not in only["body"]


@pytest.mark.parametrize(
    ("command", "url", "why"),
    [
        ("serve", None, "webhooks.url.disable_loopback: false"),
        ("serve", {"disable_loopback": False}, None),
        ("dev", {"disable_loopback": True}, "webhooks.url.disable_loopback: false"),
    ],
)
def test_who_runs_the_server_decides(tmp_path: Path, command: str, url: Any, why: str | None) -> None:
    project = made(tmp_path / "project", {"url": url} if url else None)
    server = Server(project, tmp_path / "data", command=command, LG_WEBHOOK_OWN="0wn")
    try:
        client = get_sync_client(url=server.url)
        if why is None:
            client.runs.create(None, "work", input={}, webhook="/done/serve")
            until(lambda: len(told(project)) == 1, "it is not told")
            return
        for body in ({}, {"schedule": "* * * * *"}):
            path = "/runs/crons" if body else "/runs"
            answer = httpx.post(f"{server.url}{path}", json={"assistant_id": "work", "webhook": "/done/x", **body})
            assert answer.status_code == 422 and why in answer.json()["detail"], answer.text
    finally:
        server.stop()


def test_without_an_application_there_is_no_route(gallery: Server) -> None:
    with pytest.raises(UnprocessableEntityError, match=r"http\.app"):
        get_sync_client(url=gallery.url).runs.create(None, "review", input={}, webhook="/done")


def test_an_application_in_typescript_is_told(serve: Any, tmp_path: Path) -> None:
    packages = ROOT / "target/test-env/node/node_modules"
    if not packages.exists():
        pytest.fail("`cargo xtask test` installs the packages of graphs in TypeScript; run it once")
    files = {
        "graph.ts": "import { START, StateGraph, Annotation } from '@langchain/langgraph';\n"
        "const State = Annotation.Root({ x: Annotation<number> });\n"
        "export const graph = new StateGraph(State).addNode('work', () => ({ x: 2 }))\n"
        "  .addEdge(START, 'work').compile();\n",
        "webapp.ts": "import { Hono } from 'hono';\nimport { appendFileSync } from 'node:fs';\n"
        "export const app = new Hono();\n"
        "app.use('*', async (_, next) => { await next(); });\n"
        "app.post('/done', async (c) => {\n"
        f"  appendFileSync({str(tmp_path / 'project/told')!r}, JSON.stringify(await c.req.json()) + '\\n');\n"
        "  return c.json({});\n});\n"
        "app.post('/astray{/:rest}?', (c) => c.notFound());\n",
        "package.json": '{"type": "module"}',
    }
    graphs = {"work": "./graph.ts:graph"}
    project = write_project(tmp_path / "project", graphs, files, http={"app": "./webapp.ts:app"})
    (project / "node_modules").symlink_to(packages)
    server = serve(project)
    client = get_sync_client(url=server.url)
    run = client.runs.create(None, "work", input={"x": 1}, webhook="/done")
    until(lambda: [it["run_id"] for it in told(project)] == [run["run_id"]], "it is not told")
    client.runs.create(None, "work", input={"x": 1}, webhook="/threads/search")
    until(lambda: any(it["last_status"] == 404 for it in deliveries(server)), "it reaches another route")
