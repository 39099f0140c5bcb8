"""The store as graphs see it."""

from __future__ import annotations

from fake_host import FakeHost

from threadyard_worker import frames


def test_items_are_kept_found_and_deleted(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("storer", input={})
        assert end["status"] == "success", end["error"]
        assert end["values"]["x"] == [{"n": 1}, ["k"], [["users", "ann"], ["users", "bob"]], None]
        batches = [id for _, _, kind, id, _ in host.trace if kind == frames.STORE_BATCH]
        assert len(batches) == 7

    with_worker(scenario, {"storer": "./graphs.py:storer"})


def test_synchronous_nodes(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("storer", input={})
        assert end["values"]["x"] == {"n": 1}, end["error"]

    with_worker(scenario, {"storer": "./graphs.py:storer_sync"})


def test_blocking_the_event_loop_is_refused_with_the_way_out(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("storer", input={})
        assert end["error"]["error"] == "RuntimeError"
        assert "await store.abatch" in end["error"]["message"]

    with_worker(scenario, {"storer": "./graphs.py:storer_blocking"})
