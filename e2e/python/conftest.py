"""Servers and webhook receivers for the end-to-end tests; everything is on loopback and ends with the test."""

from __future__ import annotations

import functools
import json
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import services

ROOT = Path(__file__).parents[2]
SHARED = os.environ.get("THREADYARD_E2E") == "shared"
"""Whether servers keep their state in PostgreSQL and tell each other of it through Redis."""


class Server:
    """The built binary, serving a project."""

    def __init__(
        self,
        project: Path,
        data: Path,
        *flags: str,
        port: int | None = None,
        reload: bool = False,
        file_limits: bool = False,
        command: str = "dev",
        **env: str,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._data = data
        self._log = open(data.with_suffix(".log"), "ab")  # noqa: SIM115 - closed by stop.
        if SHARED and command == "dev":
            # The same again on what servers share in production.
            command, flags, env = "serve", ("--host", "127.0.0.1", *flags), services.shared(data) | env
        program = [os.environ["THREADYARD_BIN"], command, "--port", str(self.port), "--data-dir", str(data)]
        program += ["--config", str(project / "langgraph.json"), *flags]
        program += ["--no-reload"] if command == "dev" and not reload else []
        # Who is to hear of a limit for files as an error must not be ended by the signal for it, as Python is not.
        self.process = subprocess.Popen(
            program, env={**os.environ, **env}, stdout=self._log, stderr=self._log, restore_signals=not file_limits
        )
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            try:
                if httpx.get(f"{self.url}/info").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.01)
        raise AssertionError(f"the server did not come up:\n{self.log()}")

    def log(self) -> str:
        return self._data.with_suffix(".log").read_text()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        until(lambda: self.log().count(text) >= times, lambda: f"`{text}` is not in the log:\n{self.log()}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


class Receiver:
    """Takes webhooks and answers with the statuses it is told, 200 in the end."""

    def __init__(self, statuses: tuple[int, ...] = ()) -> None:
        self.got: queue.Queue[tuple[str, dict[str, str], Any]] = queue.Queue()
        self.raw: queue.Queue[tuple[str, dict[str, str], str]] = queue.Queue()
        answers = list(statuses)
        got, raw = self.got, self.raw

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                raw.put((self.path, headers, body.decode()))
                got.put((self.path, headers, json.loads(body)))
                self.send_response(answers.pop(0) if answers else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/hook?token=s3cret"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def write_project(folder: Path, graphs: dict[str, Any], files: dict[str, str], **config: Any) -> Path:
    """A folder with a `langgraph.json`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs, **config}))
    return folder


def make_key(data: Path, name: str, *flags: str) -> str:
    """An API key of the server that keeps its state here, which may be running."""
    env = services.shared(data) if SHARED else {}
    command = [os.environ["THREADYARD_BIN"], "keys", "create", name, "--data-dir", str(data), *flags]
    made = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def until(holds: Callable[[], bool], complaint: Callable[[], str] | str, seconds: float = 20) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, complaint if isinstance(complaint, str) else complaint()
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session", autouse=True)
def shared_databases() -> Iterator[None]:
    yield
    services.drop_shared()


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(ROOT / "examples/gallery", tmp_path_factory.mktemp("gallery") / "data")
    yield server
    server.stop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that share one data folder, one after the other."""
    servers: list[Server] = []

    def start(
        project: str | Path = "examples/quickstart", *flags: str, data: Path = tmp_path / "data", **more: Any
    ) -> Server:
        servers.append(Server(ROOT / project, data, *flags, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a project: `project({"graph id": "./file.py:name"}, {"file.py": "…"}, env=…)`."""

    return functools.partial(write_project, tmp_path / "project")


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    receivers: list[Receiver] = []

    def start(*statuses: int) -> Receiver:
        receivers.append(Receiver(statuses))
        return receivers[-1]

    yield start
    for it in receivers:
        it.stop()
