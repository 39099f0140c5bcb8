"""The user's auth handlers: what they are given, and what becomes of what they answer."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from fake_host import CallFailed, FakeHost
from threadyard_worker.user import user_of


def _request(authorization: str | None, body: bytes | None = None) -> dict[str, Any]:
    headers = {"x-odd": "ü".encode("latin-1")}
    if authorization is not None:
        headers["authorization"] = authorization.encode()
    encoded = [[name, base64.b64encode(value).decode()] for name, value in headers.items()]
    return {
        "method": "GET", "path": "/threads/1", "path_params": {"thread_id": "1"}, "query": "a=1&b=", "headers": encoded,
        "body": None if body is None else base64.b64encode(body).decode(),
    }  # fmt: skip


async def _decide(host: FakeHost, resource: str, action: str, **value: Any) -> Any:
    user = {"identity": "ann", "permissions": ["p"], "org": 1}
    return await host.call("authorize", None, user=user, resource=resource, action=action, value=value)


def test_who_calls_is_what_the_handler_says(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert (await host.ready)["auth"] == {"ok": True, "body": False}
        answer = await host.call("authenticate", None, **_request("ann"))
        seen = ["ü", {"a": "1", "b": ""}, {"thread_id": "1"}, "GET"]
        assert answer["user"] == {
            "identity": "ann", "seen": seen, "permissions": [], "is_authenticated": True, "display_name": "ann",
        }  # fmt: skip
        answer = await host.call("authenticate", None, **_request("object"))
        expected = {"identity": "o", "display_name": "O", "permissions": ["p"], "is_authenticated": True}
        assert answer["user"] == expected
        answer = await host.call("authenticate", None, **_request("slots"))
        expected = {"identity": "slim", "display_name": "slim", "permissions": [], "is_authenticated": True, "org": {"id": 7}}
        assert answer["user"] == expected
        answer = await host.call("authenticate", None, **_request(None))
        assert answer == {"refused": {"status": 401, "detail": "who are you?", "headers": [["x", "y"]]}}
        answer = await host.call("authenticate", None, **_request("teapot"))
        assert answer == {"refused": {"status": 418, "detail": "{'why': 'tea'}", "headers": []}}

    with_worker(scenario, {}, auth={"path": "./guard.py:auth"})


def test_what_is_no_list_permits_nothing() -> None:
    for permissions in ("admin", {"admin": True}, 7, None):
        assert user_of({"identity": "ann", "permissions": permissions})["permissions"] == []
    assert user_of({"identity": "ann", "permissions": ("a", "b")})["permissions"] == ["a", "b"]


def test_a_handler_that_blocks_holds_nobody_up(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        slow = asyncio.ensure_future(host.call("authenticate", None, **_request("slow")))
        # It is asked first, and waits for the other one.
        await asyncio.sleep(0)
        assert (await host.call("authenticate", None, **_request("quick")))["user"]["identity"] == "quick"
        assert (await slow)["user"]["identity"] == "slow"

    with_worker(scenario, {}, auth={"path": "./guard.py:blocking"})


def test_what_fails_is_told_without_what_the_caller_sent(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        for authorization, error in (("secret-123", "ValueError"), ("nothing", "TypeError"), ("fine", "HTTPException")):
            with pytest.raises(CallFailed) as failed:
                await host.call("authenticate", None, **_request(authorization))
            assert failed.value.body["error"] == error
            assert "secret-123" not in str(failed.value.body)
            assert ".py" in failed.value.body["traceback"]
        with pytest.raises(CallFailed):
            await _decide(host, "crons", "read")
        for part, why in (("instance", "Slim"), ("integer", "64-bit"), ("surrogate", "surrogates")):
            with pytest.raises(CallFailed) as failed:
                await host.call("authenticate", None, **_request(part))
            assert why in failed.value.body["message"], part

    with_worker(scenario, {}, auth={"path": "./guard.py:auth"})


def test_the_most_particular_handler_decides(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert await _decide(host, "assistants", "read") == {"edits": {}, "filter": None}
        assert await _decide(host, "threads", "read", thread_id="1") == {"edits": {}, "filter": {"owner": "ann"}}
        created = await _decide(host, "threads", "create", thread_id="1", metadata={"a": 1})
        assert created == {"edits": {"metadata": {"a": 1, "owner": "ann", "by": ["p"]}}, "filter": None}
        assert await _decide(host, "threads", "delete") == {"refused": {"status": 403, "detail": "Forbidden", "headers": []}}
        assert await _decide(host, "threads", "update") == {"refused": {"status": 403, "detail": "hands off", "headers": []}}
        put = await _decide(host, "store", "put", namespace=["n"], key="k", value={"v": 1})
        assert put == {"edits": {"namespace": ["ann", "n"]}, "filter": None}

    with_worker(scenario, {}, auth={"path": "./guard.py:auth"})


def test_what_no_handler_looks_at_can_be_refused(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert (await host.call("authenticate", None, **_request(None)))["user"]["identity"] == "someone"
        assert await _decide(host, "threads", "read") == {"edits": {}, "filter": None}
        assert await _decide(host, "threads", "update") == {"refused": {"status": 403, "detail": "Forbidden", "headers": []}}

    with_worker(scenario, {}, auth={"path": "./guard.py:closed", "deny": True})


def test_bodies_are_there_for_handlers_that_ask(with_worker) -> None:
    pytest.importorskip("starlette")

    async def scenario(host: FakeHost) -> None:
        assert (await host.ready)["auth"] == {"ok": True, "body": True}
        asked = {**_request(None, b'{"name": "ann"}'), "client": ["198.51.100.7", 1], "scheme": "https"}
        user = (await host.call("authenticate", None, **asked))["user"]
        assert (user["identity"], user["seen"], user["method"]) == ("ann", {"name": "ann"}, "GET")
        assert (user["x"], user["from"]) == ("ü", ["198.51.100.7", "https"])

    with_worker(scenario, {}, auth={"path": "./guard.py:curious"})


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("./guard.py:nobody", "@auth.authenticate"),
        ("./guard.py:Odd", "expected a `langgraph_sdk.Auth`"),
        ("./guard.py:strange", "`weather`"),
        ("./guard.py:gone", "no `gone`"),
    ],
)
def test_what_is_no_auth_object_is_reported(with_worker, path: str, word: str) -> None:
    async def scenario(host: FakeHost) -> None:
        report = (await host.ready)["auth"]
        assert not report["ok"]
        assert word in report["error"]["message"]

    with_worker(scenario, {}, auth={"path": path})


def test_nodes_see_the_user(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        user = {"identity": "ann", "org": {"id": 1}, "permissions": ["p"]}
        _, end = await host.run("greeting", input={}, config={"configurable": {"langgraph_auth_user": user}})
        assert end["values"] == {"x": ["ann", 1, ["p"], "ann"]}

    with_worker(scenario, {"greeting": "./greeting.py:make"})
