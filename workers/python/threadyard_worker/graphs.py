"""The project's graphs, each ready for use with the host's checkpointer and store attached."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.channels.last_value import LastValue
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from .failures import error_body
from .loading import Factory, as_graph, load_graph
from .saver import HostSaver
from .store import HostStore
from .user import User, attend

try:
    from langgraph_sdk.runtime import _ExecutionRuntime, _ReadRuntime
except ImportError:  # A langgraph_sdk from before ServerRuntime: no factory can ask for one.
    _ExecutionRuntime = _ReadRuntime = None

Access = Literal["threads.create_run", "threads.update", "threads.read", "assistants.read"]

_DEFAULT_NAME = "LangGraph"

logger = logging.getLogger("threadyard_worker")


class UnknownGraph(Exception):
    """The host named a graph that this worker does not have."""


class UnavailableGraph(Exception):
    """The graph could not be imported."""


@dataclass
class Use:
    """A graph attached for one use."""

    graph: Pregel
    plain_state: bool
    """Whether the last `values` event is the whole state, so that nothing has to be read back after a run."""


class Graphs:
    """Every graph of the project by id."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[str, Pregel | Factory]] = {}
        self._failed: dict[str, dict[str, str]] = {}
        self._attached: dict[str, Use] = {}
        self._warned: set[str] = set()
        self._saver: HostSaver | None = None
        self._store: HostStore | None = None

    def load(self, graphs: dict[str, dict[str, Any]], project: Path) -> dict[str, Any]:
        """Import all; the report says of each whether it loaded, as `READY` carries it."""
        report: dict[str, Any] = {}
        for id, entry in graphs.items():
            try:
                self._loaded[id] = (entry["path"], load_graph(entry["path"], project))
                report[id] = {"ok": True}
            except (Exception, SystemExit) as error:
                self._failed[id] = error_body(error)
                report[id] = {"ok": False, "error": self._failed[id]}
        return report

    def attach(self, saver: HostSaver, store: HostStore) -> None:
        """Give all graphs the checkpointer and store of this worker."""
        self._saver, self._store = saver, store
        for id, (_, graph) in self._loaded.items():
            if isinstance(graph, Pregel):
                self._attached[id] = self._use(id, graph)

    @asynccontextmanager
    async def open(self, id: str, access: Access, config: dict[str, Any], context: Any = None) -> AsyncIterator[Use]:
        """The graph, made for this use when it comes from a factory."""
        user = attend(config.get("configurable") or {})
        if (use := self._attached.get(id)) is not None:
            yield use
            return
        if (failure := self._failed.get(id)) is not None:
            raise UnavailableGraph(f"graph `{id}` could not be loaded: {failure['error']}: {failure['message']}")
        if id not in self._loaded:
            raise UnknownGraph(f"graph `{id}` is not loaded in this worker")
        path, factory = self._loaded[id]
        assert isinstance(factory, Factory)
        made = factory.call(config, self._runtime(access, context, user))
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__") and not isinstance(made, Pregel):
            async with made as value:
                yield self._use(id, as_graph(value, path))
        elif hasattr(made, "__enter__") and not isinstance(made, Pregel):
            with made as value:
                yield self._use(id, as_graph(value, path))
        else:
            yield self._use(id, as_graph(made, path))

    def _runtime(self, access: Access, context: Any, user: User | None) -> Any:
        if _ReadRuntime is None:
            return None
        if access == "threads.create_run":
            return _ExecutionRuntime(access_context=access, user=user, store=self._store, context=context)
        return _ReadRuntime(access_context=access, user=user, store=self._store)

    def _use(self, id: str, graph: Pregel) -> Use:
        if isinstance(graph.checkpointer, BaseCheckpointSaver) and id not in self._warned:
            self._warned.add(id)
            logger.warning(
                "graph `%s` is compiled with a checkpointer of its own (%s); "
                "the server's is used instead, so it can be left out",
                id,
                type(graph.checkpointer).__name__,
            )
        update = {"checkpointer": self._saver, "store": self._store}
        if graph.name == _DEFAULT_NAME:
            update["name"] = id
        attached = graph.copy(update=update)
        return Use(attached, _state_is_plain(attached))


def _state_is_plain(graph: Pregel) -> bool:
    """Whether the output is the whole state and stays in the checkpoint exactly as a run streams it."""
    state, output = graph.stream_channels_asis, graph.output_channels
    if isinstance(state, str) or isinstance(output, str) or set(state) != set(output):
        return False
    return all(type(graph.channels[name]) in (LastValue, BinaryOperatorAggregate) for name in state)
