"""Databases and Redis for the tests: those that are named, or those that run on this machine."""

from __future__ import annotations

import os
import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.sql import SQL, Identifier

POSTGRES = os.environ.get("TEST_POSTGRES_URL") or "postgresql://root@127.0.0.1:5432/postgres"
REDIS = os.environ.get("TEST_REDIS_URL") or "redis://127.0.0.1:6379"


class Database:
    """A database with nothing in it."""

    def __init__(self) -> None:
        self.name = f"threadyard_e2e_{uuid.uuid4().hex}"
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


def redis_uri() -> str:
    """Where a Redis listens that tests may use, each under a prefix of its own."""
    return REDIS
