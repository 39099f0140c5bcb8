"""Worker processes: how they start, what they print, and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROJECT, hosted, play
from fake_host import FakeHost, FakeZygote

GRAPHS = {name: f"./graphs.py:{name}" for name in ("counter", "slow", "printer", "boom")}
START_INPUT = {"count": 1, "log": []}


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that waits for its parent does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    """Wait for the end of a process that is not ours."""
    while is_alive(pid):
        await asyncio.sleep(0.005)


def test_hello_says_who_is_calling(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert set(host.hello) == {"main", "control", "stdout", "stderr"}
        hello = host.hello["main"]
        assert hello["proto"] == [1, 1] and hello["lang"] == "python"
        assert host.process is not None and hello["pid"] == host.process.pid
        assert {"python", "langgraph", "langgraph-checkpoint"} <= set(hello["versions"])
        assert "delta_channels" in hello["caps"]

    with_worker(scenario, GRAPHS)


def test_output_is_captured_and_user_code_does_not_see_the_token(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("printer", run="8c5b4b0c-63d5-4b1c-a0b5-5a8b5b4f0c11", input={})
        assert (await view.finished())["status"] == "success"
        host.drain(0)
        await host.exit_code()
        await host.closed["stdout"].wait()
        await host.closed["stderr"].wait()
        assert host.output["stdout"].splitlines() == ["printed by a node", "from a child process"]
        assert "an error line" in host.output["stderr"]
        (log,) = [log for log in host.logs if log["logger"] == "user.code"]
        assert log["message"] == "logged by user code" and log["level"] == "info"
        assert log["run"] == "8c5b4b0c-63d5-4b1c-a0b5-5a8b5b4f0c11"

    with_worker(scenario, GRAPHS)


async def until_lag(host: FakeHost, lags: Callable[[float], bool]) -> None:
    """Wait until the worker's loop lags as much, or as little."""
    while not lags((await host.ping())["lag_ms"]):
        await asyncio.sleep(0.01)


def test_ping_is_answered_while_the_loop_is_blocked(with_worker, tmp_path: Path) -> None:
    async def scenario(host: FakeHost) -> None:
        pong = await host.ping(t=7)
        assert pong["t"] == 7 and pong["rss"] > 10_000_000 and pong["runs"] == 0
        await until_lag(host, lambda ms: ms < 500)
        over = tmp_path / "over"
        view = host.start_run("slow", input={"steps": [], "how": "block", "until": str(over)}, modes=["updates"])
        await view.until(1)
        # The stack is shown as soon as it lags.
        while "in _wait" not in host.output["stderr"]:
            await until_lag(host, lambda ms: ms >= 500)
        over.touch()
        assert (await view.finished())["status"] == "success"
        host.drain(0)
        await host.closed["stderr"].wait()
        assert host.output["stderr"].count("in _wait") == 1, "once for each time that it is blocked"

    with_worker(scenario, GRAPHS)


