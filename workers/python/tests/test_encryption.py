"""The user's encryption handlers: what they are given, and what becomes of what they answer."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from fake_host import CallFailed, FakeHost

PATH = {"path": "./sealing.py:encryption"}


def _blob(data: bytes, **context: Any) -> dict[str, Any]:
    return {"model": "checkpoint", "field": "blob", "context": json.dumps(context), "blob": base64.b64encode(data).decode()}


def _json(**members: Any) -> dict[str, Any]:
    return {"model": "thread", "field": "metadata", "context": "{}", "json": json.dumps(members)}


async def _ask(host: FakeHost, op: str, *pieces: dict[str, Any]) -> list[Any]:
    """What becomes of pieces that are asked about together: bytes, members that changed, or what went wrong."""

    async def told(answer: dict[str, Any]) -> Any:
        if "late" in answer:
            answer = await host.call("late_piece", None, ticket=answer["late"])
        if "blob" in answer:
            return base64.b64decode(answer["blob"])
        return answer["json"] if "json" in answer else answer["error"]["what"]

    return [await told(answer) for answer in await host.call(op, None, pieces=list(pieces))]


def test_pieces_are_encrypted_together_and_come_back_in_order(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert (await host.ready)["encryption"] == {"ok": True, "context": False}
        pieces = [_blob(b"one"), _json(a=1, clear="x"), _blob(b"seen", tenant="t"), _blob(b"array"), _blob(b"view")]
        one, members, seen, *rest = await _ask(host, "encrypt", *pieces)
        assert one == bytes(byte ^ 0x5A for byte in b"one")
        assert members == {"a": base64.b64encode(b"1").decode()}, "what was left alone is not repeated"
        assert seen == b"('checkpoint', 'blob', {'tenant': 't'})" and rest == [b"array", b"view"]
        back = await _ask(host, "decrypt", _blob(one), _json(**members, clear="x"))
        assert back == [b"one", {"a": "1", "clear": "x"}]
        assert await _ask(host, "encrypt", _json(do="in place", v=1)) == [{"v": "changed"}]
        assert await _ask(host, "encrypt") == []

    with_worker(scenario, {}, encryption=PATH)


def test_what_fails_is_told_without_the_data_and_spoils_no_other(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        wrong = {
            "raise": "encrypt.json raised Locked",
            "add": "encrypt.json added or removed keys; only values may change",
            "remove": "encrypt.json added or removed keys; only values may change",
            "list": "encrypt.json returned a list; expected a dict",
            "set": "encrypt.json returned what is no JSON",
            "nan": "encrypt.json returned what is no JSON",
        }
        pieces = [_json(do=do, v="s3cret") for do in wrong]
        *told, raised, text, fine = await _ask(
            host, "encrypt", *pieces, _blob(b"raise"), _blob(b"text"), _blob(b"fine")
        )
        assert told == list(wrong.values())
        assert (raised, text) == ("encrypt.blob raised Locked", "encrypt.blob returned a str; expected bytes")
        assert fine == bytes(byte ^ 0x5A for byte in b"fine")
        (answer,) = await host.call("encrypt", None, pieces=[_json(do="raise", v="s3cret")])
        trace = answer["error"]["traceback"]
        assert "sealing.py" in trace and "s3cret" not in trace and "no key for" not in str(host.logs)

    with_worker(scenario, {}, encryption=PATH)


def test_a_number_that_could_not_be_read_again_is_not_encrypted(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        pieces = [{**_json(), "json": '{"%s": {"deep": [1e999]}}' % key} for key in ("v", "clear")]
        refused, left_alone, word = await _ask(host, "encrypt", *pieces, _json(v="Infinity"))
        assert "such as `1e999`" in refused and refused.startswith("encrypt.json changed a number")
        assert left_alone == {} and word == {"v": base64.b64encode(b"'Infinity'").decode()}

    with_worker(scenario, {}, encryption=PATH)


def test_a_handler_that_is_cancelled_spoils_no_other(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        raised, fine = await _ask(host, "encrypt", _json(do="cancel"), _blob(b"fine"))
        assert raised == "encrypt.json raised CancelledError" and fine == bytes(byte ^ 0x5A for byte in b"fine")

    with_worker(scenario, {}, encryption=PATH)


def test_a_handler_that_hangs_holds_up_no_other_call(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        late, beside = await host.call("encrypt", None, pieces=[_blob(b"hang"), _blob(b"with it")])
        assert base64.b64decode(beside["blob"]) == bytes(byte ^ 0x5A for byte in b"with it")
        assert list(late) == ["late"], "the others do not wait for it"
        assert await _ask(host, "encrypt", _blob(b"\x5a")) == [b"\0"]
        given_up = await host.call("late_piece", None, ticket=late["late"])
        assert given_up["error"]["what"] == "encrypt.blob did not answer in time"

    with_worker(scenario, {}, encryption=PATH)


def test_replacements_are_not_stored_and_are_told_of_once(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        older = bytes(byte ^ 0x5A for byte in b"older")
        for _ in range(2):
            assert await _ask(host, "decrypt", _blob(older)) == [b"older"]
        assert await _ask(host, "decrypt", _json(older=base64.b64encode(b"1").decode())) == [{"older": "1"}]
        assert str(host.logs).count("it is not stored") == 1

    with_worker(scenario, {}, encryption=PATH)


def test_the_context_is_what_the_handler_makes_of_user_and_header(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        assert (await host.ready)["encryption"] == {"ok": True, "context": True}

        async def made(user: Any, **said: Any) -> Any:
            answer = await host.call("encryption_context", None, user=user, context=said)
            return answer.get("context", answer.get("error", {}).get("what"))

        ann = {"identity": "ann", "permissions": [], "org": 1}
        assert await made(ann, tenant="t") == {"tenant": "t", "user": "ann", "org": 1}
        assert (await made(None))["user"] == "", "somebody without a name"
        assert await made(ann, do="raise") == "context raised Locked"
        assert await made(ann, do="none") == "context returned a NoneType; expected a dict"
        assert await made(ann, do="nan") == "context returned what is no JSON"

    with_worker(scenario, {}, encryption={"path": "./sealing.py:contextual"})


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("./sealing.py:half", "no handler for `@encryption.decrypt.blob`, `@encryption.encrypt.json`"),
        ("./sealing.py:strange", "is a dict; expected a `langgraph_sdk.Encryption`"),
        ("./sealing.py:gone", "no `gone`"),
    ],
)
def test_what_is_no_encryption_object_is_reported(with_worker, path: str, word: str) -> None:
    async def scenario(host: FakeHost) -> None:
        report = (await host.ready)["encryption"]
        assert not report["ok"] and word in report["error"]["message"]

    with_worker(scenario, {}, encryption={"path": path})


def test_a_worker_without_handlers_encrypts_nothing(with_worker) -> None:
    async def scenario(host: FakeHost) -> None:
        with pytest.raises(CallFailed, match="no encryption object"):
            await _ask(host, "encrypt", _blob(b"x"))

    with_worker(scenario, {})
