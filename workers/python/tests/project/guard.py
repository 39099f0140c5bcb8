"""Auth objects."""

import threading

from langgraph_sdk import Auth

auth = Auth()
nobody = Auth()
curious = Auth()
closed = Auth()
blocking = Auth()


class Slim:
    __slots__ = ("identity", "_secret")

    def __init__(self):
        self.identity, self._secret = "slim", "s3cret"

    @property
    def org(self):
        return {"id": 7}

    @property
    def display_name(self):
        raise NotImplementedError


ODD = {"instance": Slim(), "integer": 2**64, "surrogate": "\ud800"}


@auth.authenticate
async def authenticate(authorization: str | None, headers: dict, query_params: dict, path_params: dict, method: str):
    if authorization is None:
        raise Auth.exceptions.HTTPException(detail="who are you?", headers={"x": "y"})
    if authorization == "teapot":
        raise Auth.exceptions.HTTPException(status_code=418, detail={"why": "tea"})
    if authorization == "object":
        return type("Person", (), {"identity": "o", "display_name": "O", "permissions": {"p"}, "is_authenticated": True})()
    if authorization == "slots":
        return Slim()
    if authorization in ODD:
        return {"identity": "odd", "org": ODD[authorization]}
    if authorization == "fine":
        raise Auth.exceptions.HTTPException(status_code=200, detail="fine")
    if authorization == "nothing":
        return {"name": "x"}
    if authorization.startswith("secret"):
        raise ValueError(f"bad token {authorization}")
    return {"identity": authorization, "seen": [headers[b"x-odd"].decode("latin-1"), query_params, path_params, method]}


@auth.on
async def anything(ctx, value):
    return None


@auth.on.threads
async def threads(ctx, value):
    assert ctx.user.identity == ctx.user["identity"]
    return {"owner": ctx.user.identity}


@auth.on.threads.create
async def create(ctx, value):
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    value["metadata"]["by"] = list(ctx.permissions)


@auth.on.threads.delete
async def delete(ctx, value):
    return False


@auth.on.threads.update
async def update(ctx, value):
    raise Auth.exceptions.HTTPException(status_code=403, detail="hands off")


@auth.on.store
async def store(ctx, value):
    assert isinstance(value["namespace"], tuple)
    value["namespace"] = (ctx.user.identity, *value["namespace"])


@auth.on.crons
async def crons(ctx, value):
    return 3


@curious.authenticate
async def look(body, request):
    seen = await request.json()
    where = [request.client.host, request.scope["scheme"]]
    known = {"method": request.method, "x": request.headers["x-odd"], "from": where}
    return {"identity": body["name"], "seen": seen, **known}


quick_came = threading.Event()


@blocking.authenticate
def block(authorization):
    if authorization == "quick":
        quick_came.set()
    elif not quick_came.wait(60):
        raise TimeoutError("the quick one did not come")
    return authorization


@closed.authenticate
async def anybody():
    return "someone"


@closed.on.threads.read
async def read(ctx, value):
    return True


@nobody.on
async def never(ctx, value):
    return True


class Odd:
    pass


strange = Auth()


@strange.authenticate
async def ask(weather):
    return "x"
