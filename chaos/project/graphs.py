"""A graph that notes what it does: in its state, and outside, as a node that calls somebody would."""

import asyncio
import operator
import os
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph

STEPS = 6
# A part of a step takes so long.
PART_SECONDS = float(os.environ.get("PART_SECONDS", "0.01"))


class Turns(TypedDict, total=False):
    turn: int
    step: int
    log: Annotated[list[list[int]], operator.add]


async def begin(state: Turns) -> Turns:
    return {"step": 0, "log": [[state["turn"], 0]]}


async def work(state: Turns, config: RunnableConfig) -> Turns:
    step = state["step"] + 1
    # What a node would send along to whoever it calls, so that a second call is known for one.
    metadata = config["metadata"]
    key = "/".join([metadata["run_id"], str(metadata["langgraph_step"]), *map(str, metadata["langgraph_path"])])
    effects = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(effects, f"{metadata['run_id']} {step} {key}\n".encode())
    os.close(effects)
    write = get_stream_writer()
    for part in range(3):
        write({"turn": state["turn"], "step": step, "part": part})
        await asyncio.sleep(PART_SECONDS)
    return {"step": step, "log": [[state["turn"], step]]}


def goes_on(state: Turns) -> str:
    return "work" if state["step"] < STEPS else END


turns = StateGraph(Turns).add_node(begin).add_node(work)
turns = turns.add_edge(START, "begin").add_edge("begin", "work").add_conditional_edges("work", goes_on)
