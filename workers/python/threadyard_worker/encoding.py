"""JSON of whatever a graph puts into its state or stream, spelled as the LangGraph server spells it.

Values without a JSON form become what `tests/odd_values.json` pins, null when there is nothing better.
"""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import ipaddress
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_IP_TYPES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


def to_json(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """JSON text of `value`; `default` says what stands for values that JSON does not have.

    Raises `TypeError` for dictionary keys that have no text form and for values that contain themselves.
    """
    try:
        data = orjson.dumps(value, default=default or plain, option=_OPTIONS)
    except TypeError as error:
        data = _slow_json(value, error)
    return _without_nul(data)


def exact_json(value: Any) -> bytes:
    """JSON text that says all of `value`. Raises `TypeError` for what JSON has no form for, naming its class."""
    return _without_nul(orjson.dumps(value, default=_form, option=_OPTIONS))


def _form(value: Any) -> Any:
    form = plain(value)
    if form is None:
        raise TypeError(f"JSON has no form for a {type(value).__name__}")
    return form


def _without_nul(data: bytes) -> bytes:
    """PostgreSQL can't hold U+0000 in text, so it never leaves the worker."""
    return _NUL.sub(rb"\1\\ufffd", data) if b"\\u0000" in data else data


def plain(value: Any) -> Any:
    """What stands in JSON for a value that orjson does not know."""
    if isinstance(value, type):
        return None
    if callable(dump := getattr(value, "model_dump", None)):
        return dump()
    if callable(dump := getattr(value, "dict", None)):
        return dump()
    if callable(dump := getattr(value, "_asdict", None)):
        return dump()
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": str(value)}
    if isinstance(value, (set, frozenset, collections.deque)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, datetime.tzinfo):
        return value.tzname(None)
    if isinstance(value, (pathlib.Path, *_IP_TYPES)):
        return str(value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if type(value).__name__ == "Send" and hasattr(value, "arg"):
        return {"node": value.node, "args": value.arg}
    return None


def _decimal(value: decimal.Decimal) -> int | float:
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


def _slow_json(value: Any, error: TypeError) -> bytes:
    """The standard encoder, for lone surrogates, integers beyond 64 bits and deep nesting; else the fast one's error."""
    try:
        text = json.dumps(_simplify(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (RecursionError, _Unspeakable):
        raise error from None
    return text.encode("utf-8", "replace")


class _Unspeakable(Exception):
    """Not even the slow encoder has a form for the value."""


def _simplify(value: Any, depth: int) -> Any:
    """A copy made of dicts, lists, strings, numbers and null only."""
    if depth > 900:
        raise _Unspeakable
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {_key(key): _simplify(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_asdict"):
        return [_simplify(item, depth + 1) for item in value]
    try:
        return orjson.loads(orjson.dumps(value, default=_refuse, option=_OPTIONS))
    except TypeError:
        pass
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: _simplify(getattr(value, name), depth + 1) for name in value.__dataclass_fields__}
    return _simplify(plain(value), depth + 1)


def _refuse(value: Any) -> Any:
    raise TypeError


def _key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    try:
        return next(iter(orjson.loads(orjson.dumps({key: None}, option=_OPTIONS))))
    except TypeError:
        raise _Unspeakable from None
