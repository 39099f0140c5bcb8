"""The checkpointer of every graph: forwards to the host, which alone opens the database."""

from __future__ import annotations

import inspect
import random
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import orjson
import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.base import id as ids
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT

from . import frames
from .connection import Connection
from .encoding import to_json
from .scope import Checkpointed, Scope, current, run_in_loop

_INLINE_STRING_LIMIT = 256
_EXCLUDED_FROM_METADATA = frozenset(
    {
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
        "langgraph_step",
        "langgraph_node",
        "langgraph_triggers",
        "langgraph_path",
        "langgraph_checkpoint_ns",
    }
)


class ForeignThread(Exception):
    """The thread was begun by a graph in another language, whose values mean nothing here."""


class HostSaver(BaseCheckpointSaver[str]):
    """Checkpoints kept by the host.

    Inside a run with `async` or `exit` durability a put returns when it is queued: the socket keeps the order, and the
    host commits everything before the run's end. Everywhere else a put waits for the commit.
    """

    def __init__(self, connection: Connection, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self.connection = connection

    # Reading.

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        configurable = config["configurable"]
        scope = current.get()
        thread = str(configurable["thread_id"])
        ns = configurable.get("checkpoint_ns") or ""
        id = configurable.get("checkpoint_id") or None
        if scope.head_unread and id is None and ns == "" and thread == scope.thread:
            scope.head_unread = False
            saved, scope.head = scope.head, None
        else:
            saved = await self._call(scope, {"op": "get", "thread": thread, "ns": ns, "id": id})
        return self._load(saved) if saved is not None else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for saved in await self._list(config, filter=filter, before=before, limit=limit):
            yield saved

    async def _list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> list[CheckpointTuple]:
        configurable = config["configurable"] if config else {}
        before_id = before["configurable"].get("checkpoint_id") if before else None
        if id := configurable.get("checkpoint_id"):
            assert config is not None
            found = await self.aget_tuple(config)
            wanted = found is not None and _matches(found.metadata, filter) and not (before_id and id >= before_id)
            return [found] if found is not None and wanted and limit != 0 else []
        thread = configurable.get("thread_id")
        body = {
            "op": "list",
            "thread": None if thread is None else str(thread),
            "ns": configurable.get("checkpoint_ns"),
            "filter": to_json(filter) if filter else None,
            "before": before_id,
            "limit": limit,
        }
        return [self._load(saved) for saved in await self._call(current.get(), body)]

    # Writing.

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        configurable = config["configurable"]
        scope = current.get()
        thread = str(configurable["thread_id"])
        ns = configurable.get("checkpoint_ns") or ""
        id = checkpoint["id"]
        parent = configurable.get("checkpoint_id") or None
        stored: dict[str, Any] = dict(checkpoint)
        stored["channel_values"], blobs = self._split(checkpoint["channel_values"], new_versions)
        metadata_json = to_json(checkpoint_metadata(config, metadata))
        body = {
            "thread": thread,
            "ns": ns,
            "id": id,
            "parent": parent,
            "checkpoint": orjson.dumps(stored),
            "metadata": metadata_json,
            "blobs": blobs,
        }
        if ns == "" and thread == scope.thread:
            scope.head_unread = False
            scope.last = Checkpointed(id, parent, checkpoint["ts"], metadata_json)
        await self._write(frames.CP_PUT, scope, body)
        return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        configurable = config["configurable"]
        scope = current.get()
        packed = []
        for index, (channel, value) in enumerate(writes):
            if channel == INTERRUPT:
                scope.interrupted = True
            packed.append((WRITES_IDX_MAP.get(channel, index), channel, *self.serde.dumps_typed(value)))
        thread = str(configurable["thread_id"])
        ns = configurable.get("checkpoint_ns") or ""
        if ns == "" and thread == scope.thread:
            scope.head_unread = False
        body = {
            "thread": thread,
            "ns": ns,
            "id": configurable["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            "writes": packed,
        }
        await self._write(frames.CP_WRITES, scope, body)

    # langgraph asks for this signature once per run; a ready answer saves a tenth of a trivial run.
    aput_writes.__signature__ = inspect.signature(aput_writes)  # type: ignore[attr-defined]

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A version that grows and that no fork of the thread repeats, so that a blob is stored once."""
        number = 0 if current is None else int(str(current).split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    # Whole threads.

    async def adelete_thread(self, thread_id: str) -> None:
        await self._call(current.get(), {"op": "delete_thread", "thread": str(thread_id)})

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._call(current.get(), {"op": "delete_for_runs", "runs": [str(id) for id in run_ids]})

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._call(
            current.get(), {"op": "copy_thread", "source": str(source_thread_id), "target": str(target_thread_id)}
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._call(
            current.get(), {"op": "prune", "threads": [str(id) for id in thread_ids], "strategy": strategy}
        )

    # The same for synchronous nodes, which run on other OS threads.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return run_in_loop(self.connection.loop, self.aget_tuple(config), "checkpointer.get_tuple")

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        listing = self._list(config, filter=filter, before=before, limit=limit)
        yield from run_in_loop(self.connection.loop, listing, "checkpointer.list")

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        put = self.aput(config, checkpoint, metadata, new_versions)
        return run_in_loop(self.connection.loop, put, "checkpointer.put")

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        put = self.aput_writes(config, writes, task_id, task_path)
        run_in_loop(self.connection.loop, put, "checkpointer.put_writes")

    def delete_thread(self, thread_id: str) -> None:
        run_in_loop(self.connection.loop, self.adelete_thread(thread_id), "checkpointer.delete_thread")

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        run_in_loop(self.connection.loop, self.adelete_for_runs(run_ids), "checkpointer.delete_for_runs")

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        copy = self.acopy_thread(source_thread_id, target_thread_id)
        run_in_loop(self.connection.loop, copy, "checkpointer.copy_thread")

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        run_in_loop(self.connection.loop, self.aprune(thread_ids, strategy=strategy), "checkpointer.prune")

    # The wire.

    async def _write(self, kind: int, scope: Scope, body: dict[str, Any]) -> None:
        if scope.one_way:
            self.connection.send(kind, scope.slot, ormsgpack.packb(body), lazy=True)
        else:
            body["slot"] = scope.slot
            await self.connection.request(kind, body)

    async def _call(self, scope: Scope, body: dict[str, Any]) -> Any:
        body["slot"] = scope.slot
        result = await self.connection.request(frames.CP_CALL, body)
        return ormsgpack.unpackb(result) if result else None

    def _split(self, values: Mapping[str, Any], new_versions: ChannelVersions) -> tuple[dict[str, Any], Sequence[Any]]:
        """Channel values that stay in the checkpoint, and blobs of the others that are new."""
        inline: dict[str, Any] = {}
        blobs = []
        for channel, value in values.items():
            if is_inline(value):
                inline[channel] = value
            elif (version := new_versions.get(channel)) is not None:
                blobs.append((channel, str(version), *self.serde.dumps_typed(value)))
        return inline, blobs

    def _load(self, saved: Mapping[str, Any]) -> CheckpointTuple:
        thread, ns = saved["thread"], saved["ns"]
        go_on_behind(saved["id"])
        checkpoint = orjson.loads(saved["checkpoint"])
        if "lang" in checkpoint:
            raise ForeignThread(
                f"thread {thread} was begun by a graph in JavaScript, whose state a graph in Python can't read; "
                "begin a new thread"
            )
        values = checkpoint["channel_values"]
        loads = self.serde.loads_typed
        for channel, _version, type, data in saved["blobs"]:
            values[channel] = loads((type, data))
        writes = sorted(saved["writes"], key=_write_order)
        return CheckpointTuple(
            config=_config(thread, ns, saved["id"]),
            checkpoint=checkpoint,
            metadata=orjson.loads(saved["metadata"]),
            parent_config=_config(thread, ns, saved["parent"]) if saved["parent"] else None,
            pending_writes=[(task, channel, loads((type, data))) for task, _, _, channel, type, data in writes],
        )


def go_on_behind(id: str) -> None:
    """Have the checkpoints to come sort behind this one, though the clock of the machine that made it may be ahead."""
    try:
        made = uuid.UUID(id)
    except ValueError:
        return
    if made.version == 6:
        # As langgraph keeps it: 60 bits, of which the version takes the place of none.
        timestamp = (made.int >> 80) << 12 | (made.int >> 64) & 0xFFF
        ids._last_v6_timestamp = max(ids._last_v6_timestamp or 0, timestamp)


def is_inline(value: Any) -> bool:
    """Whether JSON keeps the value exactly and it is too small for a blob of its own."""
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is int:
        return -(1 << 63) <= value < 1 << 63
    if kind is str:
        # PostgreSQL's jsonb can't hold U+0000.
        return len(value) < _INLINE_STRING_LIMIT and value.isascii() and "\0" not in value
    return False


def checkpoint_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """What is stored as the metadata of a checkpoint: the run's metadata and configuration, and langgraph's own."""
    stored: dict[str, Any] = {}
    for key, value in config["configurable"].items():
        if isinstance(value, (str, int, float)) and key not in _EXCLUDED_FROM_METADATA and not key.startswith("__"):
            stored[key] = value
    if config["configurable"].get("checkpoint_ns"):
        # Upstream: the checkpoints of subgraphs name their parents.
        stored["checkpoint_map"] = config["configurable"].get("checkpoint_map")
    stored.update(config.get("metadata") or {})
    stored.update(metadata)
    return stored


def _config(thread: str, ns: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}


def _write_order(write: Sequence[Any]) -> tuple[str, str, int]:
    task, path, index = write[:3]
    return path, task, index


def _matches(metadata: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    return not filter or all(metadata.get(key) == value for key, value in filter.items())
