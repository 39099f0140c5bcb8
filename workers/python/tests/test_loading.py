"""What langgraph.json may name, and what the worker makes of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fake_host import CallFailed, FakeHost
from threadyard_worker import loading


def test_files_packages_and_builders(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        ready = await host.ready
        assert all(report == {"ok": True} for report in ready["graphs"].values()), ready
        assert len(ready["revision"]) == 32
        for graph, module in (("package", "agent.graph"), ("file", "agent.graph"), ("loose", "agent.graph")):
            _, end = await host.run(graph, input={})
            assert end["values"] == {"x": [42, module]}
        _, end = await host.run("builder", input={"count": 1, "log": []})
        assert end["values"]["count"] == 4

    graphs = {
        "package": "agent.graph:graph",
        "file": "./agent/graph.py:graph",
        "loose": "./loose/not-a-name.py:graph",
        "builder": "./graphs.py:counter_builder",
    }
    with_worker(scenario, graphs)


def test_a_graph_that_does_not_load_is_reported_and_the_others_work(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        report = (await host.ready)["graphs"]
        assert report["counter"] == {"ok": True}
        assert report["broken"]["error"]["error"] == "RuntimeError"
        assert report["broken"]["error"]["message"] == "broken on purpose"
        assert "broken.py" in report["broken"]["error"]["traceback"]
        for graph, word in (
            ("missing_name", "`counter`"),
            ("missing_file", "does not exist"),
            ("malformed", "not of the form"),
            ("no_graph", "is a dict"),
            ("too_much", "`more`"),
        ):
            assert word in report[graph]["error"]["message"], report[graph]
        _, end = await host.run("counter", input={"count": 1, "log": []})
        assert end["status"] == "success"
        _, end = await host.run("broken", input={})
        assert end["error"]["error"] == "UnavailableGraph" and "broken on purpose" in end["error"]["message"]
        with pytest.raises(CallFailed) as failed:
            await host.call("schemas", "unheard_of", config={})
        assert failed.value.body["status"] == 404

    graphs = {
        "counter": "./graphs.py:counter",
        "broken": "./broken.py:graph",
        "missing_name": "./graphs.py:contour",
        "missing_file": "./nowhere.py:graph",
        "malformed": "graphs",
        "no_graph": "./graphs.py:not_a_graph",
        "too_much": "./factories.py:with_too_much",
    }
    with_worker(scenario, graphs)


FACTORIES = [
    "no_arguments",
    "uncompiled",
    "by_name",
    "by_position",
    "by_annotation",
    "asynchronous",
    "context_manager",
    "async_context_manager",
    "with_runtime",
    "with_both",
    "with_default",
    "returns_nonsense",
    "raises",
]


def test_factories_of_every_kind(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        async def x(graph: str) -> object:
            config = {"configurable": {"flavour": "mint"}}
            _, end = await host.run(graph, graph, input={}, config=config, context={"q": 1})
            assert end["status"] == "success", end["error"]
            return end["values"]["x"][0]

        assert await x("no_arguments") == "no_arguments"
        assert await x("uncompiled") == "uncompiled"
        assert await x("by_name") == await x("by_position") == await x("by_annotation") == "mint"
        assert await x("asynchronous") == "asynchronous"
        assert await x("with_runtime") == ["threads.create_run", True, {"q": 1}]
        assert await x("with_both") == ["mint", "threads.create_run"]
        assert await x("with_default") is True
        state = await host.call("state_get", "with_runtime", config={"configurable": {"thread_id": "with_runtime"}})
        assert state["values"]["x"][0][0] == "threads.create_run"
        drawn = await host.call("draw", "by_name", config={"configurable": {"flavour": "mint"}}, xray=False)
        assert [node["id"] for node in drawn["nodes"]] == ["__start__", "node", "__end__"]

    with_worker(scenario, {name: f"./factories.py:{name}" for name in FACTORIES})


def test_context_managers_are_left_after_each_use(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("context_manager", input={})
        assert end["values"]["x"] == ["context_manager", "entered"]
        _, end = await host.run("async_context_manager", input={})
        assert end["values"]["x"] == ["async_context_manager", "entered", "left", "a-entered"]
        _, end = await host.run("no_arguments", input={})
        assert end["values"]["x"] == ["no_arguments", "entered", "left", "a-entered", "a-left"]

    with_worker(scenario, {name: f"./factories.py:{name}" for name in FACTORIES})


def test_failing_factories_fail_the_run(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("returns_nonsense", input={})
        assert end["error"]["error"] == "GraphLoadError" and "is a int" in end["error"]["message"]
        _, end = await host.run("raises", input={})
        assert end["error"]["error"] == "LookupError" and end["error"]["message"] == "no such flavour"

    with_worker(scenario, {name: f"./factories.py:{name}" for name in FACTORIES})


def test_a_checkpointer_of_the_graphs_own_is_replaced_with_one_warning(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        for _ in range(2):
            _, end = await host.run("own", "t", input={"count": 1, "log": []})
            assert end["status"] == "success"
        assert host.checkpoints.head("t") is not None
        warnings = [log for log in host.logs if log["level"] == "warning"]
        assert len(warnings) == 1 and "checkpointer of its own" in warnings[0]["message"]

    with_worker(scenario, {"own": "./graphs.py:own_checkpointer"})


def test_names_of_graphs(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        for graph, name in (("counter", "counter"), ("named", "Named by its author")):
            view = host.start_run(graph, input={"count": 1, "log": []}, modes=["events"])
            await view.finished()
            assert view.events[0][1]["name"] == name

    with_worker(scenario, {"counter": "./graphs.py:counter", "named": "./graphs.py:named"})


def test_what_changes_while_it_is_loaded_has_a_revision_that_no_other_load_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "agent.py"
    source.write_text("x = 1")
    monkeypatch.setattr(loading, "_loaded_sources", lambda _: [source])
    since = time.time() - 60
    assert loading.revision(tmp_path, since) != loading.revision(tmp_path, since)
    os.utime(source, (since - 60, since - 60))
    assert loading.revision(tmp_path, since) == loading.revision(tmp_path, since)
