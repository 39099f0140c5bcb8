"""A process that has imported langgraph but no user code, and forks workers in milliseconds.

`python -m threadyard_worker.zygote` serves JSON lines on the descriptor in `THREADYARD_ZYGOTE_FD`. It stays a process of
one OS thread, since only that can be forked safely.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from typing import Any

import langchain_core.language_models
import langchain_core.messages
import langgraph.graph
import langgraph.prebuilt  # noqa: F401

from . import loading, worker

with contextlib.suppress(ImportError):
    import uvloop  # noqa: F401

_PR_SET_PDEATHSIG = 1


class Zygote:
    """Forks on request and reports the end of its children."""

    def __init__(self, host: socket.socket) -> None:
        self._host = host
        self._children: set[int] = set()
        self._buffer = b""
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def serve(self) -> tuple[str, str] | None:
        """Serve until the host is gone (None); in a fresh child, the socket path and token of the new worker."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._send({"ready": True, "os_threads": os_threads()})
        while True:
            readable, _, _ = select.select([self._host, self._wake], [], [])
            if self._wake in readable:
                os.read(self._wake, 4096)
                self._reap()
            if self._host in readable:
                data = self._host.recv(65536)
                if not data:
                    return None
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    if (child := self._obey(json.loads(line))) is not None:
                        return child

    def _obey(self, message: dict[str, Any]) -> tuple[str, str] | None:
        if fork := message.get("fork"):
            return self._fork(fork["socket"], fork["token"])
        if kill := message.get("kill"):
            if kill["pid"] in self._children:
                os.kill(kill["pid"], kill["signal"])
        return None

    def _fork(self, path: str, token: str) -> tuple[str, str] | None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _die_with(parent)
            self._leave()
            return path, token
        self._children.add(pid)
        self._send({"forked": {"token": token, "pid": pid}})
        return None

    def _leave(self) -> None:
        """Let go of what belongs to the parent."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The host's end may be standard input, whose number no other file should get.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, self._host.detach(), inheritable=True)
        os.close(nothing)
        os.close(self._wake)
        os.close(self._waker)

    def _reap(self) -> None:
        for pid in list(self._children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._children.discard(pid)
                killed = os.WIFSIGNALED(status)
                self._send({
                    "exited": {
                        "pid": pid,
                        "code": None if killed else os.WEXITSTATUS(status),
                        "signal": os.WTERMSIG(status) if killed else None,
                    }
                })  # fmt: skip

    def _send(self, message: dict[str, Any]) -> None:
        self._host.sendall(json.dumps(message).encode() + b"\n")


def os_threads() -> int:
    """How many OS threads this process has."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _die_with(parent: int) -> None:
    """Ask the kernel for `SIGKILL` when the parent dies, where there is such a request."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def main() -> int:
    """Serve, and in children be a worker."""
    host = socket.socket(fileno=int(os.environ.pop("THREADYARD_ZYGOTE_FD")))
    loading.know_loaded_files()
    gc.collect()
    gc.freeze()
    try:
        child = Zygote(host).serve()
    except (BrokenPipeError, ConnectionResetError):
        return 0
    return 0 if child is None else worker.main(*child)


if __name__ == "__main__":
    sys.exit(main())
