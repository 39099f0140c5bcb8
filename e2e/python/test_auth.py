"""Auth: every route as anonymous, owner and another user, with handlers of the project and with API keys; the user in runs
and crons, and a gate that stays open."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, Server, make_key, until, write_project
from websockets.sync.client import connect

AUTH = '''
from pathlib import Path

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None):
    if not authorization:
        raise Auth.exceptions.HTTPException(status_code=401, detail="who are you?")
    name = authorization.removeprefix("Bearer s3cr3t-")
    if Path(__file__).with_name("revoked").exists():
        raise Auth.exceptions.HTTPException(status_code=401, detail="not any more")
    if name == "broken":
        raise RuntimeError(f"can't read {authorization}")
    return {"identity": name, "permissions": ["p"], "org": {"id": 7}}


@auth.on
async def owner(ctx, value):
    mine = {"owner": ctx.user.identity}
    if value.get("metadata", {}) is not None:
        value.setdefault("metadata", {}).update(mine)
    return mine


@auth.on.store
async def store(ctx, value):
    value["namespace"] = (ctx.user.identity, *(value["namespace"] or ()))


@auth.on.threads.read
async def read(ctx, value):
    if ctx.user.identity == "rita":
        raise RuntimeError("no database")
    if ctx.user.identity == "nils":
        return {"owner": {"$ne": "nils"}}
    return None if ctx.user.identity == "overseer" else {"owner": ctx.user.identity}


@auth.on.threads.create_run
async def create_run(ctx, value):
    if ctx.user.identity == "nora":
        return False
    return await owner(ctx, value)


@auth.on.assistants.delete
async def delete(ctx, value):
    return None if ctx.user.identity == "ann" else False
'''

GRAPH = '''
import time
from pathlib import Path
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    x: object


def node(state: State, config: RunnableConfig) -> State:
    user = config["configurable"]["langgraph_auth_user"]
    known = user["org"]["id"] if user.permissions == ["p"] else user["api_key_id"][:3]
    return {"x": [user.identity, known, config["configurable"]["user_id"]]}


async def stall(state: State) -> State:
    folder = Path(state["x"])
    (folder / "stalls").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    return {}


def graph_of(function):
    builder = StateGraph(State)
    builder.add_node("node", function)
    builder.add_edge(START, "node")
    return builder.compile()


graph = graph_of(node)
stalling = graph_of(stall)
'''

GRAPHS = {"g": "./g.py:graph", "stalling": "./g.py:stalling"}
OPERATOR = "operator-s3cr3t-token"
RUN = {"assistant_id": "g", "input": {"x": 1}}
CRON = {"assistant_id": "g", "schedule": "0 0 1 1 *", "input": {"x": 1}}
SEARCHED = {"/assistants/search", "/threads/search", "/runs/crons/search"}
COUNTED = {"/assistants/count", "/threads/count", "/runs/crons/count"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("auth")
    files = {"g.py": GRAPH, "auth.py": AUTH}
    project = write_project(folder / "project", GRAPHS, files, auth={"path": "./auth.py:auth"})
    server = Server(project, folder / "data", THREADYARD_OPERATOR_TOKEN=OPERATOR)
    server.revoked = project / "revoked"  # type: ignore[attr-defined]
    yield server
    server.stop()


class Door:
    """A server that asks who calls, and those who do."""

    def __init__(self, server: Server, data: Path, keyed: bool) -> None:
        self.server = server
        self.keyed = keyed
        self.nobody = "Unauthorized: send an API key as `x-api-key`" if keyed else "who are you?"
        self._data = data
        self._keys: dict[str, str] = {}

    def client(self, name: str | None) -> httpx.Client:
        if not self.keyed or name is None:
            return client(self.server, name)
        if name not in self._keys:
            self._keys[name] = make_key(self._data, name, "--scope", "*")
        return httpx.Client(base_url=self.server.url, headers={"x-api-key": self._keys[name]}, timeout=60)


@pytest.fixture(scope="module", params=["handlers", "keys"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    keyed = request.param == "keys"
    auth = {"keys": True} if keyed else {"path": "./auth.py:auth"}
    project = write_project(folder / "project", GRAPHS, {"g.py": GRAPH, "auth.py": AUTH}, auth=auth)
    server = Server(project, folder / "data", THREADYARD_OPERATOR_TOKEN=OPERATOR)
    yield Door(server, folder / "data", keyed)
    server.stop()


def client(server: Server, name: str | None) -> httpx.Client:
    headers = {} if name is None else {"authorization": f"Bearer s3cr3t-{name}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60)


def routes() -> list[tuple[str, str]]:
    """The routes that the server says it has."""
    listed = (ROOT / "docs/COMPATIBILITY.md").read_text().split("## Not supported yet")[0]
    found = re.findall(r"^- `([A-Z, ]+)` `(/\S*)`$", listed, re.M)
    return [(method, path) for methods, path in found for method in methods.split(", ")]


class Things:
    """What the owner made."""

    def __init__(self, ann: httpx.Client) -> None:
        self.thread = ann.post("/threads", json={}).json()["thread_id"]
        ann.post(f"/threads/{self.thread}/runs/wait", json=RUN)
        self.run = ann.get(f"/threads/{self.thread}/runs").json()[0]["run_id"]
        self.cron = ann.post("/runs/crons", json=CRON).json()["cron_id"]
        self.assistant = ann.post("/assistants", json={"graph_id": "g"}).json()["assistant_id"]
        self.checkpoint = ann.get(f"/threads/{self.thread}/state").json()["checkpoint"]["checkpoint_id"]
        ann.put("/store/items", json={"namespace": ["n"], "key": "k", "value": {"v": 1}}).raise_for_status()

    def at(self, path: str) -> str:
        named = {
            "{thread_id}": self.thread, "{run_id}": self.run, "{cron_id}": self.cron,
            "{assistant_id}": self.assistant, "{checkpoint_id}": self.checkpoint, "{namespace}": "x",
        }  # fmt: skip
        for name, value in named.items():
            path = path.replace(name, value)
        return path


PUBLIC = ["/", "/ok", "/info", "/metrics", "/docs", "/openapi.json", "/webhooks/public-key"]
# What the owner and another one get, and what is sent. What ends what others need comes last.
NAMED: dict[tuple[str, str], tuple[int, int, Any]] = {
    ("GET", "/assistants/{assistant_id}"): (200, 404, None),
    ("PATCH", "/assistants/{assistant_id}"): (200, 404, {"name": "b"}),
    ("POST", "/assistants/{assistant_id}/versions"): (200, 404, {}),
    ("POST", "/assistants/{assistant_id}/latest"): (200, 404, {"version": 1}),
    ("GET", "/assistants/{assistant_id}/schemas"): (200, 404, None),
    ("GET", "/assistants/{assistant_id}/graph"): (200, 404, None),
    ("GET", "/assistants/{assistant_id}/subgraphs"): (200, 404, None),
    ("GET", "/assistants/{assistant_id}/subgraphs/{namespace}"): (200, 404, None),
    ("GET", "/threads/{thread_id}"): (200, 404, None),
    ("PATCH", "/threads/{thread_id}"): (200, 404, {"metadata": {"a": 1}}),
    ("POST", "/threads/{thread_id}/copy"): (200, 409, {}),
    ("GET", "/threads/{thread_id}/storage"): (200, 404, None),
    ("GET", "/threads/{thread_id}/state"): (200, 404, None),
    ("POST", "/threads/{thread_id}/state"): (200, 404, {"values": {"x": 2}, "as_node": "node"}),
    ("POST", "/threads/{thread_id}/state/checkpoint"): (200, 404, {"checkpoint": {}}),
    ("GET", "/threads/{thread_id}/state/{checkpoint_id}"): (200, 404, None),
    ("GET", "/threads/{thread_id}/history"): (200, 404, None),
    ("POST", "/threads/{thread_id}/history"): (200, 404, {}),
    ("GET", "/threads/{thread_id}/runs"): (200, 404, None),
    ("POST", "/threads/{thread_id}/runs"): (200, 404, {**RUN, "if_not_exists": "create"}),
    ("POST", "/threads/{thread_id}/runs/crons"): (200, 404, CRON),
    ("POST", "/threads/{thread_id}/runs/stream"): (200, 404, RUN),
    ("POST", "/threads/{thread_id}/runs/wait"): (200, 404, RUN),
    ("GET", "/threads/{thread_id}/runs/{run_id}"): (200, 404, None),
    ("GET", "/threads/{thread_id}/runs/{run_id}/deliveries"): (200, 404, None),
    ("POST", "/threads/{thread_id}/runs/{run_id}/cancel"): (404, 404, None),
    ("GET", "/runs/{run_id}/stream"): (200, 404, None),
    ("GET", "/runs/crons/{cron_id}"): (200, 404, None),
    ("PATCH", "/runs/crons/{cron_id}"): (200, 404, {"enabled": False}),
    ("DELETE", "/runs/crons/{cron_id}"): (204, 404, None),
    ("DELETE", "/threads/{thread_id}/runs/{run_id}"): (204, 404, None),
    ("DELETE", "/threads/{thread_id}"): (204, 404, None),
    ("DELETE", "/assistants/{assistant_id}"): (204, 403, None),
}
# What anybody may do who is known, with something of their own.
ANYBODY: dict[tuple[str, str], Any] = {
    ("POST", "/assistants"): {"graph_id": "g"},
    ("POST", "/assistants/search"): {},
    ("POST", "/assistants/count"): {},
    ("POST", "/threads"): {},
    ("POST", "/threads/search"): {},
    ("POST", "/threads/count"): {},
    ("POST", "/runs"): RUN,
    ("POST", "/runs/batch"): [RUN],
    ("POST", "/runs/stream"): RUN,
    ("POST", "/runs/wait"): RUN,
    ("POST", "/runs/crons"): CRON,
    ("POST", "/runs/crons/search"): {},
    ("POST", "/runs/crons/count"): {},
    ("PUT", "/store/items"): {"namespace": ["n"], "key": "other", "value": {"v": 2}},
    ("GET", "/store/items"): None,
    ("DELETE", "/store/items"): {"namespace": ["n"], "key": "k"},
    ("POST", "/store/items/search"): {},
    ("POST", "/store/namespaces"): {},
}
# What has a test of its own below.
APART = {
    ("GET", "/threads/{thread_id}/stream"),
    ("GET", "/threads/{thread_id}/stream/events"),
    ("POST", "/threads/{thread_id}/stream/events"),
    ("POST", "/threads/{thread_id}/commands"),
    ("GET", "/threads/{thread_id}/runs/{run_id}/join"),
    ("GET", "/threads/{thread_id}/runs/{run_id}/stream"),
    ("POST", "/runs/cancel"),
    ("POST", "/threads/prune"),
    ("POST", "/mcp"),
    ("DELETE", "/mcp"),
    ("GET", "/a2a/{assistant_id}"),
    ("POST", "/a2a/{assistant_id}"),
    ("GET", "/a2a/{assistant_id}/.well-known/agent-card.json"),
    ("GET", "/a2a/{assistant_id}/.well-known/agent.json"),
    ("GET", "/.well-known/agent-card.json"),
    # Only there where a project has components: `e2e/js/ui.test.mjs`.
    ("POST", "/ui/{graph}"),
    ("GET", "/ui/{graph}/{file}"),
}


def test_every_route_has_an_entry() -> None:
    known = set(NAMED) | set(ANYBODY) | APART | {("GET", path) for path in PUBLIC}
    missing = [route for route in routes() if route not in known and not route[1].startswith("/webhooks/")]
    assert missing == [], "say who may use the new routes"
    assert not known - set(routes()), "a route is gone"


def test_nobody_gets_in_without_a_name(door: Door) -> None:
    with door.client(None) as anybody:
        for method, path in routes():
            answer = anybody.request(method, re.sub(r"{\w+}", "00000000-0000-0000-0000-000000000001", path), json={})
            if path in PUBLIC:
                assert answer.status_code == 200, path
            elif path.startswith("/webhooks/"):
                assert answer.status_code == 403, path
            else:
                assert (answer.status_code, answer.json()) == (401, {"detail": door.nobody}), (method, path)
        assert anybody.get("/nothing").status_code == 401
        assert anybody.post("/threads/search", json={}, headers={"x-auth-scheme": "langsmith"}).status_code == 401
        upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert anybody.get("/nothing", headers=upgrade).status_code == 403


def test_owners_reach_what_is_theirs_and_others_do_not(door: Door) -> None:
    with door.client("ann") as ann, door.client("bob") as bob:
        things = Things(ann)
        for (method, path), (owners, others, body) in NAMED.items():
            place = things.at(path)
            answer = bob.request(method, place, json=body)
            # With keys, no handler says more than whose it is.
            expected = 404 if door.keyed and others == 403 else others
            assert answer.status_code == expected, (method, path, answer.text)
            for id in (things.thread, things.run, things.cron, things.assistant):
                assert id not in answer.text or others == 409, (method, path, answer.text)
            answer = ann.request(method, place, json=body)
            assert answer.status_code == owners, (method, path, answer.text)


def test_others_find_nothing_that_is_not_theirs(door: Door) -> None:
    with door.client("ann") as ann, door.client("cleo") as cleo:
        things = Things(ann)
        mine = [things.thread, things.run, things.cron, things.assistant]
        for path in SEARCHED:
            found = cleo.post(path, json={}).json()
            # With keys, everybody may use the assistants of the graphs.
            assert all(door.keyed and it["metadata"] == {"created_by": "system"} for it in found), path
            assert cleo.post(path, json={"metadata": {"owner": "ann"}}).json() == [], path
            assert any(id in ann.post(path, json={}).text for id in mine), path
        for path in COUNTED:
            everybodys = len(GRAPHS) if door.keyed and path == "/assistants/count" else 0
            assert cleo.post(path, json={}).json() == everybodys, path
            assert ann.post(path, json={}).json() > 0, path
        for (method, path), body in ANYBODY.items():
            answer = cleo.request(method, path + ("?namespace=n&key=k" if method == "GET" else ""), json=body)
            assert answer.is_success, (method, path, answer.text)
            assert not any(id in answer.text for id in mine), (method, path)
        assert ann.get("/store/items?namespace=n&key=k").json()["namespace"] == ["ann", "n"]
        assert cleo.get("/store/items?namespace=n&key=k").json() is None
        assert all(item["namespace"][0] == "cleo" for item in cleo.post("/store/items/search", json={}).json()["items"])
        taken = {"/threads": {"thread_id": things.thread}, "/assistants": {"assistant_id": things.assistant, "graph_id": "g"}}
        for path, made in taken.items():
            assert cleo.post(path, json={**made, "if_exists": "do_nothing"}).status_code == 409, path
        named = {**RUN, "assistant_id": things.assistant}
        assert cleo.post("/runs/wait", json=named).status_code == 404


def test_streams_and_bulk_requests_reach_what_is_theirs(door: Door) -> None:
    with door.client("ann") as ann, door.client("dan") as dan:
        things = Things(ann)
        at = f"/threads/{things.thread}/runs/{things.run}"
        assert "not found" in dan.get(f"{at}/join").text.lower()
        assert dan.get(f"{at}/join").text != ann.get(f"{at}/join").text
        assert "404" in dan.get(f"{at}/stream").text
        pending = ann.post(f"/threads/{things.thread}/runs", json={**RUN, "after_seconds": 600}).json()["run_id"]
        chosen = {"thread_id": things.thread, "run_ids": [pending]}
        for body in (chosen, {"status": "pending"}):
            assert dan.post("/runs/cancel", json=body).status_code == 404
        assert ann.get(f"/threads/{things.thread}/runs/{pending}").json()["status"] == "pending"
        assert ann.post("/runs/cancel", json=chosen).status_code == 204
        prune = {"thread_ids": [things.thread]}
        pruned = [dan.post("/threads/prune", json={**prune, "strategy": it}).json() for it in ("keep_latest", "delete")]
        assert pruned == [{"pruned_count": 0}] * 2
        with dan.stream("GET", f"/threads/{things.thread}/stream") as foreign:
            assert foreign.status_code == 200
            ann.post(f"/threads/{things.thread}/runs/wait", json=RUN)
            assert next(foreign.iter_text()).startswith(": heartbeat"), "a foreign thread has nothing to say"
        assert ann.post("/threads/prune", json=prune).json() == {"pruned_count": 1}


def test_an_assistant_takes_none_of_others_threads_along(door: Door) -> None:
    with door.client("ann") as ann, door.client("ivy") as ivy:
        assistant = ann.post("/assistants", json={"graph_id": "g"}).json()["assistant_id"]
        # Whoever writes this makes a thread look as if the assistant had worked on it.
        posing = {"metadata": {"assistant_id": assistant}}
        mine, others = (it.post("/threads", json=posing).json()["thread_id"] for it in (ann, ivy))
        assert ann.delete(f"/assistants/{assistant}?delete_threads=true").status_code == 204
        assert ann.get(f"/threads/{mine}").status_code == 404
        assert ivy.get(f"/threads/{others}").status_code == 200


def test_tapes_are_read_and_commanded_by_owners(door: Door) -> None:
    with door.client("ann") as ann, door.client("kim") as kim:
        things = Things(ann)
        start = {"id": 1, "method": "run.start", "params": {"assistant_id": "g", "input": {"x": 1}}}
        answer = {"id": 2, "method": "input.respond", "params": {"interrupt_id": "a", "namespace": [], "response": 1}}
        looks = [("agent.getTree", {}), ("state.get", {}), ("state.listCheckpoints", {}), ("state.fork", {"checkpoint_id": "x"})]
        commands = [{"id": 3, "method": method, "params": params} for method, params in looks]
        owned = [ann.post(f"/threads/{things.thread}/commands", json=command).json() for command in commands]
        assert [one["type"] for one in owned] == ["success", "success", "success", "error"], owned
        for command in (start, answer, *commands):
            refused = kim.post(f"/threads/{things.thread}/commands", json=command).json()
            assert refused["type"] == "error", refused
        assert len(ann.get(f"/threads/{things.thread}/runs").json()) == 1
        wanted = {"channels": ["lifecycle", "values"]}
        with kim.stream("POST", f"/threads/{things.thread}/stream/events", json=wanted) as foreign:
            begun = ann.post(f"/threads/{things.thread}/commands", json=start).json()
            assert begun["type"] == "success", begun
            ann.get(f"/threads/{things.thread}/runs/{begun['result']['run_id']}/join")
            assert next(foreign.iter_text()).startswith(":"), "a foreign tape has nothing to say"
        with kim.stream("GET", f"/threads/{things.thread}/stream", headers={"Last-Event-ID": "-"}) as foreign:
            assert next(foreign.iter_text()).startswith(":"), "a foreign thread has nothing to say again"
        with ann.stream("POST", f"/threads/{things.thread}/stream/events", json=wanted) as own:
            assert "event: lifecycle" in own.iter_lines()


def test_an_open_web_socket_does_not_outlive_its_leave(guarded: Server) -> None:
    with client(guarded, "ann") as ann:
        thread = ann.post("/threads", json={}).json()["thread_id"]
    url = f"{guarded.url.replace('http', 'ws')}/threads/{thread}/stream/events"
    revoked: Path = guarded.revoked  # type: ignore[attr-defined]
    with connect(url, additional_headers={"authorization": "Bearer s3cr3t-ann"}, open_timeout=60) as socket:
        for id, error in ((1, "no_such_subscription"), (2, "permission_denied")):
            socket.send(json.dumps({"id": id, "method": "subscription.unsubscribe", "params": {"subscription_id": "x"}}))
            said = json.loads(socket.recv(60))
            assert (said["id"], said["error"]) == (id, error)
            revoked.touch()
    revoked.unlink()


READING = '''
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(body):
    if not body or "name" not in body:
        headers = {"www-authenticate": "Digest", "x-why": "no name", "content-length": "1"}
        raise Auth.exceptions.HTTPException(status_code=401, detail="who are you?", headers=headers)
    return body["name"]


@auth.on.threads.create
async def slowly(ctx, value):
    raise Auth.exceptions.HTTPException(status_code=429, detail="later", headers={"retry-after": "7"})
'''


def test_nobody_is_shown_to_authentication_at_any_length(tmp_path: Path) -> None:
    files = {"g.py": GRAPH, "auth.py": READING}
    project = write_project(tmp_path / "project", GRAPHS, files, auth={"path": "./auth.py:auth"})
    server = Server(project, tmp_path / "data")
    try:
        with client(server, None) as somebody:
            assert somebody.post("/threads/search", json={"name": "ann"}).status_code == 200
            assert somebody.post("/threads/search", json={"other": "x" * 1_000_000}).status_code == 401
            answer = somebody.post("/threads/search", json={"name": "x" * 1_100_000})
            assert (answer.status_code, answer.json()["detail"].split()[0]) == (413, "authentication")
            # What a refusal has in its headers is said.
            answer = somebody.post("/threads", json={})
            assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"})
            assert answer.headers.get_list("www-authenticate") == ["Digest"] and answer.headers["x-why"] == "no name"
            answer = somebody.post("/threads", json={"name": "ann"})
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    finally:
        server.stop()


def test_agents_and_tools_are_those_of_the_caller(door: Door) -> None:
    with door.client("ann") as ann, door.client("hal") as hal:
        assistant = ann.post("/assistants", json={"graph_id": "g", "name": "annstool"}).json()["assistant_id"]
        for card in (f"/a2a/{assistant}/.well-known/agent-card.json", f"/.well-known/agent-card.json?assistant_id={assistant}"):
            assert ann.get(card).status_code == 200, card
            assert not hal.get(card).is_success, card
        message = {"role": "user", "parts": [{"kind": "text", "text": "hi"}], "messageId": "1", "kind": "message"}
        call = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
        assert "result" not in hal.post(f"/a2a/{assistant}", json=call).json()
        listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = {"accept": "application/json, text/event-stream"}
        assert "annstool" not in hal.post("/mcp", json=listing, headers=accept).text


def test_deliveries_are_for_operators(door: Door) -> None:
    with door.client("ann") as ann:
        operator = {"authorization": f"Bearer {OPERATOR}"}
        assert ann.post("/webhooks/deliveries/search", json={}).status_code == 403
        assert httpx.post(f"{door.server.url}/webhooks/deliveries/search", json={}, headers=operator).status_code == 200
        assert httpx.get(f"{door.server.url}/webhooks/destinations", headers=operator).status_code == 200
        elsewhere = httpx.post(f"{door.server.url}/threads/search", json={}, headers=operator)
        assert elsewhere.status_code == 401 if door.keyed else elsewhere.json() == []


def test_runs_and_crons_are_their_makers(guarded: Server) -> None:
    with client(guarded, "eve") as eve:
        assert eve.post("/runs/wait", json=RUN).json() == {"x": ["eve", 7, "eve"]}
        cron = eve.post("/runs/crons", json={**CRON, "schedule": "*/1 * * * * *", "on_run_completed": "keep"})
        shown = cron.json()
        assert shown["user_id"] == "eve"
        assert "org" not in cron.text
        found: list[Any] = []

        def ran() -> bool:
            found[:] = [it["values"] for it in eve.post("/threads/search", json={}).json() if it.get("values")]
            return bool(found)

        until(ran, "the runs of the cron are not found by who made it")
        eve.delete(f"/runs/crons/{shown['cron_id']}")
        assert found[0] == {"x": ["eve", 7, "eve"]}


def test_nobody_passes_a_run_off_as_that_of_somebody_else(guarded: Server) -> None:
    names = ["langgraph_auth_user_id", "user_id", "langgraph_auth_permissions"]
    posing = {"langgraph_auth_user": {"identity": "root"}, **dict.fromkeys(names[:2], "root"), names[2]: ["root"]}
    with client(guarded, "eve") as eve:
        run = eve.post("/runs", json={**RUN, "config": {"configurable": posing}, "after_seconds": 600}).json()
        known = run["kwargs"]["config"]["configurable"]
        assert [known["langgraph_auth_user"]["identity"], *map(known.get, names)] == ["eve", "eve", "eve", ["p"]]


def test_who_may_not_begin_runs_may_not_have_a_cron_begin_them(guarded: Server) -> None:
    with client(guarded, "nora") as nora:
        thread = nora.post("/threads", json={}).json()["thread_id"]
        for place in (f"/threads/{thread}/runs", "/runs", f"/threads/{thread}/runs/crons", "/runs/crons"):
            assert nora.post(place, json=CRON).status_code == 403, place
    with client(guarded, "ann") as ann, client(guarded, "overseer") as overseer:
        # Who may look at a thread may not have a cron begin runs on it.
        thread = ann.post("/threads", json={}).json()["thread_id"]
        assert overseer.get(f"/threads/{thread}").status_code == 200
        assert overseer.post(f"/threads/{thread}/runs/crons", json=CRON).status_code == 404


def test_what_is_known_of_a_user_is_shown_to_nobody_else(guarded: Server) -> None:
    with client(guarded, "ann") as ann, client(guarded, "overseer") as overseer:
        things = Things(ann)
        at = f"/threads/{things.thread}/runs"
        assert "org" in ann.get(f"{at}/{things.run}").text
        assert overseer.get(f"{at}/{things.run}").json()["run_id"] == things.run
        for place in (at, f"{at}/{things.run}"):
            assert "langgraph_auth_user_id" in overseer.get(place).text
            assert "org" not in overseer.get(place).text
        streamed = ann.post(f"{at}/stream", json={**RUN, "stream_mode": ["debug", "checkpoints"]}).text
        assert "event: checkpoints" in streamed and "event: debug" in streamed
        assert "org" not in streamed


def test_who_may_only_read_a_run_does_not_stop_it_by_leaving(guarded: Server) -> None:
    with client(guarded, "ann") as ann, client(guarded, "overseer") as overseer:
        thread = ann.post("/threads", json={}).json()["thread_id"]
        run = ann.post(f"/threads/{thread}/runs", json={**RUN, "after_seconds": 600}).json()["run_id"]
        leaving = {"cancel_on_disconnect": "true"}
        assert overseer.get(f"/threads/{thread}/runs/{run}").status_code == 200
        for place in ("join", "stream"):
            with overseer.stream("GET", f"/threads/{thread}/runs/{run}/{place}", params=leaving) as answer:
                assert answer.status_code == 404, place
        assert ann.get(f"/threads/{thread}/runs/{run}").json()["status"] == "pending"
        assert ann.post(f"/threads/{thread}/runs/{run}/cancel?wait=true").is_success


def test_a_failing_handler_lets_nobody_in_and_tells_no_secret(guarded: Server) -> None:
    with client(guarded, "broken") as broken:
        answer = broken.post("/threads", json={})
        assert (answer.status_code, answer.json()) == (500, {"detail": "internal server error"})
    with client(guarded, "rita") as rita:
        thread = rita.post("/threads", json={}).json()["thread_id"]
        for place in ("join", "stream"):
            answer = rita.get(f"/threads/{thread}/runs/{thread}/{place}").text
            assert "internal server error" in answer and "no database" not in answer, answer
        start = {"id": 1, "method": "run.start", "params": {"assistant_id": "g", "input": {"x": 1}}}
        assert rita.post(f"/threads/{thread}/commands", json=start).json()["type"] == "error"
    with client(guarded, "ann") as ann, client(guarded, "nils") as nils:
        # A filter that makes no sense admits nothing.
        answer = nils.get("/threads/" + ann.post("/threads", json={}).json()["thread_id"])
        assert (answer.status_code, answer.json()) == (500, {"detail": "internal server error"})
    guarded.wait_for_log("RuntimeError")
    assert "s3cr3t" not in guarded.log()


def test_the_gate_answers_while_a_graph_blocks_its_worker(guarded: Server, tmp_path: Path) -> None:
    with client(guarded, "fay") as fay:
        fay.post("/runs", json={"assistant_id": "stalling", "input": {"x": str(tmp_path)}})
        until((tmp_path / "stalls").exists, "the graph does not begin")
        try:
            for _ in range(5):
                assert fay.post("/threads", json={}).status_code == 200
        finally:
            (tmp_path / "go").touch()


def test_a_dead_gate_is_replaced_and_lets_nobody_in_meanwhile(guarded: Server) -> None:
    with client(guarded, "gus") as gus:
        thread = gus.post("/threads", json={}).json()["thread_id"]
        children = subprocess.run(["pgrep", "-f", "threadyard_worker"], capture_output=True, text=True).stdout.split()
        ours = [int(pid) for pid in children if _descends(int(pid), guarded.process.pid)]
        gate = max(pid for pid in ours)
        os.kill(gate, signal.SIGKILL)
        seen = set()

        def back() -> bool:
            seen.add(gus.get(f"/threads/{thread}").status_code)
            return 200 in seen and len(ours) > 0

        until(back, lambda: f"{seen}")
        assert seen <= {200, 503}
        with client(guarded, None) as anybody:
            assert anybody.get(f"/threads/{thread}").status_code == 401


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return False
