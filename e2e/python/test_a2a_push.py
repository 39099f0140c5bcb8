"""Push notifications of tasks (A2A): kept with the state, sent until the receiver has them, proven by a token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from a2a.types import (
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    StreamResponse,
    TaskPushNotificationConfig,
    TaskState,
)
from conftest import Receiver, Server
from google.protobuf.json_format import ParseDict
from standardwebhooks.webhooks import Webhook
from test_a2a import VERSIONS, agents, call, message, place, sent, with_client, words

TOKEN = "t0ken-of-the-agent"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("push")
    server = Server(agents(folder / "project"), folder / "data")
    yield server
    assert TOKEN not in server.log()
    server.stop()


def told(receiver: Receiver) -> tuple[dict[str, str], Any]:
    _, headers, body = receiver.got.get(timeout=60)
    return headers, body


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_client_has_itself_notified(
    server: Server, version: str, receiver: Callable[..., Receiver]
) -> None:
    hook = receiver()
    config = TaskPushNotificationConfig(id="mine", url=hook.url, token=TOKEN)

    async def use(client: Any) -> Any:
        return await sent(client, words("hello"))

    task = with_client(server, "chat", version, use, streaming=False, push_notification_config=config)
    headers, body = told(hook)
    assert headers["x-a2a-notification-token"] == TOKEN
    if version == "1.0":
        pushed = ParseDict(body, StreamResponse(), ignore_unknown_fields=True).task
        assert (pushed.id, pushed.status.state) == (task.id, TaskState.TASK_STATE_COMPLETED)
        assert pushed.artifacts[0].parts[0].text == "echo: hello"
    else:
        assert (body["kind"], body["id"], body["status"]["state"]) == ("task", task.id, "completed")
        assert body["artifacts"][0]["parts"] == [{"kind": "text", "text": "echo: hello"}]


@pytest.mark.parametrize("version", VERSIONS)
def test_configs_are_kept_shown_and_deleted(server: Server, version: str, receiver: Callable[..., Receiver]) -> None:
    hook, gone = receiver(), receiver()

    async def use(client: Any) -> Any:
        task = await sent(client, words("hello"))
        made = []
        for name, to in (("kept", hook), ("gone", gone)):
            config = TaskPushNotificationConfig(task_id=task.id, id=name, url=to.url, token=TOKEN)
            made.append(await client.create_task_push_notification_config(config))
        got = await client.get_task_push_notification_config(
            GetTaskPushNotificationConfigRequest(task_id=task.id, id="kept")
        )
        listed = await client.list_task_push_notification_configs(
            ListTaskPushNotificationConfigsRequest(task_id=task.id)
        )
        await client.delete_task_push_notification_config(
            DeleteTaskPushNotificationConfigRequest(task_id=task.id, id="gone")
        )
        answered = await sent(client, words("Bob", task_id=task.id, context_id=task.context_id))
        return task, made, got, listed, answered

    task, made, got, listed, answered = with_client(server, "asker", version, use, streaming=False)
    assert [it.id for it in made] == ["kept", "gone"]
    assert {it.id for it in listed.configs} == {"kept", "gone"}
    assert (got.task_id, got.url, got.token) == (task.id, hook.url, ""), "the token is for the receiver alone"
    assert answered.id == task.id
    body = told(hook)[1]
    pushed = body["task"] if version == "1.0" else body
    assert pushed["id"] == task.id and "completed" in pushed["status"]["state"].lower()
    assert gone.got.empty()


def test_a_task_that_asks_is_told_and_signed(server: Server, receiver: Callable[..., Receiver]) -> None:
    hook = receiver(500)
    config = {
        "url": hook.url,
        "token": TOKEN,
        "authentication": {"schemes": ["Bearer"], "credentials": "secret-credentials"},
    }
    asks = message("hi") | {"configuration": {"pushNotificationConfig": config}}
    task = call(place(server, "asker"), "message/send", asks)["result"]
    for attempt in ("1", "2"):
        _, headers, body = hook.raw.get(timeout=60)
        assert headers["webhook-attempt"] == attempt
        assert headers["authorization"] == "Bearer secret-credentials"
    origin = hook.url.split("/hook")[0]
    secret = httpx.get(f"{server.url}/webhooks/secret", params={"origin": origin}).json()
    pushed = Webhook(secret["key"]).verify(body, headers)
    assert (pushed["id"], pushed["status"]["state"]) == (task["id"], "input-required")
    run = task["id"].replace(":", "/runs/")
    deliveries = httpx.get(f"{server.url}/threads/{run}/deliveries").text
    assert "task.input-required" in deliveries
    assert TOKEN not in deliveries and "secret-credentials" not in deliveries


def test_a_notification_survives_that_the_server_is_killed(serve: Any, tmp_path: Any, receiver: Any) -> None:
    project = agents(tmp_path / "project")
    server = serve(project, THREADYARD_KILL_AT="finish.committed")
    hook = receiver()
    config = {"url": hook.url, "token": TOKEN}
    begins = message("hi") | {"configuration": {"blocking": False, "pushNotificationConfig": config}}
    url = place(server, "chat")
    try:
        task = call(url, "message/send", begins)["result"]["id"]
    except httpx.TransportError:
        task = None
    server.process.wait(60)
    assert hook.got.empty(), "it died before it could tell anybody"
    serve(project)
    headers, body = told(hook)
    assert headers["x-a2a-notification-token"] == TOKEN
    assert body["status"]["state"] == "completed"
    assert task in (None, body["id"])


def test_a_config_survives_that_the_server_is_killed(serve: Any, tmp_path: Any, receiver: Any) -> None:
    project = agents(tmp_path / "project")
    server = serve(project)
    hook = receiver()
    task = call(place(server, "asker"), "message/send", message("hi"))["result"]
    config = {"taskId": task["id"], "pushNotificationConfig": {"id": "c", "url": hook.url, "token": TOKEN}}
    assert call(place(server, "asker"), "tasks/pushNotificationConfig/set", config)["result"]["taskId"] == task["id"]
    server.kill()
    server = serve(project)
    goes_on = message("Bob", taskId=task["id"], contextId=task["contextId"])
    assert call(place(server, "asker"), "message/send", goes_on)["result"]["status"]["state"] == "completed"
    headers, body = told(hook)
    assert (headers["x-a2a-notification-token"], body["id"]) == (TOKEN, task["id"])
    httpx.delete(f"{server.url}/threads/{task['contextId']}").raise_for_status()
    answer = call(place(server, "asker"), "tasks/pushNotificationConfig/get", {"id": task["id"]})
    assert answer["error"]["code"] == -32001


def test_nobody_is_notified_where_webhooks_are_disabled(serve: Any, tmp_path: Any) -> None:
    project = agents(tmp_path / "project")
    config = json.loads((project / "langgraph.json").read_text()) | {"http": {"disable_webhooks": True}}
    (project / "langgraph.json").write_text(json.dumps(config))
    server = serve(project)
    url = place(server, "chat")
    assert httpx.get(url).json()["capabilities"]["pushNotifications"] is False
    target = {"url": "http://127.0.0.1:9/x"}
    begins = message("hi") | {"configuration": {"pushNotificationConfig": target}}
    assert call(url, "message/send", begins)["error"]["code"] == -32003
    task = call(url, "message/send", message("hi"))["result"]["id"]
    wanted = {"taskId": task, "pushNotificationConfig": target}
    assert call(url, "tasks/pushNotificationConfig/set", wanted)["error"]["code"] == -32003


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (None, -32602),
        ("x", -32602),
        ({}, -32602),
        ({"url": 5}, -32602),
        ({"url": "not a url"}, -32602),
        ({"url": "ftp://example.com/x"}, -32602),
        ({"url": "http://169.254.169.254/"}, -32602),
        ({"url": "http://example.com", "token": 5}, -32602),
        ({"url": "http://example.com", "token": "a\nb"}, -32602),
        ({"url": "http://example.com", "id": "x" * 129}, -32602),
        ({"url": "http://example.com", "authentication": "x"}, -32602),
        ({"url": "http://example.com", "authentication": {"schemes": ["Bearer"]}}, -32602),
        ({"url": "http://example.com", "authentication": {"credentials": "x"}}, -32602),
    ],
)
def test_wrong_configs_are_refused(server: Server, config: Any, code: int) -> None:
    url = place(server, "chat")
    task = call(url, "message/send", message("hi"))["result"]["id"]
    wanted = {"taskId": task, "pushNotificationConfig": config}
    assert call(url, "tasks/pushNotificationConfig/set", wanted)["error"]["code"] == code
    assert call(url, "tasks/pushNotificationConfig/list", {"id": task})["result"] == []
    if config is not None:
        begins = message("hi") | {"configuration": {"pushNotificationConfig": config}}
        assert call(url, "message/send", begins)["error"]["code"] == code


def test_configs_of_unknown_tasks_are_not_found(server: Server) -> None:
    url = place(server, "chat")
    task = call(url, "message/send", message("hi"))["result"]["id"]
    target = {"url": "http://example.com"}
    other = place(server, "talker")
    for at, method, params in [
        (url, "tasks/pushNotificationConfig/set", {"taskId": "x", "pushNotificationConfig": target}),
        (other, "tasks/pushNotificationConfig/set", {"taskId": task, "pushNotificationConfig": target}),
        (other, "tasks/pushNotificationConfig/list", {"id": task}),
        (url, "tasks/pushNotificationConfig/get", {"id": task}),
        (url, "tasks/pushNotificationConfig/delete", {"id": task, "pushNotificationConfigId": "x"}),
        (url, "DeleteTaskPushNotificationConfig", {"taskId": task, "id": "x"}),
    ]:
        assert call(at, method, params)["error"]["code"] == -32001, method


def test_the_token_is_in_no_answer(server: Server, receiver: Callable[..., Receiver]) -> None:
    hook = receiver()
    begins = message("hi") | {"configuration": {"pushNotificationConfig": {"url": hook.url, "token": TOKEN}}}
    task = call(place(server, "chat"), "message/send", begins)["result"]["id"]
    told(hook)
    thread = task.split(":")[0]
    for shown in (f"/threads/{thread}", f"/threads/{thread}/runs", f"/threads/{thread}/state"):
        assert TOKEN not in httpx.get(server.url + shown).text
    assert TOKEN not in httpx.post(f"{server.url}/webhooks/deliveries/search", json={}).text
