"""What a run streams: langgraph's chunks turned into the events that clients see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from . import frames
from .connection import Connection
from .encoding import to_json
from .messages import MessageAccumulator, TupleEncoder

_PASSED_THROUGH = frozenset({"values", "updates", "custom", "tasks", "checkpoints", "debug"})
_MESSAGES = frozenset({"messages", "messages-tuple"})
_OF_THE_USER = frozenset({"langgraph_auth_user", "langgraph_auth_permissions"})
_TOGETHER = 64
"""So many custom events are rendered at once: a call for each of them would cost more than what they say."""


class UnknownStreamMode(ValueError):
    """The host asked for a stream mode that this worker does not know."""


class Stream:
    """Sends the events of one run, and remembers its last values."""

    def __init__(self, connection: Connection, slot: int, modes: Iterable[str]) -> None:
        asked = frozenset(modes)
        if unknown := asked - _PASSED_THROUGH - _MESSAGES - {"events"}:
            raise UnknownStreamMode(f"unknown stream mode `{min(unknown)}`")
        self._connection = connection
        self._slot = slot
        self._asked = asked
        # Upstream: asking for both forms of messages yields only the tuples.
        self._tuples = TupleEncoder() if "messages-tuple" in asked else None
        self._messages = MessageAccumulator() if "messages" in asked and self._tuples is None else None
        self._prefixes: dict[tuple[str, tuple[str, ...], bool], bytes] = {}
        self._customs: list[Any] = []
        self._customs_ns: tuple[str, ...] = ()
        self.events = "events" in asked
        self.last_values: Any = None
        """The newest `values` chunk of the root graph."""
        self.interrupt_values: dict[str, Any] | None = None
        """The newest one that carries an interrupt, with all interrupts of the run so far."""
        self._last_json: bytes | None = None

    def graph_modes(self) -> list[str]:
        """The modes to ask langgraph for: what the client wants, and `values`, for the result of the run."""
        modes = (self._asked & _PASSED_THROUGH) | {"values"}
        return sorted(modes | {"messages"} if self._asked & _MESSAGES else modes)

    def chunk(self, ns: tuple[str, ...], mode: str, chunk: Any) -> None:
        """Send the events of one chunk, custom ones at the next `flush`."""
        if mode == "custom":
            if ns != self._customs_ns or len(self._customs) == _TOGETHER:
                self.flush()
                self._customs_ns = ns
            self._customs.append(chunk)
            return
        if mode == "messages":
            self._message(ns, chunk)
            return
        root_values = mode == "values" and not ns
        if root_values:
            self.last_values, self._last_json = chunk, None
            if isinstance(chunk, dict) and (interrupts := chunk.get("__interrupt__")):
                earlier = (self.interrupt_values or {}).get("__interrupt__", ())
                self.interrupt_values = {**chunk, "__interrupt__": (*earlier, *interrupts)}
        if mode not in self._asked:
            return
        data = to_json(_SHOWN[mode](chunk) if mode in _SHOWN else chunk)
        if root_values:
            self._last_json = data
        self._send(mode, ns, data)

    def last_json(self) -> bytes:
        """The newest `values` chunk of the root graph as it was sent, since a long conversation takes long to render."""
        return to_json(self.last_values) if self._last_json is None else self._last_json

    def event(self, event: dict[str, Any]) -> None:
        """Send one of langchain's callback events."""
        self._send("events", (), to_json(event))

    def flush(self) -> None:
        """Send what was held back to be rendered together."""
        if not self._customs:
            return
        customs, self._customs = self._customs, []
        if len(customs) > 1:
            try:
                data = to_json(customs)
            except Exception:
                # The one that has no JSON form ends the run, after those before it were sent.
                pass
            else:
                self._connection.send_event(self._slot, self._prefix("custom", self._customs_ns, True), data)
                return
        prefix = self._prefix("custom", self._customs_ns, False)
        for chunk in customs:
            self._connection.send_event(self._slot, prefix, to_json(chunk))

    def _message(self, ns: tuple[str, ...], chunk: Sequence[Any]) -> None:
        message, metadata = chunk
        if self._tuples is not None:
            self._send("messages", ns, self._tuples.encode(message, metadata))
        elif self._messages is not None:
            # Upstream: these names never carry a namespace.
            for name, data in self._messages.add(message, metadata):
                self._send(name, (), data)

    def _send(self, name: str, ns: tuple[str, ...], data: bytes) -> None:
        self.flush()
        self._connection.send_event(self._slot, self._prefix(name, ns, False), data)

    def _prefix(self, name: str, ns: tuple[str, ...], many: bool) -> bytes:
        prefix = self._prefixes.get((name, ns, many))
        if prefix is None:
            prefix = self._prefixes[name, ns, many] = frames.event_prefix("|".join((name, *ns)), many)
        return prefix


def debug_chunk(chunk: dict[str, Any]) -> dict[str, Any]:
    """A debug chunk as the API shows it: checkpoints are named by coordinates beside their whole config."""
    if chunk["type"] != "checkpoint":
        return chunk
    payload = chunk["payload"]
    return {
        **chunk,
        "payload": {
            **checkpoint_chunk(payload),
            "checkpoint": coordinates(payload["config"]),
            "parent_checkpoint": coordinates(payload["parent_config"]),
            "tasks": [_debug_task(task) for task in payload["tasks"]],
        },
    }


def checkpoint_chunk(payload: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as the API shows it: what authentication knows of a user is not for all who may read the thread."""
    configs = {name: _without_user(payload.get(name)) for name in ("config", "parent_config") if name in payload}
    return {**payload, **configs}


def _without_user(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if config is None or "configurable" not in config:
        return config
    kept = {key: value for key, value in config["configurable"].items() if key not in _OF_THE_USER}
    return {**config, "configurable": kept}


_SHOWN = {"debug": debug_chunk, "checkpoints": checkpoint_chunk}


def _debug_task(task: dict[str, Any]) -> dict[str, Any]:
    state = task.get("state")
    if not isinstance(state, dict) or "configurable" not in state:
        return task
    return {**{key: value for key, value in task.items() if key != "state"}, "checkpoint": state["configurable"]}


def coordinates(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """The checkpoint a config names; None when it names none."""
    if config is None:
        return None
    configurable = config["configurable"]
    if not configurable.get("checkpoint_id"):
        return None
    keys = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
    return {key: configurable[key] for key in keys if key in configurable}
