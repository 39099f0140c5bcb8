"""What a webhook is told for every way a run ends, against the bodies in `e2e/webhook_endings.json`.

After a deliberate change, `WRITE_ENDINGS=1` writes the file anew; read the difference.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import ROOT, Receiver, Server, until, write_project
from langgraph_sdk import get_sync_client

GOLDEN = ROOT / "e2e/webhook_endings.json"
# What the official server sends.
UPSTREAM = {
    "run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs", "multitask_strategy", "created_at",
    "updated_at", "langsmith_session_name", "run_ended_at", "webhook_sent_at", "values",
}  # fmt: skip
OURS = {"type", "thread_status", "interrupts", "cancel_reason", "superseded_by", "cron_id", "thread_seq"}
GRAPH = """
import asyncio
import os
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    mode: str
    said: str


async def work(state: State) -> State:
    match state["mode"]:
        case "raise":
            raise ValueError("boom")
        case "ask":
            return {"said": interrupt("may I?")}
        case "sleep":
            await asyncio.sleep(3600)
        case "die":
            os._exit(1)
    return {"said": "done"}


def begin(state: State) -> State:
    return {"said": "begun"}


builder = StateGraph(State)
builder.add_sequence([("begin", begin), ("work", work)])
builder.add_edge(START, "begin")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("endings")
    project = write_project(folder, {"work": "./work.py:builder"}, {"work.py": GRAPH})
    server = Server(project, folder / "data")
    yield server
    server.stop()


@pytest.fixture
def hasty(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that gives runs little time, though enough for a first node."""
    folder = tmp_path_factory.mktemp("hasty")
    return serve(write_project(folder, {"work": "./work.py:builder"}, {"work.py": GRAPH}), BG_JOB_TIMEOUT_SECS="12")


class Desk:
    """Asks for runs that all tell one receiver."""

    def __init__(self, server: Server, hooks: Receiver) -> None:
        self.url = server.url
        self.runs = get_sync_client(url=server.url).runs
        self.hooks = hooks
        self.thread = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]

    def ask(self, mode: str, **more: Any) -> str:
        run = self.runs.create(self.thread, "work", input={"mode": mode}, **{"webhook": self.hooks.url, **more})
        return run["run_id"]

    def begun(self) -> str:
        """A run that sleeps, once its first checkpoint is there."""
        run_id = self.ask("sleep")
        state = f"{self.url}/threads/{self.thread}/state"
        until(lambda: (httpx.get(state).json().get("values") or {}).get("said") == "begun", "the run does not begin")
        return run_id

    def told(self, run_id: str | None = None) -> dict[str, Any]:
        while True:
            body = self.hooks.got.get(timeout=120)[2]
            if run_id is None or body["run_id"] == run_id:
                return body


def success(desk: Desk) -> dict[str, Any]:
    return desk.told(desk.ask("go"))


def resumed(desk: Desk) -> dict[str, Any]:
    desk.told(desk.ask("ask"))
    command = {"resume": "yes"}
    return desk.told(desk.runs.create(desk.thread, "work", command=command, webhook=desk.hooks.url)["run_id"])


def waiting(desk: Desk) -> dict[str, Any]:
    return desk.told(desk.ask("ask"))


def waiting_before_a_node(desk: Desk) -> dict[str, Any]:
    return desk.told(desk.ask("go", interrupt_before=["work"]))


def error(desk: Desk) -> dict[str, Any]:
    return desk.told(desk.ask("raise"))


def timeout(desk: Desk) -> dict[str, Any]:
    return desk.told(desk.ask("sleep"))


def attempts_exhausted(desk: Desk) -> dict[str, Any]:
    return desk.told(desk.ask("die"))


def cancelled(desk: Desk) -> dict[str, Any]:
    run_id = desk.begun()
    desk.runs.cancel(desk.thread, run_id)
    return desk.told(run_id)


def cancelled_while_pending(desk: Desk) -> dict[str, Any]:
    run_id = desk.ask("go", after_seconds=600)
    desk.runs.cancel(desk.thread, run_id)
    return desk.told(run_id)


def rolled_back(desk: Desk) -> dict[str, Any]:
    run_id = desk.begun()
    desk.runs.cancel(desk.thread, run_id, action="rollback")
    return desk.told(run_id)


def superseded(desk: Desk) -> dict[str, Any]:
    run_id = desk.begun()
    desk.ask("go", multitask_strategy="interrupt")
    return desk.told(run_id)


def superseded_by_rollback(desk: Desk) -> dict[str, Any]:
    run_id = desk.begun()
    desk.ask("go", multitask_strategy="rollback")
    return desk.told(run_id)


def superseded_while_pending(desk: Desk) -> dict[str, Any]:
    run_id = desk.ask("go", after_seconds=600)
    desk.ask("go", multitask_strategy="interrupt")
    return desk.told(run_id)


def client_gone(desk: Desk) -> dict[str, Any]:
    create = {"assistant_id": "work", "input": {"mode": "sleep"}, "webhook": desk.hooks.url, "on_disconnect": "cancel"}
    with httpx.stream("POST", f"{desk.url}/threads/{desk.thread}/runs/stream", json=create, timeout=60) as stream:
        for line in stream.iter_lines():
            if "begun" in line:
                break
    return desk.told()


def stateless(desk: Desk) -> dict[str, Any]:
    run = desk.runs.create(None, "work", input={"mode": "go"}, webhook=desk.hooks.url)
    return desk.told(run["run_id"])


def second_of_its_thread(desk: Desk) -> dict[str, Any]:
    desk.told(desk.ask("go"))
    return desk.told(desk.ask("go"))


ENDINGS: list[Callable[[Desk], dict[str, Any]]] = [
    success, resumed, waiting, waiting_before_a_node, error, attempts_exhausted, cancelled, cancelled_while_pending,
    rolled_back, superseded, superseded_by_rollback, superseded_while_pending, client_gone,
    stateless, second_of_its_thread,
]  # fmt: skip


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what differs from run to run."""
    names = {body["run_id"]: "<run>", body["thread_id"]: "<thread>", body["assistant_id"]: "<assistant>"}
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    text = re.sub(uuid, lambda found: names.get(found[0], "<uuid>"), json.dumps(body))
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)", "<time>", text)
    text = re.sub(r'"id": "[0-9a-f]{32}"', '"id": "<interrupt>"', text)
    return json.loads(re.sub(r"127\.0\.0\.1:\d+", "<receiver>", text))


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_every_ending_is_told_as_it_is_written_down(ending: Callable[[Desk], Any], server: Server, receiver: Any) -> None:
    compare(ending, ending(Desk(server, receiver())))


