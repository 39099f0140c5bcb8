"""A worker from its first connection to its last frame: load the graphs, then serve the host's frames."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.store.base import TTLConfig

from . import calls, frames, logs, output
from .calls import Extras
from .connection import Connection
from .control import Control
from .failures import error_body
from .graphs import Graphs
from .hello import connect, read_frame
from .index import Index
from .loading import revision
from .run import Run
from .saver import HostSaver
from .scope import NodeThreads
from .serializer import serializer
from .store import HostStore

_MIN_THREADS = 32


def main(path: str, token: str) -> int:
    """Serve the host that listens on `path`; the process's exit code."""
    # The host decides when to stop; a terminal's Ctrl-C reaches it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output.capture(path, token)
    control = Control(connect(path, "control", token))
    control.start()
    handler = logs.install()
    connection = connect(path, "main", token)
    load = _await_load(connection)
    if load is None:
        return 1
    graphs, extras, ready = _load(load)
    # What was imported stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    keeping = Keeping(serializer(load.get("serde")), load.get("store_ttl"))
    worker = Worker(graphs, extras, control, handler, keeping)
    _run(worker.serve(connection, ready), int(load.get("concurrency") or 1))
    return 0


class Keeping(NamedTuple):
    """How what graphs leave is kept."""

    serde: SerializerProtocol | None
    store_ttl: TTLConfig | None


class Worker:
    """Dispatches the host's frames."""

    def __init__(
        self,
        graphs: Graphs,
        extras: Extras,
        control: Control,
        handler: logs.HostHandler,
        keeping: Keeping,
    ) -> None:
        self._keeping = keeping
        self._graphs = graphs
        self._extras = extras
        self._control = control
        self._handler = handler
        self._connection: Connection | None = None
        self._runs: dict[int, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._draining = False

    async def serve(self, socket: socket.socket, ready: dict[str, Any]) -> None:
        """Work until the host drains this worker."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(
            lambda: Connection(self._receive, self._host_left), sock=socket
        )
        self._connection = connection
        self._handler.connect(connection)
        saver = HostSaver(connection, self._keeping.serde)
        self._graphs.attach(saver, HostStore(connection, self._keeping.store_ttl, self._extras.index))
        self._control.watch(loop, lambda: len(self._runs))
        if (app := self._extras.app) is not None:
            ready = {**ready, "app": await app.start(connection)}
        connection.send_map(frames.READY, 0, ready)
        await self._stopped.wait()
        if app is not None:
            await app.stop()
        self._control.exit_code = 0
        connection.send_map(frames.BYE, 0, {})
        await connection.finish()

    def _receive(self, kind: int, id: int, body: bytes) -> None:
        connection = self._connection
        assert connection is not None
        if kind == frames.RUN_START:
            run = Run(id, frames.unpack_map(body), self._graphs, connection)
            self._runs[id] = run
            self._keep(run.start()).add_done_callback(lambda _: self._runs.pop(id))
        elif kind == frames.RUN_CANCEL:
            if (run := self._runs.get(id)) is not None:
                run.cancel(frames.unpack_map(body)["reason"])
        elif kind == frames.CALL:
            answer = calls.answer(id, frames.unpack_map(body), self._graphs, self._extras, connection)
            self._keep(asyncio.ensure_future(answer))
        elif frames.ASGI_OPEN <= kind <= frames.ASGI_CLOSE and self._extras.app is not None:
            if (served := self._extras.app.receive(kind, id, body)) is not None:
                self._exchanges.add(self._keep(served))
                served.add_done_callback(self._exchanges.discard)
        elif kind == frames.DRAIN:
            if not self._draining:
                self._draining = True
                grace_ms = frames.unpack_map(body)["grace_ms"]
                asyncio.ensure_future(self._drain(grace_ms / 1000)).add_done_callback(lambda _: self._stopped.set())
        else:
            raise frames.ProtocolError(f"unexpected {frames.KIND_NAMES.get(kind, kind)} frame")

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def _drain(self, grace_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for run in list(self._runs.values()):
            run.cancel("drain")
        for exchange in list(self._exchanges):
            exchange.cancel()
        # A run that does not let go is the host's to kill.
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _host_left(self) -> None:
        if not self._stopped.is_set():
            os._exit(1)


def _await_load(connection: socket.socket) -> dict[str, Any] | None:
    frame = read_frame(connection)
    if frame is None:
        return None
    kind, _, body = frame
    if kind != frames.LOAD:
        raise frames.ProtocolError(f"expected LOAD, got {frames.KIND_NAMES.get(kind, kind)}")
    load = frames.unpack_map(body)
    if not frames.PROTOCOL[0] <= load["proto"] <= frames.PROTOCOL[1]:
        raise frames.ProtocolError(f"the host chose protocol {load['proto']}; this worker speaks {frames.PROTOCOL}")
    return load


def _load(load: dict[str, Any]) -> tuple[Graphs, Extras, dict[str, Any]]:
    """Import the graphs and what else the host names. No event loop runs yet, so that modules may use `asyncio.run`."""
    begun = time.time()
    project = Path(load["project"]).resolve()
    os.chdir(project)
    for folder in reversed([str(project), *(load.get("imports") or [])]):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    graphs = Graphs()
    report: dict[str, Any] = {"graphs": graphs.load(load["graphs"], project)}
    extras = Extras()
    if (config := load.get("store_index")) is not None:
        try:
            extras.index = Index.load(config, project)
            report["store_index"] = {"ok": True}
        except (Exception, SystemExit) as error:
            report["store_index"] = {"ok": False, "error": error_body(error)}
    if (config := load.get("auth")) is not None:
        try:
            from .auth import CustomAuth

            extras.auth = CustomAuth.load(config, project)
            report["auth"] = {"ok": True, "body": extras.auth.reads_bodies}
        except (Exception, SystemExit) as error:
            report["auth"] = {"ok": False, "error": error_body(error)}
    if (config := load.get("encryption")) is not None:
        try:
            from .encryption import CustomEncryption

            extras.encryption = CustomEncryption.load(config, project)
            report["encryption"] = {"ok": True, "context": extras.encryption.makes_contexts}
        except (Exception, SystemExit) as error:
            report["encryption"] = {"ok": False, "error": error_body(error)}
    if (config := load.get("app")) is not None:
        try:
            from .custom_app import CustomApp

            extras.app = CustomApp.load(config, project)
        except (Exception, SystemExit) as error:
            report["app"] = {"ok": False, "error": error_body(error)}
    return graphs, extras, {**report, "revision": revision(project, begun)}


def _run(serving: Any, concurrency: int) -> None:
    """Run the coroutine on a new event loop, which survives `sys.exit` in user code."""
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(NodeThreads(max(_MIN_THREADS, concurrency), thread_name_prefix="threadyard-node"))
    task = loop.create_task(serving)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            # Already the outcome of the run whose node raised it; the other runs go on.
            continue
    task.result()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
