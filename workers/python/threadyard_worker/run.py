"""One run of a graph: from `RUN_START` through its events to `END`."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import orjson
from langgraph.pregel import Pregel
from langgraph.types import Command, Send

from . import frames
from .connection import Connection
from .drain import Drain
from .encoding import to_json
from .event_streaming import MARKER, EventStreaming
from .failures import error_body
from .graphs import Graphs, Use
from .saver import go_on_behind
from .scope import Scope, current
from .state import finished_state, open_interrupts, read_state, thread_state
from .stream import Stream
from .trace_context import go_on

logger = logging.getLogger("threadyard_worker")

_CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
_STATELESS_REASONS = frozenset({"rollback", "drain", "storage"})


class Run:
    """A run in progress."""

    def __init__(self, slot: int, body: dict[str, Any], graphs: Graphs, connection: Connection) -> None:
        self._slot = slot
        self._body = body
        self._graphs = graphs
        self._connection = connection
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._cancel_reason: str | None = None
        if (head := body.get("head")) is not None:
            go_on_behind(head["id"])
        self._scope = Scope(
            slot=slot,
            one_way=body["durability"] != "sync",
            thread=body["thread"],
            head=head,
            head_unread=True,
            run=body["run"],
        )

    def start(self) -> asyncio.Task[None]:
        """Begin on the event loop."""
        current_scope = current.set(self._scope)
        try:
            self._task = asyncio.get_running_loop().create_task(self._execute())
        finally:
            current.reset(current_scope)
        return self._task

    def cancel(self, reason: str) -> None:
        """Stop as soon as user code lets go; `END` tells when."""
        if self._cancel_reason is None and self._task is not None:
            self._cancel_reason = reason
            # A task that is cancelled before its first step never runs, and nobody would hear of its end.
            if self._begun:
                self._task.cancel()

    async def _execute(self) -> None:
        self._begun = True
        try:
            end = await self._outcome()
        except BaseException as error:  # SystemExit in a node ends the run, not the worker.
            end = self._failed(error)
        self._connection.send_map(frames.END, self._slot, end)

    async def _outcome(self) -> dict[str, Any]:
        config, context = self._config(), _json(self._body.get("context"))
        go_on(config.get("metadata") or {})
        async with self._graphs.open(self._body["graph"], "threads.create_run", config, context) as use:
            stream: Stream | EventStreaming
            if config["configurable"].get(MARKER):
                stream = EventStreaming(self._connection, self._slot, use.graph)
            else:
                stream = Stream(self._connection, self._slot, self._body["modes"])
            error: BaseException | None = None
            try:
                if self._cancel_reason is not None:
                    raise asyncio.CancelledError
                await self._drive(use.graph, config, context, stream)
            except BaseException as caught:
                error = caught
                self._accept_cancellation()
                if self._cancel_reason is not None:
                    # Who waits for the end of a run that was stopped may count on nothing of it going on.
                    await self._scope.threads_end()
            if isinstance(stream, EventStreaming) and self._cancel_reason not in _STATELESS_REASONS:
                await stream.finish(error, self._cancel_reason is not None)
            return await self._concluded(use, stream, error)

    async def _drive(
        self, graph: Pregel, config: dict[str, Any], context: Any, stream: Stream | EventStreaming
    ) -> None:
        """Run the graph, sending events as they come."""
        connection = self._connection
        arguments: dict[str, Any] = {
            "context": _fit_context(graph, context),
            "output_keys": graph.output_channels,
            "interrupt_before": _nodes(self._body.get("before")),
            "interrupt_after": _nodes(self._body.get("after")),
            "durability": self._body["durability"],
        }
        if isinstance(stream, EventStreaming):
            stream.configure(config)
            parts = graph.astream(self._input(config), config, **arguments, **stream.arguments())
            return await Drain(parts, lambda part: stream.take(part) or _room(connection), stream.flush)
        subgraphs = bool(self._body["subgraphs"])
        arguments |= {"stream_mode": stream.graph_modes(), "subgraphs": subgraphs}
        if stream.events:
            chunks = self._event_chunks(graph, config, arguments, stream)
        else:
            chunks = graph.astream(self._input(config), config, **arguments)

        def take(chunk: Any) -> Awaitable[None] | None:
            if subgraphs:
                stream.chunk(*chunk)
            else:
                stream.chunk((), *chunk)
            return _room(connection)

        await Drain(chunks, take, stream.flush)

    async def _event_chunks(
        self, graph: Pregel, config: dict[str, Any], arguments: dict[str, Any], stream: Stream
    ) -> AsyncIterator[Any]:
        """Run the graph for its callback events; the root graph's own stream is what other modes show."""
        root = str(config["run_id"])
        async for event in graph.astream_events(self._input(config), config, version="v2", **arguments):
            if event["event"] == "on_chain_stream" and event["run_id"] == root:
                yield event["data"]["chunk"]
            else:
                stream.event(event)

    async def _concluded(self, use: Use, stream: Stream | EventStreaming, error: BaseException | None) -> dict[str, Any]:
        """The body of `END` once the graph has stopped."""
        end = self._end(error)
        if end["status"] == "cancelled" and self._cancel_reason in _STATELESS_REASONS:
            return end
        if error is None and self._leaves_nothing_to_do(use, stream):
            assert self._scope.last is not None
            end["values"] = stream.last_json()
            end["state"] = finished_state(self._body["thread"], end["values"], self._scope.last)
            return end
        try:
            snapshot = await read_state(use.graph, self._body["thread"])
            end["values"] = to_json(snapshot.values)
            end["state"] = to_json(thread_state(snapshot))
            end["interrupts"] = to_json(open_interrupts(snapshot))
            end["next"] = bool(snapshot.next)
        except Exception:
            logger.exception("the state after run %s can't be read", self._body["run"])
            return end
        if error is None or end["status"] == "cancelled":
            result = _result(use.graph, stream, snapshot.values)
            end["result"] = result if result != end["values"] else None
        return end

    def _leaves_nothing_to_do(self, use: Use, stream: Stream | EventStreaming) -> bool:
        """Whether the last values and the last checkpoint are the whole state, so that it needs no reading back."""
        graph = use.graph
        may_pause = (
            self._body.get("before") or self._body.get("after") or graph.interrupt_before_nodes
            or graph.interrupt_after_nodes or self._scope.interrupted
        )  # fmt: skip
        return (
            use.plain_state
            and not may_pause
            and self._scope.last is not None
            and stream.last_values is not None
            and stream.interrupt_values is None
        )

    def _end(self, error: BaseException | None) -> dict[str, Any]:
        end: dict[str, Any] = {
            "status": "success",
            "result": None,
            "values": None,
            "state": None,
            "interrupts": None,
            "next": False,
            "error": None,
        }
        if error is not None and self._cancel_reason is not None:
            end["status"] = "cancelled"
        elif error is not None:
            end["status"] = "error"
            end["error"] = error_body(error)
        return end

    def _failed(self, error: BaseException) -> dict[str, Any]:
        self._accept_cancellation()
        return self._end(error)

    def _accept_cancellation(self) -> None:
        # From Python 3.11 on a task remembers that it was cancelled, and timeouts inside it would misread that.
        if self._task is not None and hasattr(self._task, "uncancel"):
            while self._task.cancelling():
                self._task.uncancel()

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = orjson.loads(self._body["config"])
        configurable = config.setdefault("configurable", {})
        configurable["thread_id"] = self._body["thread"]
        if self._body.get("resume"):
            # The fork, if one was asked for, was made by the first attempt.
            for key in _CHECKPOINT_KEYS:
                configurable.pop(key, None)
        config["run_id"] = uuid.UUID(self._body["run"])
        return config

    def _input(self, config: dict[str, Any]) -> Any:
        if self._body.get("resume"):
            return None
        command = _json(self._body.get("command"))
        if command is None:
            return _json(self._body.get("input"))
        fresh = self._body.get("head") is None and not config["configurable"].get("checkpoint_id")
        if fresh and command.get("resume") is not None:
            raise TypeError("there is nothing to resume: the thread has no checkpoint")
        return make_command(command)


