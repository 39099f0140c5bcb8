"""The authenticated user as handlers and nodes see it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

_KEY = "langgraph_auth_user"


class User(dict[str, Any]):
    """A user's fields, as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the user has no `{name}`") from None

    @property
    def identity(self) -> str:
        return self["identity"]

    @property
    def display_name(self) -> str:
        return self.get("display_name") or self.identity

    @property
    def is_authenticated(self) -> bool:
        return self.get("is_authenticated", True)

    @property
    def permissions(self) -> list[Any]:
        return self.get("permissions") or []


def user_of(returned: Any) -> User:
    """The user that an authentication handler names: by an identity, fields, or an object with attributes."""
    if isinstance(returned, str):
        return _complete({"identity": returned})
    if isinstance(returned, Mapping):
        return _complete(dict(returned))
    fields: dict[str, Any] = {}
    if callable(dump := getattr(returned, "model_dump", None)):
        fields.update(dump())
    else:
        fields.update(_attributes(returned))
    for name in ("identity", "display_name", "is_authenticated", "permissions"):
        with contextlib.suppress(NotImplementedError):
            if (value := getattr(returned, name, None)) is not None:
                fields[name] = value
    return _complete(fields)


def _attributes(returned: Any) -> dict[str, Any]:
    """What an object says of itself: slots, properties, and what it was given."""
    names = [
        name
        for base in reversed(type(returned).__mro__)
        for name, member in vars(base).items()
        if isinstance(member, (property, functools.cached_property)) or inspect.ismemberdescriptor(member)
    ]
    fields: dict[str, Any] = {}
    for name in (*names, *getattr(returned, "__dict__", ())):
        # Those of Starlette's base class raise until a class of the project has its own.
        with contextlib.suppress(AttributeError, NotImplementedError):
            if not name.startswith("_"):
                fields[name] = getattr(returned, name)
    return fields


def _complete(fields: dict[str, Any]) -> User:
    identity = fields.get("identity")
    if not isinstance(identity, str):
        raise TypeError("authenticate must return an identity, or something with an `identity` that is a text")
    permissions = fields.get("permissions")
    listed = isinstance(permissions, Iterable) and not isinstance(permissions, (str, Mapping))
    fields["permissions"] = list(permissions) if listed else []
    fields.setdefault("is_authenticated", True)
    fields.setdefault("display_name", identity)
    return User(fields)


def attend(configurable: dict[str, Any]) -> User | None:
    """Give the user in a config attributes; None when there is nobody."""
    fields = configurable.get(_KEY)
    if not isinstance(fields, dict):
        return None
    user = configurable[_KEY] = User(fields)
    return user
