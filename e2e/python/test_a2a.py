"""Assistants as agents, with the official client of A2A in both versions of the protocol, and by hand."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.helpers import proto_helpers as say
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from conftest import Server, write_project
from langgraph_sdk import get_sync_client

GRAPHS = """
import asyncio
from pathlib import Path
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(MessagesState, total=False):
    n: int
    answers: Any


class Plain(TypedDict, total=False):
    topic: str
    joke: str


class Slow(GenericFakeChatModel):
    gate: str

    async def _astream(self, *args, **options):
        async for chunk in super()._astream(*args, **options):
            yield chunk
            while not Path(self.gate).exists():
                await asyncio.sleep(0.02)


async def echo(state: State):
    last = state["messages"][-1].content
    if last == "boom":
        raise ValueError("what is secret")
    if last == "long":
        await asyncio.sleep(600)
    return {"messages": [AIMessage("echo: " + (last if isinstance(last, str) else repr(last)))]}


async def talk(state: State):
    gate = state["messages"][-1].content
    model = Slow(messages=iter([AIMessage("one two three four")]), gate=gate)
    return {"messages": [await model.ainvoke(state["messages"])]}


async def ask(state: State):
    name = interrupt("What is your name?")
    return {"messages": [AIMessage(f"hi {name}")]}


async def first(state: State):
    return {"answers": interrupt("a?")}


async def second(state: State):
    return {"n": interrupt("b?")}


async def joke(state: Plain):
    return {"joke": "about " + state["topic"]}


chat = StateGraph(State).add_node(echo).add_edge(START, "echo").compile()
talker = StateGraph(State).add_node(talk).add_edge(START, "talk").compile()
asker = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
two = StateGraph(State).add_node(first).add_node(second).add_edge(START, "first").add_edge(START, "second").compile()
plain = StateGraph(Plain).add_node(joke).add_edge(START, "joke").compile()
"""
VERSIONS = ["1.0", "0.3"]
JSON = {"accept": "application/json, text/event-stream"}


def agents(folder: Any) -> Any:
    graphs: dict[str, Any] = {name: f"./graphs.py:{name}" for name in ("talker", "asker", "two", "plain")}
    graphs["chat"] = {"path": "./graphs.py:chat", "description": "Says it again"}
    folder.mkdir()
    return write_project(folder, graphs, {"graphs.py": GRAPHS})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("a2a")
    server = Server(agents(folder / "project"), folder / "data")
    yield server
    server.stop()


def id_of(server: Server, graph: str) -> str:
    return get_sync_client(url=server.url).assistants.search(graph_id=graph)[0]["assistant_id"]


def place(server: Server, graph: str) -> str:
    return f"{server.url}/a2a/{id_of(server, graph)}"


def with_client(
    server: Server,
    graph: str,
    version: str,
    use: Callable[[Client], Awaitable[Any]],
    **config: Any,
) -> Any:
    """Uses the official client, made from the agent's card, as one that knows this version only."""

    async def connected() -> Any:
        async with httpx.AsyncClient(timeout=60) as http:
            card = await A2ACardResolver(http, place(server, graph)).get_agent_card()
            known = [it for it in card.supported_interfaces if it.protocol_version == version]
            del card.supported_interfaces[:]
            card.supported_interfaces.extend(known)
            return await use(ClientFactory(ClientConfig(httpx_client=http, **config)).create(card))

    return asyncio.run(asyncio.wait_for(connected(), 60))


async def told(client: Client, message: Any) -> list[Any]:
    return [event async for event in client.send_message(SendMessageRequest(message=message))]


async def sent(client: Client, message: Any) -> Task:
    (event,) = await told(client, message)
    return event.task


