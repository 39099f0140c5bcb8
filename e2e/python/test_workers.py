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
import asyncio, os, sys, time
from pathlib import Path
from typing import TypedDict
from langgraph.config import get_store
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    marker: str
    seconds: float
    began: float
    ended: float
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


async def sleep(state: State) -> State:
    began = time.time()
    await asyncio.sleep(state["seconds"])
    return {"pid": os.getpid(), "began": began, "ended": time.time()}


async def block(state: State) -> State:
    time.sleep(state["seconds"])
    return {"pid": os.getpid()}


async def refuse_to_stop(state: State) -> State:
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
    other = client.runs.create(neighbour, "sleeper", input={"seconds": 1})
    until(lambda: client.runs.get(neighbour, other["run_id"])["status"] == "running", "the neighbour did not start")
    input = {"marker": str(tmp_path / "marker")}
    parts = list(client.runs.stream(thread_id, "fragile", input=input, stream_mode="values"))
    assert [part.data["attempt"] for part in parts if part.event == "metadata"] == [1, 2]
    assert parts[-1].data["pid"] > 0
    # The second attempt went on from the checkpoint after `first`.
    assert client.threads.get(thread_id)["values"]["first"] == 1
    assert client.runs.join(neighbour, other["run_id"])["seconds"] == 1
    assert client.runs.get(neighbour, other["run_id"])["status"] == "success"
    assert "exit code 7" in server.log()


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


def test_one_worker_executes_many_runs_at_once(serve: Any, folder: Path) -> None:
    server = serve(folder)
    runs = sleeping(server.url, 8)
    assert len({run["pid"] for run in runs}) == 1
    assert max(run["began"] for run in runs) < min(run["ended"] for run in runs), "they did not overlap"


def test_several_workers_share_the_runs(serve: Any, folder: Path) -> None:
    server = serve(folder, "--workers", "2", "--n-jobs-per-worker", "4")
    runs = sleeping(server.url, 8)
    pids = [run["pid"] for run in runs]
    assert sorted(pids.count(pid) for pid in set(pids)) == [4, 4]
    assert max(run["began"] for run in runs) < min(run["ended"] for run in runs), "they did not overlap"


def sleeping(url: str, count: int) -> list[dict[str, Any]]:
    client = get_sync_client(url=url)
    threads = [client.threads.create()["thread_id"] for _ in range(count)]
    runs = [(id, client.runs.create(id, "sleeper", input={"seconds": 1.0})["run_id"]) for id in threads]
    return [client.runs.join(thread_id, run_id) for thread_id, run_id in runs]


def test_what_user_code_prints_is_in_the_log(serve: Any, folder: Path) -> None:
    server = serve(folder)
    get_sync_client(url=server.url).runs.wait(None, "talker", input={})
    for text in ("said on stdout", "said on stderr", "written by a library", "caf"):
        server.wait_for_log(text)
    # Nothing that was printed breaks what is printed later.
    get_sync_client(url=server.url).runs.wait(None, "talker", input={})
    server.wait_for_log("said on stdout", times=2)


def test_a_blocked_event_loop_is_told_with_its_stack(serve: Any, folder: Path) -> None:
    server = serve(folder)
    thread = get_sync_client(url=server.url).runs.wait(None, "blocker", input={"seconds": 2.5})
    assert thread["pid"] > 0
    server.wait_for_log("event loop is blocked")
    server.wait_for_log("in block")
    assert server.log().count("event loop is blocked") == 1


@pytest.mark.parametrize("flags", [(), ("--no-fork",)], ids=["forked", "started"])
def test_a_stop_leaves_no_process_and_hands_over_its_runs(serve: Any, folder: Path, flags: tuple[str, ...]) -> None:
    server = serve(folder, *flags, "--shutdown-grace-secs", "0")
    client = get_sync_client(url=server.url)
    pid = client.runs.wait(None, "talker", input={})["pid"]
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "sleeper", input={"seconds": 2})["run_id"]
    until(lambda: client.runs.get(thread_id, run_id)["status"] == "running", "the run did not start")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is left")
    client = get_sync_client(url=serve(folder, *flags).url)
    assert client.runs.join(thread_id, run_id)["seconds"] == 2
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
    assert time.monotonic() - started < 20


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


def test_a_node_that_does_not_stop_holds_nobody_up(serve: Any, folder: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "stubborn", input={"seconds": 60})["run_id"]
    until(lambda: client.runs.get(thread_id, run_id)["status"] == "running", "the run did not start")
    started = time.monotonic()
    client.runs.cancel(thread_id, run_id, wait=True)
    assert time.monotonic() - started < 20
    assert client.runs.get(thread_id, run_id)["status"] == "interrupted"
    assert client.runs.wait(thread_id, "talker", input={})["pid"] > 0
