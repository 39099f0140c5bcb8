"""The command line: what can't be served is refused with a sentence that names it and the way out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, free_port, until, write_project
from langgraph_sdk import get_sync_client

BINARY = os.environ["THREADYARD_BIN"]
QUICKSTART = str(ROOT / "examples/quickstart/langgraph.json")


def refused(*arguments: str | Path, code: int = 2) -> str:
    """What a command that can't do its work says."""
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert "panicked" not in done.stderr and "RUST_BACKTRACE" not in done.stderr
    return done.stderr


@pytest.fixture
def taken() -> Any:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_taken_port_is_named(taken: int, tmp_path: Path) -> None:
    for command in ("serve", "dev"):
        said = refused(command, "--host", "127.0.0.1", "--port", str(taken), "--data-dir", tmp_path, "-c", QUICKSTART)
        assert f"127.0.0.1:{taken}" in said and "--port" in said


def test_dev_takes_the_next_free_port(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", 2024))
            holder.listen()
        except OSError:
            pass  # Somebody else has it, which is just as good.
        log = tmp_path / "log"
        with log.open("wb") as out:
            command = [BINARY, "dev", "--data-dir", tmp_path / "data", "-c", QUICKSTART]
            server = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(lambda: "serves your graphs" in log.read_text(), lambda: log.read_text(), 60)
            lines = dict(line.split(maxsplit=1) for line in log.read_text().splitlines() if "http" in line)
            port = int(lines["API"].rpartition(":")[2])
            assert 2024 < port < 2124
            assert lines["Docs"] == f"http://127.0.0.1:{port}/docs"
            assert lines["Studio"].endswith(f"baseUrl=http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(20)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (None, "langgraph.json"),
        ("{", "langgraph.json"),
        ("[]", "langgraph.json"),
        ("{}", "graphs"),
        ({"graphs": {}}, "graphs"),
        ({"graphs": {"a": "nowhere"}}, "graphs.a"),
        ({"graphs": {"a": 5}}, "graphs"),
        ({"graphs": {"a": "./a.py:graph"}, "auth": {"path": "./auth.py:auth"}}, "`auth`"),
        ({"graphs": {"a": "./a.ts:graph"}}, "a.ts"),
        ({"graphs": {"a": "./a.py:graph"}, "dependencies": ["./nowhere"]}, "nowhere"),
        ({"graphs": {"a": "./a.py:graph"}, "env": ".env.nowhere"}, ".env.nowhere"),
    ],
)
def test_a_project_that_makes_no_sense_is_refused(tmp_path: Path, config: Any, complaint: str) -> None:
    path = tmp_path / "langgraph.json"
    if config is not None:
        path.write_text(config if isinstance(config, str) else json.dumps(config))
    for command in ("dev", "serve"):
        assert complaint in refused(command, "--port", "0", "--config", path)


def test_one_folder_has_one_server(serve: Any, tmp_path: Path) -> None:
    serve()
    said = refused("dev", "--port", "0", "--data-dir", tmp_path / "data", "-c", QUICKSTART, code=1)
    assert str(tmp_path / "data") in said and "another" in said


def test_unknown_options_are_refused() -> None:
    assert "--lound" in refused("dev", "--lound")
    assert "--n-jobs-per-worker" in refused("serve", "--n-jobs-per-worker", "0")


SLOW_TO_LOAD = """
import time
from pathlib import Path
from langgraph.graph import START, StateGraph

folder = Path(__file__).parent
(folder / "loading").touch()
while not (folder / "go").exists():
    time.sleep(0.02)
builder = StateGraph(dict)
builder.add_node("work", lambda state: state)
builder.add_edge(START, "work")
"""


def test_a_server_answers_while_its_graphs_are_loaded(tmp_path: Path) -> None:
    config = write_project(tmp_path, {"slow": "./slow.py:builder"}, {"slow.py": SLOW_TO_LOAD})
    url, log = f"http://127.0.0.1:{(port := free_port())}", tmp_path / "log"
    with log.open("wb") as out:
        command = [BINARY, "serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", tmp_path / "data"]
        server = subprocess.Popen([*command, "--config", config / "langgraph.json"], stdout=out, stderr=out)
    try:
        until((tmp_path / "loading").exists, log.read_text, 60)
        assert httpx.get(f"{url}/ok").json()["ok"] is True
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(httpx.post, f"{url}/threads", json={}, timeout=60)
            assert not wait([asked], timeout=0.5).done, "it waits for the graphs"
            (tmp_path / "go").touch()
            assert asked.result().status_code == 200
    finally:
        (tmp_path / "go").touch()
        server.terminate()
        assert server.wait(20) == 0


def test_a_second_signal_ends_at_once(project: Any, serve: Any) -> None:
    server = serve(project({"slow": "./slow.py:builder"}, {"slow.py": SLOW_RUN}))
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    client.runs.create(thread, "slow", input={"times": 1})
    until(lambda: "began" in server.log(), server.log)
    server.process.terminate()
    server.wait_for_log("again to stop at once")
    server.process.terminate()
    # Its grace of a minute is not over, and the run goes on for longer.
    assert server.process.wait(15) == 0


SLOW_RUN = """
import asyncio
from langgraph.graph import START, StateGraph

async def work(state):
    print("began", flush=True)
    await asyncio.sleep(300)
    return state

builder = StateGraph(dict)
builder.add_node("work", work)
builder.add_edge(START, "work")
"""
