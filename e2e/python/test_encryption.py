"""`LANGGRAPH_AES_KEY`: what users say is nowhere to be read at rest, and is all there for who has the key."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Receiver, Server, until
from langgraph_sdk import get_sync_client
from services import Database

KEY = "a key of 32 bytes, as it must be"
OLDER = "a key of twenty-four ch."
SECRET = "the moon is made of green cheese"

GRAPHS = '''
import operator, os, time
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.config import get_store


class State(TypedDict, total=False):
    said: Annotated[list[str], operator.add]
    wait_for: str
    fail: bool
    keys: list[str]


def remember(state: State):
    get_store().put(("memories",), "last", {"said": state["said"][-1]})
    keys = [name for name, value in os.environ.items() if "AES" in name or value.startswith("a key of ")]
    return {"said": ["noted: " + state["said"][-1]], "keys": keys}


def answer(state: State):
    if state.get("wait_for"):
        open(state["wait_for"] + ".waits", "w").close()
    while state.get("wait_for") and not os.path.exists(state["wait_for"]):
        time.sleep(0.02)
    if state.get("fail"):
        raise ValueError(state["said"][0])
    return {"said": [f"answer to {state['said'][0]}"]}


builder = StateGraph(State)
builder.add_node(remember)
builder.add_node(answer)
builder.add_edge(START, "remember")
builder.add_edge("remember", "answer")
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


def use(server: Server, hook: str, flag: Path) -> tuple[str, str]:
    """Says the secret wherever something can be said, and leaves a run that waits in the middle of its work."""
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    config = {"configurable": {"note": SECRET}}
    for _ in range(3):
        client.runs.wait(thread_id, "chat", input={"said": [SECRET]}, config=config, webhook=f"{hook}&note={SECRET.replace(' ', '+')}")
    failed = client.threads.create()["thread_id"]
    client.runs.wait(failed, "chat", input={"said": [SECRET], "fail": True}, raise_error=False)
    client.threads.update_state(failed, {"said": [SECRET]})
    client.threads.copy(thread_id)
    client.store.put_item(["notes"], key="one", value={"said": SECRET, "n": 1})
    client.crons.create("chat", schedule="0 0 1 1 *", input={"said": [SECRET]})
    stream = {"stream_mode": ["values", "updates"], "stream_resumable": True}
    run = client.runs.create(thread_id, "chat", input={"said": [SECRET], "wait_for": str(flag)}, **stream)
    until(flag.with_suffix(".waits").exists, "it did not begin")
    return thread_id, run["run_id"]


def check(server: Server, thread_id: str, run_id: str) -> None:
    """Finds what was said, also by what it says."""
    client = get_sync_client(url=server.url)
    heard = list(client.runs.join_stream(thread_id, run_id, last_event_id="-1"))
    assert any(SECRET in str(part.data) for part in heard), heard
    client.runs.join(thread_id, run_id)
    values = client.threads.get_state(thread_id)["values"]
    assert values["said"].count(f"answer to {SECRET}") == 4, values
    assert values["keys"] == [], "graphs do not see the keys"
    assert len(client.threads.get_history(thread_id, limit=50)) >= 12
    assert len(client.threads.search(values={"fail": True})) == 1
    assert client.runs.get(thread_id, run_id)["kwargs"]["input"]["said"] == [SECRET]
    found = client.store.search_items(["notes"], filter={"said": SECRET, "n": {"$lt": 2}})
    assert [item["key"] for item in found["items"]] == ["one"]
    assert client.crons.search()[0]["payload"]["input"]["said"] == [SECRET]


def spellings() -> list[bytes]:
    return [SECRET.replace(" ", blank).encode() for blank in (" ", "+", "%20", "-")]


def readable(folder: Path) -> list[str]:
    """The files in which the secret can be read."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "threadyard.db" for file in files)
    return [file.name for file in files if any(spelled in file.read_bytes() for spelled in spellings())]


def readable_tables(database: Database) -> list[str]:
    found = []
    for (table,) in database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        words = [spelled.decode() for spelled in spellings()] + [SECRET.encode().hex()]
        condition = " OR ".join(f"position('{word}' in it::text) > 0" for word in words)
        if database.query(f"SELECT 1 FROM {table} AS it WHERE {condition} LIMIT 1"):
            found.append(str(table))
    return found


