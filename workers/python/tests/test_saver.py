"""How runs put checkpoints, as the host sees it on the wire."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest
from fake_host import REQUEST_BIT, FakeHost
from langgraph.checkpoint.base import id as ids

from threadyard_worker import frames
from threadyard_worker.saver import HostSaver, go_on_behind, is_inline

COUNTER = {"counter": "./graphs.py:counter"}
START_INPUT = {"count": 1, "log": []}


def sent(host: FakeHost, *kinds: int) -> list[tuple[int, int, dict[str, Any]]]:
    """The worker's frames of these kinds."""
    return [
        (kind, id, frames.unpack_map(body))
        for direction, _, kind, id, body in host.trace
        if direction == "W>H" and kind in kinds
    ]


def kinds_from_worker(host: FakeHost) -> list[int]:
    return [kind for direction, conn, kind, _, _ in host.trace if direction == "W>H" and conn == "main"]


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_puts_are_one_way_and_come_before_the_end(with_worker, durability: str) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("counter", "t", input=START_INPUT, durability=durability)
        await view.finished()
        puts = sent(host, frames.CP_PUT, frames.CP_WRITES)
        assert puts and all(id == view.slot for _, id, _ in puts)
        assert len(sent(host, frames.CP_PUT)) == (1 if durability == "exit" else 4)
        assert kinds_from_worker(host)[-1] == frames.END
        assert frames.CP_CALL not in kinds_from_worker(host), "the head came with RUN_START"

    with_worker(scenario, COUNTER)


def test_sync_puts_are_requests_that_name_their_slot(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("counter", "t", input=START_INPUT, durability="sync")
        await view.finished()
        puts = sent(host, frames.CP_PUT, frames.CP_WRITES)
        assert puts and all(id & REQUEST_BIT and body["slot"] == view.slot for _, id, body in puts)

    with_worker(scenario, COUNTER)


def test_puts_of_calls_are_requests_too(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        config = {"configurable": {"thread_id": "t"}}
        await host.call("state_update", "counter", config=config, values={"count": 1, "log": []}, as_node="add")
        puts = sent(host, frames.CP_PUT)
        assert puts and all(id & REQUEST_BIT and body["slot"] == 1 for _, id, body in puts)

    with_worker(scenario, COUNTER)


def test_small_values_stay_inline_and_big_ones_are_blobs(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("big", "t", input={"turns": ["y" * 300], "text": "short"})
        assert end["values"]["size"] is None, "JSON has no NaN"
        head = host.checkpoints.head("t")
        assert head is not None
        inline = json.loads(head["checkpoint"])["channel_values"]
        assert "size" not in inline and "turns" not in inline and "text" not in inline
        assert {"size", "turns", "text"} <= {blob[0] for blob in head["blobs"]}
        _, end = await host.run("big", "t", input={"turns": []})
        assert len(end["values"]["turns"]) == 3 and len(end["values"]["text"]) == 200

    with_worker(scenario, {"big": "./graphs.py:big"})


def test_unchanged_channels_are_not_sent_again(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("hitl", "t", input={"topic": "z" * 1000})
        versions = [(b[0], b[1]) for _, _, put in sent(host, frames.CP_PUT) for b in put["blobs"] if b[0] == "topic"]
        assert len(versions) == 1

    with_worker(scenario, {"hitl": "./graphs.py:hitl"})


def test_synchronous_subgraphs_use_the_saver_from_their_os_thread(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        for count in (2, 6):
            _, end = await host.run("sync", "t", input={"count": 0, "log": []})
            assert end["status"] == "success", end["error"]
            assert end["values"]["count"] == count, "the subgraph keeps its own count over runs"
        assert any(put["ns"] for _, _, put in sent(host, frames.CP_PUT))

    with_worker(scenario, {"sync": "./graphs.py:sync_subgraph"})


def test_versions_grow_and_differ_between_forks() -> None:
    saver = HostSaver(None)  # type: ignore[arg-type]
    first = saver.get_next_version(None, None)
    second, fork = saver.get_next_version(first, None), saver.get_next_version(first, None)
    assert first < second and first < fork and second != fork
    assert len(first.split(".")[0]) == 32


@pytest.mark.parametrize(
    ("value", "inline"),
    [
        (None, True),
        (True, True),
        (2**63 - 1, True),
        (2**63, False),
        (-(2**63), True),
        (1.5, False),
        ("a" * 255, True),
        ("a" * 256, False),
        ("é", False),
        ("a\0", False),
        ("\ud800", False),
        ([], False),
    ],
)
def test_what_is_inline(value: object, inline: bool) -> None:
    assert is_inline(value) is inline


def test_checkpoints_sort_behind_those_of_a_machine_whose_clock_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last_v6_timestamp", None)
    ahead = str(ids.uuid6(clock_seq=3))
    a_minute_ago = time.time_ns() - 60_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: a_minute_ago)
    monkeypatch.setattr(ids, "_last_v6_timestamp", None)
    assert str(ids.uuid6(clock_seq=4)) < ahead, "the clock is behind"
    go_on_behind(ahead)
    assert str(ids.uuid6(clock_seq=4)) > ahead
    go_on_behind("a name that graph code chose")


def test_a_pickle_in_the_database_is_not_loaded() -> None:
    """Whoever can write there should not by that run code here."""
    data = pickle.dumps("harmless")
    saved = {
        "thread": "t", "ns": "", "id": "1", "parent": None, "checkpoint": b'{"channel_values": {}}', "metadata": b"{}",
        "blobs": [("text", "1", "pickle", data)], "writes": [],
    }  # fmt: skip
    with pytest.raises(NotImplementedError, match="pickle"):
        HostSaver(None)._load(saved)  # type: ignore[arg-type]
