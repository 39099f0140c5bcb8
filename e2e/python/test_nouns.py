"""The official Python SDK against the built binary: assistants, crons and the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, until, write_project
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

GRAPHS = """
from typing import TypedDict
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langchain_core.runnables import RunnableConfig


class State(TypedDict, total=False):
    x: int
    who: str
    found: dict


async def note(state: State, config: RunnableConfig) -> State:
    store = get_store()
    found = await store.aget(("notes", "api"), "k")
    await store.aput(("notes", "graph"), "k", {"from": "graph"}, ttl=60)
    who = config["configurable"].get("who", "nobody")
    return {"x": state.get("x", 0) + 1, "who": who, "found": found.value if found else {}}


noter = StateGraph(State).add_node(note).add_edge(START, "note")
"""
# The sixth field is seconds: every second.
EVERY_SECOND = "* * * * * *"


@pytest.fixture
def folder(project: Any) -> Path:
    return project({"noter": "./graphs.py:noter"}, {"graphs.py": GRAPHS})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = write_project(tmp_path_factory.mktemp("crons"), {"noter": "./graphs.py:noter"}, {"graphs.py": GRAPHS})
    server = Server(folder, folder / "data")
    yield server.url
    server.stop()


def test_assistants_have_versions(url: str) -> None:
    client = get_sync_client(url=url)
    config = {"recursion_limit": 7, "tags": ["slow"]}
    made = client.assistants.create("noter", config, name="Ann's", context={"who": "ann"}, metadata={"team": "a"})
    assert made["config"] == {**config, "configurable": {"who": "ann"}}
    assert made["version"] == 1
    with pytest.raises(ConflictError):
        client.assistants.create("noter", assistant_id=made["assistant_id"])
    kept = client.assistants.create("noter", assistant_id=made["assistant_id"], if_exists="do_nothing")
    assert kept["name"] == "Ann's"
    assert client.runs.wait(None, made["assistant_id"], input={})["who"] == "ann"
    changed = client.assistants.update(made["assistant_id"], context={"who": "bob"}, name="Bob's")
    assert changed["version"] == 2
    assert client.runs.wait(None, made["assistant_id"], input={})["who"] == "bob"
    versions = client.assistants.get_versions(made["assistant_id"])
    assert [(it["version"], it["name"]) for it in versions] == [(2, "Bob's"), (1, "Ann's")]
    assert client.assistants.set_latest(made["assistant_id"], 1)["name"] == "Ann's"
    assert client.runs.wait(None, made["assistant_id"], input={})["who"] == "ann"
    assert [it["assistant_id"] for it in client.assistants.search(name="ann")] == [made["assistant_id"]]
    thread_id = client.threads.create()["thread_id"]
    client.runs.wait(thread_id, made["assistant_id"], input={})
    client.assistants.delete(made["assistant_id"], delete_threads=True)
    for gone in (lambda: client.assistants.get(made["assistant_id"]), lambda: client.threads.get(thread_id)):
        with pytest.raises(NotFoundError):
            gone()


def test_threads_are_copied_and_pruned(url: str) -> None:
    client = get_sync_client(url=url)
    thread_id = client.threads.create(supersteps=[{"updates": [{"values": {"x": 1}, "as_node": "note"}]}], graph_id="noter")["thread_id"]
    assert client.threads.get_state(thread_id)["values"]["x"] == 1
    client.runs.wait(thread_id, "noter", input={})
    copy = client.threads.copy(thread_id)["thread_id"]
    assert client.threads.get_state(copy)["values"]["x"] == 2
    client.runs.wait(copy, "noter", input={})
    assert client.threads.get_state(thread_id)["values"]["x"] == 2
    assert len(client.threads.get_history(thread_id)) > 1
    assert client.threads.prune([thread_id], strategy="keep_latest")["pruned_count"] == 1
    assert len(client.threads.get_history(thread_id)) == 1
    assert client.runs.wait(thread_id, "noter", input={})["x"] == 3
    assert client.threads.prune([thread_id, copy])["pruned_count"] == 2


def test_the_store_is_shared_with_graphs(url: str) -> None:
    client = get_sync_client(url=url)
    client.store.put_item(["notes", "api"], "k", {"from": "api", "n": 1})
    assert client.runs.wait(None, "noter", input={})["found"] == {"from": "api", "n": 1}
    assert client.store.get_item(["notes", "graph"], "k")["value"] == {"from": "graph"}
    found = client.store.search_items(["notes"], filter={"n": {"$gte": 1}})["items"]
    assert [(it["namespace"], it["score"]) for it in found] == [(["notes", "api"], None)]
    assert client.store.list_namespaces(prefix=["notes"])["namespaces"] == [["notes", "api"], ["notes", "graph"]]
    began = time.monotonic()
    client.store.put_item(["notes", "short"], "k", {}, ttl=0.02)
    found = client.store.get_item(["notes", "short"], "k", refresh_ttl=False)
    assert found is not None or time.monotonic() - began > 0.02 * 60, "the item expired too soon"
    until(lambda: client.store.get_item(["notes", "short"], "k", refresh_ttl=False) is None, "the item did not expire")
    client.store.delete_item(["notes", "api"], "k")
    assert client.store.get_item(["notes", "api"], "k") is None
    with pytest.raises(BadRequestError):
        client.store.put_item(["langgraph"], "k", {})


def test_a_cron_fires_each_moment_once_over_kill_9(serve: Any, folder: Path) -> None:
    server = serve(folder)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    began = int(time.time())
    cron = client.crons.create_for_thread(thread_id, "noter", schedule=EVERY_SECOND, input={}, metadata={"by": "cron"})
    assert cron["next_run_date"] and cron["payload"]["schedule"] == EVERY_SECOND

    def ended() -> int:
        return sum(run["status"] == "success" for run in client.runs.list(thread_id, limit=100))

    until(lambda: ended() >= 3, "the cron did not fire")
    server.kill()
    killed = int(time.time())
    time.sleep(2.5)
    restarted = int(time.time())
    client = get_sync_client(url=serve(folder).url)
    until(lambda: ended() >= 6, "the cron did not fire after the restart")
    client.crons.update(cron["cron_id"], enabled=False)
    until(lambda: client.threads.get(thread_id)["status"] == "idle", "the last run did not end")
    runs = client.runs.list(thread_id, limit=100)
    assert all(run["metadata"]["by"] == "cron" for run in runs)
    # What was missed while the server was down is made up for by one run, not by one for each second. A moment may be
    # late, so two runs of one second are no fault, but more runs than moments are one.
    moments = (killed - began) + 1 + (int(time.time()) - restarted)
    assert len(runs) <= moments, f"a moment fired twice: {sorted(run['created_at'] for run in runs)}"
    assert client.threads.get(thread_id)["values"]["x"] == len(runs)


def test_crons_are_found_changed_and_refused(url: str) -> None:
    client = get_sync_client(url=url)
    yearly = "0 0 1 1 *"
    cron = client.crons.create("noter", schedule=yearly, input={}, timezone="Asia/Tokyo")
    assert [it["cron_id"] for it in client.crons.search()] == [cron["cron_id"]] and client.crons.count() == 1
    assert cron["next_run_date"].endswith("-12-31T15:00:00.000000+00:00") or "T15:00:00" in cron["next_run_date"]
    changed = client.crons.update(cron["cron_id"], schedule="0 12 * * *", timezone="UTC")
    assert "T12:00:00" in changed["next_run_date"]
    with pytest.raises(UnprocessableEntityError):
        client.crons.update(cron["cron_id"], schedule="bogus")
    with pytest.raises(NotFoundError):
        client.crons.create("nobody", schedule=yearly)
    client.crons.delete(cron["cron_id"])
    with pytest.raises(NotFoundError):
        client.crons.delete(cron["cron_id"])


def test_a_thread_with_very_many_runs_is_listed(url: str) -> None:
    async def make(client: Any, thread_id: str) -> list[str]:
        async def some(count: int) -> list[str]:
            runs = [await client.runs.create(thread_id, "noter", after_seconds=3600) for _ in range(count)]
            return [run["run_id"] for run in runs]

        return [run_id for made in await asyncio.gather(*(some(200) for _ in range(10))) for run_id in made]

    client = get_sync_client(url=url)
    thread_id = client.threads.create()["thread_id"]
    made = asyncio.run(make(get_client(url=url), thread_id))
    listed: list[str] = []
    while page := client.runs.list(thread_id, limit=500, offset=len(listed)):
        listed += [run["run_id"] for run in page]
    assert len(listed) == 2000 and set(listed) == set(made)
    assert len(client.runs.list(thread_id, limit=3, offset=1998)) == 2
    assert client.runs.list(thread_id, status="success") == []
    assert client.threads.get(thread_id)["status"] == "busy"
    client.threads.delete(thread_id)
    with pytest.raises(NotFoundError):
        client.runs.list(thread_id)
