"""Opening a connection to the host: connect, and say who is calling."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket

from langgraph.checkpoint.base import BaseCheckpointSaver

from . import __version__, frames

_PACKAGES = ("langgraph", "langgraph-checkpoint", "langgraph-prebuilt", "langgraph-sdk", "langchain-core", "uvloop")


def _versions() -> dict[str, str]:
    versions = {"threadyard-worker": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


# Read once, so that a zygote's children need not.
VERSIONS = _versions()
CAPABILITIES = ["delta_channels"] if hasattr(BaseCheckpointSaver, "aget_delta_channel_history") else []


def hello(role: str, token: str) -> bytes:
    """The `HELLO` frame of a connection."""
    return frames.pack_map(
        frames.HELLO,
        0,
        {
            "proto": frames.PROTOCOL,
            "role": role,
            "token": token,
            "pid": os.getpid(),
            "lang": "python",
            "versions": VERSIONS,
            "caps": CAPABILITIES,
        },
    )


def connect(path: str, role: str, token: str) -> socket.socket:
    """A connection of the given role, introduced to the host."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    connection.sendall(hello(role, token))
    return connection


def read_frame(connection: socket.socket) -> tuple[int, int, bytes] | None:
    """Wait for one frame; None at the end of the stream."""
    header = _read(connection, frames.HEADER.size)
    if header is None:
        return None
    length, kind, id = frames.HEADER.unpack(header)
    if length > frames.MAX_BODY:
        raise frames.ProtocolError(f"a frame of {length} bytes exceeds the limit of {frames.MAX_BODY}")
    body = _read(connection, length)
    return None if body is None else (kind, id, body)


def _read(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
