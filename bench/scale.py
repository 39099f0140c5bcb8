"""Measures one, two and four servers on one PostgreSQL and one Redis: what runs cost, and what they ask of both.

The load and everything it is served by share this machine's cores, so that what counts is the CPU of a run and what it
asks of the services; runs per second tell of this machine only.
"""

import argparse
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from cases import CASES
from load import Client, Processes, repeat
from serving import HERE, start

sys.path.insert(0, str(HERE.parent / "e2e/python"))
import services  # noqa: E402

NOOP = CASES[0]
CLIENTS, RUNS, WARM, ALONE = 24, 2_400, 300, 200
SETTLED_S, AT_REST_S = 12.0, 20.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, required=True, help="the server to measure")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    heads = ["servers", "CPU ms per run", "of them servers", "PostgreSQL", "Redis", "runs /s"]
    heads += ["commits per run", "WAL KiB per run", "Redis commands per run"]
    heads += ["connections to PostgreSQL"]
    print("| " + " | ".join(heads) + " |\n| " + " | ".join(["---:"] * len(heads)) + " |")
    for count in (1, 2, 4):
        rounds = [scaled(options.binary, count) for _ in range(options.rounds)]
        figures = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"| {count} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |", flush=True)
    trips, statements = asked(options.binary)
    print(f"\nA run alone: {statements:.1f} statements in {trips:.1f} round trips to PostgreSQL.")
    print(f"Four servers with nothing to do: {at_rest(options.binary, 4):.1f} transactions a second.")


@contextmanager
def serving(binary: Path, count: int, **others: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The URLs of servers that share a database, and what they were told."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(count)]
        variables = {**services.shared(folders[0]), "THREADYARD_LEASE_SECS": "30"}
        stack.callback(services.drop_shared)
        urls = []
        for folder in folders:
            server, url = start(binary, folder, **{**variables, **others})
            stack.callback(server.wait)
            stack.callback(server.terminate)
            urls.append(url)
        yield urls, variables


def scaled(binary: Path, count: int) -> tuple[float, ...]:
    with serving(binary, count) as (urls, variables):
        clients = [Client(urls[number % count]) for number in range(CLIENTS)]
        own = [Processes(urlsplit(url).port or 80) for url in urls]
        shared = [Processes(port(variables[name])) for name in ("DATABASE_URI", "REDIS_URI")]
        repeat(clients, NOOP, WARM)
        before, counted = [cpu_s(own), *(it.cpu_s() for it in shared)], counts(variables)
        began = time.perf_counter()
        repeat(clients, NOOP, RUNS)
        took = time.perf_counter() - began
        after = [cpu_s(own), *(it.cpu_s() for it in shared)]
        asked = counts(variables)
        spent = [(end - begin) / RUNS * 1e3 for begin, end in zip(before, after, strict=True)]
        commits, wal, commands = ((asked[it] - counted[it]) / RUNS for it in ("commits", "wal", "commands"))
        return sum(spent), *spent, RUNS / took, commits, wal / 1024, commands, asked["connections"]


def at_rest(binary: Path, count: int) -> float:
    """Transactions a second of servers that have nothing to do."""
    with serving(binary, count) as (_, variables):
        before = counts(variables, SETTLED_S)
        return (counts(variables, AT_REST_S)["commits"] - before["commits"]) / AT_REST_S


def cpu_s(processes: list[Processes]) -> float:
    return sum(it.cpu_s() for it in processes)


def counts(variables: dict[str, str], after_s: float = 1.5) -> dict[str, float]:
    # Connections tell what they did when they have been at rest for a moment.
    time.sleep(after_s)
    with psycopg.connect(variables["DATABASE_URI"]) as database:
        sql = """SELECT xact_commit::float8, numbackends - 1, (SELECT wal_bytes::float8 FROM pg_stat_wal)
            FROM pg_stat_database WHERE datname = current_database()"""
        commits, connections, wal = database.execute(sql).fetchone() or (0, 0, 0)
    with socket.create_connection(("127.0.0.1", port(variables["REDIS_URI"]))) as redis:
        redis.sendall(b"INFO stats\r\n")
        lines = redis.recv(1 << 16).decode().splitlines()
    commands = next(float(line.partition(":")[2]) for line in lines if line.startswith("total_commands_processed:"))
    return {"commits": commits, "connections": connections, "wal": wal, "commands": commands}


def port(uri: str) -> int:
    parts = urlsplit(uri)
    return parts.port or {"redis": 6379}.get(parts.scheme, 5432)


def asked(binary: Path) -> tuple[float, float]:
    """How many round trips to PostgreSQL a run takes that is alone, and with how many statements."""
    wire = Wire()
    with tempfile.TemporaryDirectory() as folder:
        direct = services.shared(Path(folder))["DATABASE_URI"]
        wire.open(port(direct))
        through = direct.replace(f":{port(direct)}/", f":{wire.port}/") + "?sslmode=disable"
        with serving(binary, 1, DATABASE_URI=through) as (urls, _):
            client = Client(urls[0])
            for _ in range(WARM):
                client.run(NOOP)
            trips, statements = wire.trips, wire.statements
            for _ in range(ALONE):
                client.run(NOOP)
            return (wire.trips - trips) / ALONE, (wire.statements - statements) / ALONE


class Wire:
    """Passes connections on to PostgreSQL and counts what goes over them."""

    def __init__(self) -> None:
        self.trips = self.statements = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def open(self, target: int) -> None:
        threading.Thread(target=self._accept, args=(target,), daemon=True).start()

    def _accept(self, target: int) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", target))
            turn = [False]
            threading.Thread(target=self._asking, args=(client, server, turn), daemon=True).start()
            threading.Thread(target=self._answering, args=(server, client, turn), daemon=True).start()

    def _asking(self, client: socket.socket, server: socket.socket, turn: list[bool]) -> None:
        rest, greeted = b"", False
        while data := client.recv(1 << 16):
            if not turn[0]:
                turn[0] = True
                self.trips += 1
            server.sendall(data)
            rest += data
            while len(rest) >= 5:
                # The first message has no kind.
                kind, length = rest[:1] if greeted else b"", int.from_bytes(rest[greeted : greeted + 4])
                if len(rest) < length + greeted:
                    break
                rest, greeted = rest[length + greeted :], True
                self.statements += kind in (b"E", b"Q")
        server.close()

    def _answering(self, server: socket.socket, client: socket.socket, turn: list[bool]) -> None:
        try:
            while data := server.recv(1 << 16):
                turn[0] = False
                client.sendall(data)
        except OSError:
            return


if __name__ == "__main__":
    main()
