"""The host's calls: reading and changing thread state, schemas, drawings, access."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from langgraph.errors import EmptyInputError, InvalidUpdateError
from langgraph.types import StateUpdate

from .connection import Connection
from .encoding import to_json
from .failures import AuthFailed, error_body
from .graphs import Access, Graphs, UnknownGraph, Use
from .index import Index
from .run import make_command
from .saver import ForeignThread
from .schemas import drawing, graph_schemas, subgraph_schemas
from .scope import Scope, current
from .state import open_interrupts, read_state, thread_state
from .stream import coordinates

if TYPE_CHECKING:
    from .auth import CustomAuth
    from .custom_app import CustomApp
    from .encryption import CustomEncryption

Args = dict[str, Any]


@dataclass
class Extras:
    """What a worker may have besides graphs."""

    index: Index | None = None
    auth: CustomAuth | None = None
    encryption: CustomEncryption | None = None
    app: CustomApp | None = None


class UnknownOperation(Exception):
    """The host asked for an operation that this worker does not have."""


class BadRequest(Exception):
    """The caller of the API is at fault."""


async def answer(
    id: int, body: dict[str, Any], graphs: Graphs, extras: Extras, connection: Connection
) -> None:
    """Carry out one `CALL` and reply to it."""
    current.set(Scope(slot=id))
    try:
        result = await _result(body, graphs, extras)
    except BaseException as error:
        failure = error.body if isinstance(error, AuthFailed) else error_body(error)
        connection.reply_error(id, {**failure, "status": _status(error)})
        if isinstance(error, asyncio.CancelledError):
            raise
    else:
        connection.reply(id, result)


async def _result(body: dict[str, Any], graphs: Graphs, extras: Extras) -> bytes:
    op = body["op"]
    if op == "embed":
        return await _embed(body, extras.index)
    if op in ("authenticate", "authorize"):
        if extras.auth is None:
            raise UnknownOperation("this worker decides about no access: it has no auth object")
        return await extras.auth.answer(op, orjson.loads(body["args"]))
    if op in ("encrypt", "decrypt", "late_piece", "encryption_context"):
        if extras.encryption is None:
            raise UnknownOperation("this worker encrypts nothing: it has no encryption object")
        return await extras.encryption.answer(op, body["args"])
    return await _carry_out(body, graphs)


async def _embed(body: dict[str, Any], index: Index | None) -> bytes:
    if index is None:
        raise UnknownOperation("nothing can be embedded: the project has no `store.index`")
    args = orjson.loads(body["args"])
    if "query" in args:
        return to_json([await index.of_query(args["query"])])
    return to_json(await index.of_texts(index.texts(args["value"], args.get("fields"))))


async def _carry_out(body: dict[str, Any], graphs: Graphs) -> bytes:
    op, args = body["op"], orjson.loads(body["args"])
    if op not in _OPERATIONS:
        raise UnknownOperation(f"no operation `{op}`")
    operation, access = _OPERATIONS[op]
    config = args.get("config") or {}
    config.setdefault("configurable", {}).setdefault("graph_id", body["graph"])
    async with graphs.open(body["graph"], access, config) as use:
        return to_json(await operation(use, config, args))


async def _state_get(use: Use, config: Args, args: Args) -> Any:
    state = thread_state(await use.graph.aget_state(config, subgraphs=bool(args.get("subgraphs"))))
    if "checkpoint_ns" not in config["configurable"] and config["configurable"].get("checkpoint_id"):
        # Upstream: a checkpoint asked for by its bare id is named without a namespace.
        state["checkpoint"].pop("checkpoint_ns", None)
    return state


async def _state_history(use: Use, config: Args, args: Args) -> Any:
    before = args.get("before")
    before_config = {"configurable": {**config["configurable"], "checkpoint_id": before}} if before else None
    history = use.graph.aget_state_history(
        config, filter=args.get("filter"), before=before_config, limit=args.get("limit")
    )
    return [thread_state(snapshot) async for snapshot in history]


async def _state_update(use: Use, config: Args, args: Args) -> Any:
    try:
        changed = await use.graph.aupdate_state(config, args.get("values"), as_node=args.get("as_node"))
    except (TypeError, ValueError, KeyError) as error:
        raise BadRequest(f"the update does not fit the graph: {type(error).__name__}: {error}") from error
    return await _written(use, config, changed)


async def _state_replay(use: Use, config: Args, args: Args) -> Any:
    try:
        supersteps = [[_update(update) for update in superstep["updates"]] for superstep in args["supersteps"]]
        changed = await use.graph.abulk_update_state(config, supersteps)
    except (TypeError, ValueError, KeyError) as error:
        raise BadRequest(f"the supersteps do not fit the graph: {type(error).__name__}: {error}") from error
    return await _written(use, config, changed)


def _update(update: Args) -> StateUpdate:
    command = update.get("command")
    values = update.get("values") if command is None else make_command(command)
    return StateUpdate(values=values, as_node=update["as_node"])


async def _written(use: Use, config: Args, changed: Args) -> Any:
    snapshot = await read_state(use.graph, config["configurable"]["thread_id"])
    return {
        "config": {"configurable": coordinates(changed)},
        "state": thread_state(snapshot),
        "interrupts": open_interrupts(snapshot),
        "next": bool(snapshot.next),
    }


async def _schemas(use: Use, config: Args, args: Args) -> Any:
    return {"graph_id": config["configurable"]["graph_id"], **graph_schemas(use.graph)}


async def _draw(use: Use, config: Args, args: Args) -> Any:
    return await drawing(use.graph, config, args.get("xray") or False)


async def _subgraphs(use: Use, config: Args, args: Args) -> Any:
    return await subgraph_schemas(use.graph, args.get("namespace"), bool(args.get("recurse")))


_OPERATIONS: dict[str, tuple[Any, Access]] = {
    "state_get": (_state_get, "threads.read"),
    "state_history": (_state_history, "threads.read"),
    "state_update": (_state_update, "threads.update"),
    "state_replay": (_state_replay, "threads.update"),
    "schemas": (_schemas, "assistants.read"),
    "draw": (_draw, "assistants.read"),
    "subgraphs": (_subgraphs, "assistants.read"),
}


def _status(error: BaseException) -> int | None:
    if isinstance(error, UnknownGraph):
        return 404
    if isinstance(error, (InvalidUpdateError, EmptyInputError, BadRequest, ForeignThread)):
        return 400
    return None
