"""LangGraph's own conformance suite for checkpointers, against the saver and a host in memory.

Against the real host it runs in `e2e/python/test_checkpointer.py`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fake_host import FakeHost
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from threadyard_worker.connection import Connection
from threadyard_worker.hello import connect
from threadyard_worker.saver import HostSaver


@asynccontextmanager
async def saver_of(path: str, token: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """A saver whose host listens on `path`."""
    loop = asyncio.get_running_loop()
    opened: socket.socket = await asyncio.to_thread(connect, path, "main", token)
    _, connection = await loop.create_unix_connection(lambda: Connection(lambda *_: None, lambda: None), sock=opened)
    try:
        yield HostSaver(connection)
    finally:
        await connection.finish()


def test_langgraph_conformance(tmp_path: Path) -> None:
    async def main() -> None:
        host = FakeHost(tmp_path)
        await host.listen()
        try:
            await check(host.path, host.token)
        finally:
            await host.stop()

    asyncio.run(main())


async def check(path: str, token: str) -> None:
    """Every capability, base and extended, has to pass."""

    @checkpointer_test(name="HostSaver")
    async def saver() -> AsyncIterator[BaseCheckpointSaver[str]]:
        async with saver_of(path, token) as made:
            yield made

    report = await validate(saver)
    failures = [failure for result in report.results.values() for failure in result.failures]
    assert not failures, "\n".join(map(str, failures))
    assert all(result.passed for result in report.results.values()), report.to_dict()
    assert sum(result.tests_passed for result in report.results.values()) > 50


