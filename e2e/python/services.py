"""Databases and Redis for the tests: those that are named, or those that run on this machine."""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.sql import SQL, Identifier

POSTGRES = os.environ.get("TEST_POSTGRES_URL") or "postgresql://root@127.0.0.1:5432/postgres"
REDIS = os.environ.get("TEST_REDIS_URL") or "redis://127.0.0.1:6379"


class Database:
    """A database with nothing in it, or one that was made before."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"threadyard_e2e_{uuid.uuid4().hex}"
        if name is None:
            self._command("CREATE DATABASE {}")
        self.uri = urlunsplit(urlsplit(POSTGRES)._replace(path=f"/{self.name}"))

    def drop(self) -> None:
        self._command("DROP DATABASE IF EXISTS {} WITH (FORCE)")

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.uri) as connection:
            return connection.execute(sql).fetchall()

    def _command(self, command: str) -> None:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(SQL(command).format(Identifier(self.name)))


_shared: dict[Path, Database] = {}


def shared(data: Path) -> dict[str, str]:
    """What a server is told that keeps its state in PostgreSQL and not in this folder, the same each time."""
    database = _shared.get(data) or _shared.setdefault(data, Database())
    webhooks = {"network": {"allow_private": True, "allowed_cidrs": ["127.0.0.0/8"]}, "url": {"require_https": False}}
    return {
        "DATABASE_URI": database.uri,
        "REDIS_URI": REDIS,
        "REDIS_KEY_PREFIX": f"{database.name}:",
        "THREADYARD_LEASE_SECS": "8",
        "LANGGRAPH_WEBHOOKS": json.dumps(webhooks),
    }


def drop_shared() -> None:
    """Drops what `shared` has made."""
    while _shared:
        _shared.popitem()[1].drop()


def redis_uri() -> str:
    """Where a Redis listens that tests may use, each under a prefix of its own."""
    return REDIS


if __name__ == "__main__":
    # `services.py make` prints what a server is told, and `services.py drop NAME` drops the database of that.
    match sys.argv[1:]:
        case ["make"]:
            print(json.dumps(shared(Path.cwd())))
        case ["drop", name]:
            Database(name).drop()
        case _:
            sys.exit("services.py make | drop NAME")
