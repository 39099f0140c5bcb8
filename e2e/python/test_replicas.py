"""Several servers that share one database: each of them answers for what any of them does."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Receiver, Server, until
from langgraph_sdk import get_sync_client
from services import Database, redis_uri

GRAPHS = '''
import asyncio, operator
from pathlib import Path
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import START, END, StateGraph


class State(TypedDict, total=False):
    steps: int
    seconds: float
    gate: str
    done: Annotated[list[int], operator.add]


async def step(state: State):
    number = len(state.get("done", []))
    get_stream_writer()({"step": number})
    await asyncio.sleep(state.get("seconds", 0))
    # The last step may wait until it is let go.
    while number + 1 == state["steps"] and "gate" in state and not Path(state["gate"]).exists():
        await asyncio.sleep(0.02)
    return {"done": [number]}


builder = StateGraph(State)
builder.add_node(step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", lambda state: "step" if len(state["done"]) < state["steps"] else END)
graph = builder.compile()
'''
LEASE_S = 8


class Yard:
    """Servers of one database, which may have a Redis between them."""

    def __init__(self, project: Path, folder: Path, redis: str | None) -> None:
        self.database = Database()
        self._project, self._folder, self._redis = project, folder, redis
        self._prefix = f"test:{uuid.uuid4()}:"
        self.servers: list[Server] = []
        self._numbers = itertools.count()

    def serve(self, role: str = "all", *flags: str, **env: str) -> Server:
        env = {"DATABASE_URI": self.database.uri, "THREADYARD_ROLE": role, "THREADYARD_LEASE_SECS": str(LEASE_S)} | env
        if self._redis:
            env |= {"REDIS_URI": self._redis, "REDIS_KEY_PREFIX": self._prefix}
        data = self._folder / f"server-{next(self._numbers)}"
        self.servers.append(Server(self._project, data, "--host", "127.0.0.1", *flags, command="serve", **env))
        return self.servers[-1]

    def close(self) -> None:
        for server in self.servers:
            server.stop(within=20)
        self.database.drop()


@pytest.fixture(params=["redis", "postgres"])
def yard(request: pytest.FixtureRequest, project: Callable[..., Path], tmp_path: Path) -> Iterator[Yard]:
    webhooks = {"network": {"allow_private": True, "allowed_cidrs": ["127.0.0.0/8"]}, "url": {"require_https": False}}
    folder = project({"steps": "./graph.py:graph"}, {"graph.py": GRAPHS}, webhooks=webhooks)
    yard = Yard(folder, tmp_path, redis_uri() if request.param == "redis" else None)
    yield yard
    yard.close()


def steps(parts: list[Any]) -> list[int]:
    return [part.data["step"] for part in parts if part.event == "custom"]


def test_what_one_server_executes_another_one_answers_for(yard: Yard, receiver: Callable[..., Receiver]) -> None:
    api, worker, _sender = yard.serve("api"), yard.serve("worker"), yard.serve("sender")
    here, there = get_sync_client(url=api.url), get_sync_client(url=worker.url)
    thread_id = here.threads.create()["thread_id"]
    hook = receiver()

    stream = here.runs.stream(thread_id, "steps", input={"steps": 5, "seconds": 0.05}, stream_mode="custom", webhook=hook.url)
    assert steps(list(stream)) == [0, 1, 2, 3, 4]
    told = hook.got.get(timeout=60)[2]
    assert (told["status"], told["values"]["done"]) == ("success", [0, 1, 2, 3, 4])
    assert here.threads.get_state(thread_id)["values"] == there.threads.get_state(thread_id)["values"]
    # Nothing of a stateless run is kept: its result comes as it ends, or not at all.
    waited = [here.runs.wait(None, "steps", input={"steps": n}) for n in (1, 2, 3)]
    assert [len(values["done"]) for values in waited] == [1, 2, 3]


def test_a_run_is_joined_and_stopped_from_anywhere(yard: Yard) -> None:
    api, _worker = yard.serve("api"), yard.serve("worker")
    another = yard.serve("api")
    here, there = get_sync_client(url=api.url), get_sync_client(url=another.url)
    thread_id = here.threads.create()["thread_id"]
    run_id = here.runs.create(thread_id, "steps", input={"steps": 1000, "seconds": 0.1}, stream_mode="custom")["run_id"]
    heard: list[Any] = []

    def listen() -> None:
        for part in there.runs.join_stream(thread_id, run_id, stream_mode="custom"):
            heard.append(part)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    until(lambda: len(steps(list(heard))) > 5, "the run was not heard at the other server")
    begun = time.monotonic()
    there.runs.cancel(thread_id, run_id, wait=True)
    assert time.monotonic() - begun < 30, "it goes on for a minute and a half"
    assert here.runs.get(thread_id, run_id)["status"] == "interrupted"
    listener.join(60)
    assert not listener.is_alive()
    numbers = steps(heard)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no gap, nothing twice"


def test_a_thread_is_followed_at_a_server_that_executes_nothing(yard: Yard) -> None:
    api, _worker = yard.serve("api"), yard.serve("worker")
    client = get_sync_client(url=api.url)
    thread_id = client.threads.create()["thread_id"]
    heard: list[Any] = []

    def listen() -> None:
        with contextlib.suppress(httpx.HTTPError):  # The server ends first.
            for part in client.threads.join_stream(thread_id):
                heard.append(part)

    threading.Thread(target=listen, daemon=True).start()
    done = lambda: [part for part in list(heard) if part.event == "metadata" and part.data.get("status") == "run_done"]  # noqa: E731
    until(lambda: client.runs.wait(thread_id, "steps", input={"steps": 1}) and done() != [], "no run was heard")


def test_event_streaming_is_read_anywhere_and_goes_on_where_a_server_died(yard: Yard, tmp_path: Path) -> None:
    api, first, _second = yard.serve("api"), yard.serve("all"), yard.serve("worker")
    thread = str(uuid.uuid4())
    heard: list[Any] = []

    def ended(event: Any) -> bool:
        return event["method"] == "lifecycle" and event["params"]["data"]["event"] != "running"

    def read(server: Server, events: list[Any], **body: Any) -> None:
        body = {"channels": ["lifecycle", "custom", "values"], **body}
        with httpx.stream("POST", f"{server.url}/threads/{thread}/stream/events", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if ended(events[-1]):
                        return

    reader = threading.Thread(target=read, args=(api, heard), daemon=True)
    reader.start()
    # Asked of it, a server that has room executes a run itself.
    gate = tmp_path / "gate"
    asked = {"assistant_id": "steps", "input": {"steps": 8, "seconds": 0.2, "gate": str(gate)}}
    command = {"id": 1, "method": "run.start", "params": asked}
    httpx.post(f"{first.url}/threads/{thread}/commands", json=command).raise_for_status()
    until(lambda: len([event for event in heard if event["method"] == "custom"]) >= 3, "nothing was heard")
    first.kill()
    gate.touch()
    reader.join(120)
    assert not reader.is_alive()
    steps = [event["params"]["data"]["payload"]["step"] for event in heard if event["method"] == "custom"]
    assert steps == sorted(steps) and set(steps) == set(range(8)), "only the step that was interrupted may run again"
    assert len({event["event_id"] for event in heard}) == len(heard)
    assert [event["params"]["data"]["event"] for event in heard if event["method"] == "lifecycle"] == ["running", "completed"]
    again: list[Any] = []
    read(_second, again, since=heard[4]["seq"])
    assert again == heard[5:]


def test_a_run_that_never_began_says_its_end_everywhere_and_a_thread_is_followed_on_elsewhere(yard: Yard) -> None:
    # Without jobs, a server answers requests alone.
    api, idle = yard.serve("worker"), yard.serve("all", N_JOBS_PER_WORKER="0")
    thread, heard = str(uuid.uuid4()), []

    def listen() -> None:
        body = {"channels": ["lifecycle"]}
        with contextlib.suppress(httpx.HTTPError):  # The server ends first.
            with httpx.stream("POST", f"{api.url}/threads/{thread}/stream/events", json=body, timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        heard.append(json.loads(line.removeprefix("data: ")))

    threading.Thread(target=listen, daemon=True).start()
    runs = []
    for steps_of in (400, 1):
        asked = {"assistant_id": "steps", "input": {"steps": steps_of, "seconds": 0.3}}
        command = {"id": 1, "method": "run.start", "params": asked}
        answer = httpx.post(f"{idle.url}/threads/{thread}/commands", json=command, timeout=60).raise_for_status().json()
        runs.append(answer["result"]["run_id"])
    client = get_sync_client(url=idle.url)
    client.runs.cancel(thread, runs[1])
    client.runs.cancel(thread, runs[0], wait=True)
    ended = lambda: [event["event_id"] for event in heard if event["params"]["data"]["event"] == "interrupted"]  # noqa: E731
    until(lambda: len(ended()) == 2, lambda: f"the ends were not heard: {heard}")
    assert [id.split(":")[1] for id in ended()] == runs

    parts: list[Any] = []
    for part in client.threads.join_stream(thread, last_event_id="-"):
        parts.append(part)
        if len([done for done in parts if (done.data or {}).get("status") == "run_done"]) == 2:
            break
    client = get_sync_client(url=api.url)
    behind = client.threads.join_stream(thread, last_event_id=parts[3].id)
    assert [next(behind) for _ in parts[4:]] == parts[4:]


def test_a_run_goes_on_where_its_server_died(yard: Yard, tmp_path: Path) -> None:
    api, doomed = yard.serve("api"), yard.serve("worker")
    client = get_sync_client(url=api.url)
    thread_id = client.threads.create()["thread_id"]
    input = {"steps": 12, "seconds": 0.2, "gate": str(tmp_path / "gate")}
    run = client.runs.create(thread_id, "steps", input=input, stream_mode="custom", stream_resumable=True)
    heard: list[Any] = []

    def listen() -> None:
        for part in client.runs.join_stream(thread_id, run["run_id"], stream_mode="custom", last_event_id="-1"):
            heard.append(part)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    until(lambda: len(steps(list(heard))) > 3, "the run did not begin")
    yard.serve("worker")
    doomed.kill()
    (tmp_path / "gate").touch()
    listener.join(120)
    assert not listener.is_alive()
    # The step that was cut off is done again; nothing else is, and nothing is left out.
    numbers = steps(heard)
    assert sorted(set(numbers)) == list(range(12)) and len(numbers) <= 13
    assert len({part.id for part in heard}) == len(heard)
    assert client.threads.get_state(thread_id)["values"]["done"] == list(range(12))


def test_a_server_that_was_asleep_writes_nothing_late(yard: Yard, tmp_path: Path) -> None:
    api, sleeper = yard.serve("api"), yard.serve("worker")
    client = get_sync_client(url=api.url)
    thread_id = client.threads.create()["thread_id"]
    input = {"steps": 8, "seconds": 0.2, "gate": str(tmp_path / "gate")}
    run_id = client.runs.create(thread_id, "steps", input=input)["run_id"]
    until(lambda: bool((client.threads.get_state(thread_id)["values"] or {}).get("done")), "the run did not begin")
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    try:
        (tmp_path / "gate").touch()
        yard.serve("worker")
        client.runs.join(thread_id, run_id)
        ended = client.threads.get_history(thread_id, limit=100)
    finally:
        os.kill(sleeper.process.pid, signal.SIGCONT)
    sleeper.wait_for_log("what this attempt did is dropped")
    assert client.threads.get_history(thread_id, limit=100) == ended
    assert client.threads.get_state(thread_id)["values"]["done"] == list(range(8))


def test_who_reads_at_a_server_that_was_asleep_hears_the_end(yard: Yard, tmp_path: Path) -> None:
    sleeper = yard.serve()
    here = get_sync_client(url=sleeper.url)
    thread_id = here.threads.create()["thread_id"]
    input = {"steps": 10, "seconds": 0.1, "gate": str(tmp_path / "gate")}
    run_id = here.runs.create(thread_id, "steps", input=input)["run_id"]
    until(lambda: bool((here.threads.get_state(thread_id)["values"] or {}).get("done")), "the run did not begin")
    reads = threading.Event()

    def join() -> None:
        with httpx.stream("GET", f"{sleeper.url}/threads/{thread_id}/runs/{run_id}/join", timeout=120) as answer:
            reads.set()
            answer.read()

    joined = threading.Thread(target=join, daemon=True)
    joined.start()
    assert reads.wait(60)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    try:
        yard.serve().wait_for_log("runs whose server died are taken up again")
    finally:
        os.kill(sleeper.process.pid, signal.SIGCONT)
    # It hears of what it has lost while that still goes on.
    sleeper.wait_for_log("what this attempt did is dropped")
    assert here.runs.get(thread_id, run_id)["status"] in ("pending", "running")
    (tmp_path / "gate").touch()
    joined.join(60)
    assert not joined.is_alive()


def test_runs_are_handed_over_when_a_server_is_stopped(yard: Yard, tmp_path: Path) -> None:
    # Whoever waited for a lease would wait for long.
    lease = {"THREADYARD_LEASE_SECS": "600"}
    api = yard.serve("api", **lease)
    leaving = yard.serve("worker", "--shutdown-grace-secs", "0", **lease)
    client = get_sync_client(url=api.url)
    thread_id = client.threads.create()["thread_id"]
    input = {"steps": 10, "seconds": 0.1, "gate": str(tmp_path / "gate")}
    run_id = client.runs.create(thread_id, "steps", input=input)["run_id"]
    until(lambda: bool((client.threads.get_state(thread_id)["values"] or {}).get("done")), "the run did not begin")
    yard.serve("worker", **lease)
    begun = time.monotonic()
    leaving.stop()
    (tmp_path / "gate").touch()
    assert client.runs.join(thread_id, run_id)["done"] == list(range(10))
    assert time.monotonic() - begun < 200, "nobody had to wait for a lease"


def test_a_sender_says_that_it_executes_nothing(yard: Yard) -> None:
    answer = httpx.post(f"{yard.serve('sender').url}/runs/wait", json={"assistant_id": "steps", "input": {}})
    assert answer.status_code == 503 and "executes no graphs" in answer.text


def test_servers_of_one_database_agree_on_its_tables(yard: Yard) -> None:
    """All of them start at once on an empty database."""
    starts = [threading.Thread(target=yard.serve) for _ in range(3)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [httpx.get(f"{server.url}/ok").status_code for server in yard.servers] == [200] * 3
