"""A graph that works beside one that does not, and one of whose nodes can fail."""

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    x: int


async def node(state: State) -> State:
    if state["x"] < 0:
        raise ValueError(f"negative: {state['x']}")
    return {"x": state["x"] + 1}


builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
graph = builder.compile()
