"""`dev` loads changed code: new runs use it, running ones end with the old, and broken code changes nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from conftest import Server, until
from langgraph_sdk import get_sync_client

GRAPH = """
import asyncio, os
from pathlib import Path
from typing import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    gate: str
    said: str
    pid: int


async def speak(state: State) -> State:
    if "gate" in state:
        Path(state["gate"] + ".waits").touch()
    while state.get("gate") and not Path(state["gate"]).exists():
        await asyncio.sleep(0.02)
    return {"said": "ONE", "pid": os.getpid()}


graph = StateGraph(State).add_node(speak).add_edge(START, "speak")
"""


def said(server: Server) -> dict[str, Any]:
    return get_sync_client(url=server.url).runs.wait(None, "speaker", input={})


def test_changed_code_is_used_by_new_runs_and_broken_code_by_none(serve: Any, project: Any, tmp_path: Path) -> None:
    folder = project({"speaker": "./speaker.py:graph"}, {"speaker.py": GRAPH, ".gitignore": "ignored/\n"})
    server = serve(folder, reload=True)
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    first = said(server)
    assert first["said"] == "ONE"

    gate, result = tmp_path / "gate", []
    waiting = {"gate": str(gate)}
    run = threading.Thread(target=lambda: result.append(client.runs.wait(thread_id, "speaker", input=waiting)))
    run.start()
    until((tmp_path / "gate.waits").exists, "the run did not start")

    (folder / "speaker.py").write_text(GRAPH.replace("ONE", "TWO"))
    until(lambda: said(server)["said"] == "TWO", lambda: f"the change was not loaded:\n{server.log()}")
    second = said(server)
    assert second["pid"] != first["pid"]

    gate.touch()
    run.join(60)
    assert result[0]["said"] == "ONE", "a running run ends with the code it began with"
    assert client.threads.get(thread_id)["values"]["said"] == "ONE"

    (folder / "speaker.py").write_text("def (")
    server.wait_for_log("going on with what was loaded before")
    server.wait_for_log("SyntaxError")
    assert said(server) == second

    (folder / "ignored").mkdir()
    (folder / "ignored" / "notes.py").write_text("x = 1")
    (folder / "speaker.py").write_text(GRAPH.replace("ONE", "THREE"))
    until(lambda: said(server)["said"] == "THREE", lambda: f"the repair was not loaded:\n{server.log()}")


def test_what_git_ignores_and_our_own_state_reload_nothing(serve: Any, project: Any) -> None:
    files = {"speaker.py": GRAPH, ".gitignore": "ignored/\n", "ignored/notes.py": "x = 1"}
    folder = project({"speaker": "./speaker.py:graph"}, files)
    server = serve(folder, data=folder / ".threadyard", reload=True)
    first = said(server)
    (folder / "ignored/notes.py").write_text("x = 2")
    (folder / ".threadyard/notes.py").write_text("x = 2")
    # Reloads are in order: when this one is done, one for the files above would have been.
    (folder / "speaker.py").write_text(GRAPH.replace("ONE", "TWO"))
    server.wait_for_log("the code has changed")
    assert server.log().count("workers ready") == 2
    until(lambda: said(server)["pid"] != first["pid"], "new runs do not use it")
