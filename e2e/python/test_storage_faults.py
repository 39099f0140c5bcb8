"""What a run comes to whose end can't be written: it is not lost, and its webhook tells of it once the database is back."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Server, until
from langgraph_sdk import get_sync_client

# Each node says that it begins, and ends when it is let go.
GRAPH = """
import asyncio
from pathlib import Path
from langgraph.graph import START, StateGraph

async def work(state):
    Path(state["folder"], "began").touch()
    while not Path(state["folder"], "go").exists():
        await asyncio.sleep(0.02)
    return {"text": "x" * 100_000}

builder = StateGraph(dict)
builder.add_node("work", work)
builder.add_edge(START, "work")
"""

Outage = Callable[[Server, Path], Any]


@contextmanager
def locked(_server: Server, data: Path) -> Iterator[None]:
    """Somebody else writes, and does not end."""
    connection = sqlite3.connect(data / "threadyard.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def full(server: Server, data: Path) -> Iterator[None]:
    """No file may grow, as on a disk that is full."""
    process, unlimited = server.process.pid, resource.RLIM_INFINITY
    size = (data / "threadyard.db-wal").stat().st_size
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, unlimited))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (unlimited, unlimited))


@pytest.mark.parametrize("outage", [locked, full])
def test_a_run_ends_when_the_database_is_back(outage: Outage, serve: Any, project: Any, receiver: Any, tmp_path: Path) -> None:
    # The lease of the run outlasts the outage, in which it can't be renewed.
    folder = project({"work": "./work.py:builder"}, {"work.py": GRAPH})
    server, hooks = serve(folder, file_limits=True, THREADYARD_LEASE_SECS="600"), receiver()
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    run = client.runs.create(thread, "work", input={"folder": str(tmp_path)}, webhook=hooks.url)["run_id"]
    until((tmp_path / "began").exists, "the run does not begin")
    with outage(server, tmp_path / "data"):
        (tmp_path / "go").touch()
        refused = httpx.post(f"{server.url}/threads", json={"metadata": {"x": "y" * 200_000}}, timeout=60)
        assert refused.status_code == 503, refused.text
        time.sleep(6)
        assert client.runs.get(thread, run)["status"] == "running"
        assert client.threads.get(thread)["status"] == "busy"
        assert httpx.get(f"{server.url}/ok").status_code == 200
        assert hooks.got.empty()
    told = hooks.got.get(timeout=60)[2]
    assert (told["run_id"], told["status"], len(told["values"]["text"])) == (run, "success", 100_000)
    assert client.runs.get(thread, run)["status"] == "success"
    assert len(client.threads.get_state(thread)["values"]["text"]) == 100_000
    states = lambda: [it["state"] for it in httpx.get(f"{server.url}/threads/{thread}/runs/{run}/deliveries").json()]  # noqa: E731
    until(lambda: states() == ["delivered"], "that it was delivered is not noted")
    server.stop()
    check = sqlite3.connect(tmp_path / "data/threadyard.db").execute("PRAGMA integrity_check").fetchone()
    assert (check, hooks.got.empty()) == (("ok",), True)
