"""A person decides: the graph drafts, pauses with `interrupt()`, and goes on with the answer."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    topic: str
    draft: str
    approved: bool


async def write(state: State) -> State:
    return {"draft": f"All about {state['topic']}."}


async def review(state: State) -> State:
    answer: Any = interrupt({"question": "Publish this?", "draft": state["draft"]})
    return {"approved": bool(answer)}


builder = StateGraph(State)
builder.add_node("write", write)
builder.add_node("review", review)
builder.add_edge(START, "write")
builder.add_edge("write", "review")
