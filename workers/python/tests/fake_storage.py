"""Checkpoints and store items in memory, kept, filtered and ordered as docs/worker-protocol.md says."""

from __future__ import annotations

import json
from typing import Any

Body = dict[str, Any]


class Checkpoints:
    """What `CP_PUT`, `CP_WRITES` and `CP_CALL` act on."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Body] = {}
        self.blobs: dict[tuple[str, str, str, str], tuple[str, bytes]] = {}
        self.writes: dict[tuple[str, str, str], dict[tuple[str, int], list[Any]]] = {}

    def put(self, body: Body) -> None:
        thread, ns = body["thread"], body["ns"]
        row = {key: body[key] for key in ("thread", "ns", "id", "parent", "checkpoint", "metadata")}
        self.rows[thread, ns, body["id"]] = row
        for channel, version, type, data in body["blobs"]:
            self.blobs[thread, ns, channel, version] = (type, data)

    def put_writes(self, body: Body) -> None:
        kept = self.writes.setdefault((body["thread"], body["ns"], body["id"]), {})
        for index, channel, type, data in body["writes"]:
            key = (body["task"], index)
            if index < 0 or key not in kept:
                kept[key] = [body["task"], body["path"], index, channel, type, data]

    def call(self, body: Body) -> Any:
        return getattr(self, f"_{body['op']}")(body)

    def head(self, thread: str, ns: str = "") -> Body | None:
        return self._get({"thread": thread, "ns": ns, "id": None})

    def _get(self, body: Body) -> Body | None:
        ids = [id for thread, ns, id in self.rows if (thread, ns) == (body["thread"], body["ns"])]
        id = body["id"] or max(ids, default=None)
        return self._tuple((body["thread"], body["ns"], id)) if id in ids else None

    def _list(self, body: Body) -> list[Body]:
        wanted = json.loads(body["filter"]) if body["filter"] else {}
        found = []
        for key in sorted(self.rows, key=lambda key: key[2], reverse=True):
            thread, ns, id = key
            metadata = json.loads(self.rows[key]["metadata"])
            if (
                (body["thread"] is None or thread == body["thread"])
                and (body["ns"] is None or ns == body["ns"])
                and (body["before"] is None or id < body["before"])
                and all(key in metadata and metadata[key] == value for key, value in wanted.items())
            ):
                found.append(self._tuple(key))
        return found[: body["limit"]]

    def _delete_thread(self, body: Body) -> None:
        self._drop(lambda key: key[0] == body["thread"])
        self.blobs = {key: value for key, value in self.blobs.items() if key[0] != body["thread"]}

    def _delete_for_runs(self, body: Body) -> None:
        runs = set(body["runs"])
        self._drop(lambda key: json.loads(self.rows[key]["metadata"]).get("run_id") in runs if key in self.rows else False)

    def _copy_thread(self, body: Body) -> None:
        source, target = body["source"], body["target"]
        for (thread, ns, id), row in list(self.rows.items()):
            if thread == source:
                metadata = json.loads(row["metadata"])
                if metadata.get("thread_id") == source:
                    metadata["thread_id"] = target
                self.rows[target, ns, id] = {**row, "thread": target, "metadata": json.dumps(metadata).encode()}
        for (thread, ns, channel, version), blob in list(self.blobs.items()):
            if thread == source:
                self.blobs[target, ns, channel, version] = blob
        for (thread, ns, id), writes in list(self.writes.items()):
            if thread == source:
                self.writes[target, ns, id] = dict(writes)

    def _prune(self, body: Body) -> None:
        threads = set(body["threads"])
        newest: dict[tuple[str, str], str] = {}
        if body["strategy"] == "keep_latest":
            for thread, ns, id in self.rows:
                newest[thread, ns] = max(id, newest.get((thread, ns), ""))
        self._drop(lambda key: key[0] in threads and newest.get(key[:2]) != key[2])

    def _drop(self, condemned: Any) -> None:
        gone = [key for key in {*self.rows, *self.writes} if condemned(key)]
        for key in gone:
            self.rows.pop(key, None)
            self.writes.pop(key, None)

    def _tuple(self, key: tuple[str, str, str]) -> Body:
        row = self.rows[key]
        versions = json.loads(row["checkpoint"])["channel_versions"]
        blobs = []
        for channel, version in versions.items():
            if (blob := self.blobs.get((*key[:2], channel, str(version)))) is not None:
                blobs.append([channel, str(version), *blob])
        return {**row, "blobs": blobs, "writes": list(self.writes.get(key, {}).values())}


class Items:
    """What `STORE_BATCH` acts on. Time stands still but for its sequence."""

    def __init__(self) -> None:
        self.rows: dict[tuple[tuple[str, ...], str], Body] = {}
        self._clock = 0

    def batch(self, ops: list[Body]) -> list[Any]:
        # A batch reads what was there before it and then writes, as langgraph's own stores do.
        results = [None if op["op"] == "put" else getattr(self, f"_{op['op']}")(op) for op in ops]
        for op in ops:
            if op["op"] == "put":
                self._put(op)
        return results

    def _get(self, op: Body) -> Body | None:
        return self.rows.get((tuple(op["ns"]), op["key"]))

    def _put(self, op: Body) -> None:
        key = (tuple(op["ns"]), op["key"])
        if op["value"] is None:
            self.rows.pop(key, None)
            return
        self._clock += 1
        now = f"2024-01-01T00:00:00.{self._clock:06}Z"
        created = self.rows[key]["created"] if key in self.rows else now
        self.rows[key] = {"ns": op["ns"], "key": op["key"], "value": op["value"], "created": created, "updated": now}

    def _search(self, op: Body) -> list[Body]:
        prefix = tuple(op["ns"])
        wanted = json.loads(op["filter"]) if op["filter"] else {}
        found = [
            row
            for (ns, _), row in self.rows.items()
            if ns[: len(prefix)] == prefix
            and all(json.loads(row["value"]).get(key) == value for key, value in wanted.items())
        ]
        return found[op["offset"] : op["offset"] + op["limit"]]

    def _list(self, op: Body) -> list[list[str]]:
        names = set()
        for ns, _ in self.rows:
            if _fits(ns, op["prefix"] or []) and _fits(ns[::-1], (op["suffix"] or [])[::-1]):
                names.add(ns[: op["max_depth"]])
        return [list(ns) for ns in sorted(names)][op["offset"] : op["offset"] + op["limit"]]


def _fits(ns: tuple[str, ...], pattern: list[str]) -> bool:
    return len(ns) >= len(pattern) and all(want in ("*", have) for want, have in zip(pattern, ns))
