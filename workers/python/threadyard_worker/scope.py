"""On whose behalf code is running: the run or the call whose slot checkpoints and store requests name."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


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
    threads: set[Future[Any]] = field(default_factory=set)
    """Synchronous code that goes on in threads, which cancelling a task does not stop."""

    async def threads_end(self) -> None:
        """Wait for the code that goes on in threads."""
        # A copy, since a thread that ends takes itself away.
        if threads := list(self.threads):
            await asyncio.wait([asyncio.wrap_future(future) for future in threads])


current: contextvars.ContextVar[Scope] = contextvars.ContextVar("threadyard_scope", default=Scope(slot=0))


class NodeThreads(ThreadPoolExecutor):
    """Threads for synchronous nodes; each scope knows which of its code is still in one."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a thread on behalf of the current scope."""
        threads = current.get().threads
        future = super().submit(fn, *args, **kwargs)
        threads.add(future)
        future.add_done_callback(threads.discard)
        return future


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
