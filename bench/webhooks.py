"""What webhooks cost the runs: how fast runs are executed without hooks, with hooks that answer, and with hooks that
hang. The cases alternate; what is reported are medians.
"""

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

HERE = Path(__file__).parent
CREATE = '{"assistant_id":"noop","input":{"count":0}%s}'


class Hooks:
    """Reads requests; answers them, or never does."""

    def __init__(self, answers: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/hook"
        self.answers = answers
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while line != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    line = stream.readline()
                stream.read(length)
                if not self.answers:
                    time.sleep(3600)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def runs_per_second(port: int, webhook: str, runs: int, clients: int) -> float:
    body = CREATE % (f',"webhook":"{webhook}"' if webhook else "")

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(runs // clients):
            connection.request("POST", "/runs/wait", body)
            connection.getresponse().read()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs / (time.monotonic() - begin)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, required=True)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--runs", type=int, default=400)
    options = arguments.parse_args()
    cases = {"no hooks": "", "hooks that answer": Hooks(True).url, "hooks that hang": Hooks(False).url}
    rates: dict[str, list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        command = [options.binary, "dev", "--no-reload", "--port", str(port), "--data-dir", Path(folder) / "data"]
        command += ["--config", HERE / "project/langgraph.json"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        try:
            wait_until_up(port)
            runs_per_second(port, "", options.runs, 4)
            for number in range(options.rounds):
                for case in list(cases)[number % 3 :] + list(cases)[: number % 3]:
                    rates[case].append(runs_per_second(port, cases[case], options.runs, 4))
        finally:
            server.terminate()
            server.wait()
    without = statistics.median(rates["no hooks"])
    for case, found in rates.items():
        rate = statistics.median(found)
        print(f"{case}: {rate:.0f} runs/s, {rate / without:.2f} of those without")


def wait_until_up(port: int) -> None:
    for _ in range(600):
        try:
            HTTPConnection("127.0.0.1", port, timeout=1).request("GET", "/info")
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not come up")


if __name__ == "__main__":
    main()
