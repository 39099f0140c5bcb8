"""Thread state as the API shows it, made from langgraph's snapshots or from what a run has just written."""

from __future__ import annotations

from typing import Any

from langgraph.pregel import Pregel
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from .encoding import to_json
from .scope import Checkpointed
from .stream import coordinates


async def read_state(graph: Pregel, thread: str) -> StateSnapshot:
    """The newest state of a thread."""
    return await graph.aget_state({"configurable": {"thread_id": thread, "checkpoint_ns": ""}})


def thread_state(snapshot: StateSnapshot) -> dict[str, Any]:
    """A snapshot as `GET /threads/{id}/state` answers it."""
    checkpoint = coordinates(snapshot.config)
    parent = coordinates(snapshot.parent_config)
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": snapshot.metadata,
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": [_interrupt(interrupt) for interrupt in snapshot.interrupts],
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def finished_state(thread: str, values: bytes, last: Checkpointed) -> bytes:
    """The state after a run that left nothing to do, without reading it back."""
    frame = {
        "next": [],
        "tasks": [],
        "created_at": last.created_at,
        "checkpoint": _coordinates(thread, last.id),
        "parent_checkpoint": _coordinates(thread, last.parent) if last.parent else None,
        "interrupts": [],
        "checkpoint_id": last.id,
        "parent_checkpoint_id": last.parent,
    }
    return b'{"values":' + values + b',"metadata":' + last.metadata + b"," + to_json(frame)[1:]


def open_interrupts(snapshot: StateSnapshot) -> dict[str, list[dict[str, Any]]]:
    """The interrupts that wait for an answer, by task."""
    return {task.id: [_interrupt(i) for i in task.interrupts] for task in snapshot.tasks if task.interrupts}


def _task(task: PregelTask) -> dict[str, Any]:
    nested = isinstance(task.state, StateSnapshot)
    return {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "error": repr(task.error) if isinstance(task.error, BaseException) else task.error,
        "interrupts": [_interrupt(interrupt) for interrupt in task.interrupts],
        "checkpoint": task.state["configurable"] if task.state and not nested else None,
        "state": thread_state(task.state) if nested else None,
        "result": task.result,
    }


def _interrupt(interrupt: Interrupt) -> dict[str, Any]:
    return {"id": interrupt.id, "value": interrupt.value}


def _coordinates(thread: str, id: str) -> dict[str, str]:
    return {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": id}
