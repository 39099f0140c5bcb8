"""A graph that says odd things."""

from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from odd_values import CASES
from typing_extensions import NotRequired, TypedDict


class State(TypedDict):
    name: str
    value: NotRequired[Any]


async def speak(state: State) -> Any:
    value = CASES[state["name"]]()
    get_stream_writer()(value)
    return {"value": value}


graph = StateGraph(State).add_node("speak", speak).add_edge(START, "speak").compile()
