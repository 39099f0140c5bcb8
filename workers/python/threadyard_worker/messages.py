"""The `messages` stream mode: what was said so far, again and again, as finished messages."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message


class Accumulator:
    """Turns the chunks of one run into metadata, partial and complete messages."""

    def __init__(self) -> None:
        self._said: dict[str, BaseMessageChunk] = {}
        self._known: set[str] = set()

    def add(self, message: BaseMessage, metadata: dict[str, Any]) -> list[tuple[str, Any]]:
        events: list[tuple[str, Any]] = []
        if message.id not in self._known:
            self._known.add(str(message.id))
            events.append(("messages/metadata", {message.id: {"metadata": metadata}}))
        if isinstance(message, BaseMessageChunk):
            before = self._said.get(str(message.id))
            so_far = message if before is None else before + message
            self._said[str(message.id)] = so_far
            events.append(("messages/partial", [message_chunk_to_message(so_far)]))
        elif message.id not in self._said:
            events.append(("messages/complete", [message]))
        return events
