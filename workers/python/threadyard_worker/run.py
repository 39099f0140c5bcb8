"""One run: streams what the graph says, and reports how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.pregel import Pregel
from langgraph.types import Command, Send

from . import encoding, state
from .connection import Connection
from .frames import Kind, event
from .loading import Graphs, failure
from .messages import Accumulator
from .saver import HostSaver
from .store import HostStore

# What LangGraph itself can stream; the others are made of these.
_NATIVE = ("values", "updates", "custom", "debug", "tasks", "checkpoints")


class Run:
    def __init__(self, connection: Connection, graphs: Graphs, slot: int, start: dict[str, Any]) -> None:
        self._connection = connection
        self._graphs = graphs
        self._slot = slot
        self._start = start
        self._modes: list[str] = start["modes"]
        self._config: dict[str, Any] = encoding.loads(start["config"])
        self._thread: str = start["thread"]
        self._saver = HostSaver(connection, slot, sync=start["durability"] == "sync", head=start["head"])
        self._store = HostStore(connection, slot)
        self._messages = Accumulator()
        self._values: Any = None
        self._has_values = False
        self._interrupts: list[Any] | None = None
        # Why the host stopped this run, if it did.
        self.stop_reason: str | None = None

    async def execute(self) -> None:
        """Runs to the end and says so; never raises."""
        try:
            async with self._graphs.use(start_graph(self._start), self._config, self._saver, self._store) as graph:
                end = await self._to_the_end(graph)
        except (Exception, asyncio.CancelledError) as error:
            end = {"status": "cancelled" if self.stop_reason else "error", "error": failure(error)}
        self._connection.send_map(Kind.END, self._slot, end)

    async def _to_the_end(self, graph: Pregel) -> dict[str, Any]:
        try:
            await self._stream(graph)
        except (Exception, asyncio.CancelledError) as error:
            if self.stop_reason in ("rollback", "drain", "storage"):
                return {"status": "cancelled"}
            if isinstance(error, asyncio.CancelledError):
                _forget_cancellation()
            end = await self._left(graph)
            if self.stop_reason and isinstance(error, asyncio.CancelledError):
                return {**end, "status": "cancelled"}
            return {**end, "status": "error", "error": failure(error)}
        end = await self._left(graph)
        if self._interrupts is not None:
            end["result"] = self._with_interrupts(self._values, self._interrupts)
        return {**end, "status": "success"}

    async def _stream(self, graph: Pregel) -> None:
        wanted = [mode for mode in _NATIVE if mode in self._modes]
        if "values" not in wanted:
            # The values of the thread are needed in any case.
            wanted.append("values")
        if "messages" in self._modes or "messages-tuple" in self._modes:
            wanted.append("messages")
        options = {
            "stream_mode": wanted,
            "subgraphs": self._start["subgraphs"],
            "interrupt_before": _nodes(self._start["before"]),
            "interrupt_after": _nodes(self._start["after"]),
            "durability": self._start["durability"],
        }
        context = self._start["context"]
        if context is not None and graph.context_schema is not None:
            options["context"] = encoding.loads(context)
        stream = self._native(graph, options) if "events" not in self._modes else self._with_events(graph, options)
        async for chunk in stream:
            self._emit(chunk)
            await self._connection.ready_for_more()

    async def _native(self, graph: Pregel, options: dict[str, Any]) -> AsyncIterator[Any]:
        stream = graph.astream(self._input(), self._config, **options)
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                yield chunk

    async def _with_events(self, graph: Pregel, options: dict[str, Any]) -> AsyncIterator[Any]:
        root = None
        stream = graph.astream_events(self._input(), self._config, version="v2", **options)
        async with contextlib.aclosing(stream):
            async for item in stream:
                root = root or item["run_id"]
                if item["event"] == "on_chain_stream" and item["run_id"] == root:
                    yield item["data"]["chunk"]
                elif "langsmith:hidden" not in item["tags"]:
                    self._send("events", item)

    def _input(self) -> Any:
        if self._start["resume"]:
            # An earlier attempt has applied the input already.
            return None
        if self._start["command"] is not None:
            return command(encoding.loads(self._start["command"]))
        return None if self._start["input"] is None else encoding.loads(self._start["input"])

    # What the graph says.

    def _emit(self, chunk: Any) -> None:
        namespace: tuple[str, ...] = ()
        if self._start["subgraphs"]:
            namespace, mode, data = chunk
        else:
            mode, data = chunk
        suffix = "".join(f"|{part}" for part in namespace)
        if mode == "values":
            self._emit_values(data, namespace, suffix)
        elif mode == "messages":
            self._emit_message(*data, suffix)
        elif mode in ("checkpoints", "debug"):
            self._send(mode + suffix, _shown(mode, data))
        else:
            self._send(mode + suffix, data)

    def _emit_values(self, data: Any, namespace: tuple[str, ...], suffix: str) -> None:
        interrupts = data.get("__interrupt__") if isinstance(data, dict) else None
        if namespace:
            if "values" in self._modes:
                self._send("values" + suffix, data)
            return
        if interrupts is None:
            # Encoded at once: the graph may go on to change these objects.
            self._values, self._has_values = encoding.dumps(data), True
            shown = self._values
        else:
            self._interrupts = list(interrupts)
            shown = self._with_interrupts(self._values, self._interrupts)
        if "values" in self._modes:
            self._connection.send(Kind.EVENT, self._slot, event("values", shown))

    def _emit_message(self, message: BaseMessage, metadata: dict[str, Any], suffix: str) -> None:
        if "messages-tuple" in self._modes:
            self._send("messages" + suffix, [message, metadata])
            return
        for name, data in self._messages.add(message, metadata):
            self._send(name + suffix, data)

    def _send(self, name: str, data: Any) -> None:
        self._connection.send(Kind.EVENT, self._slot, event(name, encoding.dumps(data)))

    @staticmethod
    def _with_interrupts(values: bytes | None, interrupts: list[Any]) -> bytes:
        shown = encoding.loads(values) if values else {}
        if not isinstance(shown, dict):
            shown = {}
        return encoding.dumps({**shown, "__interrupt__": interrupts})

    # What it leaves.

    async def _left(self, graph: Pregel) -> dict[str, Any]:
        """The thread's state after the run; asked from the graph only when it is not certain that nothing is left."""
        pauses = self._start["before"] or self._start["after"] or graph.interrupt_before_nodes or graph.interrupt_after_nodes
        certain = self._has_values and self._interrupts is None and not pauses and self.stop_reason is None
        put = self._saver.last_put
        if certain and put is not None and _finished_normally():
            fast = encoding.loads(encoding.dumps(state.finished_state(self._thread, put, None)))
            text = encoding.dumps({**fast, "values": None}).replace(b'"values":null', b'"values":' + self._values, 1)
            return {"values": self._values, "state": text, "interrupts": b"{}", "next": False}
        config = {"configurable": {"thread_id": self._thread, "checkpoint_ns": ""}}
        snapshot = await graph.aget_state(config)
        values = encoding.dumps(snapshot.values)
        return {
            "values": values,
            "state": encoding.dumps(state.thread_state(snapshot)),
            "interrupts": encoding.dumps(state.interrupts_by_task(snapshot)),
            "next": bool(snapshot.next),
        }


