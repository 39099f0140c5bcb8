"""Several servers that share a database and a Redis, each behind wires of its own."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

from runs import PROJECT, descendants
from server import BROKEN, Server
from stores import Stores
from wires import Wire

LEASE_S = 2
# What a server says of an attempt whose lease was lost.
DROPPED = "what this attempt did is dropped"
# An attempt to deliver whose sender died, or could not note what came of it, is given up 15 s after the most that it
# may take.
WEBHOOKS = {
    "network": {"allow_private": True, "allowed_cidrs": ["127.0.0.0/8"]},
    "url": {"require_https": False},
    "timeouts": {"connect": "1s", "total": "2s"},
    "retry": {"schedule": ["1s"] * 100},
}
# Notes which moments of crons pass, and in which transactions runs are made.
WITNESSES = """
CREATE TABLE chaos_moment (thread uuid, at bigint, tx xid8);
CREATE TABLE chaos_made (run uuid, thread uuid, tx xid8);
CREATE FUNCTION chaos_passed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_moment VALUES (OLD.thread_id, OLD.next_run_at, pg_current_xact_id()); RETURN NULL; END $$;
CREATE FUNCTION chaos_made() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_made VALUES (NEW.id, NEW.thread_id, pg_current_xact_id()); RETURN NULL; END $$;
CREATE TRIGGER chaos_passed AFTER UPDATE ON cron FOR EACH ROW
    WHEN (NEW.enabled AND OLD.next_run_at IS DISTINCT FROM NEW.next_run_at) EXECUTE FUNCTION chaos_passed();
CREATE TRIGGER chaos_made AFTER INSERT ON run FOR EACH ROW EXECUTE FUNCTION chaos_made();
"""


class Replica(Server):
    """One of the servers."""

    command = ("serve", "--host", "127.0.0.1")

    def __init__(self, yard: "Yard", role: str, environment: dict[str, str]) -> None:
        stores, self.role = yard.stores, role
        self.postgres, self.redis = Wire(stores.postgres.port), Wire(stores.redis.port)
        told = {
            "DATABASE_URI": stores.uri(yard.database, self.postgres.port),
            "REDIS_URI": f"redis://127.0.0.1:{self.redis.port}",
            "REDIS_KEY_PREFIX": f"{yard.database}:",
            "THREADYARD_ROLE": role,
            "THREADYARD_LEASE_SECS": str(LEASE_S),
            "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "1",
            "RESUMABLE_STREAM_TTL_SECONDS": "36000",
            "N_JOBS_PER_WORKER": "30",
            "LANGGRAPH_WEBHOOKS": json.dumps(WEBHOOKS),
            "EFFECTS": str(yard.effects),
            "PART_SECONDS": "0.05",
        }
        super().__init__(yard.binary, yard.folder / f"{role}-{len(yard.replicas)}", PROJECT, **(told | environment))

    def ask(self, method: str, path: str, body: object = None) -> object:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            answer = response.read()
            if response.status >= 400:
                raise OSError(f"{method} {path}: {response.status} {answer[:300]}")
            return json.loads(answer or "null")
        finally:
            connection.close()

    def said(self, text: str) -> int:
        return self.data.with_suffix(".log").read_text().count(text)

    def signal(self, it: signal.Signals, workers: bool) -> None:
        for pid in [self.process.pid, *(descendants(self.process.pid) if workers else [])]:
            os.kill(pid, it)


class Yard:
    """The servers, which can be asked as if they were one."""

    def __init__(self, binary: Path, folder: Path, stores: Stores) -> None:
        self.binary, self.folder, self.stores = binary, folder, stores
        self.database, self.effects = stores.database(), folder / "effects"
        self.replicas: list[Replica] = []

    def open(self, *roles: str, environments: tuple[dict[str, str], ...] = ()) -> None:
        """Starts servers, and has the database note what they do."""
        for n, role in enumerate(roles):
            self.replicas.append(Replica(self, role, environments[n] if environments else {}))
        for replica in self.replicas:
            replica.launch()
        for replica in self.replicas:
            replica.wait_until_up()
            if replica.process.poll() is not None:
                replica.start()
        self.query(WITNESSES)

    def close(self) -> None:
        for replica in self.replicas:
            if replica.process.poll() is None:
                replica.signal(signal.SIGCONT, workers=True)
                replica.kill()

    @property
    def answering(self) -> list[Replica]:
        """Those that take requests for graphs, as far as anybody knows."""
        return [it for it in self.replicas if it.role != "sender" and it.process.poll() is None]

    @property
    def port(self) -> int:
        """Of one of them, another each time."""
        return self._any().port

    def ask(self, method: str, path: str, body: object = None) -> object:
        return self._any().ask(method, path, body)

    def insist(self, method: str, path: str, body: object = None) -> object:
        """Asks until somebody answers."""
        answers: list[object] = []

        def answered() -> bool:
            try:
                answers.append(self.ask(method, path, body))
            except BROKEN:
                return False
            return True

        until(answered, f"nobody answers {method} {path}")
        return answers[0]

    def query(self, sql: str) -> list[tuple]:
        return self.stores.query(self.database, sql)

    def _any(self) -> Replica:
        answering = self.answering
        if not answering:
            raise OSError("no server is up")
        return random.choice(answering)


def until(holds: Callable[[], bool], complaint: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(complaint)
        time.sleep(0.1)
