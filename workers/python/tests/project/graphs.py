"""Graphs for the tests."""

from __future__ import annotations

import asyncio
import logging
import operator
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_store, get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt
from typing_extensions import NotRequired, TypedDict


def _line(state: type, *nodes: Any, **options: Any) -> StateGraph:
    """A builder of the nodes one after the other, each named by its function."""
    builder = StateGraph(state, **options)
    before = START
    for node in nodes:
        name = getattr(node, "__name__", "child").lstrip("_")
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder


class CounterState(TypedDict):
    count: Annotated[int, operator.add]
    log: Annotated[list[str], operator.add]


async def _add(state: CounterState) -> Any:
    return {"count": 1, "log": ["add"]}


async def _double(state: CounterState) -> Any:
    return {"count": state["count"], "log": ["double"]}


counter_builder = _line(CounterState, _add, _double)
counter = counter_builder.compile()
named = counter_builder.compile(name="Named by its author")
own_checkpointer = counter_builder.compile(checkpointer=InMemorySaver())
not_a_graph = {"nodes": []}


class StreamerState(MessagesState):
    text: NotRequired[str]


async def _model(state: StreamerState, config: RunnableConfig) -> Any:
    model = FakeListChatModel(responses=[state.get("text") or "abc"])
    return {"messages": [await model.ainvoke(state["messages"], config)]}


async def _say(state: StreamerState) -> Any:
    return {"messages": [AIMessage(content="said", id="ai-said")]}


streamer = _line(StreamerState, _model).compile()
said = _line(StreamerState, _say).compile()
streamer_within = _line(StreamerState, _line(StreamerState, _model).compile()).compile()


class HitlState(TypedDict):
    topic: NotRequired[str]
    draft: NotRequired[str]
    answer: NotRequired[Any]
    done: NotRequired[bool]


async def _draft(state: HitlState) -> Any:
    return {"draft": f"draft about {state.get('topic')}"}


async def _review(state: HitlState) -> Any:
    return {"answer": interrupt({"question": "approve?", "draft": state.get("draft")})}


async def _finish(state: HitlState) -> Any:
    return {"done": True}


hitl = _line(HitlState, _draft, _review, _finish).compile()
hitl_within = _line(HitlState, _line(HitlState, _review).compile()).compile()


class AskState(TypedDict):
    answers: Annotated[list[Any], operator.add]


async def _ask_a(state: AskState) -> Any:
    return {"answers": [interrupt("a")]}


async def _ask_b(state: AskState) -> Any:
    return {"answers": [interrupt("b")]}


_builder = _line(AskState, _ask_a)
_builder.add_node("ask_b", _ask_b)
_builder.add_edge(START, "ask_b")
two_questions = _builder.compile()


class BoomState(TypedDict):
    n: NotRequired[int]
    how: NotRequired[str]


async def _pre(state: BoomState) -> Any:
    return {"n": (state.get("n") or 0) + 1}


