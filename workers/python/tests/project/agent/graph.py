"""A graph in a package."""

from typing import Any

from langgraph.graph import START, StateGraph
from typing_extensions import NotRequired, TypedDict

from .tools import ANSWER


class State(TypedDict):
    x: NotRequired[Any]


async def _node(state: State) -> Any:
    return {"x": [ANSWER, __name__]}


graph = StateGraph(State).add_node("node", _node).add_edge(START, "node").compile()
