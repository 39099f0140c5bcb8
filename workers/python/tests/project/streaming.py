"""Graphs for event streaming: a subgraph that takes its time, and a transformer that counts."""

import asyncio
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    seconds: float


async def wait(state: State) -> State:
    get_stream_writer()({"here": 1})
    await asyncio.sleep(state["seconds"])
    return {}


class Counter(StreamTransformer):
    """Counts the values that it sees."""

    required_stream_modes = ("values",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self.steps: StreamChannel[int] = StreamChannel("steps")
        self.count = 0

    def init(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] == "values":
            self.count += 1
            self.steps.push(self.count)
        return True


_inner = StateGraph(State).add_node("wait", wait).add_edge(START, "wait").compile()
_outer = StateGraph(State).add_node("inner", _inner).add_edge(START, "inner")
slow = _outer.compile()
counted = _outer.compile(transformers=[Counter])
