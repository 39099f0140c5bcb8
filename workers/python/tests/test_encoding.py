"""JSON of odd values, against what the official server streams for them.

`odd_values.json` holds the official server's answers (langgraph-api 0.16.7) to `get_stream_writer()(value)` for the values
in `odd_values.py`; its `updates` were the same. Where this worker differs on purpose, the file says how and why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_host import FakeHost
from odd_values import CASES

from threadyard_worker.encoding import to_json

PINNED = json.loads((Path(__file__).parent / "odd_values.json").read_text())


def test_every_value_is_pinned_and_every_difference_has_a_reason() -> None:
    assert set(PINNED) == set(CASES)
    assert all("reason" in pin for pin in PINNED.values() if "ours" in pin)


@pytest.mark.parametrize("name", CASES)
def test_odd_values(name: str) -> None:
    pin = PINNED[name]
    expected = pin.get("ours", pin.get("official"))
    if expected is None:
        with pytest.raises(TypeError):
            to_json(CASES[name]())
    else:
        assert to_json(CASES[name]()).decode() == expected


def test_odd_values_do_not_break_the_frame_around_them(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        for name in ("surrogate", "nan_nested", "bytes_binary", "message_ai"):
            view = host.start_run("odd", input={"name": name}, modes=["custom", "updates"])
            end = await view.finished()
            assert end["status"] == "success", end["error"]
            pin = PINNED[name]
            expected = json.loads(pin.get("ours", pin.get("official")))
            assert view.events == [("custom", expected), ("updates", {"speak": {"value": expected}})]
        view = host.start_run("odd", input={"name": "key_tuple"}, modes=["custom"])
        end = await view.finished()
        assert (end["status"], end["error"]["error"]) == ("error", "TypeError")

    with_worker(scenario, {"odd": "./odd.py:graph"}, imports=[str(Path(__file__).parent)])