def test_a_run_that_takes_too_long_is_told_as_it_is_written_down(hasty: Server, receiver: Any) -> None:
    compare(timeout, timeout(Desk(hasty, receiver())))


def compare(ending: Callable[[Desk], Any], body: dict[str, Any]) -> None:
    missing = UPSTREAM - body.keys()
    assert not missing
    assert body.keys() - UPSTREAM - OURS <= {"run_started_at", "error"}
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("WRITE_ENDINGS"):
        golden[ending.__name__] = plain(body)
        GOLDEN.write_text(json.dumps(golden, indent=2, sort_keys=True) + "\n")
    assert plain(body) == golden[ending.__name__]


def test_nothing_is_told_of_what_is_not_the_end(server: Server, receiver: Any) -> None:
    hooks = receiver()
    desk = Desk(server, hooks)
    refused = desk.begun()
    more = {"assistant_id": "work", "input": {}, "webhook": hooks.url, "multitask_strategy": "reject"}
    assert httpx.post(f"{server.url}/threads/{desk.thread}/runs", json=more).status_code == 409
    httpx.post(f"{server.url}/threads/{desk.thread}/state", json={"values": {"said": "x"}, "as_node": "begin"})
    assert httpx.delete(f"{server.url}/threads/{desk.thread}/runs/{refused}").status_code == 204
    time.sleep(1)
    assert hooks.got.empty()


def test_every_call_that_makes_a_run_takes_a_webhook(server: Server, receiver: Any) -> None:
    client, hooks = get_sync_client(url=server.url), receiver()
    thread = client.threads.create()["thread_id"]
    call = {"assistant_id": "work", "input": {"mode": "go"}, "webhook": hooks.url}
    crons = [
        client.crons.create(schedule="* * * * *", **call)["cron_id"],
        client.crons.create_for_thread(client.threads.create()["thread_id"], schedule="* * * * *", **call)["cron_id"],
    ]
    client.runs.create(thread, **call)
    client.runs.wait(thread, **call)
    list(client.runs.stream(thread, **call))
    client.runs.create(None, **call)
    client.runs.wait(None, **call)
    list(client.runs.stream(None, **call))
    client.runs.create_batch([call, call])
    told: list[dict[str, Any]] = []

    def by_crons() -> list[str]:
        return [body["cron_id"] for body in told if "cron_id" in body]

    # A cron may come again before all others have come.
    while len(told) - len(by_crons()) < 8 or len(set(by_crons())) < len(crons):
        told.append(hooks.got.get(timeout=120)[2])
    for cron in crons:
        client.crons.delete(cron)
    assert set(by_crons()) == set(crons)
    assert len({body["run_id"] for body in told}) == len(told) == 8 + len(by_crons())
    assert {body["type"] for body in told} == {"run.success"}
