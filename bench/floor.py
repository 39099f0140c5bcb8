"""One round of the bare graphs in this process: the least that any server could need.

Tuned as a worker is (uvloop, frozen collector), with checkpoints in memory and each event rendered as JSON.
"""

import asyncio
import gc
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import chat
import orjson
import uvloop
from cases import CASES, Case
from langgraph.checkpoint.memory import InMemorySaver

sys.path.insert(0, str(Path(__file__).parent / "project"))
import graphs  # noqa: E402


async def run_once(graph: Any, case: Case) -> None:
    config = {"configurable": {"thread_id": str(uuid.uuid4())}}
    if case.graph_mode is None:
        await graph.ainvoke(case.input, config)
        return
    async for event in graph.astream(case.input, config, stream_mode=case.graph_mode):
        orjson.dumps(event, default=lambda value: value.model_dump())


async def measure(case: Case) -> float:
    graph = getattr(graphs, case.graph).copy(update={"checkpointer": InMemorySaver()})
    for _ in range(case.runs // 10):
        await run_once(graph, case)
    started = time.process_time()
    for _ in range(case.runs):
        await run_once(graph, case)
    return (time.process_time() - started) / case.runs


async def last_turns() -> float:
    graph = graphs.echo.copy(update={"checkpointer": InMemorySaver()})
    config = {"configurable": {"thread_id": str(uuid.uuid4())}}
    started = 0.0
    for number in range(chat.TURNS):
        if number == chat.TURNS - chat.LAST:
            started = time.process_time()
        await graph.ainvoke(chat.turn(number), config)
    return (time.process_time() - started) / chat.LAST


async def main() -> None:
    gc.collect()
    gc.freeze()
    measured = {case.graph: {"cpu_s": await measure(case)} for case in CASES}
    print(json.dumps({**measured, "chat": {"cpu_s": await last_turns()}}))


uvloop.run(main())
