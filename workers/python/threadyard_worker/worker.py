"""The worker process: connects to the host, loads the graphs, and serves runs and calls until told to stop."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import socket
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ormsgpack

from . import PROTOCOL, encoding, schemas, state
from .connection import Connection
from .control import Control
from .frames import Kind, frame
from .loading import Graphs, GraphUnavailable, failure
from .run import Run, decoded
from .saver import HostSaver
from .store import HostStore

_BEAT_SECONDS = 0.25


def main() -> None:
    """Connects with what the environment says, and serves."""
    path, token = os.environ.pop("THREADYARD_SOCKET"), os.environ.pop("THREADYARD_TOKEN")
    serve(path, token)


def serve(path: str, token: str) -> None:
    for stream, descriptor in (("stdout", 1), ("stderr", 2)):
        output = _connected(path, token, stream)
        os.dup2(output.fileno(), descriptor)
        output.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    control = _connected(path, token, "control")
    run_loop = asyncio.run
    try:
        import uvloop

        run_loop = uvloop.run
    except ImportError:
        pass
    run_loop(Worker(control).serve(path, token))


def _connected(path: str, token: str, role: str) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(path)
    connected.sendall(frame(Kind.HELLO, 0, hello(token, role)))
    return connected


def hello(token: str, role: str) -> bytes:
    versions = {}
    for package in ("langgraph", "langgraph-checkpoint", "langchain-core"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    body = {
        "proto": list(PROTOCOL),
        "role": role,
        "token": token,
        "pid": os.getpid(),
        "lang": "python",
        "versions": versions,
        "caps": [],
    }
    return ormsgpack.packb(body)


class Worker:
    def __init__(self, control: socket.socket) -> None:
        self._runs: dict[int, tuple[Run, asyncio.Task[None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._control = Control(control, lambda: len(self._runs))
        self._graphs: Graphs | None = None

    async def serve(self, path: str, token: str) -> None:
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        main = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        main.setblocking(False)
        await loop.sock_connect(main, path)
        _transport, self._connection = await loop.create_unix_connection(
            lambda: Connection(self._on_frame, self._on_lost), sock=main
        )
        self._connection.send(Kind.HELLO, 0, hello(token, "main"))
        self._control.start()
        self._beat()
        await self._done

    def _beat(self) -> None:
        self._control.beat()
        asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _on_lost(self) -> None:
        os._exit(0)

    def _on_frame(self, kind: int, id_: int, body: bytes) -> None:
        match kind:
            case Kind.RUN_START:
                self._start_run(id_, decoded(body))
            case Kind.RUN_CANCEL:
                self._cancel_run(id_, decoded(body)["reason"])
            case Kind.CALL:
                self._keep(asyncio.ensure_future(self._call(id_, decoded(body))))
            case Kind.LOAD:
                self._load(decoded(body))
            case Kind.DRAIN:
                self._keep(asyncio.ensure_future(self._drain(decoded(body)["grace_ms"] / 1000)))
            case _:
                self._connection.log("warning", "threadyard_worker", f"unknown frame kind {kind}")

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _load(self, load: dict[str, Any]) -> None:
        pool = ThreadPoolExecutor(max_workers=max(8, load["concurrency"]), thread_name_prefix="node")
        asyncio.get_running_loop().set_default_executor(pool)
        self._graphs = graphs = Graphs(load["project"], load["graphs"], load.get("imports") or [])
        for warning in graphs.warnings:
            self._connection.log("warning", "threadyard_worker", warning)
        # What is loaded now stays; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        report = {}
        for graph_id in load["graphs"]:
            error = graphs.failures.get(graph_id)
            report[graph_id] = {"ok": True} if error is None else {"ok": False, "error": error}
        self._connection.send_map(Kind.READY, 0, {"graphs": report, "revision": graphs.revision()})

    # Runs.

    def _start_run(self, slot: int, start: dict[str, Any]) -> None:
        assert self._graphs is not None, "runs come after LOAD"
        run = Run(self._connection, self._graphs, slot, start)
        task = asyncio.ensure_future(run.execute())
        self._runs[slot] = run, task
        task.add_done_callback(lambda _: self._runs.pop(slot, None))

    def _cancel_run(self, slot: int, reason: str) -> None:
        if slot in self._runs:
            run, task = self._runs[slot]
            run.stop_reason = run.stop_reason or reason
            task.cancel()

    async def _drain(self, grace: float) -> None:
        tasks = [task for _run, task in self._runs.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for slot in list(self._runs):
            self._cancel_run(slot, "drain")
        tasks = [task for _run, task in self._runs.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._connection.send_map(Kind.BYE, 0, {})
        self._connection.flush()
        self._done.set_result(None)

    # Calls.

    async def _call(self, id_: int, call: dict[str, Any]) -> None:
        assert self._graphs is not None, "calls come after LOAD"
        args = encoding.loads(call["args"])
        saver = HostSaver(self._connection, id_, sync=True)
        store = HostStore(self._connection, id_)
        try:
            async with self._graphs.use(call["graph"], args["config"], saver, store) as graph:
                result = await _answer(call["op"], call["graph"], graph, args)
            self._connection.reply(id_, encoding.dumps(result))
        except GraphUnavailable as error:
            self._connection.refuse(id_, {**error.failure, "status": 503})
        except KeyError as error:
            status = 404 if error.args == (call["graph"],) else 400
            self._connection.refuse(id_, {**failure(error), "status": status})
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the caller hears of it.
            self._connection.refuse(id_, _refusal(error, call["op"]))


async def _answer(op: str, graph_id: str, graph: Any, args: dict[str, Any]) -> Any:
    match op:
        case "state_get":
            return await state.get(graph, args)
        case "state_history":
            return await state.history(graph, args)
        case "state_update":
            return await state.update(graph, args)
        case "schemas":
            return schemas.of(graph_id, graph)
        case "draw":
            return await schemas.draw(graph, args)
        case "subgraphs":
            return await schemas.subgraphs(graph, args)
    raise ValueError(f"unknown call `{op}`")


def _refusal(error: Exception, op: str) -> dict[str, Any]:
    from langgraph.errors import InvalidUpdateError

    refusal: dict[str, Any] = failure(error)
    if op == "state_update" and isinstance(error, (InvalidUpdateError, TypeError, ValueError)):
        refusal["status"] = 400
    if not refusal["message"]:
        refusal["message"] = "".join(traceback.format_exception_only(error)).strip()
    return refusal
