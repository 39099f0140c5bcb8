"""`encryption.path`: what users say is stored as the project's own handlers left it, and is all there for who asks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import SHARED, Receiver, Server, until
from langgraph_sdk import get_sync_client
from services import Database
from test_encryption import GRAPHS, LOCAL_HOOKS, SECRET, readable, readable_tables, refused, use
from websockets.sync.client import connect

HANDLERS = '''
import base64, json, os, time
from langgraph_sdk import Encryption

encryption = Encryption()
CLEAR = {"owner", "graph_id", "assistant_id", "n", "colour"}
LOG = os.environ["CALLS"]


def note(what, ctx):
    with open(LOG, "a") as log:
        log.write(json.dumps([what, ctx.model, ctx.field, ctx.metadata]) + "\\n")


def turned(ctx, data):
    if os.path.exists(LOG + ".broken"):
        raise KeyError("no key for: " + repr(data))
    key = ctx.metadata.get("tenant", "nobody").encode()
    return b"turned(" + key + b")" + bytes(byte ^ 0x5A for byte in data)


def back(ctx, data):
    key = ctx.metadata.get("tenant", "nobody").encode()
    head = b"turned(" + key + b")"
    assert data.startswith(head), "encrypted for somebody else"
    return bytes(byte ^ 0x5A for byte in data[len(head):])


@encryption.encrypt.blob
async def encrypt_blob(ctx, data):
    note("encrypt.blob", ctx)
    return turned(ctx, data)


@encryption.decrypt.blob
async def decrypt_blob(ctx, data):
    note("decrypt.blob", ctx)
    return back(ctx, data)


@encryption.encrypt.json
async def encrypt_json(ctx, data):
    note("encrypt.json", ctx)
    def sealed(value):
        return "enc:" + base64.b64encode(turned(ctx, json.dumps(value).encode())).decode()
    return {key: value if key in CLEAR or value is None else sealed(value) for key, value in data.items()}


@encryption.decrypt.json
async def decrypt_json(ctx, data):
    note("decrypt.json", ctx)
    def opened(value):
        return json.loads(back(ctx, base64.b64decode(value[4:])))
    is_sealed = lambda value: isinstance(value, str) and value.startswith("enc:")
    return {key: opened(value) if is_sealed(value) else value for key, value in data.items()}
'''
CONTEXT = '''

@encryption.context
async def context(user, ctx):
    return {**ctx.metadata, "user": user.identity}
'''
AUTH = '''
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization):
    return {"identity": authorization or "nobody"}
'''


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.drop()


@pytest.fixture
def sealed(project: Callable[..., Path]) -> Path:
    files = {"graph.py": GRAPHS, "enc.py": HANDLERS}
    encryption = {"path": "./enc.py:encryption"}
    return project({"chat": "./graph.py:graph"}, files, webhooks=LOCAL_HOOKS, encryption=encryption)


def header(**context: Any) -> dict[str, str]:
    return {"X-Encryption-Context": base64.b64encode(json.dumps(context).encode()).decode()}


def calls(log: Path) -> list[list[Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def check(server: Server, thread_id: str, run_id: str) -> None:
    """Finds what was said."""
    client = get_sync_client(url=server.url)
    heard = list(client.runs.join_stream(thread_id, run_id, last_event_id="-1"))
    assert any(SECRET in str(part.data) for part in heard), heard
    client.runs.join(thread_id, run_id)
    values = client.threads.get_state(thread_id)["values"]
    assert values["said"].count(f"answer to {SECRET}") == 4, values
    assert client.threads.get(thread_id)["values"]["said"] == values["said"]
    history = client.threads.get_history(thread_id, limit=50)
    assert len(history) >= 12 and all("sealed~" not in str(state) for state in history)
    assert SECRET in str(history)
    run = client.runs.get(thread_id, run_id)
    assert run["kwargs"]["input"]["said"] == [SECRET] and "__encryption_context__" not in str(run)
    assert client.store.get_item(["notes"], key="one")["value"] == {"said": SECRET, "n": 1}
    assert len(client.store.search_items(["notes"], filter={"n": {"$lt": 2}})["items"]) == 1
    cron = client.crons.search()[0]
    assert cron["payload"]["input"]["said"] == [SECRET] and "__encryption_context__" not in str(cron)
    assert "sealed~" not in str(client.threads.search(limit=50)), "all of it is decrypted"


def test_nothing_that_was_said_is_stored_and_all_of_it_is_read_also_after_kill_9(
    sealed: Path,
    serve: Callable[..., Server],
    receiver: Callable[..., Receiver],
    database: Database,
    tmp_path: Path,
) -> None:
    data, flag, hook = tmp_path / "data", tmp_path / "flag", receiver()
    env = {"CALLS": str(tmp_path / "calls"), "LOG_LEVEL": "debug"}
    flags, command = (), "dev"
    if SHARED:
        env |= {"DATABASE_URI": database.uri, "THREADYARD_LEASE_SECS": "3"}
        flags, command = ("--host", "127.0.0.1"), "serve"
    stored = (lambda: readable_tables(database)) if SHARED else (lambda: readable(data))
    server = serve(sealed, *flags, command=command, **env)
    thread_id, run_id = use(server, hook.url, flag)
    server.kill()
    assert stored() == []
    flag.touch()
    server = serve(sealed, *flags, command=command, **env)
    check(server, thread_id, run_id)
    for _ in range(3):
        path, _, body = hook.got.get(timeout=20)
        assert SECRET.replace(" ", "+") in path and SECRET in str(body) and "sealed~" not in str(body)
    server.stop()
    assert stored() == []
    called = {(what, model, field) for what, model, field, _ in calls(tmp_path / "calls")}
    for expected in (
        ("encrypt.blob", "checkpoint", "blob"),
        ("decrypt.blob", "checkpoint", "blob"),
        ("encrypt.blob", "checkpoint", "writes"),
        ("encrypt.json", "checkpoint", "metadata"),
        ("encrypt.json", "thread", "values"),
        ("encrypt.json", "run", "kwargs"),
        ("decrypt.json", "run", "kwargs"),
        ("encrypt.json", "store", "value"),
        ("encrypt.json", "cron", "payload"),
        ("encrypt.blob", "run", "events"),
    ):
        assert expected in called, expected

    if not SHARED:
        # Without the handlers nobody would know what it says.
        config = json.loads((sealed / "langgraph.json").read_text())
        del config["encryption"]
        (sealed / "langgraph.json").write_text(json.dumps(config))
        assert "encryption.path" in refused(sealed, data)


def test_the_context_goes_with_the_data(sealed: Path, serve: Callable[..., Server], tmp_path: Path) -> None:
    (sealed / "enc.py").write_text(HANDLERS + CONTEXT)
    (sealed / "auth.py").write_text(AUTH)
    config = json.loads((sealed / "langgraph.json").read_text())
    config["auth"] = {"path": "./auth.py:auth"}
    (sealed / "langgraph.json").write_text(json.dumps(config))
    server = serve(sealed, CALLS=str(tmp_path / "calls"))
    client = get_sync_client(url=server.url, headers={"authorization": "ann"})
    metadata = {"owner": "me", "note": SECRET}
    threads = {
        tenant: client.threads.create(metadata=metadata, headers=header(tenant=tenant))["thread_id"]
        for tenant in ("blue", "red")
    }
    for tenant, thread_id in threads.items():
        client.runs.wait(thread_id, "chat", input={"said": [tenant]}, headers=header(tenant=tenant))
        client.store.put_item([tenant], key="k", value={"said": tenant}, headers=header(tenant=tenant))
    client.threads.update_state(threads["red"], {"said": ["more"]}, headers=header(tenant="red"))
    # Laid over by somebody who says nothing of a tenant: each part opens for whom it was encrypted.
    client.threads.update(threads["blue"], metadata={"later": SECRET})

    for tenant, thread_id in threads.items():
        thread = client.threads.get(thread_id)
        assert thread["metadata"]["note"] == SECRET and thread["metadata"]["graph_id"] == "chat"
        assert client.threads.get_state(thread_id)["values"]["said"][0] == tenant
        assert client.store.get_item([tenant], key="k")["value"] == {"said": tenant}
    assert client.threads.get(threads["blue"])["metadata"]["later"] == SECRET
    assert len(client.threads.search(metadata={"owner": "me"})) == 2
    assert client.threads.search(metadata={"note": SECRET}) == [], "what is encrypted can't be searched"

    kept = [(what, tuple(context.items())) for what, model, _, context in calls(tmp_path / "calls") if model == "checkpoint"]
    of_runs = {context for what, context in kept if what == "encrypt.blob"}
    assert of_runs == {(("tenant", tenant), ("user", "ann")) for tenant in threads}
    of_items = {tuple(context.items()) for what, model, _, context in calls(tmp_path / "calls") if model == "store" and what == "encrypt.json"}
    assert of_items == of_runs, "also of what graphs remember"
    wrong = httpx.get(f"{server.url}/threads/{threads['red']}", headers={"X-Encryption-Context": "no!", "authorization": "ann"})
    assert wrong.status_code == 422 and "x-encryption-context" in wrong.text


def test_commands_on_a_web_socket_have_its_context(sealed: Path, serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(sealed, CALLS=str(tmp_path / "calls"))
    client, green = get_sync_client(url=server.url), header(tenant="green")
    thread_id = client.threads.create(headers=green)["thread_id"]
    url = f"{server.url.replace('http', 'ws')}/threads/{thread_id}/stream/events"
    with connect(url, additional_headers=green, open_timeout=60) as socket:
        params = {"assistant_id": "chat", "input": {"said": [SECRET]}}
        socket.send(json.dumps({"id": 1, "method": "run.start", "params": params}))
        run_id = json.loads(socket.recv(60))["result"]["run_id"]
        client.runs.join(thread_id, run_id)
    assert client.threads.get_state(thread_id)["values"]["said"][0] == SECRET
    kept = [context for what, model, _, context in calls(tmp_path / "calls") if model == "checkpoint" and "encrypt" in what]
    assert kept and all(context == {"tenant": "green"} for context in kept), kept


def test_what_can_t_be_encrypted_is_not_stored(sealed: Path, serve: Callable[..., Server], tmp_path: Path) -> None:
    broken, flag = tmp_path / "calls.broken", tmp_path / "flag"
    server = serve(sealed, CALLS=str(tmp_path / "calls"))
    client = get_sync_client(url=server.url)
    broken.touch()
    refused = httpx.post(f"{server.url}/threads", json={"metadata": {"note": SECRET}})
    assert refused.status_code == 500
    assert refused.json() == {"detail": "encryption.path: encrypt.json raised KeyError"}
    assert client.threads.search() == []
    broken.unlink()

    thread_id = client.threads.create()["thread_id"]
    run = client.runs.create(thread_id, "chat", input={"said": [SECRET], "wait_for": str(flag)})
    until(lambda: client.store.search_items(["memories"])["items"] != [], "it did not begin")
    until(lambda: len(client.threads.get_history(thread_id)) >= 2, "nothing was saved")
    broken.touch()
    flag.touch()
    until(lambda: client.runs.get(thread_id, run["run_id"])["status"] in ("error", "success"), "it did not end")
    assert client.runs.get(thread_id, run["run_id"])["status"] == "error"
    thread = client.threads.get(thread_id)
    assert thread["status"] == "error" and thread["error"]["error"] == "EncryptionError", thread
    assert "raised KeyError" in thread["error"]["message"]
    broken.unlink()
    state = client.threads.get_state(thread_id)["values"]
    assert f"answer to {SECRET}" not in state.get("said", [])
    again = client.runs.wait(thread_id, "chat", input={"said": ["again"]})
    assert again["said"][-1].startswith("answer to"), "the thread goes on"
    assert SECRET not in server.log(), "the message of a handler may hold what it was given"
    server.stop()
    if not SHARED:
        assert readable(tmp_path / "data") == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("encryption = 1", "expected a `langgraph_sdk.Encryption`"),
        (HANDLERS.split("@encryption.decrypt.json")[0], "no handler for `@encryption.decrypt.json`"),
        (HANDLERS.replace("async def encrypt_blob", "def encrypt_blob"), "must be an async function"),
    ],
)
def test_a_project_with_wrong_handlers_does_not_start(code: str, said: str, sealed: Path, tmp_path: Path) -> None:
    (sealed / "enc.py").write_text(code)
    assert said in refused(sealed, tmp_path / "data", CALLS=str(tmp_path / "calls"))


def test_keys_of_documents_must_stay(sealed: Path, serve: Callable[..., Server], tmp_path: Path) -> None:
    (sealed / "enc.py").write_text(HANDLERS + "\nencryption._json_encryptor = None\n" + '''
@encryption.encrypt.json
async def encrypt_json(ctx, data):
    return {"__encrypted__": "x"}
''')
    server = serve(sealed, CALLS=str(tmp_path / "calls"))
    refused = httpx.put(f"{server.url}/store/items", json={"namespace": ["a"], "key": "k", "value": {"v": SECRET}})
    assert refused.status_code == 500 and "added or removed keys" in refused.text
