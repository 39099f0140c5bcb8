"""`encryption.path`: handlers that raise, hang or die cost what they were asked for, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import SHARED, Receiver, Server, until, write_project
from langgraph_sdk import get_sync_client
from test_custom_encryption import HANDLERS, calls, header
from test_custom_encryption_more import GRAPHS
from test_encryption import LOCAL_HOOKS, SECRET, readable

FAULTS = """

import asyncio


async def fault(what, ctx, data):
    try:
        with open(LOG + ".fault") as file:
            wanted = json.load(file)
    except FileNotFoundError:
        return
    if wanted["of"] != [what, ctx.model, ctx.field][: len(wanted["of"])]:
        return
    if not (wanted.get("with") or {}).items() <= (data if isinstance(data, dict) else {}).items():
        return
    if wanted.get("tenant", ctx.metadata.get("tenant")) != ctx.metadata.get("tenant"):
        return
    if wanted.get("once"):
        try:
            os.rename(LOG + ".fault", LOG + ".fault.done")
        except FileNotFoundError:
            return
    open(LOG + ".met", "w").close()
    if wanted["how"] == "hang":
        await asyncio.Event().wait()
    if wanted["how"] == "block":
        time.sleep(1_000_000)
    if wanted["how"] == "die":
        os._exit(3)
    raise KeyError("no key for: " + repr(data))


def faulty(what, handler):
    async def asked(ctx, data):
        await fault(what, ctx, data)
        return await handler(ctx, data)

    return asked


encryption._blob_encryptor = faulty("encrypt.blob", encryption._blob_encryptor)
encryption._blob_decryptor = faulty("decrypt.blob", encryption._blob_decryptor)
encryption._json_encryptor = faulty("encrypt.json", encryption._json_encryptor)
encryption._json_decryptor = faulty("decrypt.json", encryption._json_decryptor)
"""


class Faulty:
    """A server with handlers that can be made to fail."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server, self.client = server, get_sync_client(url=server.url)
        self.log, self._fault, self._met = log, log.with_suffix(".fault"), log.with_suffix(".met")

    def begin(self, *of: str, how: str = "raise", **more: Any) -> None:
        self._met.unlink(missing_ok=True)
        written = self._fault.with_suffix(".new")
        written.write_text(json.dumps({"of": of, "how": how, **more}))
        written.rename(self._fault)

    def met(self) -> bool:
        return self._met.exists()

    def end(self) -> None:
        self._fault.unlink(missing_ok=True)

    def thread(self) -> str:
        """A thread on which something was said before."""
        thread: str = self.client.threads.create()["thread_id"]
        self.client.runs.wait(thread, "chat", input={"said": ["before"]})
        return thread

    def ended(self, thread: str, run: str) -> dict[str, Any]:

        def has_ended() -> bool:
            answer = httpx.get(f"{self.server.url}/threads/{thread}/runs/{run}", timeout=60)
            # Handlers that died are being started again.
            return answer.status_code != 503 and answer.raise_for_status().json()["status"] in ("error", "success")

        until(has_ended, "the run does not end", 120)
        return self.client.runs.get(thread, run)


@pytest.fixture
def faulty(serve: Callable[..., Server], tmp_path: Path) -> Faulty:
    files = {"graph.py": GRAPHS, "steps.py": STEPS, "failing.py": FAILING, "enc.py": HANDLERS + FAULTS}
    graphs = {"chat": "./graph.py:graph", "steps": "./steps.py:graph", "failing": "./failing.py:graph"}
    config = {"encryption": {"path": "./enc.py:encryption"}, "webhooks": LOCAL_HOOKS}
    project = write_project(tmp_path / "project", graphs, files, **config)
    log = tmp_path / "calls"
    return Faulty(serve(project, CALLS=str(log)), log)


# The states a thread goes through: whatever fails, it has one of them.
BEFORE = ["before", "heard before", "answer to before"]
SAID = [*BEFORE, SECRET, f"heard {SECRET}", "answer to before"]


