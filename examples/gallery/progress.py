"""Custom events out of a subgraph; the graph is made by a factory that reads the run's config."""

import operator
from typing import Annotated

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    done: Annotated[list[str], operator.add]


def make_graph(config: RunnableConfig) -> CompiledStateGraph:
    steps = int(config.get("configurable", {}).get("steps", 2))

    async def work(_state: State) -> State:
        write = get_stream_writer()
        for step in range(1, steps + 1):
            write({"step": step, "of": steps})
        return {"done": ["work"]}

    inner = StateGraph(State)
    inner.add_node("work", work)
    inner.add_edge(START, "work")

    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    return outer.compile()
