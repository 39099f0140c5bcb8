"""A worker per test, against a host in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeHost

PROJECT = Path(__file__).resolve().parent / "project"
# Longer than anything here takes, however busy the machine is.
TIMEOUT_S = 180

Scenario = Callable[[FakeHost], Coroutine[Any, Any, Any]]


@asynccontextmanager
async def hosted(folder: Path, graphs: dict[str, str] | None = None, project: Path = PROJECT, **load: Any):
    """A host with one worker started by itself; with graphs loaded when they are given."""
    host = FakeHost(folder)
    await host.listen()
    host.launch()
    try:
        if graphs is not None:
            await asyncio.wait_for(host.load(project, graphs, **load), TIMEOUT_S / 2)
        yield host
    except TimeoutError:
        raise AssertionError(f"no answer; stderr: {host.output['stderr']}") from None
    finally:
        await host.stop()


def play(scenario: Coroutine[Any, Any, Any]) -> Any:
    """Run a scenario to its end, or fail in time."""
    return asyncio.run(asyncio.wait_for(scenario, TIMEOUT_S))


@pytest.fixture
def with_worker(tmp_path: Path) -> Callable[..., Any]:
    """`with_worker(scenario, graphs)`: play `scenario(host)` with those graphs of tests/project loaded."""

    def run(scenario: Scenario, graphs: dict[str, str], **load: Any) -> Any:
        async def whole() -> Any:
            async with hosted(tmp_path, graphs, **load) as host:
                return await scenario(host)

        return play(whole())

    return run
