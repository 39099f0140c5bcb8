"""Who calls is asked once while it is remembered, and again when that is over or the code has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from conftest import Server, until

AUTH = '''
from pathlib import Path

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None, path: str):
    with Path(__file__).with_name("asked.log").open("a") as log:
        log.write(f"{authorization}\\n")
    if authorization == "nobody":
        raise Auth.exceptions.HTTPException(status_code=401, detail="who are you?")
    return {"identity": authorization or "anyone"}


@auth.on.threads.create
async def create(ctx, value):
    value.setdefault("metadata", {})["made_by"] = f"{ctx.user.identity} of ONE"
'''
GRAPH = '''
from typing import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    x: int


graph = StateGraph(State).add_node("n", lambda state: {}).add_edge(START, "n")
'''


class Caller:
    def __init__(self, server: Server, log: Path) -> None:
        self._url, self.server, self._log = server.url, server, log

    def made_by(self, authorization: str | None) -> str | int:
        """Who has made a new thread, or the status of the refusal."""
        headers = {} if authorization is None else {"authorization": authorization}
        answer = httpx.post(f"{self._url}/threads", json={}, headers=headers, timeout=60)
        return answer.json()["metadata"]["made_by"] if answer.is_success else answer.status_code

    def asked(self, authorization: str | None) -> int:
        """How often the handler was asked about this caller."""
        return self._log.read_text().splitlines().count(str(authorization))


def guarded(project: Any, serve: Any, ttl_seconds: int, reload: bool = False) -> tuple[Caller, Path]:
    auth = {"path": "./auth.py:auth", "cache": {"cache_keys": ["authorization"], "ttl_seconds": ttl_seconds}}
    folder = project({"g": "./g.py:graph"}, {"g.py": GRAPH, "auth.py": AUTH, ".gitignore": "*.log\n"}, auth=auth)
    return Caller(serve(folder, reload=reload), folder / "asked.log"), folder


def test_callers_are_remembered_and_refusals_are_not(serve: Any, project: Any) -> None:
    caller, _ = guarded(project, serve, ttl_seconds=600)
    assert {caller.made_by("ann") for _ in range(3)} == {"ann of ONE"} and caller.asked("ann") == 1
    assert caller.made_by("bob") == "bob of ONE" and caller.asked("bob") == 1, "another caller is another one"
    assert {caller.made_by("nobody") for _ in range(2)} == {401} and caller.asked("nobody") == 2
    assert {caller.made_by(None) for _ in range(2)} == {"anyone of ONE"} and caller.asked(None) == 2, "nothing tells them apart"


def test_callers_are_forgotten_in_time(serve: Any, project: Any) -> None:
    caller, _ = guarded(project, serve, ttl_seconds=1)
    caller.made_by("ann")
    until(lambda: caller.made_by("ann") and caller.asked("ann") >= 2, "ann was remembered for too long")


def test_changed_handlers_decide_and_ask_again(serve: Any, project: Any) -> None:
    caller, folder = guarded(project, serve, ttl_seconds=600, reload=True)
    assert caller.made_by("ann") == "ann of ONE" and caller.asked("ann") == 1
    (folder / "auth.py").write_text(AUTH.replace("of ONE", "of TWO").replace('"nobody"', '"ann"'))
    until(lambda: caller.made_by("ann") == 401, "who was remembered is let in by code that is no more")
    assert caller.made_by("bob") == "bob of TWO"
    (folder / "auth.py").write_text("def (")
    caller.server.wait_for_log("SyntaxError")
    assert caller.made_by("bob") == "bob of TWO", "what can't be loaded replaces nothing"
