"""How values of checkpoints become objects again: LangGraph's serializer, as the project configures it."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

Classes = bool | list[list[str]]


class SerdeError(Exception):
    """The LangGraph of the project does not know what `checkpointer.serde` says."""


def serializer(rules: dict[str, Any] | None) -> SerializerProtocol | None:
    """The serializer for what the host was told; LangGraph's usual one when that is nothing."""
    if rules is None:
        return None
    options: dict[str, Any] = {"pickle_fallback": rules["pickle_fallback"]}
    if (json := rules.get("allowed_json_modules")) is not None:
        options["allowed_json_modules"] = _allowed(json, lambda parts: tuple(parts))
    if (msgpack := rules.get("allowed_msgpack_modules")) is not None:
        options["allowed_msgpack_modules"] = _allowed(msgpack, lambda parts: (".".join(parts[:-1]), parts[-1]))
    try:
        return JsonPlusSerializer(**options)
    except TypeError as error:
        raise SerdeError(f"checkpointer.serde: {error}; a newer langgraph-checkpoint knows it") from error


def _allowed(classes: Classes, key: Any) -> Any:
    """The classes as the serializer looks for them; it takes `None` for those that are safe alone."""
    if isinstance(classes, bool):
        return classes or None
    return [key(".".join(parts).split(".")) for parts in classes] or None
