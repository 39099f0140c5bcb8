"""Worker processes: they die, they are several, they talk, they run many runs at once, and they leave nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from langgraph_sdk import get_sync_client

GRAPH = """
import asyncio, os, sys, time, uuid
from pathlib import Path
from typing import TypedDict
from langgraph.config import get_store
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    marker: str
    seconds: float
    folder: str
    pid: int
    first: int
    errors: list[str]


async def first(state: State) -> State:
    return {"first": state.get("first", 0) + 1}


async def die_once(state: State) -> State:
    marker = Path(state["marker"])
    if not marker.exists():
        marker.touch()
        os._exit(7)
    return {"pid": os.getpid()}


async def die(state: State) -> State:
    os._exit(7)


def begin(state: State) -> Path:
    folder = Path(state["folder"])
    (folder / f"began-{uuid.uuid4()}").touch()
    return folder / "go"


async def sleep(state: State) -> State:
    go = begin(state)
    while not go.exists():
        await asyncio.sleep(0.02)
    return {"pid": os.getpid()}


async def block(state: State) -> State:
    go = begin(state)
    while not go.exists():
        time.sleep(0.02)
    return {"pid": os.getpid()}


async def refuse_to_stop(state: State) -> State:
    begin(state)
    end = time.time() + state["seconds"]
    while time.time() < end:
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            pass
    return {"pid": os.getpid()}


async def talk(state: State) -> State:
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    os.write(1, b"written by a library\\n")
    os.write(1, b"caf\\xe9\\n" + b"x" * 200_000 + b"\\n")
    return {"pid": os.getpid()}


async def ask_nonsense(state: State) -> State:
    errors = []
    for ask in (
        lambda: get_store().asearch(("a",), limit=-1),
        lambda: get_store().asearch(("a",), offset=2**40),
        lambda: get_store().alist_namespaces(max_depth=-1),
    ):
        try:
            await ask()
        except Exception as error:
            errors.append(type(error).__name__)
    return {"errors": errors, "pid": os.getpid()}


