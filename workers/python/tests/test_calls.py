"""The host's calls."""

from __future__ import annotations

import pytest
from fake_host import CallFailed, FakeHost

COUNTER = {"counter": "./graphs.py:counter"}
START_INPUT = {"count": 1, "log": []}


def of(thread: str, **more: object) -> dict[str, object]:
    return {"configurable": {"thread_id": thread, **more}}


def test_state_of_a_thread_that_never_ran(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert await host.call("state_get", "counter", config=of("t")) == {
            "values": {},
            "next": [],
            "tasks": [],
            "metadata": None,
            "created_at": None,
            "checkpoint": None,
            "parent_checkpoint": None,
            "interrupts": [],
            "checkpoint_id": None,
            "parent_checkpoint_id": None,
        }
        assert await host.call("state_history", "counter", config=of("t"), limit=5) == []

    with_worker(scenario, COUNTER)


def test_state_at_a_checkpoint(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("counter", "t", input=START_INPUT)
        history = await host.call("state_history", "counter", config=of("t"), limit=10)
        assert [state["next"] for state in history] == [[], ["double"], ["add"], ["__start__"]]
        assert [state["metadata"]["step"] for state in history] == [2, 1, 0, -1]
        id = history[1]["checkpoint_id"]
        state = await host.call("state_get", "counter", config=of("t", checkpoint_id=id))
        assert state["checkpoint"] == {"thread_id": "t", "checkpoint_id": id}, "asked for by its bare id"
        assert state["tasks"][0]["result"] == {"count": 2, "log": ["double"]}
        assert state["tasks"][0]["path"] == ["__pregel_pull", "double"]
        state = await host.call("state_get", "counter", config=of("t", checkpoint_id=id, checkpoint_ns=""))
        assert state["checkpoint"] == {"thread_id": "t", "checkpoint_id": id, "checkpoint_ns": ""}
        state = await host.call("state_get", "counter", config=of("t", checkpoint_id="unknown"))
        assert state["checkpoint"] == {"thread_id": "t", "checkpoint_id": "unknown"} and state["values"] == {}

    with_worker(scenario, COUNTER)


def test_history_is_filtered_and_cut(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("counter", "t", input=START_INPUT)
        await host.run("counter", "other", input=START_INPUT)
        whole = await host.call("state_history", "counter", config=of("t"), limit=10)
        inputs = await host.call("state_history", "counter", config=of("t"), limit=10, filter={"source": "input"})
        assert inputs == whole[3:]
        before = await host.call("state_history", "counter", config=of("t"), limit=1, before=whole[1]["checkpoint_id"])
        assert before == whole[2:3]

    with_worker(scenario, COUNTER)


def test_updating_state(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("counter", "t", input=START_INPUT)
        updated = await host.call("state_update", "counter", config=of("t"), values={"count": 10}, as_node="add")
        assert updated["state"]["values"]["count"] == 14
        assert updated["next"] is True and updated["state"]["next"] == ["double"] and updated["interrupts"] == {}
        checkpoint = updated["config"]["configurable"]
        assert checkpoint == updated["state"]["checkpoint"]
        metadata = updated["state"]["metadata"]
        assert set(metadata) == {"source", "step", "parents", "graph_id", "thread_id"}
        assert metadata["source"] == "update" and metadata["graph_id"] == "counter"
        _, end = await host.run("counter", "t", input=None)
        assert end["values"]["count"] == 28

    with_worker(scenario, COUNTER)


@pytest.mark.parametrize(
    ("values", "as_node"),
    [({"count": 1}, "bogus"), ([], "add"), ({"count": "text"}, "add")],
)
def test_updates_that_do_not_fit_are_the_callers_fault(with_worker, values: object, as_node: str) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("counter", "t", input=START_INPUT)
        with pytest.raises(CallFailed) as failed:
            await host.call("state_update", "counter", config=of("t"), values=values, as_node=as_node)
        assert failed.value.body["status"] == 400

    with_worker(scenario, COUNTER)


def test_schemas(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        schemas = await host.call("schemas", "counter", config={})
        assert schemas["graph_id"] == "counter"
        assert schemas["input_schema"]["required"] == ["count", "log"]
        assert schemas["input_schema"]["title"] == schemas["output_schema"]["title"] == "CounterState"
        assert schemas["state_schema"] == {
            "properties": {
                "count": {"default": None, "title": "Count", "type": "integer"},
                "log": {"default": None, "items": {"type": "string"}, "title": "Log", "type": "array"},
            },
            "title": "counter_state",
            "type": "object",
        }
        assert schemas["config_schema"] == {} and schemas["context_schema"] is None
        schemas = await host.call("schemas", "ctx", config={})
        assert schemas["config_schema"] == schemas["context_schema"]
        assert schemas["context_schema"]["properties"]["user_name"]["default"] == "nobody"
        schemas = await host.call("schemas", "in_out", config={})
        assert list(schemas["input_schema"]["properties"]) == ["a"]
        assert list(schemas["output_schema"]["properties"]) == ["b"]
        assert sorted(schemas["state_schema"]["properties"]) == ["a", "b"]

    with_worker(scenario, {**COUNTER, "ctx": "./graphs.py:with_context", "in_out": "./graphs.py:in_out"})


def test_drawings_and_subgraphs(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        drawn = await host.call("draw", "sub", config={}, xray=False)
        assert drawn == {
            "nodes": [
                {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
                {"id": "child", "type": "runnable", "data": {"name": "child"}},
                {"id": "__end__"},
            ],
            "edges": [{"source": "__start__", "target": "child"}, {"source": "child", "target": "__end__"}],
        }
        drawn = await host.call("draw", "sub", config={}, xray=True)
        assert "child:model" in [node["id"] for node in drawn["nodes"]] or "model" in str(drawn["nodes"])
        subgraphs = await host.call("subgraphs", "sub", config={}, namespace=None, recurse=False)
        assert list(subgraphs) == ["child"]
        assert set(subgraphs["child"]) == {
            "input_schema",
            "output_schema",
            "state_schema",
            "config_schema",
            "context_schema",
        }
        assert await host.call("subgraphs", "sub", config={}, namespace="nope", recurse=False) == {}

    with_worker(scenario, {"sub": "./graphs.py:streamer_within"})


def test_an_unknown_operation_is_refused(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        with pytest.raises(CallFailed, match="no operation `bogus`"):
            await host.call("bogus", "counter", config={})

    with_worker(scenario, COUNTER)