def start_graph(start: dict[str, Any]) -> str:
    return start["graph"]


def command(given: dict[str, Any]) -> Command:
    """The Command that a client's JSON means."""
    unknown = set(given) - {"resume", "update", "goto", "graph"}
    if unknown:
        raise ValueError(f"unknown command keys: {', '.join(sorted(unknown))}")
    parts: dict[str, Any] = {}
    if "resume" in given:
        parts["resume"] = given["resume"]
    update = given.get("update")
    if update is not None:
        parts["update"] = [tuple(pair) for pair in update] if isinstance(update, list) else update
    goto = given.get("goto")
    if goto is not None:
        targets = goto if isinstance(goto, list) else [goto]
        parts["goto"] = [Send(it["node"], it.get("input")) if isinstance(it, dict) else it for it in targets]
    return Command(**parts)


def decoded(body: bytes) -> dict[str, Any]:
    return ormsgpack.unpackb(body)


def _nodes(names: list[str] | None) -> Any:
    return "*" if names == ["*"] else names


def _finished_normally() -> bool:
    """Whether no exception is being handled: then the graph ran until nothing was left."""
    import sys

    return sys.exc_info()[0] is None


def _forget_cancellation() -> None:
    """Lets this task await again after it was cancelled."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def _shown(mode: str, data: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint event without what is LangGraph's own business."""
    if mode == "checkpoints":
        return _checkpoint_payload(data)
    if data.get("type") != "checkpoint":
        return data
    payload = _checkpoint_payload(data["payload"])
    for name, config in (("checkpoint", payload["config"]), ("parent_checkpoint", payload["parent_config"])):
        configurable = (config or {}).get("configurable", {})
        names = ("checkpoint_id", "checkpoint_ns", "thread_id")
        payload[name] = {key: configurable[key] for key in names if key in configurable} if config else None
    return {**data, "payload": payload}


def _checkpoint_payload(payload: dict[str, Any]) -> dict[str, Any]:
    shown = dict(payload)
    for name in ("config", "parent_config"):
        config = shown.get(name)
        if config:
            configurable = {k: v for k, v in config.get("configurable", {}).items() if not k.startswith("__pregel")}
            shown[name] = {"configurable": configurable}
        else:
            shown[name] = None
    return shown