fragile = StateGraph(State).add_node(first).add_node(die_once).add_edge(START, "first").add_edge("first", "die_once")
deadly = StateGraph(State).add_node(die).add_edge(START, "die")
sleeper = StateGraph(State).add_node(sleep).add_edge(START, "sleep")
blocker = StateGraph(State).add_node(block).add_edge(START, "block")
talker = StateGraph(State).add_node(talk).add_edge(START, "talk")
stubborn = StateGraph(State).add_node(refuse_to_stop).add_edge(START, "refuse_to_stop")
asker = StateGraph(State).add_node(ask_nonsense).add_edge(START, "ask_nonsense")
"""
NAMES = ("fragile", "deadly", "sleeper", "blocker", "talker", "asker", "stubborn")


def begun(folder: Path) -> int:
    """How often a node that says so has begun."""
    return len(list(folder.glob("began-*")))


@pytest.fixture
def folder(project: Any) -> Path:
    return project({name: f"./graphs.py:{name}" for name in NAMES}, {"graphs.py": GRAPH})


@pytest.mark.parametrize("flags", [(), ("--no-fork",)], ids=["forked", "started"])
def test_a_run_whose_worker_dies_goes_on_and_its_readers_stay(
    serve: Any, folder: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    server = serve(folder, *flags)
    client = get_sync_client(url=server.url)
    thread_id, neighbour = (client.threads.create()["thread_id"] for _ in range(2))
    other = client.runs.create(neighbour, "sleeper", input={"folder": str(tmp_path)})
    until(lambda: begun(tmp_path) == 1, "the neighbour did not start")
    input = {"marker": str(tmp_path / "marker")}
    # What comes before the node that dies is kept for sure.
    parts = list(client.runs.stream(thread_id, "fragile", input=input, stream_mode="values", durability="sync"))
    (tmp_path / "go").touch()
    assert [part.data["attempt"] for part in parts if part.event == "metadata"] == [1, 2]
    assert parts[-1].data["pid"] > 0
    # The second attempt went on from the checkpoint after `first`.
    assert client.threads.get(thread_id)["values"]["first"] == 1
    assert client.runs.join(neighbour, other["run_id"])["pid"] > 0
    assert client.runs.get(neighbour, other["run_id"])["status"] == "success"
    server.wait_for_log("exit code 7")


def test_a_run_that_always_kills_its_worker_ends_as_error(serve: Any, folder: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "deadly", input={})["run_id"]
    error = client.runs.join(thread_id, run_id)["__error__"]
    assert error["error"] == "MaxAttemptsExceeded" and "exit code 7" in error["message"]
    assert client.runs.get(thread_id, run_id)["status"] == "error"
    assert client.threads.get(thread_id)["status"] == "error"
    assert httpx.get(f"{server.url}/ok").json()["ok"] is True
    assert client.runs.wait(None, "talker", input={})["pid"] > 0


def test_one_worker_executes_many_runs_at_once(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(folder)
    assert len(set(at_once(server.url, 8, tmp_path))) == 1


def test_several_workers_share_the_runs(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(folder, "--workers", "2", "--n-jobs-per-worker", "4")
    pids = at_once(server.url, 8, tmp_path)
    assert sorted(pids.count(pid) for pid in set(pids)) == [4, 4]


def at_once(url: str, count: int, folder: Path) -> list[int]:
    """Where runs are executed, none of which ends before all have begun."""
    client = get_sync_client(url=url)
    threads = [client.threads.create()["thread_id"] for _ in range(count)]
    runs = [(id, client.runs.create(id, "sleeper", input={"folder": str(folder)})["run_id"]) for id in threads]
    until(lambda: begun(folder) == count, lambda: f"of {count} runs {begun(folder)} began")
    (folder / "go").touch()
    return [client.runs.join(thread_id, run_id)["pid"] for thread_id, run_id in runs]


def test_what_user_code_prints_is_in_the_log(serve: Any, folder: Path) -> None:
    server = serve(folder)
    get_sync_client(url=server.url).runs.wait(None, "talker", input={})
    for text in ("said on stdout", "said on stderr", "written by a library", "caf"):
        server.wait_for_log(text)
    # Nothing that was printed breaks what is printed later.
    get_sync_client(url=server.url).runs.wait(None, "talker", input={})
    server.wait_for_log("said on stdout", times=2)


def test_a_blocked_event_loop_is_told_with_its_stack(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "blocker", input={"folder": str(tmp_path)})["run_id"]
    server.wait_for_log("event loop is blocked")
    server.wait_for_log("in block")
    # It is asked every second.
    time.sleep(2.5)
    (tmp_path / "go").touch()
    assert client.runs.join(thread_id, run_id)["pid"] > 0
    assert server.log().count(" in block") == 1


@pytest.mark.parametrize("flags", [(), ("--no-fork",)], ids=["forked", "started"])
def test_a_stop_leaves_no_process_and_hands_over_its_runs(
    serve: Any, folder: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    server = serve(folder, *flags, "--shutdown-grace-secs", "0")
    client = get_sync_client(url=server.url)
    pid = client.runs.wait(None, "talker", input={})["pid"]
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "sleeper", input={"folder": str(tmp_path)})["run_id"]
    until(lambda: begun(tmp_path) == 1, "the run did not start")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is left")
    (tmp_path / "go").touch()
    client = get_sync_client(url=serve(folder, *flags).url)
    assert client.runs.join(thread_id, run_id)["pid"] > 0
    assert client.threads.get_state(thread_id)["metadata"]["run_attempt"] == 2


def test_a_dead_zygote_is_replaced_by_starting_workers(serve: Any, folder: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    worker = client.runs.wait(None, "talker", input={})["pid"]
    zygote = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    assert zygote != server.process.pid
    os.kill(zygote, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{worker}").exists(), "the worker outlived the process that forked it")
    started = time.monotonic()
    assert client.runs.wait(None, "talker", input={})["pid"] != worker
    assert time.monotonic() - started < 120


def test_a_request_that_makes_no_sense_raises_where_it_was_made(serve: Any, folder: Path) -> None:
    client = get_sync_client(url=serve(folder).url)
    before = client.runs.wait(None, "talker", input={})["pid"]
    answer = client.runs.wait(None, "asker", input={})
    assert len(answer["errors"]) == 3, answer
    assert answer["pid"] == client.runs.wait(None, "talker", input={})["pid"] == before, "a worker died of it"


def test_double_texting_leaves_nothing_running(serve: Any, folder: Path) -> None:
    client = get_sync_client(url=serve(folder).url)
    threads = [client.threads.create()["thread_id"] for _ in range(40)]
    for thread_id in threads:
        for _ in range(3):
            client.runs.create(thread_id, "talker", input={}, multitask_strategy="interrupt")
    for thread_id in threads:
        until(lambda: client.threads.get(thread_id)["status"] != "busy", lambda: f"busy: {client.runs.list(thread_id)}")
        assert client.runs.list(thread_id)[0]["status"] == "success"


def test_a_node_that_does_not_stop_holds_nobody_up(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    input = {"seconds": 600, "folder": str(tmp_path)}
    run_id = client.runs.create(thread_id, "stubborn", input=input)["run_id"]
    until(lambda: begun(tmp_path) == 1, "the run did not start")
    started = time.monotonic()
    client.runs.cancel(thread_id, run_id, wait=True)
    assert time.monotonic() - started < 120
    assert client.runs.get(thread_id, run_id)["status"] == "interrupted"
    assert client.runs.wait(thread_id, "talker", input={})["pid"] > 0
