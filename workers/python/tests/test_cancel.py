"""Stopping runs."""

from __future__ import annotations

import pytest
from fake_host import FakeHost

SLOW = {"slow": "./graphs.py:slow"}


def test_a_cancelled_run_keeps_its_finished_steps(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", input={"steps": []}, modes=["custom"])
        await view.until(1)
        host.cancel(view)
        end = await view.finished()
        assert end["status"] == "cancelled" and end["error"] is None
        assert end["values"] == {"steps": ["first"]} and end["result"] is None
        assert end["next"] is True and end["state"]["next"] == ["wait"]

    with_worker(scenario, SLOW)


def test_the_end_waits_for_what_goes_on_in_a_thread(with_worker, tmp_path) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("threaded", input={"folder": str(tmp_path)}, modes=["custom"])
        await view.until(1)
        host.cancel(view)
        assert (await view.finished())["status"] == "cancelled"
        assert (tmp_path / "done").exists()

    with_worker(scenario, {"threaded": "./graphs.py:threaded"})


@pytest.mark.parametrize("reason", ["interrupt", "rollback"])
def test_a_run_that_is_cancelled_before_its_first_step_ends(with_worker, reason: str) -> None:
    async def scenario(host: FakeHost) -> None:
        # The worker reads both frames in one turn of its loop.
        with host.together():
            view = host.start_run("slow", input={"steps": []}, modes=["values"])
            host.cancel(view, reason)
        end = await view.finished()
        assert end["status"] == "cancelled" and end["error"] is None
        assert view.events == []
        # What the thread already has is not lost from sight.
        assert (end["state"] is not None) == (reason == "interrupt")

    with_worker(scenario, SLOW)


@pytest.mark.parametrize("reason", ["rollback", "storage"])
def test_no_state_is_made_for_a_run_that_is_undone(with_worker, reason: str) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", input={"steps": []}, modes=["custom"])
        await view.until(1)
        host.cancel(view, reason)
        end = await view.finished()
        assert end["status"] == "cancelled" and end["state"] is None and end["values"] is None

    with_worker(scenario, SLOW)


def test_other_runs_go_on(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        views = [host.start_run("slow", input={"steps": []}, modes=["custom"]) for _ in range(3)]
        for view in views:
            await view.until(1)
        host.cancel(views[1])
        assert (await views[1].finished())["status"] == "cancelled"
        assert not views[0].end.done() and not views[2].end.done()
        assert (await host.ping())["runs"] == 2

    with_worker(scenario, SLOW)


def test_a_cancelled_run_can_be_continued(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", "t", input={"steps": []}, modes=["custom"])
        await view.until(1)
        host.cancel(view)
        await view.finished()
        _, end = await host.run("slow", "t", command={"update": {"how": "quick"}, "goto": "wait"})
        assert end["status"] == "success" and end["values"]["steps"][0] == "first"

    with_worker(scenario, SLOW)


def test_cancelling_twice_and_after_the_end_is_harmless(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", input={"steps": []}, modes=["custom"])
        await view.until(1)
        host.cancel(view)
        host.cancel(view, "rollback")
        assert (await view.finished())["values"] == {"steps": ["first"]}
        host.cancel(view)
        _, end = await host.run("slow", input={"steps": [], "how": "quick"})
        assert end["status"] == "success"

    with_worker(scenario, SLOW)


def test_a_node_that_ignores_cancellation_finishes_its_run(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", input={"steps": [], "how": "stubborn"}, modes=["updates"])
        await view.until(1)
        host.cancel(view)
        end = await view.finished()
        assert end["status"] in ("cancelled", "success")

    with_worker(scenario, SLOW)


def test_a_run_is_stopped_when_its_checkpoints_cant_be_stored(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        host.fail_store = "the disk is full"
        _, end = await host.run("slow", input={"steps": []}, modes=["custom"])
        assert end["status"] == "cancelled" and end["state"] is None
        _, end = await host.run("slow", input={"steps": []}, durability="sync")
        assert end["status"] == "error" and end["error"]["error"] == "HostError"
        assert end["error"]["message"] == "the disk is full"

    with_worker(scenario, SLOW)
