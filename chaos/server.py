"""The real server, started and killed over and over."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

BROKEN = (OSError, HTTPException, ValueError)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """The binary on one data folder, started again and again."""

    command = ("dev", "--no-reload")

    def __init__(self, binary: Path, data: Path, project: Path, **environment: str) -> None:
        self.binary, self.data, self.project = binary, data, project
        self.environment = {**os.environ, **environment}
        self.log = open(data.with_suffix(".log"), "ab")
        self.port = free_port()

    def start(self, kill_at: str | None = None) -> None:
        for _ in range(5):
            self.launch(**({"THREADYARD_KILL_AT": kill_at} if kill_at else {}))
            self.wait_until_up()
            # One that could not listen ended by itself, and one that was to be killed by a signal.
            if self.process.poll() is None or self.process.returncode < 0:
                return
            self.port = free_port()
        raise SystemExit(f"a server does not start: it ended with {self.process.returncode}")

    def launch(self, **environment: str) -> None:
        command = [self.binary, *self.command, "--port", str(self.port), "--data-dir", self.data]
        command += ["--config", self.project / "langgraph.json"]
        environment = {**self.environment, **environment}
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def wait_until_up(self) -> None:
        while self.process.poll() is None:
            try:
                self.ask("GET", "/info")
                return
            except BROKEN:
                time.sleep(0.01)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: object = None) -> object:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            return json.loads(connection.getresponse().read() or "null")
        finally:
            connection.close()

    def query(self, sql: str) -> list[tuple]:
        database = sqlite3.connect(self.data / "threadyard.db", timeout=180)
        try:
            rows = database.execute(sql).fetchall()
            database.commit()
            return rows
        finally:
            database.close()
