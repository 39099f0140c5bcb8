"""API keys and tokens: access without code of the project, and the command that looks after keys."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import services
from conftest import SHARED, Server, make_key, until, write_project
from cryptography.hazmat.primitives.asymmetric import rsa
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import PermissionDeniedError

GRAPH = '''
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    seen: dict


def node(state: State, config: RunnableConfig) -> State:
    known = config["configurable"]
    user = known["langgraph_auth_user_id"]
    # Labels of namespaces can't have periods.
    get_store().put((user.replace(".", "%2E"), "memories"), "k", {"of": user})
    return {"seen": {"id": user, "permissions": list(known["langgraph_auth_permissions"]), "user": known["user_id"]}}


builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
graph = builder.compile()
'''
GRAPHS = {"g": "./g.py:graph"}
RUN = {"assistant_id": "g", "input": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keyed(folder: Path) -> Iterator[Server]:
    server = Server(write_project(folder / "project", GRAPHS, {"g.py": GRAPH}, auth={"keys": True}), folder / "data")
    yield server
    server.stop()


def keys(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = services.shared(data) if SHARED else {}
    command = [os.environ["THREADYARD_BIN"], "keys", *arguments, "--data-dir", str(data)]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)


@pytest.fixture
def client(keyed: Server, folder: Path) -> Iterator[Callable[..., httpx.Client]]:
    opened: list[httpx.Client] = []

    def with_key(name: str, *flags: str) -> httpx.Client:
        headers = {"x-api-key": make_key(folder / "data", name, *flags)}
        opened.append(httpx.Client(base_url=keyed.url, headers=headers, timeout=60))
        return opened[-1]

    yield with_key
    for it in opened:
        it.close()


def test_a_run_sees_who_asked_for_it(client: Callable[..., httpx.Client]) -> None:
    nell = client("nell", "--identity", "nell@example.com", "--scope", "user,assistants:create")
    seen = nell.post("/runs/wait", json=RUN).json()["seen"]
    permissions = ["user", "assistants:create"]
    assert seen == {"id": "nell@example.com", "permissions": permissions, "user": "nell@example.com"}


def test_who_is_not_let_in_hears_how_they_could_be(keyed: Server) -> None:
    ways = ['Bearer realm="threadyard"', 'ApiKey realm="threadyard", header="x-api-key"']
    for headers in ({}, {"x-api-key": "ty_0123456789ab_no"}, {"authorization": "Bearer no"}):
        for path in ("/threads", "/mcp", "/nothing"):
            answer = httpx.post(f"{keyed.url}{path}", json={}, headers=headers)
            assert (answer.status_code, answer.headers.get_list("www-authenticate")) == (401, ways), path
    assert "www-authenticate" not in httpx.get(f"{keyed.url}/info").headers


def test_the_sdk_sends_keys_by_itself(keyed: Server, folder: Path) -> None:
    sdk = get_sync_client(url=keyed.url, api_key=make_key(folder / "data", "sdk", "--scope", "reader"))
    assert sdk.threads.search() == []
    with pytest.raises(PermissionDeniedError, match="needs the scope `threads:create`"):
        sdk.threads.create()


def test_two_keys_of_one_identity_are_one_user(client: Callable[..., httpx.Client]) -> None:
    first, second, other = client("first", "--identity", "ida"), client("second", "--identity", "ida"), client("third")
    thread = first.post("/threads", json={"metadata": {"owner": "somebody"}}).json()
    assert thread["metadata"] == {"owner": "ida"}
    assert second.get(f"/threads/{thread['thread_id']}").status_code == 200
    assert other.get(f"/threads/{thread['thread_id']}").status_code == 404
    stolen = first.patch(f"/threads/{thread['thread_id']}", json={"metadata": {"owner": "third"}})
    assert stolen.json()["metadata"] == {"owner": "ida"}


def test_items_of_graphs_and_clients_are_in_one_place(client: Callable[..., httpx.Client]) -> None:
    mia, moe = client("mia"), client("moe")
    mia.post("/runs/wait", json=RUN).raise_for_status()
    for namespace in ("memories", "mia.memories"):
        found = mia.get("/store/items", params={"namespace": namespace, "key": "k"}).json()
        assert (found["namespace"], found["value"]) == (["mia", "memories"], {"of": "mia"})
        assert moe.get("/store/items", params={"namespace": namespace, "key": "k"}).json() is None
    assert mia.post("/store/namespaces", json={}).json() == {"namespaces": [["mia", "memories"]]}
    assert moe.post("/store/namespaces", json={}).json() == {"namespaces": []}
    assert moe.post("/store/items/search", json={"namespace_prefix": ["mia"]}).json() == {"items": []}


def test_admins_reach_everybodys_things_and_share_assistants(client: Callable[..., httpx.Client]) -> None:
    root, ron = client("root", "--scope", "admin"), client("ron")
    thread = ron.post("/threads", json={}).json()["thread_id"]
    assert root.get(f"/threads/{thread}").json()["metadata"] == {"owner": "ron"}
    given = root.post("/threads", json={"metadata": {"owner": "ron"}}).json()["thread_id"]
    assert ron.get(f"/threads/{given}").status_code == 200
    own = root.post("/assistants", json={"graph_id": "g", "name": "own"}).json()["assistant_id"]
    shared = root.post("/assistants", json={"graph_id": "g", "name": "all", "metadata": {"owner": "*"}}).json()
    named = {it["name"] for it in ron.post("/assistants/search", json={}).json()}
    assert {"all", "g"} <= named and "own" not in named
    assert ron.post("/runs/wait", json={**RUN, "assistant_id": shared["assistant_id"]}).status_code == 200
    assert ron.post("/runs/wait", json={**RUN, "assistant_id": own}).status_code == 404
    assert ron.delete(f"/assistants/{shared['assistant_id']}").status_code == 403


def test_nobody_passes_an_assistant_off_as_everybodys(client: Callable[..., httpx.Client]) -> None:
    eve, tom = client("eve", "--scope", "*"), client("tom")
    for metadata in ({"owner": "*"}, {"created_by": "system"}):
        made = eve.post("/assistants", json={"graph_id": "g", "name": "trap", "metadata": metadata}).json()
        assert made["metadata"] == {"owner": "eve"}
        eve.patch(f"/assistants/{made['assistant_id']}", json={"metadata": metadata}).raise_for_status()
    assert "trap" not in tom.post("/assistants/search", json={}).text


def test_a_revoked_key_is_refused_by_a_running_server_within_seconds(
    client: Callable[..., httpx.Client], folder: Path
) -> None:
    ray = client("ray")
    assert ray.post("/threads", json={}).status_code == 200
    said = keys(folder / "data", "revoke", "ray")
    assert "within 2 seconds" in said.stdout, said.stderr
    begin = time.monotonic()
    until(lambda: ray.post("/threads", json={}).status_code == 401, "a revoked key opens")
    # Nothing else would have the server look again.
    assert time.monotonic() - begin < 30
    assert ray.post("/threads", json={}).json() == {"detail": "Unauthorized: the API key was revoked"}
    assert "was revoked at" in keys(folder / "data", "revoke", ray.headers["x-api-key"][:15]).stderr


def test_keys_end_and_are_listed_without_what_opens(folder: Path, keyed: Server) -> None:
    short = make_key(folder / "data", "short", "--expires", "1s")
    long = make_key(folder / "data", "long", "--expires", "2100-01-01", "--scope", "threads:read,store:*")
    ask = lambda key: httpx.get(f"{keyed.url}/threads/{'0' * 8}-0000-4000-8000-{'0' * 12}", headers={"x-api-key": key})
    until(lambda: "has expired" in ask(short).text, "a key that is over opens")
    assert ask(long).status_code == 404
    unused = make_key(folder / "data", "unused")
    line_of = lambda key: next(it for it in keys(folder / "data", "list").stdout.splitlines() if it.startswith(key[:15]))
    today = time.strftime("%Y-%m-%d", time.gmtime())
    until(lambda: line_of(long).count(today) == 2, lambda: f"that it is used is not noted: {line_of(long)}")
    assert line_of(unused).split()[-2:] == ["-", "valid"]
    listed = keys(folder / "data", "list").stdout
    line = line_of(long)
    assert "threads:read,store:*" in line and "valid until 2100-01-01" in line
    assert "expired" in listed
    for secret in (short[16:], long[16:]):
        assert secret not in listed and secret not in keyed.log()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["create", "x", "--scope", "threads"], "`threads` is no scope"),
        (["create", "x", "--scope", "user,runs:create"], "`runs:create` is no scope"),
        (["create", "x", "--identity", "*"], "names nobody"),
        (["create", "x", "--expires", "soon"], "`soon` is neither a time"),
        (["create", "x", "--expires", "2001-01-01"], "over already"),
        (["create", "taken"], "is called `taken` already"),
        (["revoke", "unknown"], "no key begins with `unknown`"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, keyed: Server, arguments: list[str], complaint: str) -> None:
    keys(folder / "data", "create", "taken")
    done = keys(folder / "data", *arguments)
    assert done.returncode != 0 and complaint in done.stderr, done.stderr


def test_keys_are_made_before_the_first_start(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", GRAPHS, {"g.py": GRAPH}, auth={"keys": True})
    if SHARED:
        env = {**os.environ, **services.shared(tmp_path / "data")}
        subprocess.run([os.environ["THREADYARD_BIN"], "migrate"], env=env, check=True)
    key = make_key(tmp_path / "data", "early")
    server = Server(project, tmp_path / "data")
    try:
        assert httpx.post(f"{server.url}/threads", json={}, headers={"x-api-key": key}).status_code == 200
        document = httpx.get(f"{server.url}/openapi.json").json()
        assert document["security"] == [{"ApiKey": []}]
    finally:
        server.stop()


def test_doctor_says_how_callers_are_told_apart(tmp_path: Path) -> None:
    tokens = {"issuer": "https://id.example.com/", "audience": "threadyard", "scopes_claim": "scope"}
    for auth, expected in [
        (None, "nobody asks who calls"),
        ({"keys": True}, "threadyard keys"),
        ({"keys": True, "jwt": tokens}, "https://id.example.com/"),
        ({"path": "./auth.py:auth"}, "./auth.py:auth"),
    ]:
        config = {"auth": auth} if auth else {}
        project = write_project(tmp_path, GRAPHS, {"g.py": GRAPH}, **config)
        command = [os.environ["THREADYARD_BIN"], "doctor", "--config", str(project / "langgraph.json")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert expected in said.stdout.split("\nAccess\n")[1].split("\n\n")[0], said.stdout


def test_serve_warns_where_nobody_asks_who_calls(serve: Callable[..., Server], tmp_path: Path) -> None:
    warning = "whoever reaches this server may use all of it"
    open_to_all = serve("examples/quickstart", "--host", "0.0.0.0", command="serve")
    open_to_all.wait_for_log(warning)
    open_to_all.stop()
    alone = serve("examples/quickstart", "--host", "127.0.0.1", command="serve", data=tmp_path / "alone")
    alone.wait_for_log("serving")
    assert warning not in alone.log()


class Issuer:
    """An identity provider."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        pages: dict[str, Any] = {"/keys": {"keys": [{**public, "kid": "k", "use": "sig"}]}}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(pages[self.path]).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        pages["/.well-known/openid-configuration"] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def token(self, algorithm: str = "RS256", **claims: Any) -> str:
        usual = {"iss": self.url, "aud": "threadyard", "sub": "auth0|ann.b", "exp": int(time.time()) + 3600}
        key = {"RS256": self.private, "none": None}.get(algorithm, "x" * 64)
        return jwt.encode({**usual, **claims}, key, algorithm=algorithm, headers={"kid": "k"})

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def test_tokens_of_an_identity_provider_open(tmp_path: Path) -> None:
    issuer = Issuer()
    rules = {"issuer": issuer.url, "audience": "threadyard", "scopes_claim": "scope"}
    auth = {"keys": True, "jwt": rules}
    project = write_project(tmp_path / "project", GRAPHS, {"g.py": GRAPH}, auth=auth)
    server = Server(project, tmp_path / "data")

    def ask(token: str, path: str = "/runs/wait", body: Any = RUN) -> httpx.Response:
        return httpx.post(f"{server.url}{path}", json=body, headers={"authorization": f"Bearer {token}"}, timeout=60)

    try:
        ann = issuer.token(scope="openid user")
        seen = ask(ann).json()["seen"]
        assert (seen["id"], seen["permissions"]) == ("auth0|ann.b", ["openid", "user"])
        assert ask(ann, "/store/namespaces", {}).json() == {"namespaces": [["auth0|ann%2Eb", "memories"]]}
        ask(ann, "/threads", {})
        bob = issuer.token(sub="bob", scope="user")
        assert ask(bob, "/threads/search", {}).json() == []
        assert ask(issuer.token(scope="openid")).status_code == 403
        key = make_key(tmp_path / "data", "ann", "--identity", "auth0|ann.b")
        assert len(ask(key, "/threads/search", {}).json()) == len(ask(ann, "/threads/search", {}).json()) > 0
        for token, why in [
            (issuer.token("none"), "neither an API key nor a JWT"),
            (issuer.token("HS256"), "not allowed"),
            (issuer.token(aud="other"), "meant for somebody else"),
            (issuer.token(exp=int(time.time()) - 3600), "has expired"),
            (ann[:-8] + "AAAAAAAA", "signature"),
        ]:
            answer = ask(token)
            assert answer.status_code == 401 and why in answer.json()["detail"], answer.text
        assert ann.split(".")[1] not in server.log()
    finally:
        server.stop()
        issuer.stop()
