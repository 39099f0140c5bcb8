"""`encryption.path`: whatever is done with data, handlers change nothing of what is answered."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import SHARED, Receiver, Server, until, write_project
from langgraph_sdk import get_sync_client
from services import Database
from standardwebhooks.webhooks import Webhook
from test_custom_encryption import HANDLERS, calls, header
from test_encryption import KEY, LOCAL_HOOKS, SECRET, key_id, readable, readable_tables, refused
from test_event_streaming import ended, new_thread, of, read
from test_import import imports

GRAPHS = """
import operator, os, time
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.config import get_store, get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    said: Annotated[list[str], operator.add]
    wait_for: str
    fail: bool
    ask: bool
    colour: str


def listen(state: State):
    get_store().put(("memories",), "last", {"said": state["said"][-1], "n": len(state["said"])})
    get_stream_writer()({"heard": state["said"][-1]})
    return {"said": ["heard " + state["said"][-1]], "colour": "blue"}


def answer(state: State):
    flag = state.get("wait_for")
    if flag:
        open(flag + ".waits", "w").close()
        while not os.path.exists(flag):
            time.sleep(0.02)
    if state.get("fail"):
        raise ValueError("failed on " + state["said"][0])
    if state.get("ask"):
        return {"said": ["told " + interrupt({"what": state["said"][0]})]}
    return {"said": ["answer to " + state["said"][0]]}


