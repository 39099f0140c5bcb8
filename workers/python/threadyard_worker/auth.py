"""Custom auth: asks the handlers of the `langgraph_sdk.Auth` object that langgraph.json names."""

from __future__ import annotations

import asyncio
import base64
import inspect
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from langgraph_sdk import Auth
from langgraph_sdk.auth.types import AuthContext

from .encoding import exact_json, to_json
from .failures import AuthFailed
from .loading import GraphLoadError, load_name
from .user import User, user_of

Args = dict[str, Any]

_BODIES = frozenset({"body", "request"})
_KNOWN = frozenset({"request", "body", "path", "method", "path_params", "query_params", "headers", "authorization"})


class CustomAuth:
    """The user's handlers."""

    def __init__(self, auth: Auth, path: str, deny: bool) -> None:
        self._auth = auth
        self._deny = deny
        handler = auth._authenticate_handler
        if handler is None:
            raise GraphLoadError(f"`{path}` has no `@auth.authenticate` handler")
        self._authenticate = handler
        self._wanted = _parameters(handler, path)
        self.reads_bodies = not _BODIES.isdisjoint(self._wanted)

    @classmethod
    def load(cls, config: Args, project: Path) -> CustomAuth:
        """The auth object that the project configures."""
        path = config["path"]
        loaded = load_name(path, project)
        if not isinstance(loaded, Auth):
            raise GraphLoadError(f"`{path}` is a {type(loaded).__name__}; expected a `langgraph_sdk.Auth`")
        return cls(loaded, path, bool(config.get("deny")))

    async def answer(self, op: str, args: Args) -> bytes:
        """Carry out one call. What a handler refuses is an answer, too."""
        try:
            said = await (self._user(args) if op == "authenticate" else self._verdict(args))
        except Exception as error:
            if (status := _http_status(error)) is None:
                raise AuthFailed(error) from None
            said = _refused(status, getattr(error, "detail", None), getattr(error, "headers", None))
        return _exactly(said)

    async def _user(self, args: Args) -> Args:
        request = _Request(args)
        given = {name: getattr(request, name)() for name in self._wanted}
        # The loop is there for all callers, whatever one of them waits for.
        in_loop = inspect.iscoroutinefunction(self._authenticate)
        returned = self._authenticate(**given) if in_loop else await asyncio.to_thread(self._authenticate, **given)
        if inspect.isawaitable(returned):
            returned = await returned
        return {"user": dict(user_of(returned))}

    async def _verdict(self, args: Args) -> Args:
        resource, action = args["resource"], args["action"]
        handler = self._handler(resource, action)
        if handler is None:
            return _refused(403, "Forbidden") if self._deny else {"edits": {}, "filter": None}
        user = User(args["user"])
        context = AuthContext(user=user, permissions=user.permissions, resource=resource, action=action)
        value = _as_handlers_know(resource, args["value"])
        before = {key: to_json(part) for key, part in value.items()}
        verdict = await handler(ctx=context, value=value)
        if verdict is False:
            return _refused(403, "Forbidden")
        if verdict is not None and verdict is not True and not isinstance(verdict, dict):
            raise TypeError(f"an authorization handler returned a {type(verdict).__name__}; expected None, a bool, or a filter")
        edits = {key: part for key, part in value.items() if before.get(key) != to_json(part)}
        return {"edits": edits, "filter": verdict if isinstance(verdict, dict) else None}

    def _handler(self, resource: str, action: str) -> Any:
        handlers = self._auth._handlers
        for key in ((resource, action), (resource, "*"), ("*", action)):
            if found := handlers.get(key):
                return found[-1]
        return self._auth._global_handlers[-1] if self._auth._global_handlers else None


class _Request:
    """What handlers of `@auth.authenticate` may ask for by name."""

    def __init__(self, args: Args) -> None:
        self._args = args
        self._headers = [(name.encode(), base64.b64decode(value)) for name, value in args["headers"]]
        body = args.get("body")
        self._body = b"" if body is None else base64.b64decode(body)

    def method(self) -> str:
        return self._args["method"]

    def path(self) -> str:
        return self._args["path"]

    def path_params(self) -> dict[str, str]:
        return self._args["path_params"]

    def query_params(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self._args["query"], keep_blank_values=True))

    def headers(self) -> dict[bytes, bytes]:
        return dict(self._headers)

    def authorization(self) -> str | None:
        value = dict(self._headers).get(b"authorization")
        return None if value is None else value.decode("latin-1")

    def body(self) -> Any:
        """The parsed body; None when there is none, or it is no JSON."""
        try:
            return orjson.loads(self._body) if self._body else None
        except orjson.JSONDecodeError:
            return None

    def request(self) -> Any:
        try:
            from starlette.requests import Request
        except ImportError:
            raise RuntimeError("`request` needs starlette, which the project's environment does not have") from None
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": self.method(),
            "scheme": self._args.get("scheme") or "http",
            "client": tuple(client) if (client := self._args.get("client")) else None,
            "path": self.path(),
            "raw_path": self.path().encode(),
            "root_path": "",
            "query_string": self._args["query"].encode(),
            "headers": self._headers,
            "path_params": self.path_params(),
            "state": {},
        }
        body = self._body

        async def receive() -> Args:
            return {"type": "http.request", "body": body, "more_body": False}

        return Request(scope, receive)


def _parameters(handler: Any, path: str) -> list[str]:
    """What the handler asks for. A parameter that nobody knows needs a default."""
    wanted = []
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in _KNOWN:
            wanted.append(parameter.name)
        elif parameter.default is parameter.empty:
            known = ", ".join(sorted(_KNOWN))
            raise GraphLoadError(f"the authenticate handler of `{path}` asks for `{parameter.name}`; known are {known}")
    return wanted


def _as_handlers_know(resource: str, value: Args) -> Args:
    """The value as handlers find it: namespaces are tuples."""
    if resource == "store":
        for key in ("namespace", "suffix"):
            if isinstance(value.get(key), list):
                value[key] = tuple(value[key])
    return value


def _exactly(said: Args) -> bytes:
    """The answer as JSON. What decides about access must not become something else on its way."""
    try:
        return exact_json(said)
    except TypeError as error:
        raise AuthFailed(error, f"what an auth handler says has no form in JSON: {error}") from None


def _http_status(error: Exception) -> int | None:
    """The status of an exception that refuses: the SDK's, or one of a web framework, such as Starlette's."""
    if not any(base.__name__ == "HTTPException" for base in type(error).__mro__):
        return None
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and 400 <= status <= 599 else None


def _refused(status: int, detail: Any, headers: Any = None) -> Args:
    """A refusal, with the further headers that its answer shall have."""
    named = [(str(name), str(value)) for name, value in headers.items()] if isinstance(headers, Mapping) else []
    return {"refused": {"status": status, "detail": detail if isinstance(detail, str) else str(detail), "headers": named}}
