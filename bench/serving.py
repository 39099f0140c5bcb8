"""Starts the binary on the graphs of the benchmark."""

import os
import socket
import subprocess
import time
from http.client import HTTPConnection
from pathlib import Path

HERE = Path(__file__).parent


def start(
    binary: Path, data: Path, *options: str, project: Path = HERE / "project", **variables: str
) -> tuple[subprocess.Popen[bytes], str]:
    """The binary on the graphs, when it serves; `--port 0` would hide the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", data / "state"]
    command += ["--config", project / "langgraph.json", *options]
    log = open(data / "log", "wb")  # noqa: SIM115
    server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            http = HTTPConnection("127.0.0.1", port, timeout=10)
            http.request("GET", "/info")
            if http.getresponse().status == 200:
                return server, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    server.kill()
    raise SystemExit(f"the server did not come up:\n{(data / 'log').read_text()}")
