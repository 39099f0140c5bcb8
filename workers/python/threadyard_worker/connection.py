"""The `main` connection: frames in and out, one write per turn of the event loop, and the table of open requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import ormsgpack

from . import frames

Receiver = Callable[[int, int, bytes], None]

_EVENT_FRAME_LIMIT = 256 * 1024
_LAZY_DELAY = 0.003


class HostError(Exception):
    """The host answered a request with an error."""

    def __init__(self, error: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.status = status


class Connection(asyncio.Protocol):
    """Frames to and from the host on the event loop's thread.

    Frames are written in the order in which they were sent. Nothing here may be called from another thread.
    """

    def __init__(self, receive: Receiver, closed: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._receive = receive
        self._closed = closed
        self._decoder = frames.FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._flush_soon = False
        self._flush_later: asyncio.TimerHandle | None = None
        self._event_slot = 0
        self._event_parts: list[bytes] = []
        self._event_size = 0
        self._requests: dict[int, asyncio.Future[bytes]] = {}
        self._next_request = frames.WORKER_REQUEST
        self._writable = asyncio.Event()
        self._writable.set()
        self.congested = False

    # Sending.

    def send(self, kind: int, id: int, body: bytes, *, lazy: bool = False) -> None:
        """Queue a frame. A lazy one may wait up to 3 ms for another frame to ride with."""
        if self._event_parts:
            self._finish_event()
        self._out.append(frames.pack(kind, id, body))
        self._schedule(lazy)

    def send_map(self, kind: int, id: int, body: dict[str, Any], *, lazy: bool = False) -> None:
        """Queue a frame whose body is a msgpack map."""
        self.send(kind, id, ormsgpack.packb(body), lazy=lazy)

    def send_event(self, slot: int, prefix: bytes, data: bytes) -> None:
        """Queue an event; events of one run that follow each other share a frame."""
        if self._event_parts and (slot != self._event_slot or self._event_size > _EVENT_FRAME_LIMIT):
            self._finish_event()
        self._event_slot = slot
        self._event_parts += (prefix, frames.EVENT_LENGTH.pack(len(data)), data)
        self._event_size += len(prefix) + frames.EVENT_LENGTH.size + len(data)
        self._schedule(False)

    async def request(self, kind: int, body: dict[str, Any]) -> bytes:
        """Send a request and wait for the host's answer. Raises `HostError` when it is an error."""
        if self._transport is None:
            raise ConnectionError("the connection to the host is closed")
        id = self.new_id()
        answer: asyncio.Future[bytes] = self.loop.create_future()
        self._requests[id] = answer
        self.send_map(kind, id, body)
        try:
            return await answer
        finally:
            self._requests.pop(id, None)

    def new_id(self) -> int:
        """An id for something that this side begins."""
        self._next_request += 1
        return self._next_request

    def reply(self, id: int, result: bytes) -> None:
        """Answer a request of the host."""
        self.send(frames.REPLY, id, b"\x00" + result)

    def reply_error(self, id: int, error: dict[str, Any]) -> None:
        """Answer a request of the host with an error."""
        self.send(frames.REPLY, id, b"\x01" + orjson.dumps(error))

    async def drained(self) -> None:
        """Wait while the socket has more unsent bytes than it should; check `congested` first."""
        await self._writable.wait()

    async def finish(self) -> None:
        """Write everything out and close."""
        self._flush()
        if (transport := self._transport) is not None:
            transport.set_write_buffer_limits(0)
            await self._writable.wait()
            transport.close()

    def _finish_event(self) -> None:
        self._out.append(frames.HEADER.pack(self._event_size, frames.EVENT, self._event_slot))
        self._out += self._event_parts
        self._event_parts = []
        self._event_size = 0

    def _schedule(self, lazy: bool) -> None:
        if self._flush_soon:
            return
        if lazy:
            if self._flush_later is None:
                self._flush_later = self.loop.call_later(_LAZY_DELAY, self._flush)
            return
        self._flush_soon = True
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_soon = False
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None
        if self._event_parts:
            self._finish_event()
        if self._out and self._transport is not None:
            data = b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    # Receiving; called by the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=4 * 1024 * 1024)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for kind, id, body in self._decoder.feed(data):
            if kind == frames.REPLY:
                self._answer(id, body)
            else:
                self._receive(kind, id, body)

    def _answer(self, id: int, body: bytes) -> None:
        answer = self._requests.get(id)
        if answer is None or answer.done():
            return
        if body[0] == frames.REPLY_OK:
            answer.set_result(body[1:])
            return
        error = orjson.loads(body[1:])
        answer.set_exception(HostError(error.get("error", "HostError"), error.get("message", ""), error.get("status")))

    def pause_writing(self) -> None:
        self.congested = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self.congested = False
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the connection to the host is closed"))
        self._closed()
