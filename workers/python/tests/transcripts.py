"""Transcripts of the worker protocol: how a line stands for a frame, and how frames are compared with lines.

The format is described in workers/protocol/README.md.
"""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ormsgpack

from threadyard_worker import frames

FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "transcripts"
PROJECT = Path(__file__).resolve().parent / "project"

Line = dict[str, Any]
KINDS = {name: kind for kind, name in frames.KIND_NAMES.items()}

# Fields that hold JSON as msgpack bin.
_JSON_FIELDS = {
    "input", "command", "config", "context", "args", "result", "values", "state", "interrupts",
    "checkpoint", "metadata", "filter", "value",
}  # fmt: skip
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")


# From frames to lines.


def lines_of(direction: str, conn: str, kind: int, id: int, body: bytes) -> Iterator[Line]:
    """The lines of a frame: one for each event of an EVENT, else one."""
    name = frames.KIND_NAMES[kind]
    if kind == frames.EVENT:
        for event, data in frames.split_events(body):
            shown = {"name": event, "data": {"json": json.loads(data)}}
            yield {"dir": direction, "conn": conn, "kind": name, "id": id, "body": shown}
        return
    if kind == frames.REPLY:
        # A worker answers calls in JSON, the host answers requests in msgpack.
        plain = direction == "W>H" or body[0] == frames.REPLY_ERROR
        result = {"json": json.loads(body[1:])} if plain else {"msgpack": _shown(ormsgpack.unpackb(body[1:]))}
        shown = {"status": body[0], "result": result}
    else:
        shown = _shown(frames.unpack_map(body))
    yield {"dir": direction, "conn": conn, "kind": name, "id": id, "body": shown}


def _shown(value: Any, field: str | None = None) -> Any:
    if isinstance(value, bytes):
        if field in _JSON_FIELDS:
            return {"json": json.loads(value)}
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        if field is None and "project" in value:
            value = {**value, "project": {"var": "project"}} if value["project"] == str(PROJECT) else value
        return {key: _shown(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value


# From lines to frames.


def frame_of(line: Line) -> tuple[int, int, bytes]:
    """The frame of a line, with the recorded example in place of what can't be predicted."""
    kind, body = KINDS[line["kind"]], line["body"]
    if kind == frames.EVENT:
        data = _packed(body["data"])
        packed = frames.event_prefix(body["name"]) + frames.EVENT_LENGTH.pack(len(data)) + data
    elif kind == frames.REPLY:
        (form, result), = body["result"].items()
        result = _packed(result)
        packed = bytes([body["status"]]) + (_json(result) if form == "json" else ormsgpack.packb(result))
    else:
        packed = ormsgpack.packb(_packed(body))
    return kind, line["id"], packed


def _packed(value: Any) -> Any:
    if isinstance(value, dict):
        if "any" in value:
            return _packed(value["example"])
        if value == {"var": "project"}:
            return str(PROJECT)
        if set(value) == {"json"}:
            return _json(_examples(value["json"]))
        if set(value) == {"b64"}:
            return base64.b64decode(value["b64"])
        return {key: _packed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_packed(item) for item in value]
    return value


def _examples(value: Any) -> Any:
    """JSON with examples in place of what can't be predicted."""
    if isinstance(value, dict):
        return _examples(value["example"]) if "any" in value else {k: _examples(v) for k, v in value.items()}
    return [_examples(item) for item in value] if isinstance(value, list) else value


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# Comparing.


def differences(expected: Any, got: Any, at: str = "") -> Iterator[str]:
    """Where a line got differs from the line expected."""
    if isinstance(expected, dict) and "any" in expected:
        if not _PREDICATES[expected["any"]](got):
            yield f"{at}: expected any {expected['any']}, got {got!r}"
    elif isinstance(expected, dict) and isinstance(got, dict):
        for key in expected.keys() | got.keys():
            if key not in got:
                yield f"{at}.{key}: missing"
            elif key not in expected:
                yield f"{at}.{key}: unexpected {got[key]!r}"
            else:
                yield from differences(expected[key], got[key], f"{at}.{key}")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for i, (one, other) in enumerate(zip(expected, got)):
            yield from differences(one, other, f"{at}[{i}]")
    elif expected != got or type(expected) is not type(got):
        yield f"{at}: expected {expected!r}, got {got!r}"


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


_PREDICATES: dict[str, Any] = {
    "uuid": _is_uuid,
    "time": lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None,
    "text": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and math.isfinite(value),
    "bin": lambda value: isinstance(value, dict) and set(value) == {"b64"},
    "object": lambda value: isinstance(value, dict),
}


def generalised(one: Any, other: Any, key: str | None = None) -> Any:
    """What two recordings have in common, with `any` where they differ."""
    if key in _ALWAYS_ANY:
        return {"any": _ALWAYS_ANY[key], "example": _ANONYMOUS.get(key, one)}
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        if set(one) == {"b64"} and one != other:
            return {"any": "bin", "example": one}
        return {name: generalised(one[name], other[name], name) for name in one}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [generalised(a, b, key) for a, b in zip(one, other)]
    if one == other and type(one) is type(other):
        return one
    for name in ("uuid", "time", "text", "int", "number", "object"):
        if _PREDICATES[name](one) and _PREDICATES[name](other):
            return {"any": name, "example": one}
    raise AssertionError(f"the recordings differ in kind at {key}: {one!r} and {other!r}")


# What depends on the machine and not on the recording.
_ALWAYS_ANY = {"traceback": "text", "token": "text", "pid": "int", "rss": "int", "revision": "text", "lag_ms": "number"}
_ANONYMOUS = {"traceback": "Traceback (most recent call last): …", "token": "token"}
_ALWAYS_ANY |= {"t": "int", "created": "time", "updated": "time"}
# Packages that happen to be installed beside.
_ALWAYS_ANY["lc_versions"] = "object"
_ALWAYS_ANY["python"] = _ALWAYS_ANY["uvloop"] = "text"
for _package in ("langgraph", "langgraph-checkpoint", "langgraph-prebuilt", "langgraph-sdk", "langchain-core"):
    _ALWAYS_ANY[_package] = "text"


def read(name: str) -> list[Line]:
    """A transcript."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def write(name: str, lines: list[Line]) -> None:
    """Keep a transcript."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (FOLDER / f"{name}.jsonl").write_text(text)
