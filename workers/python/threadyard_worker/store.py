"""The long-term store of every graph: forwards to the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
import ormsgpack
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from . import frames
from .connection import Connection
from .encoding import to_json
from .index import Index
from .scope import current, run_in_loop


class HostStore(BaseStore):
    """Store items kept by the host; the HTTP API and all graphs share them."""

    supports_ttl = True

    def __init__(self, connection: Connection, ttl: TTLConfig | None = None, index: Index | None = None) -> None:
        self.connection = connection
        self.ttl_config = ttl
        self.index = index

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        ops = list(ops)
        packed = [_pack(op) for op in ops]
        if self.index is not None:
            await _embed(self.index, ops, packed)
        body = {"slot": current.get().slot, "ops": packed}
        results = ormsgpack.unpackb(await self.connection.request(frames.STORE_BATCH, body))
        return [_unpack(op, result) for op, result in zip(ops, results, strict=True)]

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return run_in_loop(self.connection.loop, self.abatch(ops), "store.batch")


async def _embed(index: Index, ops: list[Op], packed: list[dict[str, Any]]) -> None:
    """Add the vectors to puts and searches."""
    puts = [(op, body) for op, body in zip(ops, packed, strict=True) if isinstance(op, PutOp)]
    searches = [(op, body) for op, body in zip(ops, packed, strict=True) if isinstance(op, SearchOp)]
    vectors = await index.of_puts([op for op, _ in puts]) + await index.of_searches([op for op, _ in searches])
    for (_, body), own in zip(puts + searches, vectors, strict=True):
        body["vectors"] = own


def _pack(op: Op) -> dict[str, Any]:
    if isinstance(op, GetOp):
        return {"op": "get", "ns": op.namespace, "key": op.key, "refresh": op.refresh_ttl}
    if isinstance(op, PutOp):
        value = None if op.value is None else to_json(op.value)
        return {"op": "put", "ns": op.namespace, "key": op.key, "value": value, "ttl": op.ttl}
    if isinstance(op, SearchOp):
        return {
            "op": "search",
            "ns": op.namespace_prefix,
            "filter": to_json(op.filter) if op.filter else None,
            "limit": op.limit,
            "offset": op.offset,
            "refresh": op.refresh_ttl,
        }
    if isinstance(op, ListNamespacesOp):
        return {
            "op": "list",
            "prefix": _condition(op, "prefix"),
            "suffix": _condition(op, "suffix"),
            "max_depth": op.max_depth,
            "limit": op.limit,
            "offset": op.offset,
        }
    raise TypeError(f"the store has no operation `{type(op).__name__}`")


def _condition(op: ListNamespacesOp, match_type: str) -> Sequence[str] | None:
    paths = [tuple(c.path) for c in op.match_conditions or () if c.match_type == match_type]
    if len(paths) > 1:
        raise ValueError(f"namespaces can be listed by one {match_type}, got {len(paths)}")
    return paths[0] if paths else None


def _unpack(op: Op, result: Any) -> Result:
    if isinstance(op, GetOp):
        return None if result is None else Item(**_item(result))
    if isinstance(op, SearchOp):
        return [SearchItem(**_item(item), score=item.get("score")) for item in result]
    if isinstance(op, ListNamespacesOp):
        return [tuple(namespace) for namespace in result]
    return None


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespace": tuple(item["ns"]),
        "key": item["key"],
        "value": orjson.loads(item["value"]),
        "created_at": _time(item["created"]),
        "updated_at": _time(item["updated"]),
    }


def _time(text: str) -> datetime:
    # Python 3.10 does not read the `Z` of RFC 3339.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
