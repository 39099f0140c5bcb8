"""The user's HTTP application: loaded, started, and served the requests that the host hands over."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import orjson
from langgraph.errors import EmptyInputError, InvalidUpdateError
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute

from . import frames
from .connection import Connection
from .exchange import Exchange, Message
from .failures import error_body
from .loading import load_name
from .user import User

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_DISCONNECTS: dict[str, Message] = {
    "http": {"type": "http.disconnect"},
    "websocket": {"type": "websocket.disconnect", "code": 1006, "reason": ""},
}
# Not `user`, which middleware sets as well.
_ADMITTED, _REFUSAL = "threadyard.admitted", "threadyard.refusal"
# Of what the host itself asks for, which its own routes must not answer.
_OWN_ONLY = "threadyard.own_only"
_NO_ROUTE = b'{"detail":"Not Found"}'
_NOBODY = {"status": 401, "body": b'{"detail":"Unauthorized"}'}
_log = logging.getLogger(__name__)


class AppLoadError(Exception):
    """What langgraph.json names can't be served as an application."""


class CustomApp:
    """A Starlette or FastAPI application and its open exchanges."""

    def __init__(self, app: Starlette, guarded: bool) -> None:
        self._app = app
        self._guarded = guarded
        self._lifespan = _Lifespan(app)
        self._exchanges: dict[int, Exchange] = {}
        self._connection: Connection | None = None

    @classmethod
    def load(cls, config: dict[str, Any], project: Path) -> CustomApp:
        """Import the application and fit it in front of the host's own routes."""
        app = load_name(config["path"], project)
        if not isinstance(app, Starlette):
            raise AppLoadError(
                f"`{config['path']}` is a {type(app).__name__}; expected a Starlette or FastAPI application"
            )
        custom = cls(app, bool(config.get("guarded")))
        _drop_document_routes(app)
        for error, handler in _HANDLERS.items():
            app.exception_handlers.setdefault(error, handler)
        # Somebody may have called it while it was imported.
        app.middleware_stack = None
        return custom

    async def start(self, connection: Connection) -> dict[str, Any]:
        """Run the beginning of its lifespan; what the host is to know of it."""
        self._connection = connection
        try:
            await self._lifespan.start()
        except (Exception, SystemExit) as error:
            return {"ok": False, "error": error_body(error)}
        # The lifespan may have added some.
        routes = [_route(route) for route in self._app.router.routes]
        self._enclose_routes()
        middleware = bool(self._app.user_middleware)
        return {"ok": True, "routes": routes, "middleware": middleware, "openapi": _openapi(self._app)}

    def _enclose_routes(self) -> None:
        routes = self._app.router.routes
        if self._guarded:
            routes.insert(0, _Guard(routes))
        routes.append(_PassOn(self._pass_on))

    async def stop(self) -> None:
        """Run the end of its lifespan."""
        await self._lifespan.stop()

    def receive(self, kind: int, id: int, body: bytes) -> asyncio.Task[None] | None:
        """A frame of the host; a task when it begins an exchange."""
        if kind == frames.ASGI_OPEN:
            scope = frames.unpack_map(body)
            # What follows may have come with it.
            return asyncio.ensure_future(self._serve(self._open(id, scope["type"]), scope))
        if (exchange := self._exchanges.get(id)) is None:
            return None
        if kind == frames.ASGI_MESSAGE:
            exchange.deliver(frames.unpack_map(body))
        elif kind == frames.ASGI_CREDIT:
            exchange.credit(int.from_bytes(body, "little"))
        else:
            exchange.close()
        return None

    async def _serve(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        failure = None
        try:
            await self._app(self._scope(scope), exchange.receive, exchange.send)
        except (Exception, SystemExit) as error:
            _log.exception("the application failed at %s %s", scope.get("method", "WS"), scope["path"])
            failure = error_body(error)
        finally:
            del self._exchanges[exchange.id]
            exchange.finish(failure)

    def _open(self, id: int, kind: str) -> Exchange:
        assert self._connection is not None
        exchange = self._exchanges[id] = Exchange(id, self._connection, _DISCONNECTS[kind])
        return exchange

    def _scope(self, scope: dict[str, Any]) -> dict[str, Any]:
        scope["asgi"] = dict(_ASGI)
        scope["headers"] = [(name, value) for name, value in scope["headers"]]
        for address in ("client", "server"):
            scope[address] = tuple(scope[address]) if scope[address] else None
        scope["state"] = self._lifespan.state.copy()
        scope[_REFUSAL] = scope.pop("refusal", None)
        scope[_OWN_ONLY] = bool(scope.pop("own_only", False))
        if (fields := scope.pop("user", None)) is not None:
            scope["user"] = user = User(orjson.loads(fields))
            scope["auth"] = AuthCredentials(user.permissions)
            scope[_ADMITTED] = True
        return scope

    async def _pass_on(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Have the host answer with its own routes what the application has none for."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if scope.get(_OWN_ONLY):
            await Response(_NO_ROUTE, 404, media_type="application/json")(scope, receive, send)
            return
        assert self._connection is not None
        exchange = self._open(self._connection.new_id(), "http")
        self._connection.send_map(frames.ASGI_OPEN, exchange.id, _passed_on(scope))
        body = asyncio.ensure_future(_pump(receive, exchange))
        try:
            while True:
                message = await exchange.receive()
                if message["type"] == "http.disconnect":
                    break
                await send(message)
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    break
        finally:
            body.cancel()
            del self._exchanges[exchange.id]
            exchange.finish()


async def _pump(receive: Any, exchange: Exchange) -> None:
    """Pass on what the client sends, until it has left."""
    while True:
        message = await receive()
        await exchange.send(message)
        if message["type"] == "http.disconnect":
            return


def _passed_on(scope: dict[str, Any]) -> dict[str, Any]:
    """A request as middleware has left it."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b""
    # A path that middleware has changed has no raw form.
    raw_path = raw.decode("latin-1") if unquote_to_bytes(raw) == path.encode() else quote(path)
    root = quote(scope.get("root_path") or "")
    return {
        "type": "http",
        "method": scope["method"],
        "path": raw_path.removeprefix(root) or "/",
        "query_string": bytes(scope.get("query_string") or b""),
        "headers": [(bytes(name), bytes(value)) for name, value in scope["headers"]],
        "scheme": scope.get("scheme"),
        "client": scope.get("client"),
    }


class _Guard(BaseRoute):
    """The first route: it takes what another one would, of callers that the host has not let in. Only here is it known
    which route a request leads to: middleware may have changed its path, and patterns are Python's."""

    def __init__(self, routes: list[BaseRoute]) -> None:
        self._routes = routes

    def matches(self, scope: Any) -> tuple[Match, dict[str, Any]]:
        if scope["type"] not in ("http", "websocket") or scope.get(_ADMITTED):
            return Match.NONE, {}
        others = (route for route in self._routes if not isinstance(route, (_Guard, _PassOn)))
        return (Match.FULL if any(route.matches(scope)[0] == Match.FULL for route in others) else Match.NONE), {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        refusal = scope.get(_REFUSAL) or _NOBODY
        answer = Response(refusal["body"], refusal["status"], media_type="application/json")
        for name, value in refusal.get("headers", ()):
            answer.headers.append(name, value)
        await answer(scope, receive, send)


class _PassOn(BaseRoute):
    """The last route: it takes what no other one does, so that partial matches don't end a request either."""

    def __init__(self, pass_on: Any) -> None:
        self._pass_on = pass_on

    def matches(self, scope: Any) -> tuple[Match, dict[str, Any]]:
        return (Match.FULL if scope["type"] in ("http", "websocket") else Match.NONE), {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await self._pass_on(scope, receive, send)


class _Lifespan:
    """The application's lifespan, from the start of the process to its end."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._asked: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        scope = {"type": "lifespan", "asgi": dict(_ASGI), "state": self.state}
        self._task = asyncio.ensure_future(self._app(scope, self._asked.get, self._answers.put))
        answer = await self._ask("lifespan.startup")
        if answer["type"] != "lifespan.startup.complete":
            raise AppLoadError(f"its lifespan failed to start: {answer.get('message', '')}")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            try:
                answer = await self._ask("lifespan.shutdown")
                if answer["type"] == "lifespan.shutdown.failed":
                    _log.error("the application's lifespan failed to end: %s", answer.get("message", ""))
            except Exception:
                _log.exception("the application's lifespan failed to end")

    async def _ask(self, what: str) -> Message:
        assert self._task is not None
        self._asked.put_nowait({"type": what})
        answer = asyncio.ensure_future(self._answers.get())
        done, _ = await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer in done:
            # Starlette raises what it has told of already.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
            return answer.result()
        answer.cancel()
        self._task.result()
        return {"type": "ended", "message": "it ended without an answer"}


def _route(route: BaseRoute) -> dict[str, Any]:
    """What the host compares requests with: a route of an unknown kind takes everything."""
    pattern = route.path_regex.pattern if isinstance(route, (Mount, Route, WebSocketRoute)) else ""
    websocket = not isinstance(route, Route)
    http = not isinstance(route, WebSocketRoute)
    methods = sorted(route.methods) if isinstance(route, Route) and route.methods else None
    return {"pattern": pattern, "methods": methods, "http": http, "websocket": websocket}


def _drop_document_routes(app: Starlette) -> None:
    """FastAPI's own document is part of the host's, which is found at the same places."""
    places = {"/openapi.json", "/docs"} & {getattr(app, name, None) for name in ("openapi_url", "docs_url")}
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) not in places]


def _openapi(app: Starlette) -> bytes | None:
    document = getattr(app, "openapi", None)
    if document is None:
        return None
    try:
        return orjson.dumps(document())
    except Exception:
        _log.exception("the application's OpenAPI document could not be made; its paths are not shown")
        return None


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


async def _value_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, status_code=400)


_HANDLERS: dict[Any, Any] = {
    HTTPException: _http_exception,
    ValueError: _value_error,
    InvalidUpdateError: _value_error,
    EmptyInputError: _value_error,
}
