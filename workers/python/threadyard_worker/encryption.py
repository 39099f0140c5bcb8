"""Custom encryption: asks the handlers of the `langgraph_sdk.Encryption` object that langgraph.json names."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from .loading import GraphLoadError, load_name
from .user import User

Args = dict[str, Any]

_NOBODY = {"identity": "", "display_name": "", "is_authenticated": False, "permissions": []}
# Less than the host waits for an answer, since it takes a process that says nothing for a blocked one.
_ANSWERS_WITHIN_S = 25
# What was asked together is answered together if it is done by then.
_TOGETHER_WITHIN_S = 0.1
_HANDLERS = ("encrypt.blob", "decrypt.blob", "encrypt.json", "decrypt.json")

logger = logging.getLogger(__name__)


class _Wrong(Exception):
    """A handler answered what it may not."""


class CustomEncryption:
    """The user's handlers."""

    def __init__(self, encryption: Any, path: str) -> None:
        self._handlers = {
            "encrypt.blob": encryption._blob_encryptor,
            "decrypt.blob": encryption._blob_decryptor,
            "encrypt.json": encryption.get_json_encryptor(),
            "decrypt.json": encryption.get_json_decryptor(),
        }
        if missing := [name for name in _HANDLERS if self._handlers[name] is None]:
            raise GraphLoadError(
                f"`{path}` has no handler for {', '.join(f'`@encryption.{name}`' for name in missing)}; "
                "without it, a part of what is stored could not be encrypted"
            )
        self._context = encryption._context_handler
        self._told_of_replacements = False
        self._late: dict[int, asyncio.Task[Args]] = {}
        self._tickets = count()
        self.makes_contexts = self._context is not None

    @classmethod
    def load(cls, config: Args, project: Path) -> CustomEncryption:
        """The encryption object that the project configures."""
        try:
            from langgraph_sdk import Encryption
        except ImportError:
            raise GraphLoadError("custom encryption needs langgraph-sdk 0.3.1 or newer") from None
        path = config["path"]
        loaded = load_name(path, project)
        if not isinstance(loaded, Encryption):
            raise GraphLoadError(f"`{path}` is a {type(loaded).__name__}; expected a `langgraph_sdk.Encryption`")
        return cls(loaded, path)

    async def answer(self, op: str, args: bytes) -> bytes:
        """Carry out one call. What a handler raises is an answer, too."""
        said = json.loads(args)
        if op == "encryption_context":
            return _text(await self._guarded("context", self._make_context(said))).encode()
        if op == "late_piece":
            return _text(await self._late.pop(said["ticket"])).encode()
        pieces = [asyncio.ensure_future(self._piece(op, piece)) for piece in said["pieces"]]
        if pieces:
            await asyncio.wait(pieces, timeout=_TOGETHER_WITHIN_S)
        return _text([piece.result() if piece.done() else self._later(piece) for piece in pieces]).encode()

    def _later(self, piece: asyncio.Task[Args]) -> Args:
        """What the host asks for one that takes longer, so that it spoils no other."""
        ticket = next(self._tickets)
        self._late[ticket] = piece
        return {"late": ticket}

    async def _piece(self, op: str, piece: Args) -> Args:
        name = f"{op}.{'blob' if 'blob' in piece else 'json'}"
        return await self._guarded(name, self._handled(name, piece))

    async def _guarded(self, name: str, work: Awaitable[Args]) -> Args:
        """What was done, or what was raised, without the message: that may hold what is to be encrypted."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=_ANSWERS_WITHIN_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            return {"error": {"what": f"{name} did not answer in time", "traceback": ""}}
        try:
            return task.result()
        except _Wrong as wrong:
            return {"error": {"what": f"{name} {wrong}", "traceback": ""}}
        except (Exception, asyncio.CancelledError) as error:
            trace = "".join(traceback.format_tb(error.__traceback__))
            return {"error": {"what": f"{name} raised {type(error).__name__}", "traceback": trace}}

    async def _handled(self, name: str, piece: Args) -> Args:
        from langgraph_sdk import EncryptionContext

        metadata = json.loads(piece["context"])
        context = EncryptionContext(model=piece["model"], metadata=metadata, field=piece["field"])
        if "blob" in piece:
            data = self._plain(await self._handlers[name](context, base64.b64decode(piece["blob"])))
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise _Wrong(f"returned a {type(data).__name__}; expected bytes")
            return {"blob": base64.b64encode(data).decode()}
        return {"json": await self._members(name, self._handlers[name], context, json.loads(piece["json"]))}

    async def _members(self, name: str, handler: Callable[..., Any], context: Any, given: Args) -> Args:
        # Handlers may change what they are given.
        before = {key: _text(value) for key, value in given.items()}
        returned = self._plain(await handler(context, given))
        if not isinstance(returned, dict):
            raise _Wrong(f"returned a {type(returned).__name__}; expected a dict")
        if returned.keys() != before.keys():
            raise _Wrong("added or removed keys; only values may change")
        changed = {}
        for key, value in returned.items():
            try:
                is_same = _text(value) == before[key]
                if not is_same and name == "encrypt.json" and _is_infinite(before[key]):
                    raise _Wrong("changed a number that would not be JSON when it is decrypted, such as `1e999`")
                # What was left alone need not fit into JSON again, such as `1e999`.
                if not is_same or (name == "decrypt.json" and "Infinity" not in before[key]):
                    _text(value, is_strict=True)
                    changed[key] = value
            except (TypeError, ValueError):
                raise _Wrong("returned what is no JSON") from None
        return changed

    def _plain(self, returned: Any) -> Any:
        """What a handler returned; decryption may bring along what is to be stored instead, which nothing here does."""
        if type(returned).__name__ != "DecryptResult":
            return returned
        if returned.replacement is not None and not self._told_of_replacements:
            self._told_of_replacements = True
            logger.warning("a decrypt handler returned a replacement; it is not stored, and the old value stays")
        return returned.plaintext

    async def _make_context(self, args: Args) -> Args:
        from langgraph_sdk import EncryptionContext

        user = User(args["user"] or _NOBODY)
        returned = await self._context(user, EncryptionContext(metadata=args["context"]))
        if not isinstance(returned, dict):
            raise _Wrong(f"returned a {type(returned).__name__}; expected a dict")
        try:
            return {"context": json.loads(_text(returned, is_strict=True))}
        except (TypeError, ValueError):
            raise _Wrong("returned what is no JSON") from None


def _is_infinite(text: str) -> bool:
    if "Infinity" not in text:
        return False
    try:
        _text(json.loads(text), is_strict=True)
    except ValueError:
        return True
    return False


def _text(value: Any, is_strict: bool = False) -> str:
    return json.dumps(value, allow_nan=not is_strict)
