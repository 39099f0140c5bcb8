"""Values that JSON has no obvious spelling for, by name."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from typing import Any, NamedTuple

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, Field, SecretStr
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):
    HI = "hi"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Box:
    width: int
    label: str = "b"
    when: datetime.date = datetime.date(2024, 1, 2)


@dataclasses.dataclass
class Slotted:
    __slots__ = ("a",)
    a: int


class Model(BaseModel):
    name: str
    at: datetime.datetime = datetime.datetime(2024, 1, 2, 3, 4, 5)
    secret: SecretStr = SecretStr("s")
    aliased: int = Field(default=1, alias="Aliased")
    tags: set[str] = {"t"}


class ModelV1(BaseModelV1):
    name: str
    at: datetime.date = datetime.date(2024, 1, 2)


class Plain:
    def __init__(self) -> None:
        self.a = 1


class WithDict:
    def to_dict(self) -> dict[str, Any]:
        return {"to": "dict"}


class WithDictMethod:
    def dict(self) -> dict[str, Any]:
        return {"from": "dict"}


class WithJson:
    def __json__(self) -> str:
        return "j"


class WithToJson:
    def to_json(self) -> dict[str, Any]:
        return {"to": "json"}


class WithDump:
    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        return {"dump": sorted(kwargs)}


class Hashable:
    def __repr__(self) -> str:
        return "<hashable>"


class StrSub(str):
    pass


class IntSub(int):
    pass


class DictSub(dict):
    pass


class ListSub(list):
    pass


class Typed(TypedDict):
    a: int


CASES: dict[str, Any] = {
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus_infinity": lambda: float("-inf"),
    "nan_nested": lambda: {"a": [float("nan"), 1.5]},
    "minus_zero": lambda: -0.0,
    "float_big": lambda: 1e300,
    "bytes_utf8": lambda: b"hello",
    "bytes_binary": lambda: b"\xff\x00\xfe",
    "bytearray": lambda: bytearray(b"ab"),
    "memoryview": lambda: memoryview(b"ab"),
    "decimal": lambda: decimal.Decimal("1.10"),
    "decimal_integral": lambda: decimal.Decimal("3"),
    "decimal_nan": lambda: decimal.Decimal("NaN"),
    "decimal_zeros": lambda: decimal.Decimal("3.0"),
    "decimal_exponent": lambda: decimal.Decimal("1E+2"),
    "decimal_infinity": lambda: decimal.Decimal("Infinity"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "complex": lambda: 1 + 2j,
    "datetime_naive": lambda: datetime.datetime(2024, 1, 2, 3, 4, 5, 678),
    "datetime_utc": lambda: datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    "datetime_offset": lambda: datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    "date": lambda: datetime.date(2024, 1, 2),
    "time": lambda: datetime.time(3, 4, 5),
    "timedelta": lambda: datetime.timedelta(days=1, seconds=1.5),
    "timezone": lambda: datetime.timezone.utc,
    "zone": lambda: zoneinfo.ZoneInfo("Europe/Paris"),
    "uuid": lambda: uuid.UUID(int=1),
    "pydantic": lambda: Model(name="n"),
    "pydantic_nested": lambda: {"m": [Model(name="n")]},
    "pydantic_v1": lambda: ModelV1(name="n"),
    "pydantic_class": lambda: Model,
    "secret": lambda: SecretStr("hidden"),
    "dataclass": lambda: Box(1),
    "dataclass_nested": lambda: {"a": [Box(1)]},
    "dataclass_slots": lambda: Slotted(1),
    "namedtuple": lambda: Point(1, 2),
    "surrogate": lambda: "a\ud800b",
    "surrogate_key": lambda: {"a\ud800": 1},
    "nul": lambda: "a\x00b",
    "nul_spelled_out": lambda: "a\\u0000b",
    "nul_after_backslash": lambda: "a\\\x00b",
    "nul_key": lambda: {"a\x00": 1},
    "surrogate_and_nan": lambda: {"a\ud800": [float("nan"), b"x", datetime.date(2024, 1, 2)]},
    "surrogate_pair_halves": lambda: "\ud83d" + "\ude00",
    "astral": lambda: "😀",
    "int_63": lambda: 2**63 - 1,
    "int_64": lambda: 2**64 - 1,
    "int_65": lambda: 2**64,
    "int_big": lambda: 10**30,
    "int_big_negative": lambda: -(2**63) - 1,
    "int_big_nested": lambda: {"a": [10**30, float("nan")]},
    "key_int": lambda: {1: "a"},
    "key_float": lambda: {1.5: "a"},
    "key_bool": lambda: {True: "a"},
    "key_none": lambda: {None: "a"},
    "key_uuid": lambda: {uuid.UUID(int=1): "a"},
    "key_date": lambda: {datetime.date(2024, 1, 2): "a"},
    "key_enum": lambda: {Colour.RED: "a"},
    "key_tuple": lambda: {(1, 2): "a"},
    "key_bytes": lambda: {b"k": "a"},
    "key_str_subclass": lambda: {StrSub("k"): "a"},
    "key_object": lambda: {Hashable(): "a"},
    "set": lambda: {1},
    "set_of_odd": lambda: {b"x"},
    "set_of_tuples": lambda: {(1, 2)},
    "frozenset": lambda: frozenset({"a"}),
    "tuple": lambda: (1, (2, 3)),
    "deque": lambda: collections.deque([1, 2]),
    "ordered_dict": lambda: collections.OrderedDict(b=1, a=2),
    "counter": lambda: collections.Counter("aab"),
    "chain_map": lambda: collections.ChainMap({"a": 1}, {"b": 2}),
    "range": lambda: range(3),
    "generator": lambda: (i for i in range(2)),
    "dict_keys": lambda: {"a": 1}.keys(),
    "map_object": lambda: map(str, [1]),
    "enum": lambda: Colour.RED,
    "int_enum": lambda: Level.HIGH,
    "str_enum": lambda: Word.HI,
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "path_posix": lambda: pathlib.Path("/a/b"),
    "regex": lambda: re.compile("a+"),
    "ip": lambda: ipaddress.ip_address("10.0.0.1"),
    "exception": lambda: ValueError("bad"),
    "exception_group": lambda: KeyError("k", 2),
    "function": lambda: sorted,
    "class": lambda: Plain,
    "object_plain": lambda: Plain(),
    "object_to_dict": lambda: WithDict(),
    "object_dict_method": lambda: WithDictMethod(),
    "object_to_json": lambda: WithToJson(),
    "object_model_dump": lambda: WithDump(),
    "object_dunder_json": lambda: WithJson(),
    "ellipsis": lambda: ...,
    "not_implemented": lambda: NotImplemented,
    "str_subclass": lambda: StrSub("s"),
    "int_subclass": lambda: IntSub(1),
    "dict_subclass": lambda: DictSub(a=1),
    "list_subclass": lambda: ListSub([1]),
    "typed_dict": lambda: Typed(a=1),
    "message_human": lambda: HumanMessage("hi", id="1"),
    "message_ai": lambda: AIMessage("hi", id="1"),
    "message_tool": lambda: ToolMessage("r", tool_call_id="c", id="t"),
    "messages": lambda: [HumanMessage("hi", id="1")],
    "document": lambda: Document(page_content="p", metadata={"a": 1}),
    "interrupt": lambda: Interrupt(value="v", id="i"),
    "send": lambda: Send("n", {"a": 1}),
    "command": lambda: Command(goto="n"),
    "self_containing": lambda: _loop(),
    "deep": lambda: _deep(300),
}


def _loop() -> list[Any]:
    out: list[Any] = []
    out.append(out)
    return out


def _deep(n: int) -> Any:
    out: Any = 1
    for _ in range(n):
        out = [out]
    return out
