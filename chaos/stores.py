"""A PostgreSQL and a Redis of the test's own, which may be stopped, killed and started again."""

import signal
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import psycopg

sys.path.append(str(Path(__file__).parents[1] / "e2e/python"))
from private_services import answers, postgres_program, redis_program  # noqa: E402


class Store:
    """A program that listens on a port."""

    def __init__(self, stack: ExitStack, program: list[str], port: int) -> None:
        self.program, self.port = program, port
        self.start()
        stack.callback(self.stop)

    def start(self) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        deadline = time.monotonic() + 180
        self.process = subprocess.Popen(self.program, cwd="/", **quiet)
        while not answers(self.port):
            if time.monotonic() > deadline:
                raise SystemExit(f"`{self.program[0]}` did not start")
            # While it was stopped, its port may have been somebody else's for a moment.
            if self.process.poll() is not None:
                time.sleep(0.5)
                self.process = subprocess.Popen(self.program, cwd="/", **quiet)
            time.sleep(0.02)

    def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(by)
        self.process.wait()


class Stores:
    """Both of them, until the stack ends."""

    def __init__(self, stack: ExitStack) -> None:
        self.postgres = Store(stack, *postgres_program(stack))
        self.redis = Store(stack, *redis_program(stack))

    def database(self) -> str:
        """Makes a database with nothing in it; its name."""
        name = f"chaos_{uuid.uuid4().hex}"
        self.query("postgres", f"CREATE DATABASE {name}")
        return name

    def query(self, database: str, sql: str) -> list[tuple]:
        """Asks, over whatever the database goes through just now."""
        deadline = time.monotonic() + 180
        while True:
            try:
                with psycopg.connect(self.uri(database, self.postgres.port), autocommit=True) as connection:
                    answer = connection.execute(sql)
                    return answer.fetchall() if answer.description else []
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def uri(self, database: str, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/{database}"

    def dump(self, database: str, to: Path) -> None:
        """Writes down what a database holds, for who wants to know what went wrong."""
        rows = ["psql", self.uri(database, self.postgres.port), "--quiet", "--tuples-only", "--csv"]
        tables = ("run", "delivery", "delivery_attempt", "cron", "chaos_moment", "chaos_made")
        with open(to, "wb") as file:
            for table in tables:
                subprocess.run([*rows, "--command", f"SELECT '{table}' AS rows_of, * FROM {table}"], stdout=file)

    def flush(self) -> None:
        subprocess.run(["redis-cli", "-p", str(self.redis.port), "FLUSHALL"], check=True, stdout=subprocess.DEVNULL)
