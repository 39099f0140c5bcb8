"""A host in memory that speaks docs/worker-protocol.md to real worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ormsgpack
from fake_storage import Checkpoints, Items

from threadyard_worker import frames

PACKAGE = Path(__file__).resolve().parent.parent
REQUEST_BIT = 1 << 63


class CallFailed(Exception):
    """The worker answered a call with an error."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(f"{body['error']}: {body['message']}")
        self.body = body


class RunView:
    """What a run sends: its events as they come, then its end."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.events: list[tuple[str, Any]] = []
        self.raw: list[tuple[str, bytes]] = []
        self.end: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()

    def event(self, name: str, data: bytes) -> None:
        self.raw.append((name, data))
        self.events.append((name, json.loads(data)))
        self._news.set()

    async def until(self, count: int) -> None:
        """Wait for that many events."""
        while len(self.events) < count:
            self._news.clear()
            await self._news.wait()

    async def finished(self) -> dict[str, Any]:
        end = await self.end
        json_fields = ("result", "values", "state", "interrupts")
        return {**end, **{key: json.loads(end[key]) for key in json_fields if end[key] is not None}}


class FakeHost:
    """One worker's host."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "w.sock")
        self.token = uuid.uuid4().hex
        self.checkpoints = Checkpoints()
        self.items = Items()
        self.hello: dict[str, dict[str, Any]] = {}
        self.output = {"stdout": "", "stderr": ""}
        self.logs: list[dict[str, Any]] = []
        self.trace: list[tuple[str, str, int, int, bytes]] = []
        self.fail_store: str | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._server: asyncio.Server | None = None
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._connected: dict[str, asyncio.Event] = {r: asyncio.Event() for r in ("main", "control", "stdout", "stderr")}
        self.closed: dict[str, asyncio.Event] = {r: asyncio.Event() for r in ("main", "control", "stdout", "stderr")}
        self._runs: dict[int, RunView] = {}
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._pong: asyncio.Future[dict[str, Any]] | None = None
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.bye = asyncio.Event()
        self._next = 0
        self._held: list[bytes] | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    def launch(self, env: dict[str, str] | None = None) -> None:
        """Start a worker by itself."""
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE), **(env or {})}
        environment |= {"THREADYARD_SOCKET": self.path, "THREADYARD_TOKEN": self.token}
        self.process = subprocess.Popen([sys.executable, "-m", "threadyard_worker"], env=environment, cwd="/")

    async def load(self, project: Path, graphs: dict[str, str], **more: Any) -> dict[str, Any]:
        """Wait for the worker, have it load the graphs, and return `READY`."""
        await self._connected["main"].wait()
        entries = {id: {"path": path} for id, path in graphs.items()}
        body = {"proto": 1, "project": str(project), "graphs": entries, "concurrency": 10, "imports": [], **more}
        self.send(frames.LOAD, 0, body)
        return await self.ready

    def start_run(self, graph: str, thread: str | None = None, **more: Any) -> RunView:
        """Start a run; keywords are fields of `RUN_START`, JSON ones as plain values."""
        thread = thread or str(uuid.uuid4())
        run = more.pop("run", None) or str(uuid.uuid4())
        assistant = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), graph))
        config = more.pop("config", {})
        identity = {"graph_id": graph, "assistant_id": assistant, "run_id": run}
        config = {
            **config,
            "configurable": {**config.get("configurable", {}), "thread_id": thread, **identity, "user_id": ""},
            "metadata": {"created_by": "system", "graph_id": graph, "assistant_id": assistant, "run_attempt": 1,
                         **config.get("metadata", {})},
        }  # fmt: skip
        body: dict[str, Any] = {
            "graph": graph,
            "run": run,
            "thread": thread,
            "assistant": assistant,
            "attempt": 1,
            "input": None,
            "command": None,
            "config": _json(config),
            "context": None,
            "modes": ["values"],
            "subgraphs": False,
            "durability": "async",
            "before": None,
            "after": None,
            "head": self.checkpoints.head(thread),
            "resume": False,
        }
        for key, value in more.items():
            body[key] = _json(value) if key in ("input", "command", "context") and value is not None else value
        view = RunView(self._id())
        self._runs[view.slot] = view
        self.send(frames.RUN_START, view.slot, body)
        return view

    async def run(self, graph: str, thread: str | None = None, **more: Any) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
        """A whole run: its events and its end."""
        view = self.start_run(graph, thread, **more)
        end = await view.finished()
        return view.events, end

    def cancel(self, view: RunView, reason: str = "interrupt") -> None:
        self.send(frames.RUN_CANCEL, view.slot, {"reason": reason})

    async def call(self, op: str, graph: str, **args: Any) -> Any:
        """A call; raises `CallFailed` when the worker answers with an error."""
        id = self._id()
        reply = self._calls[id] = asyncio.get_running_loop().create_future()
        self.send(frames.CALL, id, {"op": op, "graph": graph, "args": _json(args)})
        body = await reply
        answer = json.loads(body[1:])
        if body[0] == frames.REPLY_ERROR:
            raise CallFailed(answer)
        return answer

    async def ping(self, t: int = 1) -> dict[str, Any]:
        await self._connected["control"].wait()
        self._pong = asyncio.get_running_loop().create_future()
        self.send(frames.PING, 0, {"t": t}, conn="control")
        return await self._pong

    def drain(self, grace_ms: int) -> None:
        self.send(frames.DRAIN, 0, {"grace_ms": grace_ms})

    async def exit_code(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait)

    async def stop(self) -> None:
        """Close every connection, upon which a worker exits."""
        for writer in self._writers.values():
            writer.close()
        if self._server is not None:
            self._server.close()
        if self.process is not None:
            try:
                await asyncio.wait_for(self.exit_code(), 60)
            finally:
                self.process.kill()

    def send(self, kind: int, id: int, body: dict[str, Any], *, conn: str = "main") -> None:
        self.send_raw(kind, id, ormsgpack.packb(body), conn=conn)

    def send_raw(self, kind: int, id: int, body: bytes, *, conn: str = "main") -> None:
        self.trace.append(("H>W", conn, kind, id, body))
        frame = frames.pack(kind, id, body)
        if self._held is None:
            self._writers[conn].write(frame)
        else:
            self._held.append(frame)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is sent meanwhile to `main` leaves in one write."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self._writers["main"].write(b"".join(held))

    def _id(self) -> int:
        self._next += 1
        return self._next

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = frames.FrameDecoder()
        role: str | None = None
        try:
            while data := await reader.read(1 << 16):
                if role in self.output:
                    self.output[role] += data.decode(errors="replace")
                    continue
                for kind, id, body in decoder.feed(data):
                    if role is None:
                        role = self._greet(kind, body, writer)
                    if role in self.output:
                        break
                    self._hear(role, kind, id, body)
                if role in self.output:
                    # What follows HELLO on these is raw.
                    self.output[role] += decoder.rest().decode(errors="replace")
        except ConnectionError:
            pass
        finally:
            if role is not None:
                self.closed[role].set()
            writer.close()

    def _greet(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> str:
        hello = frames.unpack_map(body)
        assert kind == frames.HELLO and hello["token"] == self.token
        role: str = hello["role"]
        self.hello[role] = hello
        self._writers[role] = writer
        self._connected[role].set()
        return role

    def _hear(self, role: str, kind: int, id: int, body: bytes) -> None:
        self.trace.append(("W>H", role, kind, id, body))
        if kind != frames.HELLO:
            self._receive(kind, id, body)

    def _receive(self, kind: int, id: int, body: bytes) -> None:
        if kind == frames.EVENT:
            for name, data in frames.split_events(body):
                self._runs[id].event(name, data)
        elif kind == frames.REPLY:
            self._calls.pop(id).set_result(body)
        elif kind == frames.END:
            self._runs.pop(id).end.set_result(frames.unpack_map(body))
        elif kind == frames.READY:
            self.ready.set_result(frames.unpack_map(body))
        elif kind == frames.LOG:
            self.logs.append(frames.unpack_map(body))
        elif kind == frames.PONG:
            assert self._pong is not None
            self._pong.set_result(frames.unpack_map(body))
        elif kind == frames.BYE:
            self.bye.set()
        else:
            self._store(kind, id, frames.unpack_map(body))

    def _store(self, kind: int, id: int, body: dict[str, Any]) -> None:
        request = bool(id & REQUEST_BIT)
        if self.fail_store is not None:
            if request:
                self.send_raw(frames.REPLY, id, b"\x01" + _json({"error": "StorageError", "message": self.fail_store}))
            else:
                self.send(frames.RUN_CANCEL, id, {"reason": "storage"})
            return
        result: Any = None
        if kind == frames.CP_PUT:
            self.checkpoints.put(body)
        elif kind == frames.CP_WRITES:
            self.checkpoints.put_writes(body)
        elif kind == frames.CP_CALL:
            result = self.checkpoints.call(body)
        elif kind == frames.STORE_BATCH:
            result = self.items.batch(body["ops"])
        else:
            raise AssertionError(f"unexpected frame {frames.KIND_NAMES.get(kind, kind)}")
        if request:
            self.send_raw(frames.REPLY, id, b"\x00" + ormsgpack.packb(result))


class FakeZygote:
    """The host's end of a zygote."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "THREADYARD_ZYGOTE_FD": str(theirs.fileno())}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "threadyard_worker.zygote"], env=environment, pass_fds=[theirs.fileno()], cwd="/"
        )
        theirs.close()
        self._lines = self._ours.makefile("rb")

    async def read(self) -> dict[str, Any]:
        """The next line."""
        line = await asyncio.to_thread(self._lines.readline)
        if not line:
            raise EOFError("the zygote is gone")
        return json.loads(line)

    def write(self, message: dict[str, Any]) -> None:
        self._ours.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self._ours.close()


def names(events: Iterable[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in events]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
