"""LangGraph's `RemoteGraph`: the served graphs as if they were here, also as a subgraph of a local one."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_sync_client


@pytest.fixture
def remote(gallery: Any) -> Any:
    return lambda graph: RemoteGraph(graph, url=gallery.url)


@pytest.fixture
def config(gallery: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": get_sync_client(url=gallery.url).threads.create()["thread_id"]}}


def test_a_remote_graph_is_invoked_and_streamed(remote: Any, config: dict[str, Any]) -> None:
    tools = remote("tools")
    values = tools.invoke({"messages": [{"role": "user", "content": "Oslo"}]}, config)
    assert values["messages"][-1]["content"] == "It is sunny in Oslo."
    chunks = list(tools.stream({"messages": [{"role": "user", "content": "Rome"}]}, config, stream_mode="updates"))
    assert [next(iter(chunk)) for chunk in chunks] == ["agent", "tools", "agent"]
    progress = remote("progress").stream({}, config, stream_mode=["custom"], subgraphs=True)
    assert [chunk[-1] for chunk in progress] == [{"step": 1, "of": 2}, {"step": 2, "of": 2}]


def test_a_remote_interrupt_is_resumed(remote: Any, config: dict[str, Any]) -> None:
    review = remote("review")
    paused = review.invoke({"topic": "looms"}, config)
    assert "approved" not in paused
    state = review.get_state(config)
    assert state.next == ("review",) and state.tasks[0].interrupts[0].value["question"] == "Publish this?"
    assert review.invoke(Command(resume=True), config)["approved"] is True
    assert [it.next for it in review.get_state_history(config)][0] == ()


def test_remote_state_is_updated(remote: Any, config: dict[str, Any]) -> None:
    review = remote("review")
    review.invoke({"topic": "looms"}, config)
    review.update_state(config, {"draft": "mine"}, as_node="write")
    assert review.get_state(config).values["draft"] == "mine"


def test_a_remote_graph_is_drawn(remote: Any) -> None:
    nodes = set(remote("review").get_graph().nodes)
    assert {"__start__", "write", "review"} <= nodes


def test_a_remote_failure_is_raised(remote: Any) -> None:
    with pytest.raises(RemoteException):
        remote("review").invoke({"draft": "a draft without a topic"})


def test_a_remote_graph_is_a_node_of_a_local_one(remote: Any) -> None:
    class State(TypedDict, total=False):
        messages: list[Any]

    local = StateGraph(State).add_node("remote", remote("tools")).add_edge(START, "remote").compile()
    asked = {"messages": [{"role": "user", "content": "Oslo"}]}
    values = asyncio.run(local.ainvoke(asked))
    assert values["messages"][-1]["content"] == "It is sunny in Oslo."
