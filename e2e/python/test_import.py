"""A team's threads go from `dev` to production and back: `threadyard import` with the real binary."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Receiver, Server, until
from langgraph_sdk import get_sync_client
from services import Database

GRAPHS = '''
import operator, os, time
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    said: Annotated[list[str], operator.add]
    wait_for: str


def answer(state: State):
    while state.get("wait_for") and not os.path.exists(state["wait_for"]):
        time.sleep(0.02)
    return {"said": [f"answer {len(state['said'])} \\x00"]}


builder = StateGraph(State)
builder.add_node(answer)
builder.add_edge(START, "answer")
graph = builder.compile()
'''
LOCAL_HOOKS = {"network": {"allow_private": True, "allowed_cidrs": ["127.0.0.0/8"]}, "url": {"require_https": False}}


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.drop()


@pytest.fixture
def chats(project: Callable[..., Path]) -> Path:
    return project({"chat": "./graph.py:graph"}, {"graph.py": GRAPHS}, webhooks=LOCAL_HOOKS)


def imports(start: str | Path, end: str | Path, *flags: str, code: int = 0, **env: str) -> subprocess.CompletedProcess:
    command = [os.environ["THREADYARD_BIN"], "import", "--from", str(start), "--to", str(end), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    assert done.returncode == code, done.stdout + done.stderr
    assert "panicked" not in done.stderr
    return done


def at_rest(database: Database) -> None:
    """A connection that was just closed may still be known."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'threadyard'"
    until(lambda: database.query(query) == [(0,)], "a server is still connected")


def say(client: Any, thread_id: str, text: str, **more: Any) -> Any:
    return client.runs.wait(thread_id, "chat", input={"said": [text]}, **more)["said"]


def test_a_chat_goes_on_in_production_and_comes_back(
    chats: Path, serve: Callable[..., Server], receiver: Callable[..., Receiver], database: Database, tmp_path: Path
) -> None:
    dev = serve(chats)
    here = get_sync_client(url=dev.url)
    thread_id = here.threads.create(metadata={"who": "me"})["thread_id"]
    hook = receiver()
    said = say(here, thread_id, "first", webhook=hook.url)
    assert hook.got.get(timeout=60)[2]["thread_id"] == thread_id
    here.store.put_item(["a", "b"], "k", {"v": 1})
    stranger = here.assistants.create("chat", name="stranger")["assistant_id"]
    waiting, let_go = here.threads.create()["thread_id"], tmp_path / "let go"
    held = here.runs.create(waiting, "chat", input={"said": ["held"], "wait_for": str(let_go)}, webhook=hook.url)
    queued = here.runs.create(waiting, "chat", input={"said": ["queued"]}, multitask_strategy="enqueue")
    until(lambda: here.runs.get(waiting, held["run_id"])["status"] == "running", "the run did not begin")

    data = tmp_path / "data"
    assert "is in use by another server" in imports(data, database.uri, code=1).stderr
    dev.kill()
    told = imports(data, database.uri)
    assert "DIFFERENT" not in told.stdout and told.stdout.count("  ok\n") == 20
    assert "threads" in told.stderr and "copied and compared" in told.stderr

    let_go.touch()
    env = {"DATABASE_URI": database.uri}
    production = serve(chats, "--host", "127.0.0.1", command="serve", data=tmp_path / "production", **env)
    there = get_sync_client(url=production.url)
    assert there.threads.search(metadata={"who": "me"})[0]["thread_id"] == thread_id
    assert there.runs.join(waiting, held["run_id"]) is not None
    there.runs.join(waiting, queued["run_id"])
    assert [there.runs.get(waiting, run["run_id"])["status"] for run in (held, queued)] == ["success"] * 2
    assert hook.got.get(timeout=60)[2]["run_id"] == held["run_id"], "its webhook hears of the run all the same"
    said_there = say(there, thread_id, "second")
    assert said_there[: len(said)] == said and len(said_there) == 4
    assert len(there.threads.get_history(thread_id)) == 6
    assert there.store.get_item(["a", "b"], "k")["value"] == {"v": 1}
    assert there.assistants.get(stranger)["name"] == "stranger"
    assert "servers are connected from" in imports(database.uri, tmp_path / "back", code=1).stderr
    production.stop()

    at_rest(database)
    back = tmp_path / "back"
    imports(database.uri, back)
    assert "is not empty" in imports(database.uri, back, code=1).stderr
    assert imports(database.uri, back, "--verify").stdout.count("  ok\n") == 20
    home = get_sync_client(url=serve(chats, data=back).url)
    assert say(home, thread_id, "third")[: len(said_there)] == said_there


def test_an_import_that_is_killed_goes_on(
    chats: Path, serve: Callable[..., Server], database: Database, tmp_path: Path
) -> None:
    dev = serve(chats)
    here = get_sync_client(url=dev.url)
    ids = [here.threads.create()["thread_id"] for _ in range(30)]
    said = say(here, ids[0], "first")
    dev.stop()

    data, env = tmp_path / "data", {"DATABASE_URI": database.uri}
    for batch in (1, 2, 3):
        killed = imports(data, database.uri, code=-signal.SIGKILL, THREADYARD_KILL_AT=f"import.{batch}")
        assert "copying" in killed.stderr
        # It is not waited for: it ends by itself.
        with pytest.raises(AssertionError, match=r"(?s)the server ended with .*holds an unfinished import of"):
            serve(chats, "--host", "127.0.0.1", command="serve", data=tmp_path / "refused", **env)
        at_rest(database)
    other = tmp_path / "other"
    serve(chats, data=other).stop()
    refused = imports(other, database.uri, code=1).stderr
    assert f"holds an unfinished import of `{data}/threadyard.db`" in refused
    imports(data, database.uri)

    production = serve(chats, "--host", "127.0.0.1", command="serve", data=tmp_path / "production", **env)
    there = get_sync_client(url=production.url)
    assert {thread["thread_id"] for thread in there.threads.search(limit=100)} == set(ids)
    assert say(there, ids[0], "second")[:2] == said
    production.stop()

    at_rest(database)
    back = tmp_path / "back"
    imports(database.uri, back, code=-signal.SIGKILL, THREADYARD_KILL_AT="import.2")
    with pytest.raises(AssertionError, match="holds an unfinished import of"):
        serve(chats, data=back)
    imports(database.uri, back)
    home = get_sync_client(url=serve(chats, data=back).url)
    assert len(home.threads.search(limit=100)) == len(ids)


def test_secrets_are_never_said(tmp_path: Path) -> None:
    """Neither of a database that can't be reached, nor of one that can't be understood."""
    (tmp_path / "data").mkdir()
    for uri in ("postgresql://me:s3cret@127.0.0.1:1/d", "postgresql://me:s3cret@127.0.0.1:port/d"):
        for start, end in ((uri, tmp_path / "data"), (tmp_path / "data", uri)):
            done = imports(start, end, code=1)
            assert "s3cret" not in done.stdout + done.stderr
