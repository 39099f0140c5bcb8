"""The control connection: answers pings from an OS thread, and ends the process when the host is gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import ormsgpack

from .frames import Decoder, Kind, frame


class Control:
    def __init__(self, connected: socket.socket, runs: Callable[[], int]) -> None:
        self._socket = connected
        self._runs = runs
        self._last_beat = time.monotonic()

    def beat(self) -> None:
        """The event loop is alive."""
        self._last_beat = time.monotonic()

    def start(self) -> None:
        threading.Thread(target=self._serve, name="threadyard-control", daemon=True).start()

    def _serve(self) -> None:
        decoder = Decoder()
        while True:
            try:
                data = self._socket.recv(4096)
            except OSError:
                data = b""
            if not data:
                # Nobody is left to work for.
                os._exit(0)
            for kind, _id, body in decoder.feed(data):
                if kind == Kind.PING:
                    self._socket.sendall(frame(Kind.PONG, 0, self._pong(ormsgpack.unpackb(body)["t"])))

    def _pong(self, asked: int) -> bytes:
        lag = (time.monotonic() - self._last_beat) * 1000
        return ormsgpack.packb({"t": asked, "lag_ms": lag, "rss": _resident_bytes(), "runs": self._runs()})


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
