"""A graph that takes its time, for tests that stop it."""

import asyncio

from langgraph.graph import START, MessagesState, StateGraph


async def wait(_state: MessagesState) -> dict[str, list[tuple[str, str]]]:
    await asyncio.sleep(3600)
    return {"messages": [("ai", "at last")]}


slow = StateGraph(MessagesState).add_node("wait", wait).add_edge(START, "wait")
