"""Event streaming (protocol v2): the official Python SDK's `client.threads.stream()` against the built binary, and what
clients rely on that the SDK does not show."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import websockets.sync.client
from conftest import Server, until, write_project
from langgraph_sdk import get_client, get_sync_client

GRAPHS = '''
import asyncio
import operator
from typing import Annotated

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt


class Model(BaseChatModel):
    """Asks for one addition, and then says a sentence word by word."""

    words: str = "the sum is three"

    @property
    def _llm_type(self):
        return "scripted"

    def _generate(self, messages, stop=None, run_manager=None, **more):
        call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "call-1", "type": "tool_call"}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="", tool_calls=[call]))])


class Speaker(Model):
    def _stream(self, messages, stop=None, run_manager=None, **more):
        for word in self.words.split():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    get_stream_writer()({"name": "progress", "payload": {"half": True}})
    get_stream_writer()({"done": True})
    return a + b


async def model(state: MessagesState):
    spoken = any(message.type == "tool" for message in state["messages"])
    return {"messages": [await (Speaker() if spoken else Model()).ainvoke(state["messages"])]}


agent = StateGraph(MessagesState).add_node("model", model).add_node("tools", ToolNode([add]))
agent.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")


class State(MessagesState, total=False):
    answers: Annotated[list, operator.add]
    seconds: float


async def left(state: State):
    return {"messages": [await Speaker(words="one two three").ainvoke("x")]}


async def right(state: State):
    return {"messages": [await Speaker(words="uno due tre").ainvoke("x")]}


both = StateGraph(State).add_node(left).add_node(right).add_edge(START, "left").add_edge(START, "right")


def ask(question):
    return lambda state: {"answers": [interrupt({"question": question})]}


asking = StateGraph(State).add_node("a", ask("a?")).add_node("b", ask("b?")).add_edge(START, "a").add_edge(START, "b")
inner = StateGraph(State).add_node("speak", left).add_node("ask", ask("deep?"))
inner.add_edge(START, "speak").add_edge("speak", "ask")
nested = StateGraph(State).add_node("child", inner.compile()).add_edge(START, "child")


async def wait(state: State):
    for step in range(10):
        get_stream_writer()({"step": step})
        await asyncio.sleep(state.get("seconds", 0) / 10)
    return {"answers": ["waited"]}


def fail(state: State):
    raise ValueError("on purpose")


slow = StateGraph(State).add_node(wait).add_edge(START, "wait")
failing = StateGraph(State).add_node(fail).add_edge(START, "fail")
'''
NAMES = ("agent", "both", "asking", "nested", "slow", "failing")
HI = {"messages": [{"role": "user", "content": "hi"}]}
ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]
ENDS = ("completed", "failed", "interrupted")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    graphs = {name: f"./graphs.py:{name}" for name in NAMES}
    folder = write_project(tmp_path_factory.mktemp("events"), graphs, {"graphs.py": GRAPHS})
    server = Server(folder, folder / "data")
    yield server.url
    server.stop()


def command(url: str, thread: str, method: str, **params: Any) -> dict[str, Any]:
    body = {"id": 1, "method": method, "params": params}
    return httpx.post(f"{url}/threads/{thread}/commands", json=body, timeout=60).raise_for_status().json()


def start(url: str, thread: str, graph: str, input: Any = HI, **more: Any) -> str:
    answer = command(url, thread, "run.start", assistant_id=graph, input=input, **more)
    assert answer["type"] == "success", answer
    return answer["result"]["run_id"]


def read(
    url: str, thread: str, until: Callable[[dict[str, Any]], bool], headers: dict[str, str] | None = None, **body: Any
) -> list[dict[str, Any]]:
    """The events of a thread, to the first that is one to stop at."""
    opened: threading.Event | None = body.pop("opened", None)
    body = {"channels": ALL, **body}
    heard: list[dict[str, Any]] = []
    with httpx.stream("POST", f"{url}/threads/{thread}/stream/events", json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        if opened:
            opened.set()
        name, id = "", ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                heard.append(json.loads(line.removeprefix("data: ")))
            elif line.startswith("id: "):
                id = line.removeprefix("id: ")
                assert (name, id) == (heard[-1]["method"], str(heard[-1]["seq"]))
            elif not line and heard and until(heard[-1]):
                return heard
    raise AssertionError(f"the stream ended: {heard}")


def ended(event: dict[str, Any]) -> bool:
    params = event["params"]
    return event["method"] == "lifecycle" and not params["namespace"] and params["data"]["event"] in ENDS


def of(events: list[dict[str, Any]], method: str) -> list[Any]:
    return [event["params"]["data"] for event in events if event["method"] == method]


def new_thread() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_the_sdk_shows_an_agent_at_work(url: str, transport: Any) -> None:
    async def scenario() -> None:
        async with get_client(url=url).threads.stream(assistant_id="agent", transport=transport) as thread:
            progress: list[Any] = []

            async def said() -> list[str]:
                # Handles are fed by the iteration that they come from.
                messages = [message async for message in thread.messages]
                return [await message.text for message in messages]

            async def called() -> list[Any]:
                calls = [call async for call in thread.tool_calls]
                return [(call.name, call.input, await call.output) for call in calls]

            async def extended() -> None:
                async for item in thread.extensions["progress"]:
                    progress.append(item)

            # This SDK opens one connection after the other, and tells nobody of an end who subscribes behind it.
            tasks, subscribe, subscribed = [], thread._reconcile_stream, asyncio.Semaphore(0)

            async def noted(*filters: Any) -> None:
                await subscribe(*filters)
                subscribed.release()

            thread._reconcile_stream = noted
            for reader in (said, called, extended):
                tasks.append(asyncio.create_task(reader()))
                await asyncio.wait_for(subscribed.acquire(), 60)
            readers = asyncio.gather(*tasks)
            assert (await thread.run.start(input=HI))["run_id"]
            output = await asyncio.wait_for(thread.output, 60)
            texts, calls, _ = await asyncio.wait_for(readers, 60)
            assert texts == ["the sum is three "]
            assert [(name, input) for name, input, _ in calls] == [("add", {"a": 1, "b": 2})]
            assert progress and progress[0] == {"name": "progress", "payload": {"half": True}}
            assert [message["type"] for message in output["messages"]] == ["human", "ai", "tool", "ai"]

    asyncio.run(scenario())


def test_the_sdk_answers_what_a_subgraph_asks(url: str) -> None:
    async def scenario() -> None:
        async with get_client(url=url).threads.stream(assistant_id="nested") as thread:
            await thread.run.start(input=HI)
            for _ in range(1200):
                if thread.interrupted:
                    break
                await asyncio.sleep(0.05)
            [asked] = thread.interrupts
            assert asked["value"] == {"question": "deep?"}, asked
            await thread.run.respond("yes")
            output = await asyncio.wait_for(thread.output, 60)
            assert output["answers"] == ["yes"]

    asyncio.run(scenario())


def test_the_synchronous_sdk_reads_values_to_the_end(url: str) -> None:
    with get_sync_client(url=url).threads.stream(assistant_id="both") as thread:
        thread.run.start(input=HI)
        values = list(thread.values)
        assert len(values[-1]["messages"]) == 3
        assert len(thread.output["messages"]) == 3


def test_every_channel_speaks_in_order(url: str) -> None:
    thread = new_thread()
    run = start(url, thread, "agent")
    events = read(url, thread, ended)
    assert {event["method"] for event in events} == set(ALL) - {"input"}
    assert of(events, "lifecycle")[0] == {"event": "running", "graph_name": "agent"} == of(events[:1], "lifecycle")[0]
    assert of(events, "lifecycle")[-1] == {"event": "completed", "graph_name": "agent"}
    tools = of(events, "tools")
    assert [tool["event"] for tool in tools] == ["tool-started", "tool-finished"]
    assert tools[0] == {"event": "tool-started", "tool_call_id": "call-1", "tool_name": "add", "input": {"a": 1, "b": 2}}
    assert of(events, "custom") == [{"name": "progress", "payload": {"half": True}}, {"payload": {"done": True}}]
    assert [update["node"] for update in of(events, "updates")] == ["model", "tools", "model"]
    assert [point["source"] for point in of(events, "checkpoints")] == ["input", "loop", "loop", "loop", "loop"]
    answer = of(events, "values")[-1]["messages"][-1]
    assert answer["type"] == "ai" and "additional_kwargs" not in answer
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs)) and seqs[0] == 1
    # Clients look for the run of a lifecycle in its id.
    prefixes = ["synth:" if event["method"] == "lifecycle" else "" for event in events]
    assert [event["event_id"] for event in events] == [f"{p}{run}:{seq}" for p, seq in zip(prefixes, seqs, strict=True)]
    only = read(url, thread, lambda event: True, channels=["custom:progress"])
    assert of(only, "custom") == [{"name": "progress", "payload": {"half": True}}]


def test_messages_that_are_streamed_together_can_be_told_apart(url: str) -> None:
    thread = new_thread()
    start(url, thread, "both")
    texts: dict[str, str] = {}
    for event in read(url, thread, ended, channels=["messages", "lifecycle"]):
        data = event["params"]["data"]
        if data["event"] == "content-block-delta":
            by = (event["params"]["node"], data["run_id"], data["id"])
            texts[str(by)] = texts.get(str(by), "") + data["delta"]["text"]
    assert sorted(texts.values()) == ["one two three ", "uno due tre "]


def test_readers_come_back_behind_a_number_or_an_id(url: str) -> None:
    thread = new_thread()
    first, second = start(url, thread, "both"), start(url, thread, "agent")
    ends: list[Any] = []
    whole = read(url, thread, lambda event: ended(event) and (ends.append(1) or len(ends) == 2))
    assert {event["event_id"].removeprefix("synth:").split(":")[0] for event in whole} == {first, second}
    for place in (3, len(whole) // 2, len(whole) - 2):
        seq, id = whole[place]["seq"], whole[place]["event_id"]
        last = whole[-1]["event_id"]
        rest = whole[place + 1 :]

        def at_the_end(event: dict[str, Any], last: str = last) -> bool:
            return event["event_id"] == last

        assert read(url, thread, at_the_end, since=seq) == rest
        assert read(url, thread, at_the_end, headers={"Last-Event-ID": str(seq)}) == rest
        assert read(url, thread, at_the_end, headers={"Last-Event-ID": id}) == rest


def test_both_interrupts_of_a_step_are_asked_and_answered_together_once(url: str) -> None:
    thread = new_thread()
    start(url, thread, "asking")
    events = read(url, thread, ended)
    asked = of(events, "input.requested")
    assert [one["payload"] for one in asked] == [one["value"] for one in asked] == [{"question": "a?"}, {"question": "b?"}]
    assert of(events, "lifecycle")[-1]["event"] == "interrupted"
    assert not any("__interrupt__" in values for values in of(events, "values"))
    responses = [{"namespace": [], "interrupt_id": one["interrupt_id"], "response": n} for n, one in enumerate(asked)]
    answers: list[Any] = []
    both = [threading.Thread(target=lambda: answers.append(command(url, thread, "input.respond", responses=responses)))
            for _ in range(2)]  # fmt: skip
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(answer["type"] for answer in answers) == ["error", "success"]
    assert [answer.get("error") for answer in answers if answer["type"] == "error"] == ["no_such_interrupt"]
    read(url, thread, ended, since=events[-1]["seq"])
    assert get_sync_client(url=url).threads.get_state(thread)["values"]["answers"] == [0, 1]


def test_an_answer_may_change_the_state_and_be_null(url: str) -> None:
    thread = new_thread()
    start(url, thread, "nested")
    events = read(url, thread, ended)
    [asked] = of(events, "input.requested")
    namespace = next(event for event in events if event["method"] == "input.requested")["params"]["namespace"]
    assert len(namespace) == 1 and namespace[0].startswith("child:")
    answer = command(url, thread, "input.respond", interrupt_id=asked["interrupt_id"], response=None,
                     update={"answers": ["extra"]})  # fmt: skip
    assert answer["type"] == "success", answer
    read(url, thread, ended, since=events[-1]["seq"])
    assert get_sync_client(url=url).threads.get_state(thread)["values"]["answers"] == ["extra", None]


def test_subgraphs_have_lifecycles_and_filters_reach_into_them(url: str) -> None:
    thread = new_thread()
    start(url, thread, "nested")
    whole = read(url, thread, ended)
    inside = [event for event in whole if event["params"]["namespace"]]
    states = [event["params"]["data"]["event"] for event in inside if event["method"] == "lifecycle"]
    assert states == ["started", "interrupted"]
    last = inside[-1]["event_id"]
    assert read(url, thread, lambda event: event["event_id"] == last, namespaces=[["child"]]) == inside
    outside = [event for event in whole if not event["params"]["namespace"]]
    assert read(url, thread, ended, namespaces=[[]], depth=0) == outside


def test_failures_and_cancels_end_as_such(url: str) -> None:
    thread = new_thread()
    start(url, thread, "failing")
    events = read(url, thread, ended)
    assert of(events, "lifecycle")[-1] == {"event": "failed", "graph_name": "failing", "error": "on purpose"}
    run = start(url, thread, "slow", {"seconds": 60})
    read(url, thread, lambda event: event["method"] == "custom", since=events[-1]["seq"])
    httpx.post(f"{url}/threads/{thread}/runs/{run}/cancel").raise_for_status()
    rest = read(url, thread, ended, since=events[-1]["seq"])
    assert of(rest, "lifecycle")[-1] == {"event": "interrupted", "graph_name": "slow"}


def test_subscriptions_of_a_socket_hear_everything_in_order_and_each_event_once(url: str) -> None:
    thread = new_thread()
    place = f"{url.replace('http', 'ws')}/threads/{thread}/stream/events"
    with websockets.sync.client.connect(place, open_timeout=60) as socket:

        def ask(id: int, method: str, **params: Any) -> dict[str, Any]:
            socket.send(json.dumps({"id": id, "method": method, "params": params}))
            return json.loads(socket.recv(60))

        def hear(until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
            heard: list[dict[str, Any]] = []
            while not heard or not until(heard[-1]):
                message = json.loads(socket.recv(60))
                heard += [message] if message["type"] == "event" else []
            return heard

        for id, channels in enumerate((["values", "lifecycle"], ["lifecycle", "input"], ["values"])):
            assert ask(id, "subscription.subscribe", channels=channels)["result"]["subscription_id"] == f"sub-{id + 1}"
        socket.send(json.dumps({"id": 7, "method": "run.start", "params": {"assistant_id": "asking", "input": HI}}))
        heard = hear(ended)
        seqs = [event["seq"] for event in heard]
        assert seqs == sorted(set(seqs)), "what is asked is heard before its run is interrupted"
        assert len(of(heard, "input.requested")) == 2 and len(of(heard, "lifecycle")) == 2
        # Who comes later hears what was before, and nobody else hears it again.
        assert ask(8, "subscription.subscribe", channels=["input"])["type"] == "success"
        assert of(hear(lambda event: event["seq"] == heard[-2]["seq"]), "values") == []
        assert ask(9, "subscription.unsubscribe", subscription_id="sub-2")["type"] == "success"
        assert ask(10, "subscription.unsubscribe", subscription_id="sub-2")["error"] == "no_such_subscription"


def test_the_tree_of_a_run_names_its_graphs_and_how_they_stand(url: str) -> None:
    thread = new_thread()
    run = start(url, thread, "nested")
    events = read(url, thread, ended)
    [child] = {tuple(event["params"]["namespace"]) for event in events if event["params"]["namespace"]}
    inner = {"namespace": list(child), "status": "interrupted", "graph_name": "child"}
    tree = {"namespace": [], "status": "interrupted", "graph_name": "nested", "children": [inner]}
    for params in ({}, {"run_id": run}):
        assert command(url, thread, "agent.getTree", **params)["result"] == {"tree": tree}
    assert command(url, thread, "agent.getTree", run_id=str(uuid.uuid4()))["error"] == "no_such_run"


def test_states_are_read_listed_and_gone_on_from(url: str) -> None:
    thread = new_thread()
    start(url, thread, "nested")
    events = read(url, thread, ended)
    namespace = next(event["params"]["namespace"] for event in events if event["params"]["namespace"])
    client = get_sync_client(url=url)
    head = client.threads.get_state(thread)
    whole = command(url, thread, "state.get", namespace=[])["result"]
    assert whole == {"values": head["values"], "checkpoint": {"id": head["checkpoint"]["checkpoint_id"], "ns": ""}}
    assert command(url, thread, "state.get", namespace=[], keys=["x"])["result"]["values"] == {}
    inner = command(url, thread, "state.get", namespace=namespace, keys=["messages"])["result"]
    assert inner["values"]["messages"][-1]["content"] and inner["checkpoint"]["ns"] == namespace[0]
    for nowhere in (["other"], ["child:0"]):
        assert command(url, thread, "state.get", namespace=nowhere)["error"] == "no_such_namespace"

    listed = command(url, thread, "state.listCheckpoints")["result"]["checkpoints"]
    history = client.threads.get_history(thread, limit=10)
    assert [one["id"] for one in listed] == [state["checkpoint"]["checkpoint_id"] for state in history]
    assert [one["step"] for one in listed] == [0, -1] and listed[0]["timestamp"] == history[0]["created_at"]
    [first] = command(url, thread, "state.listCheckpoints", before=listed[0]["id"], limit=5)["result"]["checkpoints"]
    assert first == listed[1]

    forked = command(url, thread, "state.fork", checkpoint_id=first["id"], input=None)["result"]
    assert forked["thread_id"] == thread
    rest = read(url, thread, ended, since=events[-1]["seq"])
    assert rest[0]["event_id"].startswith(f"synth:{forked['run_id']}:")
    [asked] = of(rest, "input.requested")
    answered = command(url, thread, "input.respond", interrupt_id=asked["interrupt_id"], response="yes")
    assert answered["type"] == "success"
    rest = read(url, thread, ended, since=rest[-1]["seq"])
    assert of(rest, "input.answered") == [{"interrupt_ids": [asked["interrupt_id"]]}]
    assert client.threads.get_state(thread)["values"]["answers"] == ["yes"]


def test_a_run_that_is_cancelled_while_it_waits_says_its_end(url: str) -> None:
    thread = new_thread()
    first = start(url, thread, "slow", {"seconds": 120})
    read(url, thread, lambda event: event["method"] == "custom")
    # This one waits as long as a command does, and then in the queue.
    second = start(url, thread, "agent")
    client = get_sync_client(url=url)
    client.runs.cancel(thread, second)
    client.runs.cancel(thread, first, wait=True)
    ends: list[Any] = []
    events = read(url, thread, lambda event: ended(event) and (ends.append(event) or len(ends) == 2))
    assert {event["event_id"].split(":")[1] for event in ends} == {first, second}
    assert [one["event"] for one in of(events, "lifecycle")] == ["running", "interrupted", "interrupted"]


def test_what_other_runs_stream_is_heard_in_the_words_of_the_protocol(url: str) -> None:
    client = get_sync_client(url=url)
    thread = client.threads.create()["thread_id"]
    modes: Any = ["updates", "messages-tuple", "tasks", "checkpoints", "custom"]
    run = client.runs.create(thread, "agent", input=HI, stream_mode=modes, stream_resumable=True)
    client.runs.join(thread, run["run_id"])
    events = read(url, thread, ended)
    assert [update["node"] for update in of(events, "updates")] == ["model", "tools", "model"]
    assert [point["source"] for point in of(events, "checkpoints")] == ["input", "loop", "loop", "loop", "loop"]
    assert of(events, "tasks")[0]["name"] == "model"
    messages = of(events, "messages")
    text = "".join(one["delta"]["text"] for one in messages if one["event"] == "content-block-delta")
    assert text == "the sum is three "
    kinds = [one["event"] for one in messages]
    assert (kinds[0], kinds[-1]) == ("message-start", "message-finish") and kinds.count("message-start") == 1
    assert {event["params"]["node"] for event in events if event["method"] == "messages"} == {"model"}
    assert len({event["event_id"] for event in events}) == len(events)


def test_a_strict_answer_is_for_what_waits(url: str) -> None:
    thread = new_thread()
    start(url, thread, "nested")
    [asked] = of(read(url, thread, ended), "input.requested")
    client = get_sync_client(url=url)
    refused = client.runs.wait(thread, "nested", command={"resume": {"0" * 32: 1}}, strict_resume=True, raise_error=False)
    assert refused["__error__"]["error"] == "UnknownInterruptError"
    assert client.threads.get(thread)["status"] == "interrupted"
    answer: Any = {"resume": {asked["interrupt_id"]: "yes"}}
    assert client.runs.wait(thread, "nested", command=answer, strict_resume=True)["answers"] == ["yes"]


def test_a_thread_is_followed_on_behind_an_event(url: str) -> None:
    client = get_sync_client(url=url)
    thread = client.threads.create()["thread_id"]
    for _ in range(2):
        run = client.runs.create(thread, "slow", input={}, stream_mode=["values", "custom"], stream_resumable=True)
        client.runs.join(thread, run["run_id"])

    def follow(last: str, to: int) -> list[Any]:
        parts = []
        for part in client.threads.join_stream(thread, last_event_id=last):
            parts.append(part)
            if (part.data or {}).get("status") == "run_done":
                to -= 1
                if not to:
                    return parts
        raise AssertionError("the stream ended")

    whole = follow("-", 2)
    assert len({part.id for part in whole}) == len(whole) > 20
    for place in (0, 5, len(whole) // 2, len(whole) - 2):
        rest = whole[place + 1 :]
        dones = sum((part.data or {}).get("status") == "run_done" for part in rest)
        assert follow(whole[place].id, dones) == rest
    refused = httpx.get(f"{url}/threads/{thread}/stream", headers={"Last-Event-ID": "soon"})
    assert refused.status_code == 422 and "last-event-id" in refused.json()["detail"]


def test_a_reader_is_there_before_the_thread_and_hears_runs_that_others_began(url: str) -> None:
    thread, heard, opened = new_thread(), [], threading.Event()
    reader = threading.Thread(target=lambda: heard.extend(read(url, thread, ended, opened=opened)))
    reader.start()
    assert opened.wait(60)
    client = get_sync_client(url=url)
    client.threads.create(thread_id=thread)
    client.runs.wait(thread, "slow", input={})
    reader.join(60)
    assert [one["event"] for one in of(heard, "lifecycle")] == ["running", "completed"]
    assert of(heard, "values")[-1]["answers"] == ["waited"]


def test_the_stream_stays_and_beats(url: str) -> None:
    thread = new_thread()
    body = {"channels": ["lifecycle"]}
    began = time.monotonic()
    with httpx.stream("POST", f"{url}/threads/{thread}/stream/events", json=body, timeout=60) as answer:
        assert next(line for line in answer.iter_lines() if line) == ": heartbeat"
    assert 4 < time.monotonic() - began < 30


def test_an_ordinary_run_can_not_pose_as_one_of_event_streaming(url: str) -> None:
    client = get_sync_client(url=url)
    config = {"configurable": {"__event_streaming_v2": True}}
    parts = list(client.runs.stream(None, "slow", input={}, stream_mode="values", config=config))
    assert parts[-1].data["answers"] == ["waited"]


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("run.start", {"assistant_id": 7}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "config": []}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "multitaskStrategy": "maybe"}, "invalid_argument"),
        ("run.start", {"assistant_id": "none"}, "unknown_error"),
        ("input.respond", {"interrupt_id": "x"}, "invalid_argument"),
        ("input.respond", {"interrupt_id": "x", "response": 1}, "no_such_interrupt"),
        ("subscription.subscribe", {"channels": ["values"]}, "not_supported"),
        ("agent.getTree", {}, "no_such_run"),
        ("agent.getTree", {"run_id": "x"}, "invalid_argument"),
        ("state.get", {"namespace": "x"}, "invalid_argument"),
        ("state.listCheckpoints", {"limit": 0}, "invalid_argument"),
        ("state.fork", {"checkpoint_id": "x"}, "no_such_checkpoint"),
        ("state.fork", {}, "invalid_argument"),
        ("input.inject", {"namespace": [], "message": {"role": "user", "content": "x"}}, "not_supported"),
        ("state.put", {}, "unknown_command"),
    ],
)
def test_commands_that_can_not_be_followed_say_why(url: str, method: str, params: dict[str, Any], error: str) -> None:
    answer = command(url, new_thread(), method, **params)
    assert (answer["type"], answer["error"]) == ("error", error) and answer["message"], answer


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"channels": []},
        {"channels": ["bogus"]},
        {"channels": ["values"], "namespaces": [1]},
        {"channels": ["values"], "depth": -1},
        {"channels": ["values"], "since": "x"},
    ],
)
def test_what_can_not_be_read_is_refused(url: str, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{url}/threads/{new_thread()}/stream/events", json=body)
    assert answer.status_code == 400 and answer.json()["detail"]


def test_a_reader_hears_every_event_once_when_the_server_is_killed(
    serve: Callable[..., Server], project: Callable[..., Any]
) -> None:
    folder = project({"slow": "./graphs.py:slow"}, {"graphs.py": GRAPHS})
    server = serve(folder)
    thread = new_thread()
    start(server.url, thread, "slow", {"seconds": 4})
    before = read(server.url, thread, lambda event: event["params"]["data"] == {"payload": {"step": 4}})
    server.kill()
    server = serve(folder)
    after = read(server.url, thread, ended, since=before[-3]["seq"])
    assert after[:2] == before[-2:]
    heard = [*before[:-2], *after]
    seqs = [event["seq"] for event in heard]
    # The second attempt says which it is, in no channel.
    assert [here for here, there in zip(seqs, seqs[1:], strict=False) if there not in (here + 1, here + 2)] == []
    assert of(heard, "lifecycle") == [{"event": event, "graph_name": "slow"} for event in ("running", "completed")]
    assert read(server.url, thread, ended) == heard
    until(lambda: get_sync_client(url=server.url).threads.get(thread)["status"] == "idle", "the run goes on")