def make_command(command: dict[str, Any]) -> Command[Any] | None:
    """The `command` of a request; a key that `Command` does not know raises `TypeError`. None when it says nothing."""
    # LangGraph for JavaScript says of its own objects what they are.
    arguments = {key: value for key, value in command.items() if value is not None and key != "lg_name"}
    if not arguments:
        return None
    if "goto" in arguments:
        goto = arguments["goto"]
        arguments["goto"] = [_target(t) for t in goto] if isinstance(goto, list) else _target(goto)
    if isinstance(update := arguments.get("update"), list):
        arguments["update"] = [tuple(pair) for pair in update]
    return Command(**arguments)


def _target(goto: Any) -> Any:
    if not isinstance(goto, dict):
        return goto
    # The API says `input`, LangGraph for JavaScript `args`.
    return Send(goto["node"], goto.get("input", goto.get("args")))


def _fit_context(graph: Pregel, context: Any) -> Any:
    """The context in the form its schema takes; upstream fills in `{}`, and drops keys a dataclass does not know."""
    schema = graph.context_schema
    if schema is None:
        return context
    context = {} if context is None else context
    if isinstance(context, dict) and dataclasses.is_dataclass(schema):
        known = {field.name for field in dataclasses.fields(schema) if field.init}
        return {key: value for key, value in context.items() if key in known}
    return context


def _room(connection: Connection) -> Awaitable[None] | None:
    """What to wait for before more is sent."""
    return connection.drained() if connection.congested else None


def _nodes(nodes: list[str] | None) -> Any:
    return "*" if nodes == ["*"] else nodes or None


def _result(graph: Pregel, stream: Stream | EventStreaming, state: Any) -> bytes:
    """What a waiting client gets: the last values, with the interrupts if there are any."""
    if stream.interrupt_values is not None:
        return to_json(stream.interrupt_values)
    if stream.last_values is not None:
        return stream.last_json()
    keys = graph.output_channels
    if isinstance(keys, str) or not isinstance(state, dict):
        return to_json(state)
    return to_json({key: value for key, value in state.items() if key in keys})


def _json(data: bytes | None) -> Any:
    return None if data is None else orjson.loads(data)
