"""Replays workers/protocol/transcripts with a real worker: this is the host, line by line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import transcripts
from conftest import TIMEOUT_S, play
from fake_host import FakeHost

NAMES = sorted(path.stem for path in transcripts.FOLDER.glob("*.jsonl"))
assert len(NAMES) >= 10, "the transcripts are missing"


class ReplayHost(FakeHost):
    """Decides nothing: it queues what the worker sends and sends what the transcript says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.said: dict[str, asyncio.Queue[transcripts.Line]] = {"main": asyncio.Queue(), "control": asyncio.Queue()}

    def _hear(self, role: str, kind: int, id: int, body: bytes) -> None:
        for line in transcripts.lines_of("W>H", role, kind, id, body):
            self.said[role].put_nowait(line)

    async def replay(self, lines: list[transcripts.Line]) -> None:
        for number, line in enumerate(lines, 1):
            if line["dir"] == "H>W":
                kind, id, body = transcripts.frame_of(line)
                await self._connected[line["conn"]].wait()
                self.send_raw(kind, id, body, conn=line["conn"])
                continue
            got = await asyncio.wait_for(self.said[line["conn"]].get(), TIMEOUT_S / 2)
            differences = list(transcripts.differences(line, got))
            assert not differences, f"line {number}: " + "\n".join(differences)


@pytest.mark.parametrize("name", NAMES)
def test_the_worker_keeps_to_the_transcript(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        host = ReplayHost(tmp_path)
        await host.listen()
        host.launch()
        try:
            await host.replay(transcripts.read(name))
            assert all(queue.empty() for queue in host.said.values()), "the worker said more than the transcript"
        finally:
            await host.stop()

    play(scenario())


@pytest.mark.parametrize("name", NAMES)
def test_lines_stand_for_frames_exactly(name: str) -> None:
    for line in transcripts.read(name):
        kind, id, body = transcripts.frame_of(line)
        (again,) = transcripts.lines_of(line["dir"], line["conn"], kind, id, body)
        assert not list(transcripts.differences(line, again)), json.dumps(line)


def test_the_comparison_sees_differences() -> None:
    line = {"a": {"any": "uuid", "example": ""}, "b": [1, {"json": {"c": "x"}}]}
    good = {"a": "01890a5d-ac96-774b-bcce-b302099a8057", "b": [1, {"json": {"c": "x"}}]}
    assert not list(transcripts.differences(line, good))
    for bad in (
        {**good, "a": "no uuid"},
        {**good, "b": [1]},
        {**good, "b": [True, {"json": {"c": "x"}}]},
        {**good, "b": [1, {"json": {"c": "y"}}]},
        {**good, "more": 1},
        {"a": good["a"]},
    ):
        assert list(transcripts.differences(line, bad)), bad