class _Textless(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


async def _boom(state: BoomState) -> Any:
    match state.get("how"):
        case "fine":
            return {"n": 100}
        case "cancelled":
            raise asyncio.CancelledError("by user code")
        case "exit":
            sys.exit(3)
        case "surrogate":
            raise ValueError("a\ud800b")
        case "textless":
            raise _Textless
    raise ValueError(f"boom at {state.get('n')}")


boom = _line(BoomState, _pre, _boom).compile()


class SlowState(TypedDict):
    steps: Annotated[list[str], operator.add]
    how: NotRequired[str]
    until: NotRequired[str]


gate: dict[str, threading.Event] = {}


async def _first(state: SlowState) -> Any:
    return {"steps": ["first"]}


async def _wait(state: SlowState) -> Any:
    match state.get("how"):
        case "block":
            while not Path(state["until"]).exists():
                time.sleep(0.01)
        case "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return {"steps": ["stubborn"]}
        case "quick":
            await asyncio.sleep(0.005)
        case _:
            get_stream_writer()("waiting")
            await asyncio.Event().wait()
    return {"steps": ["waited"]}


slow = _line(SlowState, _first, _wait).compile()


class FolderState(TypedDict):
    folder: str


def _in_a_thread(state: FolderState) -> Any:
    get_stream_writer()("waiting")
    time.sleep(0.3)
    (Path(state["folder"]) / "done").touch()
    return state


threaded = _line(FolderState, _in_a_thread).compile()


class CustomState(TypedDict):
    x: NotRequired[Any]
    n: NotRequired[int]


async def _emit(state: CustomState) -> Any:
    writer = get_stream_writer()
    for i in range(state.get("n") or 3):
        writer({"i": i})
    return {"x": 1}


custom = _line(CustomState, _emit).compile()


async def _emit_odd(state: CustomState) -> Any:
    write = get_stream_writer()
    for event in ({"i": 0}, {"i": 1}, {("no", "text"): 2}, {"i": 3}):
        write(event)


async def _emit_reused(state: CustomState) -> Any:
    write, event = get_stream_writer(), {}
    for i in range(state["n"]):
        event["i"] = i
        write(event)
        await asyncio.sleep(0.02)


odd_events = _line(CustomState, _emit_odd).compile()
reused_event = _line(CustomState, _emit_reused).compile()


@dataclass
class Ctx:
    user_name: str = "nobody"


async def _context(state: CustomState, runtime: Runtime[Ctx]) -> Any:
    return {"x": runtime.context.user_name}


with_context = _line(CustomState, _context, context_schema=Ctx).compile()


class In(TypedDict):
    a: int


class Out(TypedDict):
    b: int


class Both(In, Out):
    pass


async def _convert(state: Both) -> Any:
    return {"b": state["a"] + 1}


in_out = _line(Both, _convert, input_schema=In, output_schema=Out).compile()


async def _store(state: CustomState) -> Any:
    store = get_store()
    assert store is not None
    await store.aput(("users", "ann"), "k", {"n": 1})
    await store.aput(("users", "bob"), "k", {"n": 2})
    item = await store.aget(("users", "ann"), "k")
    found = await store.asearch(("users",), filter={"n": 2})
    names = await store.alist_namespaces(prefix=("users",), max_depth=2)
    await store.adelete(("users", "bob"), "k")
    gone = await store.aget(("users", "bob"), "k")
    assert item is not None
    return {"x": [item.value, [f.key for f in found], names, gone]}


def _store_sync(state: CustomState) -> Any:
    store = get_store()
    assert store is not None
    store.put(("sync",), "k", {"n": 1})
    item = store.get(("sync",), "k")
    assert item is not None
    return {"x": item.value}


async def _store_blocking(state: CustomState) -> Any:
    store = get_store()
    assert store is not None
    store.get(("sync",), "k")
    return {}


storer = _line(CustomState, _store).compile()
storer_sync = _line(CustomState, _store_sync).compile()
storer_blocking = _line(CustomState, _store_blocking).compile()


def _add_sync(state: CounterState) -> Any:
    return {"count": 1, "log": ["add"]}


def _nested_sync(state: CounterState, config: RunnableConfig) -> Any:
    inner = _line(CounterState, _add_sync).compile(checkpointer=True)
    return {"count": inner.invoke({"count": 1, "log": []}, config)["count"], "log": []}


sync_subgraph = _line(CounterState, _nested_sync).compile()


async def _print(state: CustomState) -> Any:
    print("printed by a node")
    print("an error line", file=sys.stderr)
    subprocess.run(["echo", "from a child process"], check=True)
    logging.getLogger("user.code").info("logged %s", "by user code")
    return {}


printer = _line(CustomState, _print).compile()


class FanState(TypedDict):
    items: list[str]
    results: Annotated[list[str], operator.add]


async def _worker(state: Any) -> Any:
    return {"results": [state["item"].upper()]}


_builder = StateGraph(FanState)
_builder.add_node("worker", _worker)
_builder.add_conditional_edges(START, lambda state: [Send("worker", {"item": i}) for i in state["items"]], ["worker"])
fanout = _builder.compile()


class BigState(TypedDict):
    turns: Annotated[list[str], operator.add]
    size: NotRequired[float]
    text: NotRequired[str]


async def _big(state: BigState) -> Any:
    return {"turns": ["x" * 300], "size": float("nan"), "text": "é" * 200}


big = _line(BigState, _big).compile()
