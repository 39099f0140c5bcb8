"""The official Python SDK against the built binary: assistants, threads, state, runs, streams."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client


@pytest.fixture
def client(gallery: Any) -> Any:
    return get_sync_client(url=gallery.url)


def test_default_assistants_are_found_and_described(client: Any) -> None:
    found = client.assistants.search(graph_id="progress")
    assert [(it["name"], it["version"], it["metadata"]) for it in found] == [
        ("progress", 1, {"created_by": "system"})
    ]
    schemas = client.assistants.get_schemas(found[0]["assistant_id"])
    assert schemas["graph_id"] == "progress"
    assert "done" in schemas["state_schema"]["properties"]


def test_threads_are_made_changed_found_and_deleted(client: Any) -> None:
    thread = client.threads.create(metadata={"owner": "ann", "kind": "test"})
    assert thread["status"] == "idle" and thread["values"] is None
    client.threads.update(thread["thread_id"], metadata={"kind": "changed"})
    assert client.threads.search(metadata={"owner": "ann", "kind": "changed"})[0]["thread_id"] == thread["thread_id"]
    client.threads.delete(thread["thread_id"])
    with pytest.raises(Exception, match="404|not found|Not Found"):
        client.threads.get(thread["thread_id"])


def test_a_tool_calling_agent_leaves_its_messages(client: Any) -> None:
    thread = client.threads.create()
    values = client.runs.wait(thread["thread_id"], "tools", input={"messages": [{"role": "user", "content": "Oslo"}]})
    assert [message["type"] for message in values["messages"]] == ["human", "ai", "tool", "ai"]
    assert values["messages"][-1]["content"] == "It is sunny in Oslo."
    assert client.threads.get(thread["thread_id"])["values"] == values
    state = client.threads.get_state(thread["thread_id"])
    assert state["values"] == values and state["next"] == []
    assert len(client.threads.get_history(thread["thread_id"])) == 5


def test_an_interrupt_waits_and_resumes(client: Any) -> None:
    thread_id = client.threads.create()["thread_id"]
    values = client.runs.wait(thread_id, "review", input={"topic": "looms"})
    assert values["__interrupt__"][0]["value"]["question"] == "Publish this?"
    thread = client.threads.get(thread_id)
    assert thread["status"] == "interrupted" and len(thread["interrupts"]) == 1
    assert client.threads.get_state(thread_id)["next"] == ["review"]
    assert client.runs.wait(thread_id, "review", command={"resume": True})["approved"] is True
    assert client.threads.get(thread_id)["status"] == "idle"
    assert [run["status"] for run in client.runs.list(thread_id)] == ["success", "success"]


def test_custom_events_of_a_subgraph_are_streamed(client: Any) -> None:
    parts = client.runs.stream(
        None,
        "progress",
        input={},
        config={"configurable": {"steps": 3}},
        stream_mode=["custom", "updates"],
        stream_subgraphs=True,
    )
    events = [(part.event.split("|")[0], part.data) for part in parts]
    assert events[0][0] == "metadata"
    assert [data for name, data in events if name == "custom"] == [{"step": step, "of": 3} for step in (1, 2, 3)]
    assert [data for name, data in events if name == "updates"][-1] == {"inner": {"done": ["work"]}}


@pytest.mark.parametrize(
    "mode", ["values", "updates", "messages", "messages-tuple", "events", "debug", "tasks", "checkpoints"]
)
def test_every_stream_mode_speaks(client: Any, mode: str) -> None:
    parts = list(client.runs.stream(None, "tools", input={"messages": [("user", "Oslo")]}, stream_mode=mode))
    names = {part.event.split("/")[0] for part in parts}
    assert names == {"metadata", "messages" if mode == "messages-tuple" else mode}


def test_a_state_update_takes_the_place_of_a_node(client: Any) -> None:
    thread_id = client.threads.create(graph_id="review")["thread_id"]
    client.threads.update_state(thread_id, {"topic": "x", "draft": "mine"}, as_node="write")
    assert client.threads.get_state(thread_id)["next"] == ["review"]
    assert client.runs.wait(thread_id, "review", input=None)["draft"] == "mine"


def test_bad_input_is_refused_precisely(gallery: Any) -> None:
    http = httpx.Client(base_url=gallery.url)
    unknown = "00000000-0000-4000-8000-000000000000"
    thread = http.post("/threads", json={}).json()["thread_id"]
    for method, path, content, status in [
        ("POST", "/threads", "{not json", 422),
        ("POST", "/threads", "", 422),
        ("GET", "/threads/not-a-uuid", None, 422),
        ("GET", f"/threads/{unknown}", None, 404),
        ("GET", f"/assistants/{unknown}", None, 404),
        ("POST", f"/threads/{thread}/runs", '{"assistant_id": "nobody"}', 422),
        ("POST", f"/threads/{thread}/runs", "{}", 422),
        ("POST", f"/threads/{thread}/runs", '{"assistant_id": "tools", "webhook": "not a url"}', 422),
        ("POST", f"/threads/{thread}/runs", '{"assistant_id": "tools", "stream_mode": "loud"}', 422),
        ("POST", "/threads/search", '{"limit": 0}', 422),
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/ok", None, 404),
        ("PUT", "/threads", "{}", 405),
    ]:
        answer = http.request(method, path, content=content)
        assert (answer.status_code, type(answer.json()["detail"])) == (status, str), (method, path, answer.text)
    assert http.get(f"/threads/{thread}/runs").json() == []


def test_a_broken_graph_is_told_and_the_others_work(serve: Any) -> None:
    server = serve("e2e/broken")
    http = httpx.Client(base_url=server.url)
    answer = http.post("/runs/wait", json={"assistant_id": "broken", "input": {}})
    assert answer.status_code == 503
    assert "`broken`" in answer.json()["detail"] and "broken.py" in answer.json()["detail"]
    server.wait_for_log("SyntaxError")
    assert http.post("/runs/wait", json={"assistant_id": "fine", "input": {"x": 1}}).json() == {"x": 2}
    failed = http.post("/runs/wait", json={"assistant_id": "fine", "input": {"x": -1}}).json()
    assert failed == {"__error__": {"error": "ValueError", "message": "negative: -1"}}
