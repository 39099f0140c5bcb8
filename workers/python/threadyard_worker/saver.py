"""The checkpointer of a run or a call: forwards to the host, which alone opens databases."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from inspect import signature
from typing import Any

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)

from . import encoding
from .connection import Connection
from .frames import Kind

_UNKNOWN = object()
_INT64 = range(-(2**63), 2**63)


class HostSaver(BaseCheckpointSaver[str]):
    """Puts are one-way frames unless `sync` asks to wait for the commit; the host answers END only after all of them."""

    def __init__(self, connection: Connection, slot: int, *, sync: bool, head: Any = _UNKNOWN) -> None:
        super().__init__()
        self._connection = connection
        self._slot = slot
        self._sync = sync
        self._loop = asyncio.get_running_loop()
        # The newest checkpoint of the root namespace as the host sent it, good for one read.
        self._head = head
        # What this saver last put into the root namespace.
        self.last_put: dict[str, Any] | None = None

    # Reading.

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        configurable = config["configurable"]
        ns, id_ = configurable.get("checkpoint_ns", ""), get_checkpoint_id(config)
        if self._head is not _UNKNOWN and ns == "" and id_ is None:
            head, self._head = self._head, _UNKNOWN
            return None if head is None else self._tuple(head)
        found = await self._call("get", thread=str(configurable["thread_id"]), ns=ns, id=id_)
        return None if found is None else self._tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        configurable = (config or {}).get("configurable", {})
        thread = configurable.get("thread_id")
        found = await self._call(
            "list",
            thread=None if thread is None else str(thread),
            ns=configurable.get("checkpoint_ns"),
            filter=None if filter is None else encoding.dumps(filter),
            before=get_checkpoint_id(before) if before else None,
            limit=limit,
        )
        wanted = configurable.get("checkpoint_id")
        for item in found:
            if wanted is None or item["id"] == wanted:
                yield self._tuple(item)

    def _tuple(self, found: dict[str, Any]) -> CheckpointTuple:
        thread, ns = found["thread"], found["ns"]
        checkpoint = encoding.loads(found["checkpoint"])
        values = checkpoint.setdefault("channel_values", {})
        for channel, _version, kind, data in found["blobs"]:
            values[channel] = self.serde.loads_typed((kind, data))
        parent = found["parent"]
        return CheckpointTuple(
            _config(thread, ns, found["id"]),
            checkpoint,
            encoding.loads(found["metadata"]),
            _config(thread, ns, parent) if parent else None,
            [
                (task, channel, self.serde.loads_typed((kind, data)))
                for task, _path, _index, channel, kind, data in found["writes"]
            ],
        )

    # Writing.

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        configurable = config["configurable"]
        thread, ns = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        parent = configurable.get("checkpoint_id")
        stored = get_serializable_checkpoint_metadata(config, metadata)
        inline, blobs = self._split(checkpoint, new_versions)
        body = {
            "thread": thread,
            "ns": ns,
            "id": checkpoint["id"],
            "parent": parent,
            "checkpoint": encoding.dumps({**checkpoint, "channel_values": inline}),
            "metadata": encoding.dumps(stored),
            "blobs": blobs,
        }
        self._head = _UNKNOWN
        if ns == "":
            self.last_put = {"id": checkpoint["id"], "ts": checkpoint["ts"], "parent": parent, "metadata": stored}
        await self._put(Kind.CP_PUT, body)
        return _config(thread, ns, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        configurable = config["configurable"]
        rows = []
        for index, (channel, value) in enumerate(writes):
            kind, data = self.serde.dumps_typed(value)
            rows.append([WRITES_IDX_MAP.get(channel, index), channel, kind, data])
        body = {
            "thread": str(configurable["thread_id"]),
            "ns": configurable.get("checkpoint_ns", ""),
            "id": configurable["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            "writes": rows,
        }
        self._head = _UNKNOWN
        await self._put(Kind.CP_WRITES, body)

    # LangGraph looks at this signature in every run; a ready-made one saves the search.
    aput_writes.__signature__ = signature(aput_writes)  # type: ignore[attr-defined]

    def _split(self, checkpoint: Checkpoint, new_versions: ChannelVersions) -> tuple[dict[str, Any], list[Any]]:
        """The values that stay in the checkpoint's JSON, and the new ones that are stored beside it."""
        inline: dict[str, Any] = {}
        blobs: list[Any] = []
        for channel, value in checkpoint["channel_values"].items():
            if _is_inline(value):
                inline[channel] = value
            elif channel in new_versions:
                blobs.append([channel, str(new_versions[channel]), *self.serde.dumps_typed(value)])
        return inline, blobs

    async def _put(self, kind: int, body: dict[str, Any]) -> None:
        if self._sync:
            await self._connection.request(kind, {**body, "slot": self._slot})
        else:
            self._connection.send_map(kind, self._slot, body)

    # Whole threads.

    async def adelete_thread(self, thread_id: str) -> None:
        await self._call("delete_thread", thread=str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._call("delete_for_runs", runs=[str(run) for run in run_ids])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._call("copy_thread", source=str(source_thread_id), target=str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._call("prune", threads=[str(thread) for thread in thread_ids], strategy=strategy)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Unique over forks, so that a blob is written once and shared."""
        count = 0 if current is None else int(str(current).split(".")[0])
        return f"{count + 1:032}.{random.random():016}"

    async def _call(self, op: str, **keys: Any) -> Any:
        reply = await self._connection.request(Kind.CP_CALL, {"op": op, "slot": self._slot, **keys})
        return ormsgpack.unpackb(reply)

    # The same for code on other threads.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._elsewhere(self.aget_tuple(config))

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        async def collect() -> list[CheckpointTuple]:
            return [item async for item in self.alist(config, **options)]

        yield from self._elsewhere(collect())

    def put(self, *arguments: Any) -> RunnableConfig:
        return self._elsewhere(self.aput(*arguments))

    def put_writes(self, *arguments: Any, **options: Any) -> None:
        self._elsewhere(self.aput_writes(*arguments, **options))

    def delete_thread(self, thread_id: str) -> None:
        self._elsewhere(self.adelete_thread(thread_id))

    def _elsewhere(self, coroutine: Any) -> Any:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            coroutine.close()
            raise RuntimeError("a synchronous checkpointer call would block the event loop; await the `a…` method")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _config(thread: str, ns: str, id_: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id_}}


def _is_inline(value: Any) -> bool:
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is int:
        return value in _INT64
    return kind is str and len(value) < 256 and value.isascii()