def refused(project: Path, data: Path, command: str = "dev", **env: str) -> str:
    """What a server says that does not start."""
    program = [os.environ["THREADYARD_BIN"], command, "--port", "0", "--data-dir", str(data), "--config", str(project / "langgraph.json")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert KEY not in said and OLDER not in said and "panicked" not in said, said
    return said


def key_id(project: Path, **env: str) -> str:
    command = [os.environ["THREADYARD_BIN"], "doctor", "--config", str(project / "langgraph.json")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    assert said.returncode == 0, said.stderr
    assert KEY not in said.stdout and OLDER not in said.stdout
    (line,) = (line for line in said.stdout.splitlines() if line.split()[:1] == ["key"])
    return line.split()[1]


@pytest.mark.parametrize("key", ["", KEY])
def test_nothing_that_was_said_is_in_the_files_also_after_kill_9(
    key: str, chats: Path, serve: Callable[..., Server], receiver: Callable[..., Receiver], tmp_path: Path
) -> None:
    data, flag, hook = tmp_path / "data", tmp_path / "flag", receiver()
    server = serve(chats, LANGGRAPH_AES_KEY=key, LOG_LEVEL="debug")
    thread_id, run_id = use(server, hook.url, flag)
    server.kill()
    # Without a key it is there, or this test would show nothing.
    assert bool(readable(data)) == (not key)
    flag.touch()
    server = serve(chats, LANGGRAPH_AES_KEY=key, LOG_LEVEL="debug")
    check(server, thread_id, run_id)
    for _ in range(3):
        path, _, body = hook.got.get(timeout=60)
        assert SECRET.replace(" ", "+") in path and SECRET in str(body)
    server.stop()
    assert bool(readable(data)) == (not key)
    assert KEY not in server.log()


def test_nothing_that_was_said_is_in_the_tables_of_postgres(
    chats: Path, serve: Callable[..., Server], receiver: Callable[..., Receiver], database: Database, tmp_path: Path
) -> None:
    flag, hook = tmp_path / "flag", receiver()
    shared = {"DATABASE_URI": database.uri, "LANGGRAPH_AES_KEY": KEY, "THREADYARD_LEASE_SECS": "8"}
    server = serve(chats, "--host", "127.0.0.1", command="serve", **shared)
    thread_id, run_id = use(server, hook.url, flag)
    server.kill()
    assert readable_tables(database) == []
    flag.touch()
    server = serve(chats, "--host", "127.0.0.1", command="serve", **shared)
    check(server, thread_id, run_id)
    assert readable_tables(database) == []
    server.stop()
    assert "LANGGRAPH_AES_KEY" in refused(chats, tmp_path / "none", "serve", DATABASE_URI=database.uri)
    command = [os.environ["THREADYARD_BIN"], "keys", "list", "--database-uri", database.uri]
    assert subprocess.run(command, timeout=120).returncode == 0, "API keys are no secrets of users"


def test_a_start_with_the_wrong_keys_is_refused_and_a_key_can_be_replaced(
    chats: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for length, wrong in ((15, "k" * 15), (44, "x" * 44)):
        assert f"LANGGRAPH_AES_KEY has {length} bytes" in refused(chats, data, LANGGRAPH_AES_KEY=wrong)
    assert "without LANGGRAPH_AES_KEY" in refused(chats, data, LANGGRAPH_AES_FALLBACK_KEYS=OLDER)

    server = serve(chats, LANGGRAPH_AES_KEY=OLDER)
    get_sync_client(url=server.url).store.put_item(["notes"], key="before", value={"said": SECRET})
    server.stop()
    older, newer = key_id(chats, LANGGRAPH_AES_KEY=OLDER), key_id(chats, LANGGRAPH_AES_KEY=KEY)
    assert older != newer
    assert older in refused(chats, data), "it says which key is missing"
    assert older in refused(chats, data, LANGGRAPH_AES_KEY=KEY)

    server = serve(chats, LANGGRAPH_AES_KEY=KEY, LANGGRAPH_AES_FALLBACK_KEYS=OLDER)
    client = get_sync_client(url=server.url)
    client.store.put_item(["notes"], key="after", value={"said": SECRET})
    found = client.store.search_items(["notes"], filter={"said": SECRET})
    assert sorted(item["key"] for item in found["items"]) == ["after", "before"]
    server.stop()

    # An import leaves the older key behind.
    moved = tmp_path / "moved"
    command = [os.environ["THREADYARD_BIN"], "import", "--from", str(data), "--to", str(moved)]
    keys = {"LANGGRAPH_AES_KEY": KEY, "LANGGRAPH_AES_FALLBACK_KEYS": OLDER}
    assert subprocess.run(command, timeout=120).returncode != 0, "it can't be read without keys"
    assert subprocess.run(command, timeout=120, env={**os.environ, **keys}).returncode == 0
    assert older in refused(chats, data, LANGGRAPH_AES_KEY=KEY)
    server = serve(chats, data=moved, LANGGRAPH_AES_KEY=KEY)
    assert len(get_sync_client(url=server.url).store.search_items(["notes"])["items"]) == 2
    assert readable(moved) == []


def test_what_was_stored_before_there_was_a_key_stays_as_it_is(
    chats: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(chats)
    before = get_sync_client(url=server.url).threads.create()["thread_id"]
    get_sync_client(url=server.url).runs.wait(before, "chat", input={"said": ["before"]})
    server.stop()
    server = serve(chats, LANGGRAPH_AES_KEY=KEY)
    client = get_sync_client(url=server.url)
    said = client.runs.wait(before, "chat", input={"said": [SECRET]})["said"]
    assert said[0] == "before" and said[-1] == "answer to before"
    assert httpx.get(f"{server.url}/threads/{before}/state").json()["values"]["said"] == said
    server.stop()
    assert readable(tmp_path / "data") == []
