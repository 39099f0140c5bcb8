"""Measures what is not the CPU of a run: starts, reads, many readers, idle connections, slow streams, memory, disk."""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from pathlib import Path

import chat
from cases import CASES
from clients import Connection, gaps, percentile
from load import CONCURRENCY, TICKS, Client, Processes, repeat
from serving import HERE, start

sys.path.insert(0, str(HERE / "project"))
SLOW, PAUSE, TOKENS = 200, 0.05, 60


class Bench:
    def __init__(self, server: subprocess.Popen[bytes], url: str, data: Path) -> None:
        self.server, self.data = server, data
        self.port = int(url.rpartition(":")[2])
        self.processes = Processes(self.port)

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Of the host alone."""
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(f"{what}:")).split()[1]) / 1024

    async def cpu_per_1000(self, count: int, ask: Callable[[Connection, int], Awaitable[object]], clients: int = 8) -> float:
        left = iter(range(count))
        before = self.processes.cpu_s()

        async def work() -> None:
            connection = Connection(self.port)
            for number in left:
                await ask(connection, number)
            connection.close()

        await asyncio.gather(*(work() for _ in range(clients)))
        return (self.processes.cpu_s() - before) / count * 1000

    async def thread(self) -> str:
        return (await Connection(self.port).ask("POST", "/threads", {}))["thread_id"]

    async def begun(self, until: int, pause: float) -> str:
        """The path of a run that streams slowly."""
        thread = await self.thread()
        body = slow(until, pause)
        return f"/threads/{thread}/runs/" + (await Connection(self.port).ask("POST", f"/threads/{thread}/runs", body))["run_id"]


def slow(until: int, pause: float) -> dict[str, object]:
    message = {"role": "user", "content": "go"}
    return {"assistant_id": "tokens", "input": {"messages": [message], "until": until, "pause": pause}, "stream_mode": ["messages-tuple"]}


async def waits(bench: Bench) -> str:
    connection, took = Connection(bench.port), []
    for _ in range(300):
        began = time.perf_counter()
        await connection.ask("POST", "/runs/wait", {"assistant_id": "noop", "input": {"count": 0}})
        took.append((time.perf_counter() - began) * 1e3)
    return f"p50 {statistics.median(took):.2f} ms, p99 {percentile(took, 0.99):.2f} ms"


async def spaced(bench: Bench) -> str:
    late = []
    for _ in range(5):
        came = await Connection(bench.port).moments("POST", "/runs/stream", slow(50, 0.02), b"event: messages")
        late += [(gap - 0.02) * 1e3 for gap in gaps(came)]
    return f"p50 {statistics.median(late):.2f} ms"


async def reads(bench: Bench) -> dict[str, float]:
    thread = await bench.thread()
    await Connection(bench.port).ask("POST", f"/threads/{thread}/runs/wait", {"assistant_id": "noop", "input": {"count": 0}})
    measured = {}
    for what, path in (("thread", f"/threads/{thread}"), ("state", f"/threads/{thread}/state")):
        rounds = [await bench.cpu_per_1000(5_000, lambda it, _, path=path: it.ask("GET", path)) for _ in range(5)]
        measured[what] = statistics.median(rounds)
    return measured


async def readers(bench: Bench) -> str:
    run, count, tokens = await bench.begun(100, 0.03), 200, 100
    before = bench.processes.cpu_s()
    came = await asyncio.gather(*(Connection(bench.port).moments("GET", f"{run}/stream", None, b"event: messages") for _ in range(count)))
    cpu = bench.processes.cpu_s() - before
    if min(map(len, came)) < tokens - 10:
        raise SystemExit(f"a reader was told {min(map(len, came))} events")
    return f"{cpu / sum(map(len, came)) * 1000:.4f} CPU s for 1,000 events"


async def idle(bench: Bench) -> str:
    run, count = await bench.begun(1, 40.0), 1_000
    before, connections = bench.memory_mib(), []
    for _ in range(count):
        connections.append(Connection(bench.port))
        await connections[-1].send("GET", f"{run}/stream")
    grown, cpu = bench.memory_mib() - before, bench.processes.cpu_s()
    await asyncio.sleep(10)
    cpu = bench.processes.cpu_s() - cpu
    for connection in connections:
        connection.close()
    return f"{grown * 1024 / count:.1f} KiB each, {cpu * 100:.0f} ms of CPU a second in all"


async def burst(bench: Bench) -> str:
    async def create(connection: Connection, _: int) -> None:
        await connection.ask("POST", "/runs", {"assistant_id": "noop", "input": {"count": 0}})

    await bench.cpu_per_1000(1_000, create, clients=16)
    until_idle = Connection(bench.port)
    while await until_idle.ask("POST", "/threads/count", {"status": "busy"}):
        await asyncio.sleep(0.1)
    return f"{bench.memory_mib('VmHWM'):.0f} MiB at most"


async def slow_streams(bench: Bench) -> str:
    async def one() -> list[float]:
        return await Connection(bench.port).moments("POST", "/runs/stream", slow(TOKENS, PAUSE), b"event: messages")

    came = await asyncio.gather(*(one() for _ in range(SLOW)))
    late = [gap - PAUSE for moments in came for gap in gaps(moments)]
    whole = sum(len(moments) >= TOKENS for moments in came)
    bare = float(subprocess.check_output([sys.executable, HERE / "wide.py", "--bare"]))
    return f"{whole} of {SLOW} whole; tokens late by p99 {percentile(late, 0.99) * 1e3:.0f} ms, bare graph {bare:.0f} ms"


async def bare_streams() -> None:
    """The same streams from the bare graph: by how much tokens are late."""
    import graphs
    from langgraph.checkpoint.memory import InMemorySaver

    graph = graphs.tokens.copy(update={"checkpointer": InMemorySaver()})

    async def one() -> list[float]:
        config = {"configurable": {"thread_id": str(uuid.uuid4())}}
        input = slow(TOKENS, PAUSE)["input"]
        return [time.perf_counter() async for _ in graph.astream(input, config, stream_mode="messages")]

    came = await asyncio.gather(*(one() for _ in range(SLOW)))
    print(percentile([gap - PAUSE for moments in came for gap in gaps(moments)], 0.99) * 1e3)


async def replaced(bench: Bench) -> str:
    """From the death of the worker to the end of a run on the next one."""
    connection, took = Connection(bench.port), []
    for _ in range(9):
        await connection.ask("POST", "/runs/wait", {"assistant_id": "noop", "input": {"count": 0}})
        # The newest process is the worker; what it was forked from is older.
        os.kill(bench.processes.pids()[-1], signal.SIGKILL)
        began = time.perf_counter()
        await connection.ask("POST", "/runs/wait", {"assistant_id": "noop", "input": {"count": 0}})
        took.append((time.perf_counter() - began) * 1e3)
    return f"{statistics.median(took):.0f} ms, the import of the graphs included"


async def grow(bench: Bench, threads: int) -> None:
    await bench.cpu_per_1000(threads, lambda it, number: it.ask("POST", "/threads", {"metadata": {"number": number}}), 16)


async def runs(bench: Bench, count: int) -> str:
    def wait(connection: Connection, _: int) -> Awaitable[object]:
        return connection.ask("POST", "/runs/wait", {"assistant_id": "noop", "input": {"count": 0}})

    await bench.cpu_per_1000(count // 10, wait)
    before = bench.memory_mib()
    await bench.cpu_per_1000(count, wait)
    return f"{before:.0f} MiB before, {bench.memory_mib():.0f} MiB after"


def first_answer(binary: Path) -> float:
    """The seconds from the start of the program to an answer of /ok."""
    import socket

    with tempfile.TemporaryDirectory() as data, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [binary, "serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", f"{data}/state"]
        began = time.perf_counter()
        quiet = subprocess.DEVNULL
        server = subprocess.Popen([*command, "--config", HERE / "project/langgraph.json"], stdout=quiet, stderr=quiet)
        while server.poll() is None:
            try:
                http = HTTPConnection("127.0.0.1", port, timeout=10)
                http.request("GET", "/ok")
                http.getresponse().read()
                break
            except OSError:
                time.sleep(0.001)
        took = time.perf_counter() - began
        server.terminate()
        server.wait()
        return took


def worked(binary: Path, workers: int) -> str:
    """What runs cost that do nothing, eight at once, with so many worker processes, and how many of them there are."""
    with tempfile.TemporaryDirectory() as data:
        server, url = start(binary, Path(data), "--workers", str(workers))
        try:
            clients, processes = [Client(url) for _ in range(CONCURRENCY)], Processes(int(url.rpartition(":")[2]))
            repeat(clients, CASES[0], 500)
            rounds = []
            for _ in range(5):
                cpu, host, began = processes.cpu_s(), own_cpu_s(server.pid), time.perf_counter()
                repeat(clients, CASES[0], 1_000)
                took = time.perf_counter() - began
                rounds.append((processes.cpu_s() - cpu, own_cpu_s(server.pid) - host, 1_000 / took))
            cpu, host, rate = (statistics.median(column) for column in zip(*rounds, strict=True))
            return f"{cpu:.2f} ms of CPU, {host / cpu:.0%} of it the host's; {rate:.0f} a second"
        finally:
            server.terminate()
            server.wait()


def own_cpu_s(pid: int) -> float:
    """Of a process without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


