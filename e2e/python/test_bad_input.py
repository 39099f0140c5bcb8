"""Input that no client should send: each gets a precise answer, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import ROOT, Server
from langgraph_sdk import get_sync_client

NUL = "a\x00b"
DEEP = b"[" * 10_000 + b"]" * 10_000
DEEP_OBJECT = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
BIG = "x" * (30 << 20)
MISSING = "00000000-0000-4000-8000-000000000000"

# Every route with a body, and a body that it takes.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "/assistants": ("POST", {"graph_id": "noter"}),
    "/assistants/search": ("POST", {}),
    "/assistants/count": ("POST", {}),
    "/assistants/{assistant}": ("PATCH", {"name": "a"}),
    "/assistants/{assistant}/versions": ("POST", {}),
    "/assistants/{assistant}/latest": ("POST", {"version": 1}),
    "/threads": ("POST", {}),
    "/threads/search": ("POST", {}),
    "/threads/count": ("POST", {}),
    "/threads/prune": ("POST", {"thread_ids": []}),
    "/threads/{thread}": ("PATCH", {"metadata": {}}),
    "/threads/{thread}/state": ("POST", {"values": None, "as_node": "review"}),
    "/threads/{thread}/state/checkpoint": ("POST", {"checkpoint": {}}),
    "/threads/{thread}/history": ("POST", {}),
    "/threads/{thread}/runs": ("POST", {"assistant_id": "review", "after_seconds": 3600}),
    "/threads/{thread}/runs/crons": ("POST", {"assistant_id": "review", "schedule": "0 0 1 1 *"}),
    "/threads/{thread}/runs/stream": ("POST", {"assistant_id": "review", "input": {"topic": "a"}}),
    "/threads/{thread}/runs/wait": ("POST", {"assistant_id": "review", "input": {"topic": "a"}}),
    "/runs": ("POST", {"assistant_id": "review", "after_seconds": 3600}),
    "/runs/stream": ("POST", {"assistant_id": "review", "input": {"topic": "a"}}),
    "/runs/wait": ("POST", {"assistant_id": "review", "input": {"topic": "a"}}),
    "/runs/cancel": ("POST", {"thread_id": MISSING, "run_ids": []}),
    "/runs/crons": ("POST", {"assistant_id": "review", "schedule": "0 0 1 1 *"}),
    "/runs/crons/search": ("POST", {}),
    "/runs/crons/count": ("POST", {}),
    "/store/items": ("PUT", {"namespace": ["a"], "key": "k", "value": {}}),
    "/store/items/search": ("POST", {"namespace_prefix": []}),
    "/store/namespaces": ("POST", {}),
    "/webhooks/deliveries/search": ("POST", {}),
    "/webhooks/deliveries/count": ("POST", {}),
    "/webhooks/recover": ("POST", {"until": "2020-01-01T00:00:00Z"}),
    "/webhooks/secret/rotate": ("POST", {"grace_seconds": 10}),
}


class Api:
    """Sends bytes as they are."""

    def __init__(self, url: str) -> None:
        client = get_sync_client(url=url)
        thread = client.threads.create()["thread_id"]
        assistant = client.assistants.create("review")["assistant_id"]
        self._ids = {"thread": thread, "assistant": assistant}
        self._http = httpx.Client(base_url=url, timeout=60)

    def send(self, path: str, body: bytes | str, kind: str | None = "application/json") -> httpx.Response:
        headers = {"content-type": kind} if kind else {}
        method = BODIES[path][0]
        return self._http.request(method, path.format(**self._ids), content=body, headers=headers)

    def send_json(self, path: str, **more: Any) -> httpx.Response:
        return self.send(path, json.dumps({**BODIES[path][1], **more}))

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def is_well(self) -> None:
        assert self._http.get("/ok").json()["ok"] is True
        assert self._http.get(f"/threads/{self._ids['thread']}").status_code == 200


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Server(ROOT / "examples/gallery", tmp_path_factory.mktemp("bad-input") / "data")
    yield server.url
    server.stop()


@pytest.fixture
def api(url: str) -> Api:
    return Api(url)


def refused(answer: httpx.Response, what: object) -> None:
    """A precise 4xx."""
    assert 400 <= answer.status_code < 500, (what, answer.status_code, answer.text[:300])
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and detail, what
    assert "internal" not in detail.lower(), what


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_no_json_object_is_refused(path: str, api: Api) -> None:
    for body in (b"{", b"[]", b'"text"', b"1", b"nul", b"\xff\xfe", b'{"a": "\xc3\x28"}', b'{"a": 1} x', DEEP):
        refused(api.send(path, body), body[:20])
    api.is_well()


def fits(field: str, value: object) -> bool:
    """Whether a field takes such a value, at least until the graph sees it."""
    if field in ("input", "values"):
        return True
    if field in ("after_seconds", "grace_seconds"):
        return value == 1.5
    return field in ("metadata", "value", "checkpoint") and isinstance(value, dict)


@pytest.mark.parametrize("path", BODIES)
def test_fields_of_the_wrong_type_are_refused(path: str, api: Api) -> None:
    for field in BODIES[path][1]:
        for wrong in (1.5, True, {"x": []}, [[[]]]):
            answer = api.send_json(path, **{field: wrong})
            assert answer.status_code < 500, (path, field, wrong, answer.text)
            if not fits(field, wrong):
                refused(answer, (path, field, wrong))
    api.is_well()


@pytest.mark.parametrize("path", BODIES)
def test_unknown_fields_and_odd_values_never_fail_inside(path: str, api: Api) -> None:
    odd = (NUL, "\ud800", "", " ", "x" * 20_000, 2**70, -(2**70), -1, 0, None, [None], {"": None}, [NUL], {NUL: NUL})
    fields = {*BODIES[path][1], "limit", "offset", "metadata", "values", "ids", "sort_by", "select", "ttl", "config", "context",
              "name", "description", "namespace_prefix", "filter", "query", "prefix", "max_depth", "unheard_of", "if_exists",
              "input", "command", "checkpoint_id", "multitask_strategy", "stream_mode", "webhook", "timezone", "end_time",
              "supersteps", "before", "interrupt_before", "feedback_keys", "durability", "langsmith_tracer"}  # fmt: skip
    for field in sorted(fields):
        for value in odd:
            answer = api.send_json(path, **{field: value})
            assert answer.status_code < 500, (path, field, value, answer.status_code, answer.text[:500])
            if answer.status_code >= 400 and answer.headers["content-type"].startswith("application/json"):
                assert answer.json().get("detail"), (path, field, value, answer.text[:500])
    api.is_well()


@pytest.mark.parametrize("field", ["metadata", "values", "value", "input", "command", "config", "filter", "supersteps", "a"])
def test_deep_json_never_fails_inside(field: str, api: Api) -> None:
    for path in BODIES:
        for deep in (DEEP, DEEP_OBJECT):
            others = json.dumps({"assistant_id": "review", "a": 1, **BODIES[path][1]}).encode()[:-1]
            answer = api.send(path, others + b', "' + field.encode() + b'": ' + deep + b"}")
            assert answer.status_code < 500, (path, answer.text[:300])
    api.is_well()


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e-400", "123456789012345678901234567890", "0." + "1" * 5000])
def test_huge_numbers_are_kept_or_refused(number: str, api: Api) -> None:
    for path in BODIES:
        for field in ("limit", "metadata", "after_seconds", "ttl", "value", "input", "version"):
            body = json.dumps(BODIES[path][1])[:-1] + (", " if BODIES[path][1] else "")
            for text in (number, f'{{"n": {number}}}'):
                answer = api.send(path, body + f'"{field}": {text}}}')
                assert answer.status_code < 500, (path, field, text[:40], answer.text[:300])
    api.is_well()


def test_a_field_that_is_given_twice_is_refused(api: Api) -> None:
    refused(api.send("/threads", '{"metadata": {}, "metadata": {}}'), "twice")
    # Inside of what is the client's own, the last one counts.
    made = api.send("/threads", '{"metadata": {"a": 1, "a": 2}}')
    assert made.json()["metadata"] == {"a": 2}


def test_a_body_without_content_type_is_read(api: Api) -> None:
    assert api.send("/threads/search", "{}", kind=None).status_code == 200
    assert api.send("/threads/search", "{}", kind="text/plain").status_code in (200, 415, 422)


def test_bodies_of_30_megabytes_are_taken(url: str) -> None:
    client = get_sync_client(url=url)
    thread = client.threads.create(metadata={"big": BIG})
    assert client.threads.get(thread["thread_id"])["metadata"]["big"] == BIG
    assert client.threads.search(metadata={"big": BIG})[0]["thread_id"] == thread["thread_id"]
    client.store.put_item(("big",), "k", value={"big": BIG})
    assert client.store.get_item(("big",), "k")["value"]["big"] == BIG
    values = client.runs.wait(None, "review", input={"topic": BIG})
    assert BIG in values["draft"]
    client.threads.delete(thread["thread_id"])


def test_nothing_is_lost_of_odd_texts(url: str) -> None:
    client = get_sync_client(url=url)
    for text in (NUL, "é😀", "\u2028", "x" * 70_000, "‮rtl", "\x7f\x1b[0m", " "):
        thread = client.threads.create(metadata={"text": text, text: 1})
        found = client.threads.search(metadata={"text": text, text: 1})
        assert [it["thread_id"] for it in found] == [thread["thread_id"]], repr(text)
        assert found[0]["metadata"] == {"text": text, text: 1}
        client.store.put_item((text,), text, value={"text": text})
        assert client.store.search_items((text,), filter={"text": text})["items"][0]["key"] == text
        values = client.runs.wait(thread["thread_id"], "review", input={"topic": text})
        # As upstream, graphs' values show a NUL as the replacement character.
        assert text.replace("\0", "\ufffd") in values["draft"]
        client.threads.delete(thread["thread_id"])
        client.store.delete_item((text,), text)


def test_ids_that_are_none_are_refused(api: Api) -> None:
    for path in ("/threads/{}", "/threads/{}/state", "/threads/{}/history", "/threads/{}/runs", "/assistants/{}/graph",
                 f"/threads/{MISSING}/runs/{{}}", "/runs/crons/{}"):  # fmt: skip
        for id in ("x", "%00", "%ff", "..%2f", "a" * 5000, "1e9", "%F0%9F%98%80"):
            answer = api.get(path.format(id))
            assert 400 <= answer.status_code < 500, (path, id, answer.status_code)
    api.is_well()
