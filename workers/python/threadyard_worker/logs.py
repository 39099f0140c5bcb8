"""Log records of the worker and of user code, sent to the host."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from . import frames
from .connection import Connection
from .scope import current


class HostHandler(logging.Handler):
    """Sends every record as a `LOG` frame; keeps those from before the connection."""

    def __init__(self) -> None:
        super().__init__()
        self._connection: Connection | None = None
        self._early: list[dict[str, Any]] = []

    def connect(self, connection: Connection) -> None:
        """Send from now on, and what was kept."""
        self._connection = connection
        early, self._early = self._early, []
        for body in early:
            self._send(body)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            body = {
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": self.format(record).encode("utf-8", "replace").decode(),
                "run": current.get().run,
            }
            if self._connection is None:
                self._early.append(body)
            elif self._on_loop():
                self._send(body)
            else:
                self._connection.loop.call_soon_threadsafe(self._send, body)
        except Exception:
            self.handleError(record)

    def _on_loop(self) -> bool:
        try:
            return self._connection is not None and asyncio.get_running_loop() is self._connection.loop
        except RuntimeError:
            return False

    def _send(self, body: dict[str, Any]) -> None:
        assert self._connection is not None
        self._connection.send_map(frames.LOG, 0, body)


def install() -> HostHandler:
    """Put the handler on the root logger, at the level of `LOG_LEVEL`."""
    handler = HostHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    level = logging.getLevelName(os.environ.get("LOG_LEVEL", "INFO").upper())
    root.setLevel(level if isinstance(level, int) else logging.INFO)
    return handler
