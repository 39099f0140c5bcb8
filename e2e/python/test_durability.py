"""What must survive: state over restarts, webhooks over `kill -9`, and no process left behind."""

from __future__ import annotations

import contextlib
import queue
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from langgraph_sdk import get_sync_client

ASK = {"messages": [{"role": "user", "content": "hello"}]}


def test_a_webhook_tells_the_run_as_the_guide_says(serve: Any, receiver: Any) -> None:
    client, hooks = get_sync_client(url=serve().url), receiver()
    thread = client.threads.create()
    parts = client.runs.stream(thread["thread_id"], "agent", input=ASK, stream_mode="events", webhook=hooks.url)
    run_id = next(part.data["run_id"] for part in parts if part.event == "metadata")
    for _ in parts:
        pass
    path, headers, body = hooks.got.get(timeout=60)
    assert path == "/hook?token=s3cret"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == f"msg_{run_id.replace('-', '')}_1"
    run = client.runs.get(thread["thread_id"], run_id)
    for key in ("run_id", "thread_id", "assistant_id", "status", "metadata", "created_at", "multitask_strategy"):
        assert body[key] == run[key], key
    assert body["status"] == "success" and body["type"] == "run.success"
    assert body["values"] == client.threads.get(thread["thread_id"])["values"]
    assert body["kwargs"]["input"] == ASK
    assert "s3cret" not in str(body)
    for key in ("run_started_at", "run_ended_at", "webhook_sent_at"):
        assert body[key].endswith("+00:00")


def test_a_refused_webhook_is_sent_again_with_the_same_body(serve: Any, receiver: Any) -> None:
    client, hooks = get_sync_client(url=serve().url), receiver(503)
    client.runs.wait(None, "agent", input=ASK, webhook=hooks.url)
    first, second = hooks.got.get(timeout=60), hooks.got.get(timeout=60)
    assert first[2] == second[2]
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert (first[1]["webhook-attempt"], second[1]["webhook-attempt"]) == ("1", "2")


@pytest.mark.parametrize("point", ["run.claimed", "finish.before_commit", "finish.committed", "delivery.claimed", "delivery.sent"])
def test_a_webhook_survives_kill_9_at(point: str, serve: Any, receiver: Any) -> None:
    hooks = receiver()
    doomed = serve(THREADYARD_KILL_AT=point)
    thread_id = httpx.post(f"{doomed.url}/threads", json={}).json()["thread_id"]
    create = {"assistant_id": "agent", "input": ASK, "webhook": hooks.url}
    with contextlib.suppress(httpx.TransportError):  # It may die before it answers.
        httpx.post(f"{doomed.url}/threads/{thread_id}/runs", json=create)
    assert doomed.process.wait(60) == -9
    client = get_sync_client(url=serve().url)
    (run_id,) = (run["run_id"] for run in client.runs.list(thread_id))
    client.runs.join(thread_id, run_id)
    path, headers, body = hooks.got.get(timeout=60)
    assert body["run_id"] == run_id and body["status"] == "success"
    if point == "delivery.sent":
        # Sent, but not recorded: the receiver hears again, with the same id and the same body.
        again = hooks.got.get(timeout=60)
        assert (again[1]["webhook-id"], again[2]) == (headers["webhook-id"], body)
    with pytest.raises(queue.Empty):
        hooks.got.get(timeout=0.5)
    values = client.threads.get(thread_id)["values"]
    assert [message["type"] for message in values["messages"]] == ["human", "ai"]


def test_state_survives_a_restart(serve: Any) -> None:
    first = serve()
    client = get_sync_client(url=first.url)
    thread_id = client.threads.create(metadata={"keep": True})["thread_id"]
    values = client.runs.wait(thread_id, "agent", input=ASK)
    state = client.threads.get_state(thread_id)
    first.kill()
    client = get_sync_client(url=serve().url)
    assert client.threads.get(thread_id)["values"] == values
    assert client.threads.get_state(thread_id) == state
    assert len(client.runs.wait(thread_id, "agent", input=ASK)["messages"]) == 4


COUNTING = """
import asyncio
from pathlib import Path
from typing import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import StateGraph

class State(TypedDict):
    done: int
    gate: str

async def count(state: State) -> State:
    write = get_stream_writer()
    for n in range(20):
        write({"step": state["done"], "n": n})
        await asyncio.sleep(0.005)
        while state["done"] == 2 and n == 9 and not Path(state["gate"]).exists():
            await asyncio.sleep(0.02)
    return {"done": state["done"] + 1}

steps = [f"step{n}" for n in range(5)]
graph = StateGraph(State).add_sequence([(name, count) for name in steps]).set_entry_point(steps[0]).compile()
"""


def test_a_resumable_stream_is_read_on_over_kill_9(serve: Any, project: Any, tmp_path: Path) -> None:
    folder = project({"count": "./count.py:graph"}, {"count.py": COUNTING})
    doomed = serve(folder)
    client = get_sync_client(url=doomed.url)
    thread_id = client.threads.create()["thread_id"]
    gate = tmp_path / "gate"
    input = {"done": 0, "gate": str(gate)}
    begun = client.runs.stream(thread_id, "count", input=input, stream_mode="custom", stream_resumable=True)
    heard = [next(begun) for _ in range(45)]
    doomed.kill()
    gate.touch()
    serve(folder, port=doomed.port)
    # The SDK comes back by itself, with the id of the last event it has.
    heard += begun
    run_id = heard[0].data["run_id"]
    assert client.runs.get(thread_id, run_id)["status"] == "success"
    places = [int(part.id.partition("-")[2]) for part in heard]
    assert places == list(range(1, len(heard) + 1)), "an event is missing or came twice"
    assert [part.data["attempt"] for part in heard if part.event == "metadata"] == [1, 2]
    # The second attempt goes on with the step that was interrupted.
    second = [part.data["step"] for part in heard[[part.event for part in heard].index("metadata", 1) + 1 :]]
    assert second == sorted(second) and second.count(4) == 20 and 0 not in second
    again = list(client.runs.join_stream(thread_id, run_id, last_event_id="-1"))
    assert [(part.id, part.event, part.data) for part in again] == [(part.id, part.event, part.data) for part in heard]


def test_no_worker_outlives_its_server(serve: Any) -> None:
    server = serve()
    workers = descendants(server.process.pid)
    assert workers
    server.kill()
    until(lambda: not any(alive(pid) for pid in workers), "workers are left")


def test_disabled_webhooks_let_runs_execute_and_send_nothing(serve: Any, receiver: Any) -> None:
    hooks = receiver()
    server = serve("e2e/broken")
    body = {"assistant_id": "fine", "input": {"x": 1}, "webhook": hooks.url}
    assert httpx.post(f"{server.url}/runs/wait", json=body).json() == {"x": 2}
    with pytest.raises(queue.Empty):
        hooks.got.get(timeout=1)


def descendants(pid: int) -> list[int]:
    found = []
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        own = [int(child) for child in children.read().split()]
    tasks = __import__("os").listdir(f"/proc/{pid}/task")
    for task in tasks:
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
            own += [int(child) for child in children.read().split()]
    for child in set(own):
        found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