def talked(bench: Bench, url: str) -> None:
    chat.Thread(url).talk(range(chat.TURNS))


async def measure(bench: Bench, threads: int, many_runs: int) -> None:
    say("memory of the host at rest", f"{bench.memory_mib():.0f} MiB")
    say("wait for a run that does nothing", await waits(bench))
    say("from the death of a worker to the end of a run on another", await replaced(bench))
    say("delay added to a token every 20 ms", await spaced(bench))
    fresh = await reads(bench)
    say("200 readers of one stream", await readers(bench))
    say("1,000 listeners that hear nothing", await idle(bench))
    say("memory of the host under 1,000 runs at once", await burst(bench))
    await grow(bench, threads)
    loaded = await reads(bench)
    for what in fresh:
        say(f"GET of a {what}, for 1,000", f"{fresh[what]:.3f} CPU s, {loaded[what]:.3f} with {threads:,} threads")
    say(f"memory of the host over {many_runs:,} runs", await runs(bench, many_runs))


def say(what: str, found: str) -> None:
    print(f"| {what} | {found} |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path)
    arguments.add_argument("--threads", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=100_000)
    arguments.add_argument("--bare", action="store_true", help="only measure the bare graph's slow streams")
    options = arguments.parse_args()
    if options.bare:
        asyncio.run(bare_streams())
        return
    say("from the start to `/ok`", f"{statistics.median(first_answer(options.binary) for _ in range(5)) * 1e3:.0f} ms")
    for workers in (1, 2):
        say(f"a run that does nothing, worker processes: {workers}", worked(options.binary, workers))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        server, url = start(options.binary, data)
        try:
            talked(Bench(server, url, data), url)
        finally:
            server.terminate()
            server.wait()
        say("a chat of 300 turns, on disk", f"{chat.size(data / 'state') / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        server, url = start(options.binary, Path(folder))
        try:
            asyncio.run(measure(Bench(server, url, Path(folder)), options.threads, options.runs))
        finally:
            server.terminate()
            server.wait()
    with tempfile.TemporaryDirectory() as folder:
        server, url = start(options.binary, Path(folder), "--n-jobs-per-worker", str(SLOW))
        try:
            say("200 streams of 20 tokens a second", asyncio.run(slow_streams(Bench(server, url, Path(folder)))))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
