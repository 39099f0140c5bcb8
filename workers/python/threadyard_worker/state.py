"""A thread's state as the API shows it."""

from __future__ import annotations

from typing import Any

from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot


def thread_state(snapshot: StateSnapshot) -> dict[str, Any]:
    """A StateSnapshot as a ThreadState."""
    checkpoint = _checkpoint(snapshot.config)
    parent = _checkpoint(snapshot.parent_config)
    metadata = snapshot.metadata
    if metadata is not None:
        metadata = {**metadata, "thread_id": (snapshot.config or {}).get("configurable", {}).get("thread_id")}
    return {
        "values": snapshot.values,
        "next": list(snapshot.next),
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": metadata,
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": [_interrupt(it) for task in snapshot.tasks for it in task.interrupts],
        "checkpoint_id": checkpoint and checkpoint.get("checkpoint_id"),
        "parent_checkpoint_id": parent and parent.get("checkpoint_id"),
    }


def finished_state(thread: str, put: dict[str, Any], values: Any) -> dict[str, Any]:
    """The ThreadState after a run that left nothing to do, known without asking the graph."""
    parent = put["parent"] and {"checkpoint_id": put["parent"], "thread_id": thread, "checkpoint_ns": ""}
    return {
        "values": values,
        "next": [],
        "tasks": [],
        "metadata": {**put["metadata"], "thread_id": thread},
        "created_at": put["ts"],
        "checkpoint": {"checkpoint_id": put["id"], "thread_id": thread, "checkpoint_ns": ""},
        "parent_checkpoint": parent,
        "interrupts": [],
        "checkpoint_id": put["id"],
        "parent_checkpoint_id": put["parent"],
    }


def interrupts_by_task(snapshot: StateSnapshot) -> dict[str, list[dict[str, Any]]]:
    return {task.id: [_interrupt(it) for it in task.interrupts] for task in snapshot.tasks if task.interrupts}


async def get(graph: Pregel, args: dict[str, Any]) -> dict[str, Any]:
    return thread_state(await graph.aget_state(args["config"], subgraphs=bool(args.get("subgraphs"))))


async def history(graph: Pregel, args: dict[str, Any]) -> list[dict[str, Any]]:
    before = args.get("before")
    states = graph.aget_state_history(
        args["config"],
        limit=args["limit"],
        before={"configurable": {"checkpoint_id": before}} if before else None,
        filter=args.get("filter") or None,
    )
    return [thread_state(state) async for state in states]


async def update(graph: Pregel, args: dict[str, Any]) -> dict[str, Any]:
    config = await graph.aupdate_state(args["config"], args.get("values"), as_node=args.get("as_node"))
    snapshot = await graph.aget_state({"configurable": {"thread_id": config["configurable"]["thread_id"]}})
    return {
        "config": config,
        "state": thread_state(snapshot),
        "interrupts": interrupts_by_task(snapshot),
        "next": bool(snapshot.next),
    }


def _checkpoint(config: Any) -> dict[str, Any] | None:
    if not config:
        return None
    configurable = config.get("configurable", {})
    names = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
    return {name: configurable[name] for name in names if name in configurable}


def _task(task: Any) -> dict[str, Any]:
    state, checkpoint = None, None
    if isinstance(task.state, StateSnapshot):
        state = thread_state(task.state)
    elif task.state:
        checkpoint = _checkpoint(task.state)
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": None if task.error is None else repr(task.error),
        "interrupts": [_interrupt(it) for it in task.interrupts],
        "checkpoint": checkpoint,
        "state": state,
        "result": task.result,
    }


def _interrupt(it: Any) -> dict[str, Any]:
    return {"id": it.id, "value": it.value}