def test_drain_lets_runs_finish(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", input={"steps": [], "how": "quick"})
        host.drain(600_000)
        assert (await view.finished())["status"] == "success"
        assert await host.exit_code() == 0
        await host.closed["main"].wait()
        assert host.bye.is_set()

    with_worker(scenario, GRAPHS)


def test_drain_cancels_what_is_left_at_the_deadline(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", input={"steps": []}, modes=["custom"])
        await view.until(1)
        host.drain(1)
        end = await view.finished()
        assert end["status"] == "cancelled" and end["state"] is None
        assert await host.exit_code() == 0

    with_worker(scenario, GRAPHS)


def test_a_signal_meant_for_the_terminal_does_not_stop_a_worker(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert host.process is not None
        host.process.send_signal(signal.SIGINT)
        _, end = await host.run("counter", input=START_INPUT)
        assert end["status"] == "success"

    with_worker(scenario, GRAPHS)


def test_exit_in_a_node_does_not_end_the_neighbours(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        neighbour = host.start_run("slow", input={"steps": []}, modes=["custom"])
        await neighbour.until(1)
        _, end = await host.run("boom", input={"how": "exit"})
        assert end["error"]["error"] == "SystemExit"
        host.cancel(neighbour)
        assert (await neighbour.finished())["status"] == "cancelled"

    with_worker(scenario, GRAPHS)


@pytest.mark.parametrize("role", ["main", "control"])
def test_a_worker_does_not_outlive_its_host(tmp_path: Path, role: str) -> None:
    async def scenario() -> None:
        async with hosted(tmp_path, GRAPHS) as host:
            # Blocked for good, so that nothing but the control connection or the kernel can tell the worker.
            how = "block" if role == "control" else "wait"
            input = {"steps": [], "how": how, "until": str(tmp_path / "never")}
            view = host.start_run("slow", input=input, modes=["updates"])
            await view.until(1)
            if role == "control":
                await until_lag(host, lambda ms: ms >= 500)
            host._writers[role].close()
            assert await host.exit_code() == 1

    play(scenario())


def test_a_host_that_speaks_another_version_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with hosted(tmp_path) as host:
            loading = asyncio.ensure_future(host.load(PROJECT, GRAPHS, proto=2))
            assert await host.exit_code() == 1
            await host.closed["stderr"].wait()
            assert "the host chose protocol 2" in host.output["stderr"]
            loading.cancel()

    play(scenario())


def test_a_worker_without_uvloop(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "uvloop.py").write_text("raise ImportError\n")
        host = FakeHost(tmp_path)
        await host.listen()
        host.launch({"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}"})
        try:
            await host.load(PROJECT, GRAPHS)
            for how, status in (("raise", "error"), ("exit", "error"), ("fine", "success")):
                _, end = await host.run("boom", input={"how": how})
                assert end["status"] == status
            host.drain(0)
            assert await host.exit_code() == 0
        finally:
            await host.stop()

    play(scenario())


def test_forked_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        zygote = FakeZygote()
        ready = await zygote.read()
        assert ready == {"ready": True, "os_threads": 1}
        hosts = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            host = FakeHost(tmp_path / name)
            await host.listen()
            zygote.write({"fork": {"socket": host.path, "token": host.token}})
            forked = await zygote.read()
            assert forked["forked"]["token"] == host.token
            await host.load(PROJECT, GRAPHS)
            assert host.hello["main"]["pid"] == forked["forked"]["pid"]
            hosts.append((host, forked["forked"]["pid"]))
        (first, first_pid), (second, second_pid) = hosts
        for host in (first, second):
            _, end = await host.run("counter", input=START_INPUT)
            assert end["status"] == "success"

        first.drain(0)
        assert await zygote.read() == {"exited": {"pid": first_pid, "code": 0, "signal": None}}
        zygote.write({"kill": {"pid": os.getpid(), "signal": 9}})
        zygote.write({"kill": {"pid": second_pid, "signal": 9}})
        assert await zygote.read() == {"exited": {"pid": second_pid, "code": None, "signal": 9}}
        zygote.close()
        assert await asyncio.to_thread(zygote.process.wait) == 0
        for host in (first, second):
            await host.stop()

    play(scenario())


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs PR_SET_PDEATHSIG of Linux")
@pytest.mark.parametrize("end", ["close", "kill"])
def test_forked_workers_die_with_their_zygote(tmp_path: Path, end: str) -> None:
    async def scenario() -> None:
        zygote = FakeZygote()
        await zygote.read()
        host = FakeHost(tmp_path)
        await host.listen()
        zygote.write({"fork": {"socket": host.path, "token": host.token}})
        pid = (await zygote.read())["forked"]["pid"]
        await host.load(PROJECT, GRAPHS)
        if end == "kill":
            zygote.process.kill()
        else:
            zygote.close()
        await asyncio.to_thread(zygote.process.wait)
        await gone(pid)
        await host.stop()

    play(scenario())
