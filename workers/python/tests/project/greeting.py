"""A graph that looks at who runs it."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    x: list[Any]


def make(runtime: ServerRuntime):
    maker = runtime.ensure_user().identity

    def greet(state: State, config: RunnableConfig) -> State:
        user = config["configurable"]["langgraph_auth_user"]
        return {"x": [user.identity, user["org"]["id"], user.permissions, maker]}

    builder = StateGraph(State)
    builder.add_node("greet", greet)
    builder.add_edge(START, "greet")
    return builder.compile()
