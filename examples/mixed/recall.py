"""Finds the notes on a topic in the store of the server, whatever language the graph that kept them is written in."""

from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    topic: str
    notes: list[str]


async def find(state: State) -> State:
    items = await get_store().asearch(("notes", state["topic"]))
    return {"notes": sorted(item.value["note"] for item in items)}


graph = StateGraph(State).add_node("find", find).add_edge(START, "find").compile()