builder = StateGraph(State).add_node(listen).add_node(answer)
builder.add_edge(START, "listen").add_edge("listen", "answer")
graph = builder.compile()
"""
OPERATOR = "a long random text that only the operator knows"
TENANT = header(tenant="blue")
INNER = {"stream_mode": ["values", "updates", "custom"], "stream_resumable": True}


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.drop()


def place(folder: Path, handlers: str | None = HANDLERS, **more: Any) -> Path:
    """A project with handlers or without."""
    files = {"graph.py": GRAPHS} | ({"enc.py": handlers} if handlers else {})
    config = {"encryption": {"path": "./enc.py:encryption"}} if handlers else {}
    return write_project(folder, {"chat": "./graph.py:graph"}, files, webhooks=LOCAL_HOOKS, **config, **more)


class Alike:
    """What two servers answered, with ids told by the order in which they came and without times."""

    ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
    TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?")

    def __init__(self, places: tuple[str, ...]) -> None:
        self._known: dict[str, str] = {}
        self._places = places

    def of(self, said: Any) -> Any:
        text = json.dumps(said, default=str, sort_keys=True)
        assert "sealed~" not in text and "__encryption_context__" not in text and "enc:" not in text, text
        for place in self._places:
            text = text.replace(place, "<place>")
        text = self.TIME.sub("<time>", text)
        return json.loads(self.ID.sub(lambda id: self._known.setdefault(id[0], f"<id {len(self._known)}>"), text))


class Desk:
    """A client of one server, and what it was answered."""

    def __init__(self, server: Server, folder: Path, hook: Receiver) -> None:
        self.server, self.folder, self.hook = server, folder, hook
        folder.mkdir(parents=True, exist_ok=True)
        self.client = get_sync_client(url=server.url, headers=TENANT)
        self._alike = Alike((str(folder), server.url, hook.url, hook.url.split("?")[0]))
        self.told: list[tuple[str, Any]] = []

    def tell(self, what: str, said: Any) -> Any:
        self.told.append((what, self._alike.of(said)))
        return said

    def raw(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, self.server.url + path, json=body, headers=TENANT, timeout=60)
        return {"status": answer.status_code, "body": answer.json() if answer.content else None}

    def waiting(self, thread: str, name: str, **more: Any) -> tuple[dict[str, Any], Path]:
        """A run in the middle of its work."""
        flag = self.folder / name
        run = self.client.runs.create(thread, "chat", input={"said": [name], "wait_for": str(flag)}, **more)
        until(lambda: Path(f"{flag}.waits").exists(), f"{name} did not begin")
        return run, flag


def stateless_and_batch(desk: Desk) -> None:
    client = desk.client
    desk.tell("stateless", client.runs.wait(None, "chat", input={"said": [SECRET]}))
    parts = [
        (part.event, part.data)
        for part in client.runs.stream(None, "chat", input={"said": ["s"]}, stream_mode=["values", "custom"])
    ]
    desk.tell("stateless stream", [part for part in parts if part[0] != "metadata"])
    made = desk.raw(
        "POST",
        "/runs/batch",
        [{"assistant_id": "chat", "input": {"said": [f"b{n}"]}, "on_completion": "keep"} for n in range(3)],
    )
    assert made["status"] == 200, made
    for run in made["body"]:
        desk.tell("batch", client.runs.join(run["thread_id"], run["run_id"]))
        desk.tell(
            "batch run",
            {key: client.runs.get(run["thread_id"], run["run_id"])[key] for key in ("status", "kwargs", "metadata")},
        )
    desk.tell("failed", client.runs.wait(None, "chat", input={"said": [SECRET], "fail": True}, raise_error=False))


def threads_and_states(desk: Desk) -> None:
    client = desk.client
    thread = client.threads.create(metadata={"owner": "me", "note": SECRET})["thread_id"]
    for word in ("one", "two"):
        desk.tell(
            "wait", client.runs.wait(thread, "chat", input={"said": [word]}, config={"configurable": {"word": word}})
        )
    desk.tell("state", client.threads.get_state(thread))
    history = desk.tell("history", client.threads.get_history(thread, limit=50))
    desk.tell("older", client.threads.get_state(thread, checkpoint=history[3]["checkpoint"]))
    desk.tell("history before", client.threads.get_history(thread, before=history[2]["checkpoint"], limit=2))
    desk.tell("fork", client.runs.wait(thread, "chat", input={"said": ["fork"]}, checkpoint=history[4]["checkpoint"]))
    desk.tell("updated", client.threads.update_state(thread, {"said": ["by hand"]}, as_node="answer"))
    desk.tell("after update", client.threads.get_state(thread))
    copied = desk.raw("POST", f"/threads/{thread}/copy")["body"]["thread_id"]
    desk.tell("copy", client.threads.get(copied))
    desk.tell("copy goes on", client.runs.wait(copied, "chat", input={"said": ["copied"]}))
    desk.tell("copied history", [state["values"] for state in client.threads.get_history(copied, limit=50)])
    desk.tell("source", client.threads.get_state(thread)["values"])
    desk.tell("patched", client.threads.update(thread, metadata={"more": [SECRET]}))
    for query in (
        {"metadata": {"owner": "me"}},
        {"values": {"colour": "blue"}},
        {"values": {"colour": "red"}},
        {"status": "idle"},
    ):
        desk.tell(
            f"search {query}", sorted(json.dumps(it["metadata"]) for it in client.threads.search(**query, limit=50))
        )
        desk.tell(f"count {query}", client.threads.count(**query))
    desk.tell(
        "select", client.threads.search(metadata={"owner": "me"}, select=["values", "metadata"], sort_by="created_at")
    )
    desk.tell(
        "extracted",
        desk.raw(
            "POST",
            "/threads/search",
            {"extract": {"last": "values.said[-1]"}, "metadata": {"owner": "me"}, "sort_by": "created_at"},
        ),
    )
    desk.tell("by metadata", client.threads.get_history(thread, metadata={"source": "update"}))
    desk.tell("pruned", desk.raw("POST", "/threads/prune", {"thread_ids": [copied], "strategy": "keep_latest"}))
    desk.tell("after pruning", [state["values"] for state in client.threads.get_history(copied, limit=50)])
    desk.tell("goes on", client.runs.wait(copied, "chat", input={"said": ["pruned"]}))
    desk.tell("pruned away", desk.raw("POST", "/threads/prune", {"thread_ids": [copied], "strategy": "delete"}))
    desk.tell("gone", desk.raw("GET", f"/threads/{copied}")["status"])
    client.threads.delete(thread)
    desk.tell("deleted", desk.raw("GET", f"/threads/{thread}")["status"])


def interrupts(desk: Desk) -> None:
    client = desk.client
    for resume in ("yes", {"resume": None}):
        thread = client.threads.create()["thread_id"]
        desk.tell("asked", client.runs.wait(thread, "chat", input={"said": [SECRET], "ask": True}))
        desk.tell("waiting", client.threads.get(thread))
        desk.tell("its state", client.threads.get_state(thread))
        if resume == "yes":
            desk.tell("found", len(client.threads.search(status="interrupted")))
            desk.tell("resumed", client.runs.wait(thread, "chat", command={"resume": resume}))
        else:
            desk.tell(
                "updated", client.runs.wait(thread, "chat", command={"update": {"said": ["x"]}, "goto": "listen"})
            )
        desk.tell("after", client.threads.get(thread))
    thread = client.threads.create()["thread_id"]
    desk.tell("before", client.runs.wait(thread, "chat", input={"said": ["b"]}, interrupt_before=["answer"]))
    desk.tell("on", client.runs.wait(thread, "chat", input=None))


def strategies(desk: Desk) -> None:
    client = desk.client
    for strategy in ("interrupt", "rollback", "enqueue"):
        thread = client.threads.create()["thread_id"]
        client.runs.wait(thread, "chat", input={"said": ["first"]})
        run, flag = desk.waiting(thread, f"slow-{strategy}")
        second = client.runs.create(
            thread, "chat", input={"said": ["second"], "wait_for": ""}, multitask_strategy=strategy
        )
        if strategy == "enqueue":
            flag.touch()
        desk.tell(strategy, client.runs.join(thread, second["run_id"]))
        flag.touch()
        desk.tell(
            f"{strategy}, first", desk.raw("GET", f"/threads/{thread}/runs/{run['run_id']}")["body"].get("status")
        )
        desk.tell(f"{strategy}, history", [state["values"] for state in client.threads.get_history(thread, limit=50)])
    for action in ("interrupt", "rollback"):
        thread = client.threads.create()["thread_id"]
        client.runs.wait(thread, "chat", input={"said": ["first"]})
        run, flag = desk.waiting(thread, f"cancelled-{action}")
        client.runs.cancel(thread, run["run_id"], wait=True, action=action)
        flag.touch()
        desk.tell(f"cancelled {action}", client.threads.get_state(thread)["values"])
        desk.tell("values", client.threads.get(thread)["values"])
    thread = client.threads.create()["thread_id"]
    done = client.runs.create(thread, "chat", input={"said": ["deleted"]})
    client.runs.join(thread, done["run_id"])
    client.runs.delete(thread, done["run_id"])
    desk.tell("deleted run", client.runs.list(thread))


def store(desk: Desk) -> None:
    client = desk.client
    for n, colour in enumerate(("red", "blue", "red")):
        client.store.put_item(
            ["things", colour], key=f"k{n}", value={"n": n, "colour": colour, "text": f"{SECRET} {n}"}
        )
    for filter in (
        {"colour": "red"},
        {"n": {"$gte": 1}},
        {"colour": {"$ne": "red"}},
        {"n": 1, "colour": "blue"},
        {"n": {"$in": [0, 2]}},
    ):
        found = desk.raw("POST", "/store/items/search", {"namespace_prefix": ["things"], "filter": filter})
        desk.tell(
            f"filter {filter}",
            found if found["status"] != 200 else sorted(found["body"]["items"], key=lambda it: it["key"]),
        )
    desk.tell("item", client.store.get_item(["things", "red"], key="k0"))
    desk.tell("namespaces", client.store.list_namespaces(prefix=["things"]))
    desk.tell("of a graph", client.store.get_item(["memories"], key="last")["value"])
    client.store.delete_item(["things", "red"], key="k0")
    desk.tell("left", [item["key"] for item in client.store.search_items(["things"])["items"]])


def assistants(desk: Desk) -> None:
    client = desk.client
    made = client.assistants.create(
        "chat", config={"configurable": {"word": SECRET}}, metadata={"owner": "me", "note": SECRET}, name="n"
    )
    desk.tell("assistant", made)
    desk.tell(
        "changed",
        client.assistants.update(
            made["assistant_id"], metadata={"more": SECRET}, config={"configurable": {"word": "other"}}
        ),
    )
    desk.tell("versions", client.assistants.get_versions(made["assistant_id"]))
    desk.tell("found", client.assistants.search(metadata={"owner": "me"}))
    desk.tell("latest", client.assistants.set_latest(made["assistant_id"], 1))
    desk.tell("runs", client.runs.wait(None, made["assistant_id"], input={"said": ["a"]}))


def event_streams(desk: Desk) -> None:
    for given in ({"said": [SECRET]}, {"said": [SECRET], "ask": True}, {"said": [SECRET], "fail": True}):
        thread = new_thread()
        body = {"assistant_id": "chat", "input": given}
        answer = desk.raw("POST", f"/threads/{thread}/commands", {"id": 1, "method": "run.start", "params": body})
        assert answer["body"]["type"] == "success", answer
        heard = read(desk.server.url, thread, ended, headers=TENANT)
        for method in ("values", "updates", "custom", "lifecycle", "tasks", "input"):
            desk.tell(f"events {method}", of(heard, method))
        # Once more, from what was kept.
        assert read(desk.server.url, thread, ended, headers=TENANT) == heard


def hooks(desk: Desk) -> None:
    operator = httpx.Client(base_url=desk.server.url, headers={"authorization": f"Bearer {OPERATOR}"})
    for given in ({"said": [SECRET]}, {"said": [SECRET], "fail": True}, {"said": [SECRET], "ask": True}):
        thread = desk.client.threads.create()["thread_id"]
        desk.client.runs.wait(
            thread, "chat", input=given, webhook=desk.hook.url, metadata={"note": SECRET}, raise_error=False
        )
        _, headers, body = desk.hook.raw.get(timeout=60)
        key = operator.get("/webhooks/secret", params={"origin": desk.hook.url}).json()["key"]
        desk.tell("webhook", Webhook(key).verify(body, headers))
        (listed,) = operator.post("/webhooks/deliveries/search", json={"limit": 1}).json()
        shown = operator.get(f"/webhooks/deliveries/{listed['delivery_id']}/body").text
        assert shown == body


SCENARIOS = (stateless_and_batch, threads_and_states, interrupts, strategies, store, assistants, event_streams, hooks)


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Desk]]:
    """The same project twice, with handlers and without."""
    made = []
    # What searches go by is left in the clear.
    clear = HANDLERS.replace("CLEAR = {", 'CLEAR = {"source", ')
    for name, handlers in (("sealed", clear), ("plain", None)):
        folder = tmp_path_factory.mktemp(name)
        server = Server(
            place(folder / "project", handlers),
            folder / "data",
            CALLS=str(folder / "calls"),
            THREADYARD_OPERATOR_TOKEN=OPERATOR,
        )
        made.append(Desk(server, folder / "flags", Receiver()))
    yield made[0], made[1]
    for desk in made:
        desk.server.stop()
        desk.hook.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_handlers_change_nothing_of_what_is_answered(
    scenario: Callable[[Desk], None], desks: tuple[Desk, Desk]
) -> None:
    for desk in desks:
        desk.told.clear()
        scenario(desk)
    sealed, plain = desks
    assert [what for what, _ in sealed.told] == [what for what, _ in plain.told] != []
    for (what, said), (_, expected) in zip(sealed.told, plain.told, strict=True):
        assert said == expected, what
    assert any(tenant == {"tenant": "blue"} for *_, tenant in calls(sealed.folder.parent / "calls"))


def resumed(serve: Callable[..., Server], folder: Path, handlers: str | None) -> Any:
    project, env = place(folder / "project", handlers), {"CALLS": str(folder / "calls")}
    server = serve(project, data=folder / "data", **env)
    desk = Desk(server, folder / "flags", Receiver())
    thread = desk.client.threads.create()["thread_id"]
    run, flag = desk.waiting(thread, "resumable", **INNER)
    heard = []
    for part in desk.client.runs.join_stream(thread, run["run_id"], last_event_id="-1"):
        heard.append(part)
        if part.event == "updates":
            break
    server.kill()
    flag.touch()
    server = serve(project, data=folder / "data", **env)
    client = get_sync_client(url=server.url, headers=TENANT)
    heard += client.runs.join_stream(thread, run["run_id"], last_event_id=heard[-1].id)
    again = list(client.runs.join_stream(thread, run["run_id"], last_event_id="-1"))
    assert [part.id for part in again] == [part.id for part in heard]
    alike = Alike((str(folder),))
    told = [(part.event, part.data) for part in heard if part.event != "metadata"]
    told = alike.of([told, client.threads.get_state(thread)["values"]])
    server.stop()
    desk.hook.stop()
    return told


def test_a_resumable_stream_is_taken_up_again_after_kill_9(serve: Callable[..., Server], tmp_path: Path) -> None:
    sealed = resumed(serve, tmp_path / "sealed", HANDLERS)
    assert sealed == resumed(serve, tmp_path / "plain", None)
    assert "answer to resumable" in str(sealed)
    if not SHARED:
        assert b"answer to resumable" not in (tmp_path / "sealed/data/threadyard.db").read_bytes()


def test_a_key_and_handlers_are_in_force_together(
    serve: Callable[..., Server], receiver: Callable[..., Receiver], database: Database, tmp_path: Path
) -> None:
    # What a handler leaves in the clear is not in the clear with a key.
    handlers = HANDLERS.replace("CLEAR = {", 'CLEAR = {"said", ')
    project, data = place(tmp_path / "project", handlers), tmp_path / "data"
    env, flags, command = {"CALLS": str(tmp_path / "calls"), "LANGGRAPH_AES_KEY": KEY, "LOG_LEVEL": "debug"}, (), "dev"
    if SHARED:
        env |= {"DATABASE_URI": database.uri, "THREADYARD_LEASE_SECS": "3"}
        flags, command = ("--host", "127.0.0.1"), "serve"
    stored = (lambda: readable_tables(database)) if SHARED else (lambda: readable(data))
    server, hook = serve(project, *flags, command=command, **env), receiver()
    client = get_sync_client(url=server.url, headers=TENANT)
    client.store.put_item(["notes"], key="one", value={"said": SECRET, "n": 1})
    done = client.threads.create()["thread_id"]
    client.runs.wait(done, "chat", input={"said": [SECRET]}, webhook=hook.url)
    client.crons.create("chat", schedule="0 0 1 1 *", input={"said": [SECRET]})
    thread = client.threads.create()["thread_id"]
    flag = tmp_path / "flag"
    run = client.runs.create(thread, "chat", input={"said": [SECRET], "wait_for": str(flag)}, **INNER)
    until(flag.with_suffix(".waits").exists, "it did not begin")
    server.kill()
    assert stored() == []
    flag.touch()
    if not SHARED:
        assert "LANGGRAPH_AES_KEY" in refused(project, data, CALLS=env["CALLS"])
    server = serve(project, *flags, command=command, **env)
    client = get_sync_client(url=server.url, headers=TENANT)
    assert any(SECRET in str(part.data) for part in client.runs.join_stream(thread, run["run_id"], last_event_id="-1"))
    expected = [SECRET, f"heard {SECRET}", f"answer to {SECRET}"]
    for it in (done, thread):
        until(lambda it=it: client.threads.get(it)["status"] == "idle", "it did not end")
        assert client.threads.get(it)["values"]["said"] == client.threads.get_state(it)["values"]["said"] == expected
    assert [item["key"] for item in client.store.search_items(["notes"], filter={"said": SECRET})["items"]] == ["one"]
    assert client.crons.search()[0]["payload"]["input"]["said"] == [SECRET]
    assert SECRET in str(hook.got.get(timeout=60))
    server.stop()
    assert stored() == []


def test_an_import_copies_what_handlers_left_and_has_to_be_told(
    serve: Callable[..., Server], database: Database, tmp_path: Path
) -> None:
    project, data = place(tmp_path / "project"), tmp_path / "data"
    env = {"CALLS": str(tmp_path / "calls")}
    # Both ends are folders here, whatever the others are.
    flags, command = ("--host", "127.0.0.1"), "serve"
    server = serve(project, *flags, command=command, **env)
    client = get_sync_client(url=server.url, headers=TENANT)
    thread = client.threads.create(metadata={"note": SECRET})["thread_id"]
    client.runs.wait(thread, "chat", input={"said": [SECRET]})
    client.store.put_item(["notes"], key="one", value={"said": SECRET, "n": 1})
    before = (client.threads.get(thread), client.threads.get_history(thread))
    server.stop()

    aside = tmp_path / "aside"
    assert "--custom-encryption" in imports(data, aside, code=1).stderr
    called = len(calls(Path(env["CALLS"])))
    for target, more in ((aside, {}), (database.uri, {}), (tmp_path / "keyed", {"LANGGRAPH_AES_KEY": KEY})):
        imports(data, target, "--custom-encryption", **more)
        imports(data, target, "--custom-encryption", "--verify", **more)
    assert len(calls(Path(env["CALLS"]))) == called, "handlers are not asked"
    assert readable(aside) == [] and readable_tables(database) == [] and readable(tmp_path / "keyed") == []

    ends = (
        {"data": aside},
        {"data": tmp_path / "none", "DATABASE_URI": database.uri},
        {"data": tmp_path / "keyed", "LANGGRAPH_AES_KEY": KEY},
    )
    for end in ends:
        server = serve(project, *flags, command=command, **env, **end)
        client = get_sync_client(url=server.url, headers=TENANT)
        assert (client.threads.get(thread), client.threads.get_history(thread)) == before
        assert client.store.get_item(["notes"], key="one")["value"]["said"] == SECRET
        assert client.runs.wait(thread, "chat", input={"said": ["on"]})["said"][-1] == f"answer to {SECRET}"
        server.stop()
    # The target knows of the handlers, too.
    (project / "langgraph.json").write_text((place(tmp_path / "without", None) / "langgraph.json").read_text())
    assert "encryption.path" in refused(project, aside)
    # What no handler has encrypted is copied by who expects handlers, too.
    assert "--custom-encryption" in imports(aside, tmp_path / "once more", code=1).stderr


def test_runs_of_a_cron_have_the_context_of_who_made_it_or_changed_it_last(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    server = serve(place(tmp_path / "project"), CALLS=str(log))
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    cron = client.crons.create_for_thread(
        thread,
        "chat",
        schedule="* * * * * *",
        input={"said": [SECRET]},
        metadata={"note": SECRET},
        headers=header(tenant="blue"),
    )
    until(lambda: len(client.threads.get_history(thread)) > 2, "the cron did not run")

    def contexts(model: str) -> set[str]:
        return {
            str(context.get("tenant"))
            for what, of, _, context in calls(log)
            if of == model and what.startswith("encrypt")
        }

    assert contexts("checkpoint") == contexts("cron") == {"blue"}
    assert contexts("run") == {"blue"}, "also what the run was made from"
    client.crons.update(cron["cron_id"], input={"said": ["another"]}, headers=header(tenant="red"))
    until(lambda: contexts("checkpoint") == {"blue", "red"}, "the cron goes on as before")
    assert client.crons.search()[0]["payload"]["input"]["said"] == ["another"]
    client.crons.delete(cron["cron_id"])
    until(lambda: client.threads.get(thread)["status"] != "busy", "its runs do not end")
    state = client.threads.get_state(thread)["values"]["said"]
    assert state[0] == SECRET and "another" in state
    assert "sealed~" not in str(client.runs.list(thread)) and "__encryption_context__" not in str(
        client.runs.list(thread)
    )


def doctor(project: Path, **env: str) -> str:
    command = [os.environ["THREADYARD_BIN"], "doctor", "--config", str(project / "langgraph.json")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout.split("Encryption", 1)[1].split("\n\n")[0]


def test_doctor_says_what_encrypts(tmp_path: Path) -> None:
    sealed, plain = place(tmp_path / "sealed"), place(tmp_path / "plain", None)
    calls = {"CALLS": str(tmp_path / "calls")}
    assert [line.split() for line in doctor(sealed, **calls).splitlines() if line] == [
        ["at", "rest", "on"],
        ["path", "./enc.py:encryption"],
    ]
    with_key = [line.split() for line in doctor(sealed, LANGGRAPH_AES_KEY=KEY, **calls).splitlines() if line]
    name = key_id(plain, LANGGRAPH_AES_KEY=KEY)
    assert (
        ["key", name] in with_key
        and with_key[-1] == ["path", "./enc.py:encryption"]
        and with_key[0] == ["at", "rest", "on"]
    )
    assert "path" not in doctor(plain) and "off" in doctor(plain)
