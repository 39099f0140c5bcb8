"""Every kind of factory."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from graphs import CustomState
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime

EVENTS: list[str] = []

# Modules are imported without an event loop, so this is allowed.
asyncio.run(asyncio.sleep(0))


def _builder(value: Any) -> StateGraph:
    def node(state: CustomState) -> Any:
        return {"x": [value, *EVENTS]}

    return StateGraph(CustomState).add_node("node", node).add_edge(START, "node")


def no_arguments() -> Any:
    return _builder("no_arguments").compile()


def uncompiled() -> Any:
    return _builder("uncompiled")


def by_name(config) -> Any:  # noqa: ANN001
    return _builder(config["configurable"]["flavour"]).compile()


def by_position(anything) -> Any:  # noqa: ANN001
    return _builder(anything["configurable"]["flavour"]).compile()


def by_annotation(c: RunnableConfig) -> Any:
    return _builder(c["configurable"]["flavour"]).compile()


async def asynchronous(config: RunnableConfig) -> Any:
    await asyncio.sleep(0)
    return _builder("asynchronous").compile()


@contextlib.contextmanager
def context_manager():
    EVENTS.append("entered")
    try:
        yield _builder("context_manager").compile()
    finally:
        EVENTS.append("left")


@contextlib.asynccontextmanager
async def async_context_manager(config: RunnableConfig):
    EVENTS.append("a-entered")
    try:
        yield _builder("async_context_manager")
    finally:
        EVENTS.append("a-left")


def with_runtime(runtime: ServerRuntime) -> Any:
    execution = runtime.execution_runtime
    return _builder([runtime.access_context, runtime.store is not None, execution and execution.context]).compile()


def with_both(config: RunnableConfig, rt: ServerRuntime[dict]) -> Any:
    return _builder([config["configurable"]["flavour"], rt.access_context]).compile()


def with_default(config: RunnableConfig, flag: bool = True) -> Any:
    return _builder(flag).compile()


def with_too_much(config: RunnableConfig, more: str) -> Any:
    return None


def returns_nonsense() -> Any:
    return 3


def raises(config: RunnableConfig) -> Any:
    raise LookupError("no such flavour")
