"""Event streaming: runs that say finished protocol events."""

from __future__ import annotations

from typing import Any

from fake_host import FakeHost, RunView

CONFIG = {"configurable": {"__event_streaming_v2": True}}


async def told(host: FakeHost, graph: str, **more: Any) -> tuple[RunView, dict[str, Any]]:
    view = host.start_run(graph, config=CONFIG, **more)
    end = await view.finished()
    assert end["error"] is None or end["status"] == "error", end
    return view, end


def of(view: RunView, method: str) -> list[tuple[str, Any]]:
    """The names and data of events of a method; each event names its method and namespace as its name does."""
    found = []
    for (name, event), (_, raw) in zip(view.events, view.raw, strict=True):
        assert raw.startswith(b'{"type":"event",') and b"\n" not in raw
        path = name.partition("||")[0].split("|")
        assert [event["method"], *event["params"]["namespace"]] == path
        assert isinstance(event["params"]["timestamp"], int)
        if event["method"] == method:
            found.append((name, event["params"]["data"]))
    return found


def test_a_subgraph_streams_its_message_and_its_lifecycle(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view, end = await told(host, "sub", input={"messages": [], "text": "ab"})
        messages = of(view, "messages")
        kinds = [data["event"] for _, data in messages]
        assert kinds[:2] == ["message-start", "content-block-start"]
        assert kinds[-2:] == ["content-block-finish", "message-finish"]
        assert set(kinds[2:-2]) == {"content-block-delta"}
        assert len({(data["id"], data["run_id"]) for _, data in messages}) == 1 and messages[0][1]["id"]
        [space] = {name.partition("|")[2] for name, _ in messages}
        lifecycle = of(view, "lifecycle")
        assert [(name, data["event"]) for name, data in lifecycle] == [
            (f"lifecycle|{space}", "started"), (f"lifecycle|{space}", "completed")]  # fmt: skip
        assert lifecycle[0][1]["graph_name"] == lifecycle[1][1]["graph_name"] == space.partition(":")[0]
        said = of(view, "values")[-1][1]["messages"][-1]
        assert said["content"] == [{"type": "text", "text": said["content"][0]["text"], "index": 0}]
        assert said["type"] == "ai" and "additional_kwargs" not in said
        assert "additional_kwargs" in end["values"]["messages"][-1], "the thread keeps whole messages"

    with_worker(scenario, {"sub": "./graphs.py:streamer_within"})


def test_interrupts_are_asked_once_and_values_do_not_show_them(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view, end = await told(host, "ask", input={"answers": []})
        asked = [data for _, data in of(view, "input.requested")]
        assert [one["payload"] for one in asked] == ["a", "b"]
        open_ones = [one["id"] for ones in end["interrupts"].values() for one in ones]
        assert [one["interrupt_id"] for one in asked] == open_ones
        assert all("__interrupt__" not in values for _, values in of(view, "values"))
        assert [one["value"] for one in end["result"]["__interrupt__"]] == ["a", "b"]
        assert end["next"] is True

        view, _ = await told(host, "within", input={})
        [(name, asked)] = of(view, "input.requested")
        assert len(name.split("|")) == 2 and asked["payload"]["question"] == "approve?", "by the innermost graph alone"

    with_worker(scenario, {"ask": "./graphs.py:two_questions", "within": "./graphs.py:hitl_within"})


def test_updates_tasks_and_checkpoints_are_told(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view, end = await told(host, "counter", input={"count": 1, "log": []})
        assert [data for _, data in of(view, "updates")] == [
            {"node": "add", "values": {"count": 1, "log": ["add"]}},
            {"node": "double", "values": {"count": 2, "log": ["double"]}},
        ]
        points = [data for _, data in of(view, "checkpoints")]
        assert [(point["step"], point["source"]) for point in points] == [
            (-1, "input"), (0, "loop"), (1, "loop"), (2, "loop")]  # fmt: skip
        assert [point.get("parent_id") for point in points] == [None, *[point["id"] for point in points[:-1]]]
        assert [("result" in task, task["name"]) for _, task in of(view, "tasks")] == [
            (False, "add"), (True, "add"), (False, "double"), (True, "double")]  # fmt: skip
        assert end["values"] == {"count": 4, "log": ["add", "double"]}
        assert end["state"] == await host.call(
            "state_get", "counter", config={"configurable": {"thread_id": end["state"]["checkpoint"]["thread_id"]}}
        )

    with_worker(scenario, {"counter": "./graphs.py:counter"})


def test_a_stopped_run_leaves_no_subgraph_open(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("slow", config=CONFIG, input={"seconds": 30})
        while not of(view, "lifecycle"):
            await view.until(len(view.events) + 1)
        host.cancel(view, "interrupt")
        assert (await view.finished())["status"] == "cancelled"
        assert [data["event"] for _, data in of(view, "lifecycle")] == ["started", "interrupted"]

    with_worker(scenario, {"slow": "./streaming.py:slow"})


def test_what_transformers_of_the_graph_say_is_custom(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view, _ = await told(host, "counted", input={"seconds": 0})
        named = [(name, data) for name, data in of(view, "custom") if data.get("name") == "steps"]
        assert named and {name for name, _ in named} == {"custom||steps"}
        assert [data["payload"] for _, data in named] == list(range(1, len(named) + 1))
        [said] = [name for name, data in of(view, "custom") if data == {"payload": {"here": 1}}]
        assert said.startswith("custom|inner:")

    with_worker(scenario, {"counted": "./streaming.py:counted"})
