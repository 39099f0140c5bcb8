"""A graph that says something with components: one that grows, and one that goes."""

from collections.abc import Sequence
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph, add_messages
from langgraph.graph.ui import AnyUIMessage, delete_ui_message, push_ui_message, ui_message_reducer


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    ui: Annotated[Sequence[AnyUIMessage], ui_message_reducer]


async def show(state: State) -> dict[str, list[AIMessage]]:
    message = AIMessage(id="answer", content="Here it is.")
    shown = push_ui_message("weather", {"city": "Berlin"}, id="shown", message=message)
    push_ui_message("weather", {"sky": "clear"}, id=shown["id"], message=message, merge=True)
    gone = push_ui_message("weather", {"city": "Nowhere"}, id="gone")
    delete_ui_message(gone["id"])
    return {"messages": [message]}


graph = StateGraph(State).add_node(show).add_edge(START, "show").compile()