def words(message: str, **more: Any) -> Any:
    made = say.new_text_message(message, role=1)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def answer_of(task: Task) -> str:
    return say.get_artifact_text(task.artifacts[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_is_a_task_and_a_context_a_thread(server: Server, version: str) -> None:
    async def use(client: Client) -> Any:
        first = await sent(client, words("hello"))
        second = await sent(client, words("again", context_id=first.context_id))
        again = await client.get_task(GetTaskRequest(id=first.id))
        short = await client.get_task(GetTaskRequest(id=second.id, history_length=1))
        return first, second, again, short

    first, second, again, short = with_client(server, "chat", version, use, streaming=False)
    assert first.status.state == TaskState.TASK_STATE_COMPLETED
    assert answer_of(first) == "echo: hello"
    assert [say.get_message_text(it) for it in first.history] == ["hello", "echo: hello"]
    assert first.id.startswith(f"{first.context_id}:")
    thread = get_sync_client(url=server.url).threads.get(first.context_id)
    assert [it["content"] for it in thread["values"]["messages"]][-1] == "echo: again"
    assert (second.context_id, len(second.history), answer_of(second)) == (first.context_id, 4, "echo: again")
    assert [say.get_message_text(it) for it in again.history] == ["hello", "echo: hello"], "as it was then"
    assert answer_of(again) == "echo: hello"
    assert [say.get_message_text(it) for it in short.history] == ["echo: again"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_tells_what_is_said_and_what_came_of_it(server: Server, version: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def use(client: Client) -> Any:
        heard = []
        async for event in client.send_message(SendMessageRequest(message=words(str(gate)))):
            heard.append(event)
            # The rest is said when the first word was heard.
            if len(heard) == 2:
                gate.touch()
        return heard

    events = with_client(server, "talker", version, use)
    assert events[0].task.status.state == TaskState.TASK_STATE_SUBMITTED
    assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert say.get_artifact_text(events[-2].artifact_update.artifact) == "one two three four"
    said = [say.get_message_text(it.status_update.status.message) for it in events[1:-2]]
    assert len(said) > 1
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(said))
    assert said[-1] == "one two three four"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_task_asks_and_goes_on_with_the_answer(server: Server, version: str) -> None:
    async def use(client: Client) -> Any:
        asked = await sent(client, words("hello"))
        done = await sent(client, words("Bob", task_id=asked.id, context_id=asked.context_id))
        return asked, done, await client.get_task(GetTaskRequest(id=asked.id))

    asked, done, again = with_client(server, "asker", version, use, streaming=False)
    assert asked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    assert say.get_message_text(asked.status.message) == "What is your name?"
    assert say.get_data_parts(asked.artifacts[0].parts)[0]["value"] == "What is your name?"
    for task in (done, again):
        assert (task.id, task.status.state) == (asked.id, TaskState.TASK_STATE_COMPLETED)
        assert answer_of(task) == "hi Bob"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_running_task_is_canceled_and_listened_to_again(server: Server, version: str) -> None:
    async def begin(client: Client) -> Any:
        return await sent(client, words("long"))

    async def cancel(client: Client) -> Any:
        heard = []
        async for event in client.subscribe(SubscribeToTaskRequest(id=begun.id)):
            heard.append(event)
            if len(heard) == 1:
                stopped = await client.cancel_task(CancelTaskRequest(id=begun.id))
        return stopped, heard

    begun = with_client(server, "chat", version, begin, streaming=False, polling=True)
    assert begun.status.state == TaskState.TASK_STATE_SUBMITTED
    stopped, heard = with_client(server, "chat", version, cancel)
    assert stopped.status.state == TaskState.TASK_STATE_CANCELED
    assert heard[0].task.id == begun.id
    assert heard[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED


def test_tasks_are_listed_by_the_newest_client(server: Server) -> None:
    async def use(client: Client) -> Any:
        first = await sent(client, words("one"))
        await sent(client, words("two", context_id=first.context_id))
        request = ListTasksRequest(context_id=first.context_id, page_size=1)
        page = await client.list_tasks(request)
        request.page_token = page.next_page_token
        rest = await client.list_tasks(request)
        failed = ListTasksRequest(context_id=first.context_id, status=TaskState.TASK_STATE_FAILED)
        return page, rest, await client.list_tasks(failed), await client.list_tasks(ListTasksRequest())

    page, rest, failed, everything = with_client(server, "chat", "1.0", use, streaming=False)
    assert (page.total_size, rest.next_page_token, failed.total_size) == (2, "", 0)
    assert say.get_message_text(page.tasks[0].history[-1]) == "echo: two"
    assert say.get_message_text(rest.tasks[0].history[-1]) == "echo: one"
    assert everything.total_size > 2


def test_a_lost_stream_is_taken_up_behind_the_last_event(server: Server, tmp_path: Path) -> None:
    url, gate = place(server, "talker"), tmp_path / "gate"
    with httpx.stream("POST", url, json=request("message/stream", message(str(gate))), headers=JSON) as answer:
        events = server_sent(answer.iter_lines())
        task = next(events)[1]["result"]["id"]
        last, said = next(events)
    before = said["result"]["status"]["message"]["parts"][0]["text"]
    resubscribe = request("tasks/resubscribe", {"id": task})
    with httpx.stream("POST", url, json=resubscribe, headers=JSON | {"last-event-id": last}) as answer:
        events = server_sent(answer.iter_lines())
        (_, first) = next(events)
        gate.touch()
        rest = list(events)
    assert first["result"]["id"] == task
    texts = [it["result"]["status"]["message"]["parts"][0]["text"] for place, it in rest if place is not None]
    assert texts[-1] == "one two three four"
    assert all(len(text) > len(before) and text.startswith(before) for text in texts)
    assert rest[-1][1]["result"]["final"]
    # Whoever comes after the end hears how it ended.
    with httpx.stream("POST", url, json=resubscribe, headers=JSON) as answer:
        over = [it["result"] for _, it in server_sent(answer.iter_lines())]
    assert [it["kind"] for it in over] == ["task", "status-update"]
    assert call(url, "SubscribeToTask", {"id": task})["error"]["code"] == -32004


def test_parts_become_messages_and_channels(server: Server) -> None:
    url = place(server, "chat")
    text, data = {"kind": "text", "text": "hi"}, {"kind": "data", "data": {"n": 5}}
    png = {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "image/png", "name": "a.png"}}
    task = call(url, "message/send", message(parts=[text, data, {"kind": "text", "text": "there"}]))["result"]
    values = get_sync_client(url=server.url).threads.get(task["contextId"])["values"]
    assert (values["n"], values["messages"][0]["content"]) == (5, "hi\nthere")
    task = call(url, "message/send", message(parts=[text, png]))["result"]
    values = get_sync_client(url=server.url).threads.get(task["contextId"])["values"]
    block = {"type": "image", "base64": "aGk=", "mime_type": "image/png", "extras": {"filename": "a.png"}}
    assert values["messages"][0]["content"] == [{"type": "text", "text": "hi"}, block]
    assert task["history"][0]["parts"] == [text, png]
    newer = [{"text": "hi"}, {"raw": "aGk=", "mediaType": "image/png", "filename": "a.png"}]
    sent = {"message": {"role": "ROLE_USER", "parts": newer, "messageId": "m"}}
    assert call(url, "SendMessage", sent)["result"]["task"]["history"][0]["parts"] == newer
    plain = place(server, "plain")
    task = call(plain, "message/send", message(parts=[{"kind": "data", "data": {"topic": "cats"}}]))["result"]
    assert task["artifacts"][0]["parts"][0]["data"]["joke"] == "about cats"
    assert call(plain, "message/send", message("hi"))["error"]["code"] == -32602


def test_several_questions_are_answered_by_their_ids(server: Server) -> None:
    url = place(server, "two")
    task = call(url, "message/send", message("go"))["result"]
    ids = {it["parts"][0]["data"]["value"]: it["artifactId"] for it in task["artifacts"]}
    goes_on = {"taskId": task["id"], "contextId": task["contextId"]}
    for parts in ([{"kind": "text", "text": "x"}], [{"kind": "data", "data": {ids["a?"]: 1}}]):
        assert call(url, "message/send", message(parts=parts, **goes_on))["error"]["code"] == -32602
    answers = [{"kind": "data", "data": {ids["a?"]: {"x": 1}, ids["b?"]: 2}}]
    done = call(url, "message/send", message(parts=answers, **goes_on))["result"]
    assert done["status"]["state"] == "completed"
    values = get_sync_client(url=server.url).threads.get(task["contextId"])["values"]
    assert (values["answers"], values["n"]) == ({"x": 1}, 2)


def test_failures_are_tasks_that_failed(server: Server) -> None:
    task = call(place(server, "chat"), "message/send", message("boom"))["result"]
    assert task["status"]["state"] == "failed"
    assert task["status"]["message"]["parts"][0]["text"] == "Error executing assistant: ValueError"
    assert "secret" not in json.dumps(task)


def test_what_nobody_answers_can_be_canceled_or_is_passed_over(server: Server) -> None:
    url = place(server, "asker")
    for leave in ("cancel", "pass"):
        task = call(url, "message/send", message("hello"))["result"]
        if leave == "cancel":
            assert call(url, "tasks/cancel", {"id": task["id"]})["result"]["status"]["state"] == "canceled"
        else:
            call(url, "message/send", message("something else", contextId=task["contextId"]))
        assert call(url, "tasks/get", {"id": task["id"]})["result"]["status"]["state"] == "canceled"
        assert call(url, "message/send", message("Bob", taskId=task["id"]))["error"]["code"] == -32004


def test_cards_say_where_the_agent_is(server: Server) -> None:
    assistant = id_of(server, "chat")
    url = place(server, "chat")
    for shown in (
        url,
        f"{url}/.well-known/agent-card.json",
        f"{url}/.well-known/agent.json",
        f"{server.url}/.well-known/agent-card.json?assistant_id={assistant}",
    ):
        card = httpx.get(shown).json()
        assert (card["name"], card["description"], card["url"]) == ("chat", "Says it again", url)
    elsewhere = httpx.get(url, headers={"host": "agents.example:81"}).json()
    assert elsewhere["url"] == f"http://agents.example:81/a2a/{assistant}"
    for unknown in ("", "?assistant_id=chat", f"?assistant_id={uuid.uuid4()}"):
        answer = httpx.get(f"{server.url}/.well-known/agent-card.json{unknown}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


def test_a_history_can_be_that_of_the_task_alone(server: Server) -> None:
    url = place(server, "chat")
    first = call(url, "message/send", message("one"))["result"]
    second = call(url, "message/send", message("two", contextId=first["contextId"]))["result"]
    scope = {"LangGraph-A2A-History-Scope": "task"}
    own = call(url, "tasks/get", {"id": second["id"]}, scope)["result"]["history"]
    assert [it["parts"][0]["text"] for it in own] == ["two", "echo: two"]
    assert call(url, "tasks/get", {"id": second["id"]}, {"LangGraph-A2A-History-Scope": "x"})["error"]["code"] == -32602


def request(method: str, params: Any) -> Any:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(url: str, method: str, params: Any, headers: Any = None) -> Any:
    answer = httpx.post(url, json=request(method, params), headers=JSON | (headers or {}), timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def message(text: str = "hi", parts: Any = None, **more: Any) -> Any:
    parts = parts or [{"kind": "text", "text": text}]
    return {"message": {"role": "user", "parts": parts, "messageId": uuid.uuid4().hex, **more}}


def server_sent(lines: Iterator[str]) -> Iterator[tuple[str | None, Any]]:
    event: dict[str, str] = {}
    for line in lines:
        if not line and "data" in event:
            yield event.get("id"), json.loads(event["data"])
            event = {}
        name, _, value = line.partition(": ")
        event[name] = value


GOOD = {"role": "user", "parts": [{"kind": "text", "text": "x"}], "messageId": "m"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("nope", -32700),
        ("", -32700),
        ("[]", -32600),
        ("null", -32600),
        ('{"id":1,"method":"tasks/get"}', -32600),
        ('{"jsonrpc":"2.0","method":"message/send","params":{}}', -32600),
        ('{"jsonrpc":"2.0","id":{},"method":"tasks/get"}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":5}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"bogus"}', -32601),
        ('{"jsonrpc":"2.0","id":1,"method":"message/send","params":[1]}', -32602),
    ],
)
def test_what_is_no_call_is_refused(server: Server, body: str, code: int) -> None:
    answer = httpx.post(place(server, "chat"), content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("message/send", {}, -32602),
        ("message/send", {"message": "x"}, -32602),
        ("message/send", {"message": {}}, -32602),
        ("message/send", {"message": GOOD | {"messageId": 5}}, -32602),
        ("message/send", {"message": GOOD | {"role": "bogus"}}, -32602),
        ("message/send", {"message": GOOD | {"parts": []}}, -32602),
        ("message/send", {"message": GOOD | {"parts": "x"}}, -32602),
        ("message/send", {"message": GOOD | {"parts": [5]}}, -32005),
        ("message/send", {"message": GOOD | {"parts": [{"kind": "bogus"}]}}, -32005),
        ("message/send", {"message": GOOD | {"parts": [{"kind": "data", "data": [1]}]}}, -32005),
        ("message/send", {"message": GOOD | {"parts": [{"kind": "file", "file": {}}]}}, -32005),
        ("message/send", {"message": GOOD | {"contextId": "x"}}, -32602),
        ("message/send", {"message": GOOD | {"contextId": 5}}, -32602),
        ("message/send", {"message": GOOD | {"taskId": "x"}}, -32001),
        ("message/send", {"message": GOOD | {"taskId": 5}}, -32602),
        ("message/send", {"message": GOOD | {"taskId": f"{uuid.uuid4()}:{uuid.uuid4()}"}}, -32001),
        ("message/send", {"message": GOOD, "configuration": "x"}, -32602),
        ("message/send", {"message": GOOD, "configuration": {"blocking": "x"}}, -32602),
        ("message/send", {"message": GOOD, "configuration": {"historyLength": -1}}, -32602),
        ("message/send", {"message": GOOD, "metadata": []}, -32602),
        ("message/stream", {}, -32602),
        ("tasks/get", {}, -32602),
        ("tasks/get", {"id": 5}, -32602),
        ("tasks/get", {"id": "x"}, -32001),
        ("tasks/get", {"id": f"{uuid.uuid4()}:{uuid.uuid4()}"}, -32001),
        ("tasks/cancel", {"id": "x"}, -32001),
        ("tasks/resubscribe", {"id": "x"}, -32001),
        ("ListTasks", {"pageSize": 0}, -32602),
        ("ListTasks", {"pageSize": 101}, -32602),
        ("ListTasks", {"pageToken": "x"}, -32602),
        ("ListTasks", {"contextId": "x"}, -32602),
        ("ListTasks", {"status": "x"}, -32602),
        ("ListTasks", {"statusTimestampAfter": "x"}, -32602),
        ("ListTasks", {"includeArtifacts": "x"}, -32602),
    ],
)
def test_wrong_params_are_refused(server: Server, method: str, params: Any, code: int) -> None:
    assert call(place(server, "chat"), method, params)["error"]["code"] == code


def test_there_is_nothing_behind_the_last_page(server: Server) -> None:
    page = call(place(server, "chat"), "ListTasks", {"pageToken": str(2**32 - 1)})["result"]
    assert (page["tasks"], page["nextPageToken"]) == ([], "")
    assert call(place(server, "chat"), "ListTasks", {"pageToken": str(2**64 - 1)})["error"]["code"] == -32602


def test_only_the_own_tasks_of_an_agent_are_told(server: Server) -> None:
    task = call(place(server, "chat"), "message/send", message("hi"))["result"]
    other = place(server, "talker")
    assert call(other, "tasks/get", {"id": task["id"]})["error"]["code"] == -32001
    assert call(other, "tasks/cancel", {"id": task["id"]})["error"]["code"] == -32001
    elsewhere = {"id": task["id"], "contextId": str(uuid.uuid4())}
    assert call(place(server, "chat"), "tasks/get", elsewhere)["error"]["code"] == -32001
    for assistant in ("chat", str(uuid.uuid4())):
        answer = httpx.post(f"{server.url}/a2a/{assistant}", json=request("tasks/get", {"id": "x"}), headers=JSON)
        assert answer.json()["error"]["code"] == -32602


def test_clients_say_what_they_accept(server: Server) -> None:
    url = place(server, "chat")
    for accept, method, status in [
        ("text/plain", "message/send", 400),
        ("*/*", "message/send", 200),
        ("application/json", "message/stream", 400),
        ("text/event-stream", "message/stream", 200),
    ]:
        answer = httpx.post(url, json=request(method, message("hi")), headers={"accept": accept}, timeout=60)
        assert answer.status_code == status, accept
    assert httpx.delete(url).status_code == 405
