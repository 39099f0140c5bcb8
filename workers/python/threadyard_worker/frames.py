"""Frames of the worker protocol: `u32 length, u8 kind, u64 id, body`, little-endian."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

HEADER = struct.Struct("<IBQ")
MAX_BODY = 1 << 30
NAME_LENGTH = struct.Struct("<H")
DATA_LENGTH = struct.Struct("<I")


class Kind(IntEnum):
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


def frame(kind: int, id_: int, body: bytes) -> bytes:
    return HEADER.pack(len(body), kind, id_) + body


def event(name: str, data: bytes) -> bytes:
    """One event of an EVENT frame."""
    encoded = name.encode()
    return NAME_LENGTH.pack(len(encoded)) + encoded + DATA_LENGTH.pack(len(data)) + data


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER.size:
            length, kind, id_ = HEADER.unpack_from(buffer, start)
            if length > MAX_BODY:
                raise ValueError(f"a frame of {length} bytes is over the limit of {MAX_BODY}")
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            yield kind, id_, bytes(buffer[start + HEADER.size : end])
            start = end
        del buffer[:start]
