"""Runs: what they stream, how they end, and the state they leave."""

from __future__ import annotations

import json

import pytest
from fake_host import CallFailed, FakeHost, names

COUNTER = {"counter": "./graphs.py:counter"}
START_INPUT = {"count": 1, "log": []}


def test_values_and_updates(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        events, end = await host.run("counter", input=START_INPUT, modes=["values", "updates"])
        assert events == [
            ("values", {"count": 1, "log": []}),
            ("updates", {"add": {"count": 1, "log": ["add"]}}),
            ("values", {"count": 2, "log": ["add"]}),
            ("updates", {"double": {"count": 2, "log": ["double"]}}),
            ("values", {"count": 4, "log": ["add", "double"]}),
        ]
        assert end["status"] == "success" and end["error"] is None and end["next"] is False
        assert end["values"] == {"count": 4, "log": ["add", "double"]}
        assert end["result"] is None, "the same as values"

    with_worker(scenario, COUNTER)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_the_cheap_state_is_the_state_that_is_read_back(with_worker, durability: str) -> None:
    async def scenario(host: FakeHost) -> None:
        for graph, input in (
            ("counter", START_INPUT),
            ("streamer", {"messages": [{"role": "user", "content": "hi", "id": "u"}]}),
            ("fanout", {"items": ["a", "b"]}),
            ("sub", {"messages": [], "text": "ab"}),
            ("in_out", {"a": 1}),
        ):
            config = {"configurable": {"mine": 1}, "metadata": {"md": {"nested": True}}}
            view = host.start_run(graph, f"thread-{graph}", input=input, durability=durability, config=config)
            end = await view.finished()
            assert end["status"] == "success", end
            read = await host.call("state_get", graph, config={"configurable": {"thread_id": f"thread-{graph}"}})
            assert end["state"] == read
            assert end["values"] == read["values"]

    graphs = {
        **COUNTER,
        "streamer": "./graphs.py:streamer",
        "fanout": "./graphs.py:fanout",
        "sub": "./graphs.py:streamer_within",
        "in_out": "./graphs.py:in_out",
    }
    with_worker(scenario, graphs)


def test_output_schema_narrows_the_result_but_not_the_thread(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        events, end = await host.run("in_out", input={"a": 1}, modes=["values"])
        assert events == [("values", {"b": 2})]
        assert end["result"] == {"b": 2} and end["values"] == {"a": 1, "b": 2}

    with_worker(scenario, {"in_out": "./graphs.py:in_out"})


def test_messages_grow(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        input = {"messages": [{"role": "user", "content": "hi", "id": "u"}], "text": "abc"}
        events, _ = await host.run("streamer", input=input, modes=["messages"])
        assert names(events) == ["messages/metadata"] + ["messages/partial"] * 3
        (id,) = events[0][1]
        assert events[0][1][id]["metadata"]["langgraph_node"] == "model"
        assert [(data[0]["content"], data[0]["type"], data[0]["id"]) for _, data in events[1:]] == [
            ("a", "ai", id),
            ("ab", "ai", id),
            ("abc", "ai", id),
        ]
        events, _ = await host.run("said", input={"messages": []}, modes=["messages"])
        assert names(events) == ["messages/metadata", "messages/complete"]
        assert events[1][1][0]["content"] == "said"

    with_worker(scenario, {"streamer": "./graphs.py:streamer", "said": "./graphs.py:said"})


def test_message_tuples_win_over_messages(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        input = {"messages": [], "text": "abc"}
        events, _ = await host.run("streamer", input=input, modes=["messages", "messages-tuple"])
        assert names(events) == ["messages"] * 3
        assert [chunk["content"] for _, (chunk, _) in events] == ["a", "b", "c"]
        assert {metadata["langgraph_node"] for _, (_, metadata) in events} == {"model"}
        assert [chunk["chunk_position"] for _, (chunk, _) in events] == [None, None, "last"]

    with_worker(scenario, {"streamer": "./graphs.py:streamer"})


def test_events_of_subgraphs_carry_their_namespace(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        modes = ["values", "messages-tuple", "updates"]
        events, _ = await host.run("sub", input={"messages": [], "text": "ab"}, modes=modes, subgraphs=True)
        ns = next(name for name in names(events) if "|" in name).partition("|")[2]
        assert ns.startswith("child:")
        assert names(events) == [
            "values",
            f"values|{ns}",
            f"messages|{ns}",
            f"messages|{ns}",
            f"updates|{ns}",
            f"values|{ns}",
            "updates",
            "values",
        ]
        events, _ = await host.run("sub", input={"messages": [], "text": "ab"}, modes=["messages"], subgraphs=True)
        assert names(events) == ["messages/metadata", "messages/partial", "messages/partial"]

    with_worker(scenario, {"sub": "./graphs.py:streamer_within"})


def test_callback_events(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("streamer", input={"messages": [], "text": "ab"}, modes=["events", "values"])
        end = await view.finished()
        callbacks = [data["event"] for name, data in view.events if name == "events"]
        assert callbacks == [
            "on_chain_start",
            "on_chain_start",
            "on_chat_model_start",
            "on_chat_model_stream",
            "on_chat_model_stream",
            "on_chat_model_end",
            "on_chain_stream",
            "on_chain_end",
            "on_chain_end",
        ]
        first = next(data for name, data in view.events if name == "events")
        assert first["name"] == "streamer"
        assert [data for name, data in view.events if name == "values"][-1] == end["values"]

    with_worker(scenario, {"streamer": "./graphs.py:streamer"})


def test_tasks_checkpoints_and_debug(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        modes = ["tasks", "checkpoints", "debug"]
        view = host.start_run("sub", "t", input={"messages": [], "text": "a"}, modes=modes)
        await view.finished()
        checkpoints = [data for name, data in view.events if name == "checkpoints"]
        assert [c["metadata"]["source"] for c in checkpoints] == ["input", "loop", "loop"]
        assert [c["next"] for c in checkpoints] == [["__start__"], ["child"], []]
        assert checkpoints[1]["tasks"][0]["state"]["configurable"]["checkpoint_ns"].startswith("child:")
        debug = [data for name, data in view.events if name == "debug"]
        assert [d["type"] for d in debug] == ["checkpoint", "checkpoint", "task", "task_result", "checkpoint"]
        payload = debug[1]["payload"]
        assert payload["checkpoint"] == {
            "thread_id": "t",
            "checkpoint_ns": "",
            "checkpoint_id": payload["config"]["configurable"]["checkpoint_id"],
        }
        assert payload["parent_checkpoint"]["checkpoint_id"] == debug[0]["payload"]["checkpoint"]["checkpoint_id"]
        assert debug[0]["payload"]["parent_checkpoint"] is None
        task = payload["tasks"][0]
        assert "state" not in task and task["checkpoint"]["checkpoint_ns"].startswith("child:")
        assert [data["name"] for name, data in view.events if name == "tasks"] == ["child", "child"]

    with_worker(scenario, {"sub": "./graphs.py:streamer_within"})


def test_an_interrupt_and_its_answer(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("hitl", "t", input={"topic": "cats"}, modes=["updates"])
        end = await view.finished()
        assert names(view.events) == ["updates", "updates"]
        (shown,) = view.events[1][1]["__interrupt__"]
        assert shown["value"] == {"question": "approve?", "draft": "draft about cats"}
        assert set(shown) == {"id", "value", "response_schema"}
        assert end["status"] == "success" and end["next"] is True
        assert end["values"] == {"topic": "cats", "draft": "draft about cats"}
        assert end["result"] == {**end["values"], "__interrupt__": [shown]}
        (task,) = end["state"]["tasks"]
        waiting = {"id": shown["id"], "value": shown["value"]}
        assert end["interrupts"] == {task["id"]: [waiting]} and task["interrupts"] == [waiting]
        assert end["state"]["interrupts"] == [waiting] and end["state"]["next"] == ["review"]

        _, end = await host.run("hitl", "t", command={"resume": "yes"})
        assert end["status"] == "success" and end["next"] is False and end["result"] is None
        assert end["values"]["answer"] == "yes" and end["values"]["done"] is True
        assert not end["interrupts"] and end["state"]["interrupts"] == []

    with_worker(scenario, {"hitl": "./graphs.py:hitl"})


def test_all_questions_are_in_the_result(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("ask", "t", input={"answers": []})
        questions = end["result"]["__interrupt__"]
        assert sorted(q["value"] for q in questions) == ["a", "b"]
        assert len(end["interrupts"]) == 2
        answers = {q["id"]: q["value"].upper() for q in questions}
        _, end = await host.run("ask", "t", command={"resume": answers})
        assert end["values"] == {"answers": ["A", "B"]} and end["next"] is False

    with_worker(scenario, {"ask": "./graphs.py:two_questions"})


def test_an_interrupt_in_a_subgraph(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("hitl", "t", input={"topic": "x"})
        task = end["state"]["tasks"][0]
        assert task["checkpoint"] == {"thread_id": "t", "checkpoint_ns": f"child:{task['id']}"}
        config = {"configurable": {"thread_id": "t"}}
        nested = (await host.call("state_get", "hitl", config=config, subgraphs=True))["tasks"][0]
        assert nested["checkpoint"] is None
        assert set(nested["state"]["checkpoint"]["checkpoint_map"]) == {"", f"child:{task['id']}"}
        assert nested["state"]["metadata"]["checkpoint_map"] == {"": end["state"]["checkpoint_id"]}
        _, end = await host.run("hitl", "t", command={"resume": 1})
        assert end["values"] == {"topic": "x", "answer": 1}

    with_worker(scenario, {"hitl": "./graphs.py:hitl_within"})


def test_static_interrupts(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("counter", "t", input=START_INPUT, modes=["updates"], before=["double"])
        end = await view.finished()
        assert view.events[-1] == ("updates", {"__interrupt__": []})
        assert end["next"] is True and end["state"]["next"] == ["double"] and end["interrupts"] == {}
        assert end["result"] is None and end["values"] == {"count": 2, "log": ["add"]}
        _, end = await host.run("counter", "t", input=None)
        assert end["values"] == {"count": 4, "log": ["add", "double"]} and end["next"] is False
        _, end = await host.run("counter", input=START_INPUT, after=["*"])
        assert end["state"]["next"] == ["double"]

    with_worker(scenario, COUNTER)


def test_commands(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("counter", "t", command={"resume": 1})
        assert (end["status"], end["error"]["error"]) == ("error", "TypeError")
        _, end = await host.run("counter", "t", command={})
        assert (end["status"], end["error"]["error"]) == ("error", "EmptyInputError")
        _, end = await host.run("counter", "t", command={"bogus": 1})
        assert (end["status"], end["error"]["error"]) == ("error", "TypeError")
        await host.run("counter", "t", input=START_INPUT)
        _, end = await host.run("counter", "t", command={"update": [["count", 5]]})
        assert end["values"]["count"] == 9
        _, end = await host.run("counter", "t", command={"update": {"count": 1}, "goto": "double"})
        assert end["values"]["count"] == 20
        _, end = await host.run("counter", "t", command={"goto": {"node": "add", "input": {}}})
        assert end["values"]["log"][-2:] == ["add", "double"]

    with_worker(scenario, COUNTER)


def test_a_no_op_still_knows_the_values(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, first = await host.run("counter", "t", input=START_INPUT)
        _, second = await host.run("counter", "t", input=None)
        assert second["status"] == "success"
        assert second["values"] == first["values"] and second["state"] == first["state"]

    with_worker(scenario, COUNTER)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("raise", "ValueError", "boom at 1"),
        ("cancelled", "NodeCancelledError", "Node 'boom' raised asyncio.CancelledError"),
        ("exit", "SystemExit", "3"),
        ("surrogate", "ValueError", "a?b"),
        ("textless", "_Textless", "<the exception has no text: ValueError>"),
    ],
)
def test_failures_of_user_code(with_worker, how: str, error: str, message: str) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("boom", "t", input={"how": how}, modes=["updates"])
        end = await view.finished()
        assert view.events == [("updates", {"pre": {"n": 1}})]
        assert end["status"] == "error"
        assert (end["error"]["error"], end["error"]["message"]) == (error, message)
        assert "graphs.py" in end["error"]["traceback"]
        assert end["state"]["next"] == ["boom"] and end["next"] is True
        assert end["values"] == {"how": how, "n": 1}
        # The worker lives on, and the run can be taken up again.
        _, end = await host.run("boom", "t", command={"update": {"how": "fine"}, "goto": "boom"})
        assert end["status"] == "success" and end["values"]["n"] == 100

    with_worker(scenario, {"boom": "./graphs.py:boom"})


def test_a_failed_task_shows_its_error(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("boom", input={}, modes=["tasks"])
        end = await view.finished()
        assert view.events[-1][1]["error"] == {"error": "ValueError", "message": "boom at 1"}
        assert end["state"]["tasks"][0]["error"] == "ValueError('boom at 1')"

    with_worker(scenario, {"boom": "./graphs.py:boom"})


def test_time_travel_forks(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("counter", "t", input=START_INPUT)
        history = await host.call("state_history", "counter", config={"configurable": {"thread_id": "t"}}, limit=10)
        before_double = next(state for state in history if state["next"] == ["double"])
        fork = {"configurable": {"checkpoint_id": before_double["checkpoint_id"], "checkpoint_ns": ""}}
        _, end = await host.run("counter", "t", input=None, config=fork)
        assert end["values"] == {"count": 4, "log": ["add", "double"]}
        later = await host.call("state_history", "counter", config={"configurable": {"thread_id": "t"}}, limit=10)
        assert [state["metadata"]["source"] for state in later][:2] == ["loop", "fork"]
        assert later[1]["parent_checkpoint_id"] == before_double["checkpoint_id"]

    with_worker(scenario, COUNTER)


def test_a_later_attempt_goes_on_where_the_first_stopped(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        await host.run("counter", "t", input=START_INPUT, before=["double"])
        view = host.start_run("counter", "t", input=START_INPUT, modes=["updates"], attempt=2, resume=True)
        end = await view.finished()
        assert view.events == [("updates", {"double": {"count": 2, "log": ["double"]}})]
        assert end["values"] == {"count": 4, "log": ["add", "double"]}

    with_worker(scenario, COUNTER)


def test_context(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        for context, seen in (
            ({"user_name": "ann"}, "ann"),
            ({"user_name": "ann", "unknown": 1}, "ann"),
            ({}, "nobody"),
            (None, "nobody"),
        ):
            _, end = await host.run("ctx", input={}, context=context)
            assert end["values"] == {"x": seen}

    with_worker(scenario, {"ctx": "./graphs.py:with_context"})


def test_many_runs_at_once(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        views = [host.start_run("slow", input={"steps": [], "how": "quick"}) for _ in range(40)]
        ends = [await view.finished() for view in views]
        assert all(end["values"]["steps"] == ["first", "waited"] for end in ends)
        threads = {end["state"]["checkpoint"]["thread_id"] for end in ends}
        assert len(threads) == 40

    with_worker(scenario, {"slow": "./graphs.py:slow"})


def test_a_flood_of_events_arrives_whole_and_in_order(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("custom", input={"n": 30_000}, modes=["custom"])
        await view.finished()
        assert [data["i"] for _, data in view.events] == list(range(30_000))
        frames = sum(kind == 12 for _, _, kind, _, _ in host.trace)
        assert frames < 3_000, "events that come together share frames"

    with_worker(scenario, {"custom": "./graphs.py:custom"})


def test_an_unknown_stream_mode_fails_the_run(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        _, end = await host.run("counter", input=START_INPUT, modes=["bogus"])
        assert end["status"] == "error" and "bogus" in end["error"]["message"]
        assert json.dumps(end)

    with_worker(scenario, COUNTER)


def test_an_event_without_a_json_form_ends_the_run_after_those_before_it(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("odd_events", input={"n": 3}, modes=["custom"])
        end = await view.finished()
        assert end["status"] == "error" and end["error"]["error"] == "TypeError"
        assert view.events == [("custom", {"i": 0}), ("custom", {"i": 1})]

    with_worker(scenario, {"odd_events": "./graphs.py:odd_events"})


def test_an_event_says_what_it_was_when_the_node_gave_way(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        view = host.start_run("reused_event", input={"n": 3}, modes=["custom"])
        await view.finished()
        assert view.events == [("custom", {"i": i}) for i in range(3)]

    with_worker(scenario, {"reused_event": "./graphs.py:reused_event"})


def test_a_thread_of_another_language_is_refused_by_name(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        checkpoint = b'{"v":4,"channel_values":{},"channel_versions":{},"versions_seen":{},"lang":"node"}'
        host.checkpoints.put(
            {"thread": "t", "ns": "", "id": "1f1e7388-7e80-6a71-8003-118f0b5f338d", "parent": None,
             "checkpoint": checkpoint, "metadata": b"{}", "blobs": []}
        )  # fmt: skip
        _, end = await host.run("counter", "t", input={"count": 1, "log": []})
        assert end["error"]["error"] == "ForeignThread" and "begun by a graph in JavaScript" in end["error"]["message"]
        with pytest.raises(CallFailed) as failed:
            await host.call("state_get", "counter", config={"configurable": {"thread_id": "t"}})
        assert failed.value.body["status"] == 400

    with_worker(scenario, COUNTER)
