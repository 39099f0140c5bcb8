"""`Drain` hands on what a generator yields, and pauses exactly where another task may run."""

import asyncio
import functools

import pytest
from threadyard_worker.drain import Drain


def in_a_loop(test):
    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


async def drained(items, take=None):
    """What came, with a bar at each pause."""
    heard = []

    def hear(item):
        heard.append(item)
        return take(item) if take else None

    await Drain(items, hear, lambda: heard.append("|") if heard[-1:] != ["|"] else None)
    return heard


async def some(*groups):
    for group in groups:
        for item in group:
            yield item
        await asyncio.sleep(0)


@in_a_loop
async def test_items_that_are_ready_are_taken_without_a_pause():
    assert await drained(some([1, 2, 3], [4])) == [1, 2, 3, "|", 4, "|"]
    assert await drained(some()) == ["|"]


@in_a_loop
async def test_what_take_returns_is_awaited_behind_a_pause():
    assert await drained(some([1, 2]), lambda item: asyncio.sleep(0) if item == 1 else None) == [1, "|", 2, "|"]


@in_a_loop
async def test_failures_come_through_after_what_came_before_them():
    heard = []

    async def fails():
        yield 1
        await asyncio.sleep(0)
        yield 2
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await Drain(fails(), heard.append, lambda: heard.append("|"))
    assert heard == [1, "|", 2, "|"]


@in_a_loop
async def test_a_cancellation_reaches_the_generator_which_may_clean_up():
    cleaned, waiting = [], asyncio.Event()

    async def waits():
        try:
            yield 1
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            cleaned.append(True)
            raise

    task = asyncio.ensure_future(drained(waits()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]


@in_a_loop
async def test_a_failure_at_a_pause_is_raised_in_the_generator_which_may_clean_up():
    cleaned = []

    async def waits():
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    def pause():
        if not cleaned:
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await Drain(waits(), lambda _: None, pause)
    assert cleaned == [True]
