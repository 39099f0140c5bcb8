"""`python -m threadyard_worker.zygote`: imports langgraph once, then forks workers that have it already."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from . import worker

_PR_SET_PDEATHSIG = 1


class Zygote:
    def __init__(self, host: socket.socket) -> None:
        self._host = host
        self._children: set[int] = set()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # The host decides when to stop; a Ctrl-C in the terminal reaches the whole group.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._say({"ready": True, "os_threads": len(os.listdir("/proc/self/task")) if _is_linux() else 1})
        buffer = b""
        while True:
            readable, _, _ = select.select([self._host, self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 512)
                self._reap()
            if self._host in readable:
                data = self._host.recv(65536)
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "fork" in order:
            self._fork(order["fork"]["socket"], order["fork"]["token"])
        elif "kill" in order and order["kill"]["pid"] in self._children:
            os.kill(order["kill"]["pid"], order["kill"]["signal"])

    def _fork(self, path: str, token: str) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(parent, path, token)
        self._children.add(pid)
        self._say({"forked": {"token": token, "pid": pid}})

    def _become_worker(self, parent: int, path: str, token: str) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The host's end may be standard input, which user code expects to be open.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, self._host.fileno())
        for descriptor in (self._wake_read, self._wake_write, nothing):
            os.close(descriptor)
        if _is_linux():
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(0)
        code = 1
        try:
            worker.serve(path, token)
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            self._say({"exited": {"pid": pid, "code": code if code >= 0 else None, "signal": -code if code < 0 else None}})

    def _say(self, message: dict[str, Any]) -> None:
        self._host.sendall(json.dumps(message).encode() + b"\n")


def _is_linux() -> bool:
    return sys.platform == "linux"


if __name__ == "__main__":
    host = socket.socket(fileno=int(os.environ.pop("THREADYARD_ZYGOTE_FD")))
    os.set_inheritable(host.fileno(), False)
    gc.freeze()
    Zygote(host).serve()