def check_thread(faulty: Faulty, thread: str) -> None:
    """It has one of the states that it went through, and goes on."""
    values = faulty.client.threads.get_state(thread)["values"]
    assert values["said"] == SAID[: len(values["said"])] and values["colour"] == "blue", values
    for state in faulty.client.threads.get_history(thread, limit=50):
        said = state["values"].get("said", [])
        assert said == SAID[: len(said)], state
        assert "heard before" not in said or state["values"].get("colour") == "blue", state
    again = faulty.client.runs.wait(thread, "chat", input={"said": ["again"]})
    # An input that no node has taken yet gives way to the next one.
    kept, new = again["said"][:-3], again["said"][-3:]
    assert len(kept) >= 3 and kept == values["said"][: len(kept)] and new == ["again", "heard again", "answer to before"]
    assert SECRET not in faulty.server.log()


@pytest.mark.parametrize(
    "of",
    [
        ("encrypt.blob", "checkpoint", "blob"),
        ("encrypt.blob", "checkpoint", "writes"),
        ("encrypt.json", "checkpoint", "metadata"),
        ("encrypt.json", "thread", "values"),
        ("encrypt.blob", "thread", "state"),
        ("encrypt.blob", "run", "events"),
    ],
    ids=lambda of: ".".join(of[1:]),
)
@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
def test_a_run_whose_words_can_t_be_encrypted_ends_as_an_error(of: tuple[str, ...], once: bool, faulty: Faulty) -> None:
    thread = faulty.thread()
    faulty.begin(*of, once=once)
    run = faulty.client.runs.create(
        thread, "chat", input={"said": [SECRET]}, stream_mode=["values", "updates"], stream_resumable=True
    )
    ended = faulty.ended(thread, run["run_id"])
    assert faulty.met() and ended["status"] == "error", ended
    failed = faulty.client.threads.get(thread)
    assert failed["status"] == "error" and failed["error"]["error"] == "EncryptionError", failed
    assert f"{of[0]} raised KeyError" in failed["error"]["message"] and SECRET not in str(failed["error"])
    faulty.end()
    check_thread(faulty, thread)


FAILING = """
from graph import State, StateGraph


class EncryptionError(Exception):
    pass


def fail(state: State):
    raise EncryptionError(state["said"][0])


graph = StateGraph(State).add_node(fail).set_entry_point("fail").compile()
"""
STEPS = """
import os, time
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    flag: str
    colours: list[str]
    shapes: list[str]


def wait(path):
    open(path + ".waits", "w").close()
    while not os.path.exists(path):
        time.sleep(0.02)


builder = StateGraph(State)
builder.add_node("paint", lambda state: {"colours": ["blue"]})
builder.add_node("cut", lambda state: {"shapes": ["round"]})
builder.add_node("wait", lambda state: wait(state["flag"]))
builder.add_edge(START, "paint").add_edge("paint", "cut").add_edge("cut", "wait")
graph = builder.compile()
"""


def test_no_checkpoint_stands_on_one_that_was_not_stored(faulty: Faulty) -> None:
    client, flag = faulty.client, faulty.log.with_name("flag")
    thread = client.threads.create()["thread_id"]
    # The colours are stored with this checkpoint, and not with those behind it.
    faulty.begin("encrypt.json", "checkpoint", "metadata", **{"with": {"step": 1}})
    run = client.runs.create(thread, "steps", input={"flag": str(flag)})
    until(flag.with_suffix(".waits").exists, "it did not come to `wait`")

    def encrypted() -> int:
        return sum(call[:3] == ["encrypt.json", "checkpoint", "metadata"] for call in calls(faulty.log))

    until(lambda: faulty.met() and encrypted() >= 3, "the checkpoint behind it was not encrypted")
    client.threads.create()
    flag.touch()
    assert faulty.ended(thread, run["run_id"])["status"] == "error"
    faulty.end()
    for state in client.threads.get_history(thread, limit=50):
        assert "shapes" not in state["values"], "the checkpoint before it is missing"
    assert client.runs.wait(thread, "steps", input={"flag": str(flag)})["colours"] == ["blue"]


