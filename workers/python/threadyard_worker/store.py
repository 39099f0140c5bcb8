"""The long-term store: forwards whole batches to the host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import ormsgpack
from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, Op, PutOp, Result, SearchItem, SearchOp

from . import encoding
from .connection import Connection
from .frames import Kind


class HostStore(BaseStore):
    supports_ttl = False

    def __init__(self, connection: Connection, slot: int) -> None:
        self._connection = connection
        self._slot = slot
        self._loop = asyncio.get_running_loop()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        ops = list(ops)
        body = {"slot": self._slot, "ops": [_encoded(op) for op in ops]}
        answers = ormsgpack.unpackb(await self._connection.request(Kind.STORE_BATCH, body))
        return [_decoded(op, answer) for op, answer in zip(ops, answers, strict=True)]

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise RuntimeError("a synchronous store call would block the event loop; await the `a…` method")
        return asyncio.run_coroutine_threadsafe(self.abatch(ops), self._loop).result()


def _encoded(op: Op) -> dict[str, Any]:
    match op:
        case GetOp():
            return {"op": "get", "ns": list(op.namespace), "key": op.key}
        case PutOp():
            value = None if op.value is None else encoding.dumps(op.value)
            return {"op": "put", "ns": list(op.namespace), "key": op.key, "value": value}
        case SearchOp():
            if op.query is not None:
                raise NotImplementedError("searching the store by meaning is not supported; leave out `query`")
            filter_ = None if op.filter is None else encoding.dumps(op.filter)
            return {
                "op": "search", "ns": list(op.namespace_prefix), "filter": filter_,
                "limit": op.limit, "offset": op.offset,
            }  # fmt: skip
        case ListNamespacesOp():
            paths: dict[str, list[str] | None] = {"prefix": None, "suffix": None}
            for condition in op.match_conditions or ():
                paths[condition.match_type] = list(condition.path)
            return {"op": "list", **paths, "max_depth": op.max_depth, "limit": op.limit, "offset": op.offset}
    raise TypeError(f"unknown store operation {op!r}")


def _decoded(op: Op, answer: Any) -> Result:
    match op:
        case GetOp():
            return None if answer is None else _item(Item, answer)
        case SearchOp():
            return [_item(SearchItem, item) for item in answer]
        case ListNamespacesOp():
            return [tuple(labels) for labels in answer]
    return None


def _item(kind: type, answer: dict[str, Any]) -> Any:
    return kind(
        namespace=tuple(answer["ns"]),
        key=answer["key"],
        value=encoding.loads(answer["value"]),
        created_at=datetime.fromisoformat(answer["created"]),
        updated_at=datetime.fromisoformat(answer["updated"]),
    )
