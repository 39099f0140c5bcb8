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
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=120)
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
        taken = True
        try:
            holder.bind(("127.0.0.1", 2024))
            holder.listen()
        except OSError:
            taken = False  # Somebody else has it, who may give it back.
        log = tmp_path / "log"
        with log.open("wb") as out:
            command = [BINARY, "dev", "--data-dir", tmp_path / "data", "-c", QUICKSTART]
            server = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(lambda: "  State " in log.read_text(), lambda: log.read_text(), 180)
            lines = dict(line.split(maxsplit=1) for line in log.read_text().splitlines() if "http" in line)
            port = int(lines["API"].rpartition(":")[2])
            assert 2024 + taken <= port < 2124
            assert lines["Docs"] == f"http://127.0.0.1:{port}/docs"
            assert lines["Studio"].endswith(f"baseUrl=http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(60)


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
        ({"graphs": {"a": "./a.py:graph"}, "encryption": {"path": "./e.ts:e"}}, "encryption.path"),
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


@pytest.mark.parametrize(
    ("line", "place", "named"),
    [
        ('"store": {"index": {"embed": "a:b", "dims": 0}}', "3:39", "`store.index.dims`"),
        ('"checkpointer": {"ttl": {"default_ttl": "soon"}}', "3:28", "`checkpointer.ttl.default_ttl`"),
        ('"http": {"cors": {"allow_origin_regex": "("}}', "3:21", "`http.cors.allow_origin_regex`"),
        ('"http": {"mount_prefix": "api"}', "3:12", "`http.mount_prefix`"),
        ('"http": {"disable_runs": 1}', "3:12", "`http.disable_runs`"),
        ('"webhooks": {"headrs": {}}', "3:16", "`webhooks.headrs`"),
        ('"ui": {"a/b": "./ui.tsx"}', "3:10", "`ui.a/b`"),
        ('"store": {"path": "./store.py:store"}', "3:13", "`store.path`"),
        ('"graphs": {}', "3:3", "`graphs`: is given twice"),
        ('"http" {}', "3:10", "expected"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, line: str, place: str, named: str) -> None:
    path = tmp_path / "langgraph.json"
    path.write_text(f'{{\n  "graphs": {{"a": "./a.py:graph"}},\n  {line}\n}}\n')
    said = refused("serve", "--port", "0", "--config", path)
    assert f"{path}:{place}: " in said and named in said


def test_the_doctor_says_what_is_in_force_and_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "langgraph.json"
    (tmp_path / "a.py").touch()
    http = {"disable_store": True, "configurable_headers": {"includes": ["x-my-*"], "excludes": ["x-my-own"]}}
    auth = {"path": "some.module:auth", "cache": {"cache_keys": ["Authorization"], "ttl_seconds": 5}}
    hooks = {"headers": {"X-Key": "s3cret"}, "url": {"allowed_domains": ["a.example"]}}
    project = {"graphs": {"a": "./a.py:graph"}, "python_version": "3.12", "env": {"K": "s3cret"}, "http": http}
    path.write_text(json.dumps({**project, "auth": auth, "webhooks": hooks}))
    env = os.environ | {"MOUNT_PREFIX": "/api", "N_JOBS_PER_WORKER": "7", "THREADYARD_OPERATOR_TOKEN": "t0ken"}
    env |= {"BG_JOB_MAX_RETRIES": "5", "LANGGRAPH_STORE": '{"ttl": {"default_ttl": 5}}', "LANGGRAPH_CLOUD_LICENSE_KEY": "k3y"}
    done = subprocess.run(
        [BINARY, "doctor", "--config", path, "--run-timeout-secs", "9"], capture_output=True, text=True, timeout=120, env=env
    )
    assert done.returncode == 0, done.stderr
    settings = done.stdout.split("\nSettings\n")[1].split("\n\n")[0].splitlines()
    places = {line.split()[0]: line.index(line.split()[1]) for line in settings if line.split()[0] in ("--port", "traces")}
    assert places == {"--port": 36, "traces": 36}, "values stand below each other"
    lines = [line.split() for line in done.stdout.splitlines()]
    for expected in (
        ["--n-jobs-per-worker", "7", "N_JOBS_PER_WORKER"],
        ["--run-timeout-secs", "9", "command", "line"],
        ["--max-attempts", "5", "BG_JOB_MAX_RETRIES"],
        ["--shutdown-grace-secs", "180", "default"],
        ["mount_prefix", "/api"],
        ["--host", "0.0.0.0", "default"],
        ["--port", "8000", "default"],
        ["--workers", "1", "default"],
        ["--data-dir", str(tmp_path / ".threadyard"), "default"],
        ["default", *"what no handler looks at is allowed".split()],
        ["cache", *"by authorization, for 5s, of 1000 callers at most".split()],
        ["enable_custom_route_auth", "no"],
        ["middleware_order", "middleware_first"],
        ["configurable_headers", *"x-my-*, but not x-my-own".split()],
        ["items", *"5m after they were written or read; looked for every 5m, 1000 at once".split()],
        ["allowed_domains", "a.example"],
        ["require_https", "yes"],
        ["headers", "X-Key"],
        ["disabled", "store"],
        ["traces", "not", "sent", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        ["a", "./a.py:graph"],
        ["store", "the", "variable", "LANGGRAPH_STORE:1:1"],
        ["graphs", f"{path}:1:2"],
    ):
        assert expected in lines, done.stdout
    assert "python_version" in done.stdout and "matters only for images" in done.stdout
    assert "LANGGRAPH_CLOUD_LICENSE_KEY is set, and has no effect here" in done.stdout
    assert not any(secret in done.stdout + done.stderr for secret in ("t0ken", "s3cret", "k3y"))
    for section, key in (({"http": {"app": "./no.py:app"}}, "http.app"), ({"auth": {"path": "./no.py:auth"}}, "auth.path")):
        path.write_text(json.dumps({**project, **section}))
        assert f"`{key}` names `./no.py`, which does not exist" in refused("doctor", "--config", path)
    path.write_text('{"graphs": {"a": "./no.py:graph"}}')
    assert f"{path}:1:13: `graphs.a` names `./no.py`" in refused("doctor", "--config", path)
    path.write_text('{"graphs": {}}')
    assert "`graphs`: is empty" in refused("doctor", "--config", path)


def test_images_carry_the_configuration_in_variables(tmp_path: Path) -> None:
    env = os.environ | {"LANGSERVE_GRAPHS": '{"agent": "./agent.py"}'}
    command = [BINARY, "serve", "--port", "0", "--config", str(tmp_path / "langgraph.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 2
    assert "the variable LANGSERVE_GRAPHS:1:2: `graphs.agent`" in done.stderr and "agent.py" in done.stderr


def test_one_folder_has_one_server(serve: Any, tmp_path: Path) -> None:
    serve()
    said = refused("dev", "--port", "0", "--data-dir", tmp_path / "data", "-c", QUICKSTART, code=1)
    assert str(tmp_path / "data") in said and "another" in said


def test_unknown_options_are_refused() -> None:
    assert "--lound" in refused("dev", "--lound")
    assert "--n-jobs-per-worker" in refused("dev", "--n-jobs-per-worker", "0")
    assert "`worker`" in refused("serve", "--n-jobs-per-worker", "0", "--role", "worker")
    # Without jobs it is there for requests alone, and others have to do the rest.
    assert "DATABASE_URI" in refused("serve", "--n-jobs-per-worker", "0", "--config", QUICKSTART, code=1)


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
        until((tmp_path / "loading").exists, log.read_text, 180)
        assert httpx.get(f"{url}/ok").json()["ok"] is True
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(httpx.post, f"{url}/threads", json={}, timeout=60)
            assert not wait([asked], timeout=0.5).done, "it waits for the graphs"
            (tmp_path / "go").touch()
            assert asked.result().status_code == 200
    finally:
        (tmp_path / "go").touch()
        server.terminate()
        assert server.wait(60) == 0


def test_a_server_that_is_stopped_while_it_starts_ends(tmp_path: Path) -> None:
    config = write_project(tmp_path, {"slow": "./slow.py:builder"}, {"slow.py": SLOW_TO_LOAD})
    with (log := tmp_path / "log").open("wb") as out:
        command = [BINARY, "serve", "--host", "127.0.0.1", "--port", str(free_port()), "--data-dir", tmp_path / "data"]
        server = subprocess.Popen([*command, "--config", config / "langgraph.json"], stdout=out, stderr=out)
    until((tmp_path / "loading").exists, log.read_text, 180)
    server.terminate()
    assert server.wait(60) == 0


def test_a_second_signal_ends_at_once(project: Any, serve: Any) -> None:
    server = serve(project({"slow": "./slow.py:builder"}, {"slow.py": SLOW_RUN}), "--shutdown-grace-secs", "3600")
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    client.runs.create(thread, "slow", input={"times": 1})
    until(lambda: "began" in server.log(), server.log)
    server.process.terminate()
    server.wait_for_log("again to stop at once")
    server.process.terminate()
    # Its grace is not over, and the run goes on for longer.
    assert server.process.wait(120) == 0


SLOW_RUN = """
import asyncio
from langgraph.graph import START, StateGraph

async def work(state):
    print("began", flush=True)
    await asyncio.sleep(3600)
    return state

builder = StateGraph(dict)
builder.add_node("work", work)
builder.add_edge(START, "work")
"""
