"""The official Python SDK against the built binary: every way to begin, follow, stop and find a run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Server, listened_to, until, write_project
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

GRAPHS = """
import asyncio
import operator
from pathlib import Path
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    seconds: float
    gate: str
    log: Annotated[list[str], operator.add]


async def begin(state: State) -> State:
    return {"log": ["begin"]}


async def wait(state: State) -> State:
    await asyncio.sleep(state.get("seconds", 0))
    while "gate" in state and not Path(state["gate"]).exists():
        await asyncio.sleep(0.02)
    return {"log": ["wait"]}


def fail(state: State) -> State:
    raise ValueError("on purpose")


slow = StateGraph(State).add_node(begin).add_node(wait).add_edge(START, "begin").add_edge("begin", "wait")
failing = StateGraph(State).add_node(begin).add_node(fail).add_edge(START, "begin").add_edge("begin", "fail")
"""
BOTH = {"log": ["begin", "wait"]}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    graphs = {name: f"./graphs.py:{name}" for name in ("slow", "failing")}
    folder = write_project(tmp_path_factory.mktemp("runs"), graphs, {"graphs.py": GRAPHS})
    server = Server(folder, folder / "data")
    yield server.url
    server.stop()


def test_a_run_is_created_found_joined_and_deleted(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    run = client.runs.create(thread_id, "slow", input={"seconds": 0.3}, metadata={"n": 1})
    assert run["status"] == "pending" and run["metadata"]["n"] == 1
    assert client.runs.join(thread_id, run["run_id"])["log"] == BOTH["log"]
    found = client.runs.get(thread_id, run["run_id"])
    assert (found["status"], found["run_id"]) == ("success", run["run_id"])
    assert [it["run_id"] for it in client.runs.list(thread_id, status="success")] == [run["run_id"]]
    assert client.runs.list(thread_id, status="error") == []
    client.runs.delete(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        client.runs.get(thread_id, run["run_id"])


def test_a_join_stream_follows_a_run(url: str, tmp_path: Path) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    gate = {"gate": str(tmp_path / "gate")}
    run = client.runs.create(thread_id, "slow", input=gate, stream_mode=["updates", "values"])
    until(lambda: client.runs.get(thread_id, run["run_id"])["status"] == "running", "the run did not start")
    until(lambda: listened_to(url) == 0, "somebody else still listens")
    parts: list[Any] = []
    stream = client.runs.join_stream(thread_id, run["run_id"], stream_mode="updates")
    listener = threading.Thread(target=lambda: parts.extend(stream))
    listener.start()
    until(lambda: listened_to(url) == 1, "nobody listens")
    (tmp_path / "gate").touch()
    listener.join(60)
    assert parts[-1].event == "updates" and parts[-1].data == {"wait": {"log": ["wait"]}}
    assert {part.event for part in parts} == {"updates"}


def test_a_resumable_stream_is_replayed(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    stream = client.runs.stream(thread_id, "slow", input={}, stream_mode="updates", stream_resumable=True)
    parts = list(stream)
    run_id = parts[0].data["run_id"]
    replayed = list(client.runs.join_stream(thread_id, run_id, last_event_id="0"))
    assert [(part.event, part.data, part.id) for part in replayed] == [(it.event, it.data, it.id) for it in parts]
    rest = list(client.runs.join_stream(thread_id, run_id, last_event_id=parts[1].id))
    assert [part.data for part in rest] == [{"wait": {"log": ["wait"]}}]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_running_run_is_cancelled(url: str, action: Any) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "slow", input={"seconds": 300})["run_id"]
    until(lambda: bool((client.threads.get_state(thread_id)["values"] or {}).get("log")), "`begin` did not end")
    started = time.monotonic()
    client.runs.cancel(thread_id, run_id, wait=True, action=action)
    assert time.monotonic() - started < 60
    if action == "interrupt":
        assert client.runs.get(thread_id, run_id)["status"] == "interrupted"
        state = client.threads.get_state(thread_id)
        assert (state["values"]["log"], state["next"]) == (["begin"], ["wait"])
        assert client.runs.wait(thread_id, "slow", input={"seconds": 0})["log"] == ["begin", *BOTH["log"]]
    else:
        with pytest.raises(NotFoundError):
            client.runs.get(thread_id, run_id)
        assert client.threads.get_history(thread_id) == []


def test_stateless_runs_leave_nothing_unless_told(url: str) -> None:
    client = get_sync_client(url=url)
    assert client.runs.wait(None, "slow", input={})["log"] == BOTH["log"]
    assert [part.event for part in client.runs.stream(None, "slow", input={})] == ["metadata", "values", "values"]
    batch = client.runs.create_batch([{"assistant_id": "slow", "input": {}} for _ in range(3)])
    assert len({run["run_id"] for run in batch}) == 3
    kept = client.runs.create(None, "slow", input={}, on_completion="keep")
    until(lambda: client.threads.get(kept["thread_id"])["status"] == "idle", "the kept thread did not come to rest")
    batched = {run["thread_id"] for run in batch}
    left = lambda: batched & {thread["thread_id"] for thread in client.threads.search(limit=1000)}  # noqa: E731
    until(lambda: not left(), lambda: f"left: {left()}")


def test_a_failing_node_is_the_outcome_of_its_run(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    parts = list(client.runs.stream(thread_id, "failing", input={}, stream_mode="updates"))
    assert parts[-1].event == "error"
    assert parts[-1].data == {"error": "ValueError", "message": "on purpose"}
    with pytest.raises(Exception, match="on purpose"):
        client.runs.wait(thread_id, "failing", input={})
    assert client.runs.list(thread_id)[0]["status"] == "error"
    thread = client.threads.get(thread_id)
    assert thread["status"] == "error" and thread["values"]["log"] == ["begin", "begin"]


def test_runs_of_one_thread_follow_their_strategy(url: str, tmp_path: Path) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    first = client.runs.create(thread_id, "slow", input={"gate": str(tmp_path / "gate")})
    with pytest.raises(ConflictError):
        client.runs.create(thread_id, "slow", input={}, multitask_strategy="reject")
    second = client.runs.create(thread_id, "slow", input={"seconds": 0}, multitask_strategy="enqueue")
    (tmp_path / "gate").touch()
    assert client.runs.join(thread_id, second["run_id"])["log"] == BOTH["log"] * 2
    assert client.runs.get(thread_id, first["run_id"])["status"] == "success"


def test_history_and_state_are_read_at_checkpoints(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    client.runs.wait(thread_id, "slow", input={})
    history = client.threads.get_history(thread_id, limit=10)
    assert [state["next"] for state in history] == [[], ["wait"], ["begin"], ["__start__"]]
    middle = history[1]["checkpoint"]
    assert client.threads.get_state(thread_id, checkpoint=middle)["values"]["log"] == ["begin"]
    again = client.runs.wait(thread_id, "slow", input=None, checkpoint=middle)
    assert again["log"] == BOTH["log"]
    sources = [state["metadata"]["source"] for state in client.threads.get_history(thread_id, limit=10)]
    assert sources[:3] == ["loop", "fork", "loop"]


def test_wrong_requests_raise_the_errors_of_the_sdk(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(NotFoundError):
        client.runs.get(thread_id, unknown)
    with pytest.raises(NotFoundError):
        client.runs.create(unknown, "slow", input={})
    with pytest.raises(UnprocessableEntityError):
        client.threads.get("not-a-uuid")
    assert client.runs.create(unknown, "slow", input={}, if_not_exists="create")["thread_id"] == unknown


def test_the_asynchronous_client_runs_many_at_once(url: str) -> None:
    async def main() -> list[Any]:
        client = get_client(url=url)
        runs = (client.runs.wait(None, "slow", input={"seconds": 0.5}) for _ in range(20))
        return await asyncio.gather(*runs)

    assert [values["log"] for values in asyncio.run(main())] == [BOTH["log"]] * 20


def lifecycle(heard: list[Any]) -> list[tuple[str, str | None]]:
    """The runs that began and ended, in the order of what was heard."""
    told = [part.data for part in list(heard) if part.event == "metadata"]
    return [(data["run_id"], data.get("status")) for data in told]


def test_a_thread_is_followed_over_its_runs(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    stream = client.threads.join_stream(thread_id)
    heard: list[Any] = []

    def listen() -> None:
        with contextlib.suppress(httpx.HTTPError):  # The server ends first.
            for part in stream:
                heard.append(part)

    threading.Thread(target=listen, daemon=True).start()
    # A stream that opens in the middle of a run hears the rest of it; the two runs behind that are heard whole.
    until(lambda: client.runs.wait(thread_id, "slow", input={}) and heard != [], "nothing was heard")
    ids = [client.runs.create(thread_id, "slow", input={})["run_id"] for _ in range(2)]
    until(lambda: [run_id for run_id, _ in lifecycle(heard) if run_id in ids].count(ids[1]) == 2, "a run was not heard")
    assert [(run_id, status) for run_id, status in lifecycle(heard) if run_id in ids] == [
        (run_id, status) for run_id in ids for status in (None, "run_done")
    ]
    assert all(part.id for part in heard) and len({part.id for part in heard}) == len(heard)
