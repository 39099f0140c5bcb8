"""What a run says in the event streaming protocol: langgraph's stream parts as finished protocol events.

The host adds what only it knows, an event's id and number, behind the fixed beginning `{"type":"event",`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.errors import GraphInterrupt
from langgraph.pregel import Pregel

from . import frames
from .connection import Connection
from .encoding import plain, to_json

MARKER = "__event_streaming_v2"
"""The key of `configurable` that says a run is asked for by the protocol."""

_MODES = ["checkpoints", "custom", "messages", "tasks", "tools", "updates", "values"]
_ESSENTIAL = frozenset({"type", "content", "id"})


class EventStreaming:
    """Sends the events of one run, and remembers its last values."""

    def __init__(self, connection: Connection, slot: int, graph: Pregel) -> None:
        # Imported late: langgraph before 1.2 lacks these, and its other runs are none of their business.
        from langgraph.stream._mux import StreamMux
        from langgraph.stream.transformers import LifecycleTransformer

        self._connection = connection
        self._slot = slot
        self._prefixes: dict[tuple[str, tuple[str, ...]], tuple[bytes, bytes]] = {}
        self._names: dict[tuple[str, ...], str] = {}
        self._messages: dict[str, str] = {}
        self._requested: set[str] = set()
        self.last_values: Any = None
        """The newest values of the root graph."""
        self.interrupt_values: dict[str, Any] | None = None
        """The newest ones that came with an interrupt, with all interrupts of the run so far."""
        own = list(graph.stream_transformers)
        self._mux = StreamMux(factories=[LifecycleTransformer, *own], is_async=True)
        # What transformers say by themselves (lifecycles, named channels) lands in the main log like everything else.
        self._mux._events._wire(self._told)
        self._push: Callable[[Any], Awaitable[None] | None] = self._mux.apush if own else self._mux.push

    @staticmethod
    def arguments() -> dict[str, Any]:
        """What the graph is asked to stream."""
        return {"stream_mode": _MODES, "subgraphs": True, "version": "v2"}

    @staticmethod
    def configure(config: dict[str, Any]) -> None:
        """Have chat models say content blocks instead of chunks of messages."""
        from langgraph._internal._constants import CONFIG_KEY_STREAM_MESSAGES_V2

        config["configurable"][CONFIG_KEY_STREAM_MESSAGES_V2] = True

    def take(self, part: dict[str, Any]) -> Awaitable[None] | None:
        """Send the events of one part of the graph's stream."""
        params = {"namespace": list(part["ns"]), "timestamp": _now(), "data": part["data"]}
        if part.get("interrupts"):
            params["interrupts"] = part["interrupts"]
        event = {"type": "event", "method": part["type"], "params": params}
        if part["type"] == "tasks":
            # The transformer of lifecycles keeps these out of the main log.
            self._told(event)
        return self._push(event)

    async def finish(self, error: BaseException | None, stopped: bool) -> None:
        """Close what is open. A run that was stopped was interrupted, whatever its graph raised."""
        if error is None:
            await self._mux.aclose()
        else:
            await self._mux.afail(GraphInterrupt() if stopped else error)

    def flush(self) -> None:
        """Nothing is held back."""

    def last_json(self) -> bytes:
        """The newest values of the root graph, in full."""
        return to_json(self.last_values)

    def _told(self, event: dict[str, Any]) -> None:
        """Send what one entry of the main log comes to."""
        method, params = event["method"], event["params"]
        ns, data = tuple(params["namespace"]), params["data"]
        if method == "values":
            self._values(ns, data, params)
        elif method == "messages":
            self._message(ns, data, params)
        elif method == "lifecycle":
            self._lifecycle(tuple(data["namespace"]), data, params)
        elif method == "updates":
            for node, update in data.items():
                if node != "__interrupt__":
                    self._send("updates", ns, params, {"node": node, "values": update}, node)
        elif method == "checkpoints":
            self._send("checkpoints", ns, params, _checkpoint(data))
        elif method == "custom":
            self._send("custom", ns, params, _custom(data))
        elif method.startswith("custom:"):
            self._send("custom", ns, params, {"name": method.removeprefix("custom:"), "payload": data})
        elif method == "tasks":
            error = data.get("error")
            self._send("tasks", ns, params, {**data, "error": str(error)} if isinstance(error, BaseException) else data)
        elif method == "tools":
            self._send("tools", ns, params, data)

    def _values(self, ns: tuple[str, ...], data: Any, params: dict[str, Any]) -> None:
        interrupts: Sequence[Any] = params.get("interrupts", ())
        if not ns:
            self.last_values = data
            if interrupts and isinstance(data, dict):
                earlier = (self.interrupt_values or {}).get("__interrupt__", ())
                self.interrupt_values = {**data, "__interrupt__": (*earlier, *interrupts)}
        self._send("values", ns, params, data)
        for interrupt in interrupts:
            # Every graph around it tells of an interrupt again.
            if interrupt.id not in self._requested:
                self._requested.add(interrupt.id)
                # The protocol calls it `payload`; the Python SDK reads `value`.
                asked = {"interrupt_id": interrupt.id, "payload": interrupt.value, "value": interrupt.value}
                self._send("input.requested", ns, params, asked)

    def _message(self, ns: tuple[str, ...], data: Sequence[Any], params: dict[str, Any]) -> None:
        said, metadata = data
        # Upstream: messages that nobody streamed are in the values only.
        if not isinstance(said, dict):
            return
        said = dict(said)
        call = str(metadata.get("run_id", ""))
        id = said.pop("message_id", None) or said.get("id") or self._messages.get(call)
        if said["event"] == "message-start":
            self._messages[call] = id
        elif said["event"] in ("message-finish", "error"):
            self._messages.pop(call, None)
        # Clients tell messages apart by these that are streamed at the same time.
        self._send("messages", ns, params, {**said, "id": id, "run_id": call}, metadata.get("langgraph_node"))

    def _lifecycle(self, ns: tuple[str, ...], data: dict[str, Any], params: dict[str, Any]) -> None:
        if data["event"] == "started":
            self._names[ns] = data.get("graph_name", "")
        else:
            event = "interrupted" if data["event"] == "drained" else data["event"]
            data = {**data, "event": event, "graph_name": self._names.get(ns, "")}
            del data["namespace"]
        self._send("lifecycle", ns, params, data)

    def _send(
        self, method: str, ns: tuple[str, ...], params: dict[str, Any], data: Any, node: str | None = None
    ) -> None:
        known = self._prefixes.get((method, ns))
        if known is None:
            head = b'{"type":"event","method":"%s","params":{"namespace":%s,"timestamp":'
            name = _event_name(method, ns, data)
            known = frames.event_prefix(name), head % (method.encode(), to_json(list(ns)))
            if method != "custom":
                self._prefixes[method, ns] = known
        prefix, head = known
        at_node = b"" if node is None else b',"node":' + to_json(node)
        finished = b'%s%d%s,"data":%s}}' % (head, params["timestamp"], at_node, to_json(data, _compact))
        self._connection.send_event(self._slot, prefix, finished)


