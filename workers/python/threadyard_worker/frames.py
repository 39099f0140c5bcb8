"""Frames of the worker protocol: kinds, packing, and cutting a byte stream into frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import orjson
import ormsgpack

PROTOCOL = (1, 1)
"""The range of protocol versions this package speaks."""

RUN_START = 1
RUN_CANCEL = 2
REPLY = 3
CALL = 5
PING = 6
PONG = 7
DRAIN = 8
LOAD = 9
HELLO = 10
READY = 11
EVENT = 12
END = 13
CP_PUT = 14
CP_WRITES = 15
CP_CALL = 16
STORE_BATCH = 17
LOG = 18
BYE = 19
ASGI_OPEN = 20
ASGI_MESSAGE = 21
ASGI_CREDIT = 22
ASGI_CLOSE = 23

KIND_NAMES = {
    value: name
    for name, value in list(globals().items())
    if isinstance(value, int) and name.isupper()
}

REPLY_OK = 0
REPLY_ERROR = 1

WORKER_REQUEST = 1 << 63
"""The bit that tells this side's request ids from the host's."""

HEADER = struct.Struct("<IBQ")
MAX_BODY = 1 << 30


class ProtocolError(Exception):
    """The other side sent bytes that are not a frame of this protocol."""


def pack(kind: int, id: int, body: bytes) -> bytes:
    """One frame around a finished body."""
    if len(body) > MAX_BODY:
        raise ProtocolError(f"a {KIND_NAMES.get(kind, kind)} body of {len(body)} bytes exceeds the limit of {MAX_BODY}")
    return HEADER.pack(len(body), kind, id) + body


def pack_map(kind: int, id: int, body: dict[str, Any]) -> bytes:
    """One frame around a msgpack map."""
    return pack(kind, id, ormsgpack.packb(body))


def unpack_map(body: bytes) -> dict[str, Any]:
    """The msgpack map of a frame."""
    value = ormsgpack.unpackb(body)
    if not isinstance(value, dict):
        raise ProtocolError(f"expected a map, got {type(value).__name__}")
    return value


class FrameDecoder:
    """Collects bytes as they arrive and yields the frames that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add `data`; yield `(kind, id, body)` of every frame completed by it."""
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= HEADER.size:
                length, kind, id = HEADER.unpack_from(buffer, start)
                if length > MAX_BODY:
                    raise ProtocolError(f"a frame of {length} bytes exceeds the limit of {MAX_BODY}")
                stop = start + HEADER.size + length
                if stop > end:
                    break
                body = bytes(memoryview(buffer)[start + HEADER.size : stop])
                start = stop
                yield kind, id, body
        finally:
            # Cut once per chunk: cutting per frame would copy the rest of the buffer each time.
            del buffer[:start]

    def rest(self) -> bytes:
        """The bytes after the last complete frame."""
        return bytes(self._buffer)


MANY_EVENTS = 1 << 15
"""The bit of the name's length that says the data are a list of the data of so many events."""


def event_prefix(name: str, many: bool = False) -> bytes:
    """The part of an event, or of many, that does not change between events of one name."""
    raw = name.encode()
    return struct.pack("<H", len(raw) | (MANY_EVENTS if many else 0)) + raw


EVENT_LENGTH = struct.Struct("<I")


def split_events(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The `(name, data)` pairs of an `EVENT` body."""
    at = 0
    while at < len(body):
        (name_length,) = struct.unpack_from("<H", body, at)
        many, name_length = name_length & MANY_EVENTS, name_length & ~MANY_EVENTS
        at += 2
        name = body[at : at + name_length].decode()
        at += name_length
        (length,) = EVENT_LENGTH.unpack_from(body, at)
        at += EVENT_LENGTH.size
        data = body[at : at + length]
        if many:
            yield from ((name, orjson.dumps(item)) for item in orjson.loads(data))
        else:
            yield name, data
        at += length
