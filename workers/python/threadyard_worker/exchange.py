"""One exchange of ASGI messages with the host: a request and its answer, or a WebSocket. Neither side gets more than a
window ahead of what the other has taken."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from . import frames
from .connection import Connection

Message = dict[str, Any]

WINDOW = 256 * 1024
"""How many bytes of payload either side may send before the other takes some."""

_PIECE = 64 * 1024
_CREDIT_AT = WINDOW // 4


class Exchange:
    """What `receive` and `send` of an ASGI application work on."""

    def __init__(self, id: int, connection: Connection, disconnect: Message) -> None:
        self.id = id
        self._connection = connection
        self._disconnect = disconnect
        self._incoming: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._taken = 0
        self._window = WINDOW
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = False
        self._left = False

    # From the host.

    def deliver(self, message: Message) -> None:
        """A message of the host has come."""
        self._incoming.append(message)
        self._arrived.set()
        if message["type"].endswith(".disconnect"):
            self._left = message["type"].startswith("websocket")
            self._release()

    def credit(self, bytes: int) -> None:
        """The host has taken so many bytes."""
        self._window += bytes
        if self._window > 0:
            self._writable.set()

    def close(self) -> None:
        """The host is done with this exchange."""
        self.closed = True
        self._arrived.set()
        self._release()

    # For the application.

    async def receive(self) -> Message:
        """The next message; that the other side has left, when nothing else will come."""
        while not self._incoming:
            if self.closed:
                return dict(self._disconnect)
            self._arrived.clear()
            await self._arrived.wait()
        message = self._incoming.popleft()
        self._taken += _size(message)
        if self._taken >= _CREDIT_AT and not self.closed:
            self._connection.send(frames.ASGI_CREDIT, self.id, self._taken.to_bytes(4, "little"))
            self._taken = 0
        return message

    async def send(self, message: Message) -> None:
        """Send a message, as soon as the host has room for it. To who has left, nothing is sent.

        Raises `OSError` when it is for a WebSocket that the client has left, as ASGI has it: who only sends would never know.
        """
        if self._left and message["type"] == "websocket.send":
            raise OSError("the client has left")
        if message["type"] in ("http.response.body", "http.request"):
            for piece in _pieces(message):
                await self._send(piece)
        else:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        size = _size(message)
        while size and self._window <= 0 and not self.closed:
            self._writable.clear()
            await self._writable.wait()
        if self.closed:
            return
        self._window -= size
        if "headers" in message:
            message = {**message, "headers": [(bytes(name), bytes(value)) for name, value in message["headers"]]}
        self._connection.send_map(frames.ASGI_MESSAGE, self.id, message)

    def finish(self, error: dict[str, Any] | None = None) -> None:
        """Nothing more comes from this side."""
        if not self.closed:
            self.closed = True
            self._connection.send_map(frames.ASGI_CLOSE, self.id, {"error": error})
        self._release()

    def _release(self) -> None:
        # Who waits for room goes on: what is sent to somebody who has left only has to end.
        self._window = max(self._window, WINDOW)
        self._writable.set()


def _size(message: Message) -> int:
    # As bytes on the wire, which both sides count.
    text = message.get("text")
    return len(message.get("body") or message.get("bytes") or (text.encode() if text else b""))


def _pieces(message: Message) -> list[Message]:
    body = bytes(message.get("body") or b"")
    more = bool(message.get("more_body", False))
    message = {"type": message["type"], "body": body, "more_body": more}
    if len(body) <= _PIECE:
        return [message]
    pieces = [{**message, "body": body[at : at + _PIECE], "more_body": True} for at in range(0, len(body), _PIECE)]
    pieces[-1]["more_body"] = more
    return pieces
