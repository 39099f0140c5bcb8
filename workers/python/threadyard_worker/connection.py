"""The main connection: frames in and out on the event loop, one system call for all that a loop tick sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ormsgpack

from . import encoding
from .frames import Decoder, Kind, frame

_OWN_IDS = 1 << 63


class HostError(Exception):
    """The host could not do what it was asked for."""


class Connection(asyncio.Protocol):
    def __init__(self, on_frame: Callable[[int, int, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._requests: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = _OWN_IDS
        self._can_write = asyncio.Event()
        self._can_write.set()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        for kind, id_, body in self._decoder.feed(data):
            if kind == Kind.REPLY and id_ in self._requests:
                self._settle(self._requests.pop(id_), body)
            else:
                self._on_frame(kind, id_, body)

    def connection_lost(self, exc: Exception | None) -> None:
        for request in self._requests.values():
            if not request.done():
                request.set_exception(HostError("the host is gone"))
        self._on_lost()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # What the worker says.

    def send(self, kind: int, id_: int, body: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(frame(kind, id_, body))

    def send_map(self, kind: int, id_: int, body: dict[str, Any]) -> None:
        self.send(kind, id_, ormsgpack.packb(body))

    def flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    async def ready_for_more(self) -> None:
        """Waits while the host reads more slowly than a run speaks."""
        if not self._can_write.is_set():
            await self._can_write.wait()

    async def request(self, kind: int, body: dict[str, Any]) -> bytes:
        self._next_id += 1
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self._requests[self._next_id] = reply
        self.send_map(kind, self._next_id, body)
        return await reply

    def reply(self, id_: int, result: bytes) -> None:
        self.send(Kind.REPLY, id_, b"\0" + result)

    def refuse(self, id_: int, error: dict[str, Any]) -> None:
        self.send(Kind.REPLY, id_, b"\1" + encoding.dumps(error))

    def log(self, level: str, logger: str, message: str, run: str | None = None) -> None:
        self.send_map(Kind.LOG, 0, {"level": level, "logger": logger, "message": message, "run": run})

    @staticmethod
    def _settle(request: asyncio.Future[bytes], body: bytes) -> None:
        if request.done():
            return
        if body[:1] == b"\0":
            request.set_result(body[1:])
        else:
            error = encoding.loads(body[1:])
            request.set_exception(HostError(error.get("message", "the host refused")))
