"""The two forms in which chat messages are streamed: `[chunk, metadata]`, and messages as they grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from .encoding import to_json


class TupleEncoder:
    """JSON of `[message, metadata]`."""

    def __init__(self) -> None:
        self._metadata: Any = None
        self._metadata_size = -1
        self._metadata_json = b""

    def encode(self, message: BaseMessage, metadata: dict[str, Any]) -> bytes:
        """One `messages` event of the mode `messages-tuple`."""
        # All chunks of a model call come with the same dict.
        if metadata is not self._metadata or len(metadata) != self._metadata_size:
            self._metadata, self._metadata_size = metadata, len(metadata)
            self._metadata_json = to_json(metadata)
        return b"[" + to_json(message) + b"," + self._metadata_json + b"]"


class MessageAccumulator:
    """Events of the mode `messages`: a message's metadata once, then the message so far with every chunk."""

    def __init__(self) -> None:
        self._messages: dict[str | None, BaseMessage] = {}

    def add(self, message: BaseMessage, metadata: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        """The `(name, data)` of the events that a message or chunk causes."""
        known = self._messages.get(message.id)
        if known is None:
            yield "messages/metadata", to_json({message.id: {"metadata": metadata}})
        if isinstance(message, BaseMessageChunk):
            so_far = known + message if isinstance(known, BaseMessageChunk) else message
            self._messages[message.id] = so_far
            yield "messages/partial", to_json([message_chunk_to_message(so_far)])
        else:
            self._messages[message.id] = message
            yield "messages/complete", to_json([message])
