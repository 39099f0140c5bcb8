"""`checkpointer.serde`: what values of checkpoints become when a run goes on with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Server, write_project

GRAPH = """
from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


@dataclass
class Own:
    x: int


class State(TypedDict, total=False):
    kept: Any
    seen: str


def keep(state: State) -> State:
    return {"kept": Own(1)}


def ask(state: State) -> State:
    interrupt("go on?")
    return {"seen": type(state["kept"]).__name__, "kept": None}


builder = StateGraph(State)
builder.add_node("keep", keep)
builder.add_node("ask", ask)
builder.add_edge(START, "keep")
builder.add_edge("keep", "ask")
graph = builder.compile()
"""


@pytest.mark.parametrize(
    ("serde", "is_own"),
    [
        (None, True),
        ({"allowed_msgpack_modules": None}, False),
        ({"allowed_msgpack_modules": [["work", "Own"]]}, True),
        ({"allowed_msgpack_modules": [["elsewhere", "Own"]], "pickle_fallback": True}, False),
    ],
)
def test_values_become_what_they_may(serve: Any, tmp_path: Path, serde: Any, is_own: bool) -> None:
    config = {"checkpointer": {"serde": serde}} if serde else {}
    server = serve(write_project(tmp_path / "project", {"work": "./work.py:graph"}, {"work.py": GRAPH}, **config))
    thread = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
    place = f"{server.url}/threads/{thread}/runs/wait"
    httpx.post(place, json={"assistant_id": "work", "input": {}}, timeout=60).raise_for_status()
    seen = httpx.post(place, json={"assistant_id": "work", "command": {"resume": "yes"}}, timeout=60).json()["seen"]
    assert (seen == "Own") == is_own, seen


def test_what_makes_no_sense_stops_the_start(tmp_path: Path) -> None:
    project = write_project(
        tmp_path / "project",
        {"work": "./work.py:graph"},
        {"work.py": GRAPH},
        checkpointer={"serde": {"allowed_msgpack_module": None}},
    )
    with pytest.raises(AssertionError, match=r"checkpointer\.serde\.allowed_msgpack_module"):
        Server(project, tmp_path / "data")
