"""Records workers/protocol/transcripts anew: `python tests/record_transcripts.py [name]`.

Each is played twice, and what differs between the two is what a replay does not compare.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import transcripts
from conftest import hosted, play
from fake_host import CallFailed, FakeHost

Scenario = Callable[[FakeHost], Coroutine[Any, Any, None]]

GRAPHS = {name: f"./graphs.py:{name}" for name in ("counter", "streamer", "hitl", "boom", "slow", "storer", "big")}
RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
THREAD = "01890a5d-ac96-774b-bcce-b302099a0001"
START_INPUT = {"count": 1, "log": []}
OF_THREAD = {"configurable": {"thread_id": THREAD}}


async def hello_load_ready(host: FakeHost) -> None:
    await host.ping(t=1234567890)


async def run_values(host: FakeHost) -> None:
    await host.run("counter", THREAD, run=RUN, input=START_INPUT)


async def run_tokens(host: FakeHost) -> None:
    input = {"messages": [{"role": "user", "content": "hi", "id": "u1"}], "text": "ab"}
    await host.run("streamer", THREAD, run=RUN, input=input, modes=["updates", "messages-tuple"])


async def run_blobs(host: FakeHost) -> None:
    await host.run("big", THREAD, run=RUN, input={"turns": []}, durability="exit")


async def interrupt_resume(host: FakeHost) -> None:
    await host.run("hitl", THREAD, run=RUN, input={"topic": "cats"}, modes=["updates", "values"])
    await host.run("hitl", THREAD, run=RUN, command={"resume": "yes"}, modes=["updates"])


async def run_error(host: FakeHost) -> None:
    await host.run("boom", THREAD, run=RUN, input={}, modes=["updates"])


async def run_cancel(host: FakeHost) -> None:
    view = host.start_run("slow", THREAD, run=RUN, input={"steps": []}, modes=["custom"])
    await view.until(1)
    host.cancel(view)
    await view.finished()
    view = host.start_run("slow", THREAD, run=RUN, input={"steps": []}, modes=["custom"])
    await view.until(1)
    host.cancel(view, "rollback")
    await view.finished()


async def run_resumed_attempt(host: FakeHost) -> None:
    await host.run("counter", THREAD, run=RUN, input=START_INPUT, before=["double"])
    await host.run("counter", THREAD, run=RUN, input=START_INPUT, attempt=2, resume=True)


async def run_sync(host: FakeHost) -> None:
    await host.run("counter", THREAD, run=RUN, input=START_INPUT, durability="sync", modes=["updates"])


async def store_batch(host: FakeHost) -> None:
    await host.run("storer", THREAD, run=RUN, input={})


async def calls(host: FakeHost) -> None:
    await host.run("counter", THREAD, run=RUN, input=START_INPUT)
    await host.call("state_get", "counter", config=OF_THREAD, subgraphs=False)
    await host.call("state_history", "counter", config=OF_THREAD, limit=2, before=None, filter={"source": "loop"})
    await host.call("state_update", "counter", config=OF_THREAD, values={"count": 5}, as_node="add")
    for op, graph, args in (
        ("state_update", "counter", {"values": {}, "as_node": "bogus"}),
        ("state_get", "unheard_of", {}),
        ("state_get", "broken", {}),
    ):
        try:
            await host.call(op, graph, config=OF_THREAD, **args)
        except CallFailed:
            continue
        raise AssertionError("the call should have failed")
    await host.call("schemas", "counter", config={})
    await host.call("draw", "counter", config={}, xray=False)
    await host.call("subgraphs", "counter", config={}, namespace=None, recurse=False)


async def drain(host: FakeHost) -> None:
    view = host.start_run("slow", THREAD, run=RUN, input={"steps": []}, modes=["custom"])
    await view.until(1)
    host.drain(1)
    await view.finished()
    await host.exit_code()
    await host.closed["main"].wait()


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        hello_load_ready, run_values, run_tokens, run_blobs, interrupt_resume, run_error, run_cancel,
        run_resumed_attempt, run_sync, store_batch, calls, drain,
    )
}  # fmt: skip


async def recorded(scenario: Scenario) -> list[transcripts.Line]:
    """Play a scenario with a worker of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with hosted(Path(folder), {**GRAPHS, "broken": "./broken.py:graph"}, transcripts.PROJECT) as host:
            await scenario(host)
            return [line for frame in host.trace for line in transcripts.lines_of(*frame)]


def main() -> None:
    """Record what is named on the command line, or all."""
    for name in sys.argv[1:] or SCENARIOS:
        one, other = play(recorded(SCENARIOS[name])), play(recorded(SCENARIOS[name]))
        assert [line["kind"] for line in one] == [line["kind"] for line in other], name
        lines = [transcripts.generalised(a, b) for a, b in zip(one, other)]
        transcripts.write(name, lines)
        print(f"{name}: {len(lines)} lines")


if __name__ == "__main__":
    main()
