"""Runs that kill, hold up or flood their workers, beside others that do nothing of the kind."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from langgraph_sdk import get_sync_client

GRAPH = """
import asyncio, ctypes, os, threading, time
from pathlib import Path
from typing import TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    seconds: float
    began: str
    folder: str
    go: str
    count: int
    pid: int
    attempts: list[int]


async def all_there(state: State, config: RunnableConfig) -> None:
    # The neighbours are there as well. The third time there are none.
    attempt = config["metadata"]["run_attempt"]
    while attempt < 3 and len(list(Path(state["folder"]).glob(f"*-attempt-{attempt}"))) < 3:
        await asyncio.sleep(0.02)


async def segfault(state: State, config: RunnableConfig) -> State:
    await all_there(state, config)
    ctypes.string_at(0)


async def exhaust(state: State, config: RunnableConfig) -> State:
    import resource
    await all_there(state, config)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    hoard = []
    while True:
        try:
            hoard.append(bytearray(64 << 20))
        except MemoryError:
            os.abort()


async def close_socket(state: State, config: RunnableConfig) -> State:
    await all_there(state, config)
    for fd in range(3, 64):
        try:
            os.close(fd)
        except OSError:
            pass
    await asyncio.sleep(30)


async def nonsense(state: State, config: RunnableConfig) -> State:
    await all_there(state, config)
    for fd in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.write(fd, b"\\xff" * 64)
        except OSError:
            pass
    await asyncio.sleep(30)


async def wait(state: State, config: RunnableConfig) -> State:
    if "folder" in state:
        place = f"{config['configurable']['thread_id']}-attempt-{config['metadata']['run_attempt']}"
        Path(state["folder"], place).touch()
    while not Path(state["go"]).exists():
        await asyncio.sleep(0.05)
    return {"pid": os.getpid()}


def hold(state: State) -> State:
    Path(state["began"]).write_text(f"{os.getpid()}.")
    end = time.time() + state["seconds"]
    while time.time() < end:
        time.sleep(0.1)
    Path(state["go"]).touch()
    return {"pid": os.getpid()}


async def spin(state: State) -> State:
    Path(state["began"]).touch()
    while not Path(state["go"]).exists():
        pass
    return {"pid": os.getpid()}


async def flood(state: State) -> State:
    write = get_stream_writer()
    for n in range(state["count"]):
        write({"n": n})
    return {"pid": os.getpid()}


async def huge(state: State) -> State:
    get_stream_writer()("x" * state["count"])
    return {"pid": os.getpid()}


def graph(node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node")


segfaults, exhausts, closes, says_nonsense = graph(segfault), graph(exhaust), graph(close_socket), graph(nonsense)
waits, holds, spins, floods, is_huge = graph(wait), graph(hold), graph(spin), graph(flood), graph(huge)
"""
NAMES = ("segfaults", "exhausts", "closes", "says_nonsense", "waits", "holds", "spins", "floods", "is_huge")


@pytest.fixture
def folder(project: Any) -> Path:
    return project({name: f"./graphs.py:{name}" for name in NAMES}, {"graphs.py": GRAPH})


@pytest.mark.parametrize("poison", ["segfaults", "exhausts", "closes", "says_nonsense"])
def test_neighbours_of_a_run_that_kills_workers_succeed(poison: str, serve: Any, folder: Path, tmp_path: Path) -> None:
    server, go = serve(folder), tmp_path / "go"
    client = get_sync_client(url=server.url)
    threads = [client.threads.create()["thread_id"] for _ in range(3)]
    input = {"go": str(go), "folder": str(tmp_path)}
    runs = [client.runs.create(it, "waits", input=input)["run_id"] for it in threads]
    sick = client.threads.create()["thread_id"]
    run_id = client.runs.create(sick, poison, input=input)["run_id"]
    error = client.runs.join(sick, run_id)["__error__"]
    assert error["error"] == "MaxAttemptsExceeded" and error["message"].startswith("3 attempts failed"), error
    # Twice it took its neighbours with it; then it was alone.
    assert server.log().count("the run gets a worker of its own") >= 3
    assert httpx.get(f"{server.url}/ok").status_code == 200
    go.touch()
    for thread_id, neighbour in zip(threads, runs, strict=True):
        assert client.runs.join(thread_id, neighbour)["pid"] > 0
        assert client.runs.get(thread_id, neighbour)["status"] == "success"


def test_a_thread_that_does_not_stop_ends_with_its_worker(serve: Any, folder: Path, tmp_path: Path) -> None:
    server, go, late, in_node = serve(folder), tmp_path / "go", tmp_path / "late", tmp_path / "in-node"
    client = get_sync_client(url=server.url)
    neighbour, held = (client.threads.create()["thread_id"] for _ in range(2))
    other = client.runs.create(neighbour, "waits", input={"go": str(go)})["run_id"]
    run_id = client.runs.create(held, "holds", input={"seconds": 600, "began": str(in_node), "go": str(late)})["run_id"]
    until(lambda: in_node.exists() and in_node.read_text().endswith("."), "no start")
    worker = Path(f"/proc/{in_node.read_text().rstrip('.')}")
    answers: list[httpx.Response] = []
    url = f"{server.url}/threads/{held}/runs/{run_id}/cancel?wait=true"
    cancelling = threading.Thread(target=lambda: answers.append(httpx.post(url, timeout=180)))
    cancelling.start()
    time.sleep(13)
    assert not answers, "it is still running"
    go.touch()
    cancelling.join(120)
    assert answers and answers[0].status_code == 200, answers
    assert client.runs.get(held, run_id)["status"] == "interrupted"
    left = client.threads.get(held)
    assert (left["status"], left["values"]["seconds"]) == ("interrupted", 600), "what it has left is what its checkpoint says"
    # The neighbour had the time to end where it was.
    assert client.runs.join(neighbour, other)["pid"] > 0
    state = client.threads.get_state(neighbour)
    assert state["metadata"]["run_attempt"] == 1
    until(lambda: not worker.exists(), "what was cancelled goes on")
    assert not late.exists(), "what was cancelled came to its end"


def test_the_api_answers_while_an_event_loop_is_blocked(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    input = {"began": str(tmp_path / "in-node"), "go": str(tmp_path / "go")}
    run_id = client.runs.create(thread_id, "spins", input=input)["run_id"]
    until((tmp_path / "in-node").exists, "no start")
    try:
        for _ in range(20):
            assert httpx.get(f"{server.url}/ok").status_code == 200
            client.threads.search(limit=1)
            assert client.runs.get(thread_id, run_id)["status"] == "running"
    finally:
        (tmp_path / "go").touch()
    assert client.runs.join(thread_id, run_id)["pid"] > 0


def test_floods_and_huge_events_arrive_whole(serve: Any, folder: Path) -> None:
    client = get_sync_client(url=serve(folder).url)
    parts = list(client.runs.stream(None, "floods", input={"count": 50_000}, stream_mode="custom"))
    assert [part.data["n"] for part in parts if part.event == "custom"] == list(range(50_000))
    parts = list(client.runs.stream(None, "is_huge", input={"count": 20 << 20}, stream_mode="custom"))
    assert [len(part.data) for part in parts if part.event == "custom"] == [20 << 20]
