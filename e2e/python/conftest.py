"""Servers and webhook receivers for the end-to-end tests; everything is on loopback and ends with the test."""

from __future__ import annotations

import contextlib
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
from urllib.parse import urlsplit

import httpx
import patience  # noqa: F401 - it takes effect as it is imported.
import pytest
import services
from ports import free_port

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
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            try:
                if httpx.get(f"{self.url}/info").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.01)
        raise AssertionError(f"the server did not come up:\n{self.log()}")

    def log(self) -> str:
        """What it has said until now, without a line that is being written."""
        said = self._data.with_suffix(".log").read_text(errors="replace")
        return said[: said.rfind("\n") + 1]

    def wait_for_log(self, text: str, times: int = 1) -> None:
        until(lambda: self.log().count(text) >= times, lambda: f"`{text}` is not in the log:\n{self.log()}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, within: float = 60) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


class Receiver:
    """Takes webhooks and answers with the statuses it is told, 200 in the end."""

    def __init__(self, statuses: tuple[int, ...] = ()) -> None:
        self.got: queue.Queue[tuple[str, dict[str, str], Any]] = queue.Queue()
        self.raw: queue.Queue[tuple[str, dict[str, str], str]] = queue.Queue()
        self.answers = answers = list(statuses)
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
    made = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def until(holds: Callable[[], bool], complaint: Callable[[], str] | str, seconds: float = 60) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, complaint if isinstance(complaint, str) else complaint()
        time.sleep(0.02)


def listened_to(url: str) -> int:
    """How many streams of events clients of a server listen to."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith('threadyard_http_streams{kind="sse"}'))


@contextlib.contextmanager
def asked(method: str, url: str, body: Any = None, **headers: str) -> Iterator[None]:
    """Asks for something and reads no answer. At the end, who asked leaves."""
    place, text = urlsplit(url), "" if body is None else json.dumps(body)
    named = {"host": place.netloc, "content-type": "application/json", "content-length": str(len(text)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"{method} {place.path} HTTP/1.1\r\n{head}\r\n{text}".encode())
        yield


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
        # What a test left running is not waited for.
        server.stop(within=20)


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
