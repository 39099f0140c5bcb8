"""On whose behalf code is running: the run or the call whose slot checkpoints and store requests name."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Checkpointed:
    """The root checkpoint a run wrote last, as the thread's state shows it."""

    id: str
    parent: str | None
    created_at: str
    metadata: bytes


@dataclass
class Scope:
    """A run or a call in progress."""

    slot: int
    """The run's slot, or the id of the host's request."""
    one_way: bool = False
    """Whether checkpoints are sent without waiting for their commit."""
    thread: str | None = None
    """The thread whose newest root checkpoint is known from the start."""
    head: dict[str, Any] | None = None
    """That checkpoint; None says that there is none."""
    head_unread: bool = False
    """Whether nothing has read or replaced `head` yet."""
    run: str | None = None
    """The run's id, for log records."""
    last: Checkpointed | None = None
    interrupted: bool = False
    """Whether a task of this run has recorded an interrupt."""


current: contextvars.ContextVar[Scope] = contextvars.ContextVar("threadyard_scope", default=Scope(slot=0))


def run_in_loop(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], method: str) -> T:
    """Run a coroutine on the event loop from another OS thread, and wait for it."""
    try:
        same = asyncio.get_running_loop() is loop
    except RuntimeError:
        same = False
    if same:
        coroutine.close()
        raise RuntimeError(
            f"`{method}` would block the event loop it needs; use `await {_async_name(method)}(…)` in async code"
        )
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _async_name(method: str) -> str:
    owner, _, name = method.rpartition(".")
    return f"{owner}.a{name}"