def test_what_can_t_be_decrypted_is_an_error_and_spoils_nothing(
    faulty: Faulty, receiver: Callable[..., Receiver]
) -> None:
    client, thread = faulty.client, faulty.thread()
    client.store.put_item(["notes"], key="one", value={"said": SECRET})
    state = client.threads.get_state(thread)
    url, hook = faulty.server.url, receiver()

    def answers(path: str) -> tuple[int, str]:
        answer = httpx.get(url + path, timeout=60)
        assert SECRET not in answer.text and "before" not in answer.text
        return answer.status_code, answer.text

    faulty.begin("decrypt.json")
    for path in (f"/threads/{thread}", f"/threads/{thread}/runs", "/store/items?namespace=notes&key=one"):
        status, text = answers(path)
        assert status == 500 and "decrypt.json raised KeyError" in text, (path, text)
    # A run that nobody can read any more.
    faulty.end()
    flag = faulty.log.with_name("flag")
    slow = client.runs.create(thread, "chat", input={"said": ["slow"], "wait_for": str(flag)})
    until(flag.with_suffix(".waits").exists, "it did not begin")
    waits = client.runs.create(thread, "chat", input={"said": [SECRET], "wait_for": ""}, multitask_strategy="enqueue")
    faulty.begin("decrypt.blob", "checkpoint")
    for path in (f"/threads/{thread}/state", f"/threads/{thread}/history"):
        status, text = answers(path)
        assert status == 500 and "decrypt.blob raised KeyError" in text, (path, text)
    flag.touch()
    assert faulty.ended(thread, slow["run_id"])["status"] == "success"
    ended = faulty.ended(thread, waits["run_id"])
    assert ended["status"] == "error"
    faulty.end()
    after = client.threads.get_state(thread)["values"]["said"]
    assert after == [*state["values"]["said"], "slow", "heard slow", "answer to before"]

    # A delivery is tried again.
    faulty.begin("decrypt.json", "thread", "values")
    client.runs.create(thread, "chat", input={"said": ["told"], "wait_for": ""}, webhook=hook.url)
    faulty.server.wait_for_log("a delivery can't be decrypted")
    faulty.end()
    _, _, body = hook.got.get(timeout=120)
    assert "heard told" in str(body) and "sealed~" not in str(body)


def test_handlers_that_hang_are_told_of_and_hold_up_nobody_else(faulty: Faulty) -> None:
    client, thread = faulty.client, faulty.thread()
    blue, red = header(tenant="blue"), header(tenant="red")
    faulty.begin("encrypt.json", "store", how="hang", tenant="red")
    with ThreadPoolExecutor() as pool:
        item = {"namespace": ["notes"], "key": "one", "value": {"said": SECRET}}
        hanging = pool.submit(httpx.put, f"{faulty.server.url}/store/items", json=item, headers=red, timeout=120)
        until(faulty.met, "nothing hangs")
        client.store.put_item(["notes"], key="two", value={"said": SECRET}, headers=blue)
        assert client.runs.wait(thread, "chat", input={"said": ["on"]}, headers=blue)["said"][-1] == "answer to before"
        assert not hanging.done(), "the others wait for it"
        answer = hanging.result()
    assert answer.status_code == 500 and "in time" in answer.json()["detail"], answer.text
    assert [item["key"] for item in client.store.search_items(["notes"])["items"]] == ["two"]

    faulty.begin("encrypt.blob", "checkpoint", "blob", how="hang", tenant="red")
    run = client.runs.create(thread, "chat", input={"said": [SECRET]}, headers=red)
    assert faulty.ended(thread, run["run_id"])["status"] == "error"
    assert "in time" in client.threads.get(thread)["error"]["message"]
    faulty.end()
    again = client.runs.wait(thread, "chat", input={"said": ["again"]}, headers=red)
    assert again["said"][-3:] == ["again", "heard again", "answer to before"]


def test_a_run_that_is_never_decrypted_holds_up_none_beside_it_and_can_be_stopped(faulty: Faulty) -> None:
    client = faulty.client
    threads = [faulty.thread() for _ in range(4)]
    faulty.begin("decrypt.json", "run", how="hang", tenant="red")
    # They are due at the same moment, so that the handlers are asked about all of them together.
    stuck, *others = [
        client.runs.create(thread, "chat", input={"said": ["on"]}, after_seconds=2, headers=header(tenant=tenant))
        for thread, tenant in zip(threads, ("red", "blue", "blue", "blue"))
    ]
    for run in others:
        assert faulty.ended(run["thread_id"], run["run_id"])["status"] == "success"
    until(faulty.met, "nothing hangs")
    client.runs.cancel(threads[0], stuck["run_id"])
    faulty.end()
    until(lambda: client.runs.get(threads[0], stuck["run_id"])["status"] == "interrupted", "it is not stopped")
    assert client.runs.wait(threads[0], "chat", input={"said": ["more"]})["said"][-2] == "heard more"