def _event_name(method: str, ns: Iterable[str], data: Any) -> str:
    """The name by which the host knows an event's channel and namespace without reading it. It ends with the name of a
    custom event behind two bars."""
    name = "|".join((method, *ns))
    return f"{name}||{data['name']}" if method == "custom" and data.get("name") else name


def _custom(data: Any) -> dict[str, Any]:
    if isinstance(data, dict) and isinstance(data.get("name"), str) and data.keys() == {"name", "payload"}:
        return data
    return {"payload": data}


def _checkpoint(data: dict[str, Any]) -> dict[str, Any]:
    parent, metadata = data.get("parent_config"), data.get("metadata") or {}
    shown = {"id": data["config"]["configurable"].get("checkpoint_id")}
    if parent and (parent_id := parent["configurable"].get("checkpoint_id")):
        shown["parent_id"] = parent_id
    return {**shown, "step": metadata.get("step"), "source": metadata.get("source")}


def _compact(value: Any) -> Any:
    """Messages without what they do not have."""
    if not isinstance(value, BaseMessage):
        return plain(value)
    dumped = value.model_dump()
    kept = {key: item for key, item in dumped.items() if key in _ESSENTIAL or item not in (None, "", [], {}, False)}
    return {"type": kept.pop("type"), **kept}


def _now() -> int:
    return time.time_ns() // 1_000_000
