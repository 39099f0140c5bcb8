"""The control connection, served by an OS thread of its own.

It answers while the event loop is blocked, and ends the process when the host is gone.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from . import frames
from .hello import read_frame

_BEAT_S = 0.25
_BLOCKED_MS = 500.0


class Control:
    """Answers `PING` with the state of the event loop."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._last_beat: float | None = None
        self._count_runs: Callable[[], int] = lambda: 0
        self._stack_shown = False
        self.exit_code = 1
        """The process's exit code should the host close the connection now."""

    def start(self) -> None:
        """Begin answering."""
        threading.Thread(target=self._serve, name="threadyard-control", daemon=True).start()

    def watch(self, loop: asyncio.AbstractEventLoop, count_runs: Callable[[], int]) -> None:
        """Measure this event loop from now on; called on it."""
        self._count_runs = count_runs
        self._beat(loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last_beat = time.monotonic()
        loop.call_later(_BEAT_S, self._beat, loop)

    def _serve(self) -> None:
        try:
            while (frame := read_frame(self._connection)) is not None:
                kind, _, body = frame
                if kind == frames.PING:
                    self._answer(frames.unpack_map(body))
        except (OSError, frames.ProtocolError) as error:
            print(f"the control connection broke: {error}", file=sys.stderr)
        # Nobody is left to work for. Nothing of the interpreter's own shutdown may keep the process alive.
        os._exit(self.exit_code)

    def _answer(self, ping: dict[str, int]) -> None:
        lag = self._lag_ms()
        if lag <= _BLOCKED_MS:
            self._stack_shown = False
        elif not self._stack_shown:
            self._stack_shown = True
            sys.stderr.write(f"the event loop has been blocked for {lag:.0f} ms; it is here:\n")
            sys.stderr.flush()
            faulthandler.dump_traceback(file=2, all_threads=True)
        pong = {"t": ping["t"], "lag_ms": lag, "rss": resident_bytes(), "runs": self._count_runs()}
        self._connection.sendall(frames.pack_map(frames.PONG, 0, pong))

    def _lag_ms(self) -> float:
        if self._last_beat is None:
            return 0.0
        return max(0.0, time.monotonic() - self._last_beat - _BEAT_S) * 1000


def resident_bytes() -> int:
    """The memory this process occupies; the most it ever did, where the system does not tell."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