def test_handlers_that_die_are_started_again_and_a_run_goes_on(faulty: Faulty) -> None:
    thread = faulty.thread()
    faulty.begin("encrypt.blob", "checkpoint", "blob", how="die", once=True)
    run = faulty.client.runs.create(thread, "chat", input={"said": [SECRET]})
    assert faulty.ended(thread, run["run_id"])["status"] == "success"
    assert faulty.met() and faulty.client.threads.get_state(thread)["values"]["said"] == SAID


def test_handlers_that_block_their_process_are_replaced(faulty: Faulty) -> None:
    def put() -> int:
        item = {"namespace": ["notes"], "key": "one", "value": {"said": SECRET}}
        return httpx.put(f"{faulty.server.url}/store/items", json=item, timeout=120).status_code

    faulty.begin("encrypt.json", "store", how="block", once=True)
    assert put() == 500 and faulty.met()
    until(lambda: put() == 204, "the process is blocked for ever", 120)


def forged(said: Any, **context: Any) -> str:
    """What looks as if handlers had encrypted it for somebody else."""

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    label = json.dumps({"k": "j", "m": "thread", "f": "values", "c": context}).encode()
    turned = b"turned(blue)" + bytes(byte ^ 0x5A for byte in json.dumps(said).encode())
    return f"sealed~1:{text(label)}.{text(turned)}"


@pytest.mark.parametrize(
    "text", ["sealed~1:no.no", forged("read for others", tenant="blue")], ids=["nonsense", "forged"]
)
def test_nobody_has_handlers_decrypt_what_they_did_not_encrypt(text: str, faulty: Faulty) -> None:
    client = faulty.client
    thread = client.threads.create()["thread_id"]
    names = ("graph_id", "assistant_id", "thread_id", "run_id", "traceparent", "tracestate", "a2a_task_id", "other")
    metadata = dict.fromkeys(names, text)
    made = client.threads.create(metadata=metadata)
    assert made["metadata"] == metadata
    assert metadata in [it["metadata"] for it in client.threads.search()], "one row spoils nothing for others"
    assistant = client.assistants.create("chat", metadata=metadata, config={"tags": [text]})
    assert text in str(client.assistants.search()) and assistant["metadata"]["other"] == text
    client.crons.create("chat", schedule="0 0 1 1 *", input={"said": [text]}, metadata=metadata)
    assert client.crons.search()[0]["payload"]["input"]["said"] == [text]
    client.store.put_item(["notes"], key=text, value={"said": text, "n": text})
    assert client.store.search_items(["notes"])["items"][0]["value"] == {"said": text, "n": text}

    config = {"configurable": {"cron_id": text, "word": text}, "tags": [text]}
    values = client.runs.wait(thread, "chat", input={"said": [text]}, config=config, metadata=metadata)
    assert values["said"] == [text, f"heard {text}", f"answer to {text}"]
    assert client.threads.get_state(thread)["values"] == client.threads.get(thread)["values"] == values
    assert len(client.runs.list(thread)) == 1
    for names in ("interrupt_before", "interrupt_after", "feedback_keys"):
        body = {"assistant_id": "chat", "input": {"said": ["x"]}, names: [text]}
        answer = httpx.post(f"{faulty.server.url}/threads/{thread}/runs", json=body, timeout=60)
        assert answer.status_code < 500, answer.text
        assert httpx.get(f"{faulty.server.url}/threads/{thread}/runs", timeout=60).status_code == 200
    assert "read for others" not in str(client.threads.search(limit=50)) + str(client.runs.list(thread))


def test_errors_of_graphs_are_encrypted_whatever_their_class_is_called(faulty: Faulty, tmp_path: Path) -> None:
    thread = faulty.client.threads.create()["thread_id"]
    run = faulty.client.runs.create(thread, "failing", input={"said": [SECRET]})
    assert faulty.ended(thread, run["run_id"])["status"] == "error"
    assert SECRET in faulty.client.threads.get(thread)["error"]["message"]
    faulty.server.stop()
    if not SHARED:
        assert readable(tmp_path / "data") == []
