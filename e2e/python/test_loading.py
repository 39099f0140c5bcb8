"""Graphs in every form that `langgraph.json` may name, and what the project's environment gives them."""

from __future__ import annotations

from typing import Any

import httpx
from langgraph_sdk import get_sync_client

GRAPHS = """
import os
from contextlib import asynccontextmanager
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime


class State(TypedDict, total=False):
    said: str


def saying(text: str) -> StateGraph:
    async def say(state: State) -> State:
        return {"said": f"{text} {os.environ.get('GREETING')}"}

    return StateGraph(State).add_node(say).add_edge(START, "say")


compiled = saying("compiled").compile()
builder = saying("builder")
own_saver = saying("own saver").compile(checkpointer=InMemorySaver())


def factory():
    return saying("factory")


async def async_factory():
    return saying("async factory").compile()


def with_config(config: RunnableConfig):
    return saying("config " + str(config["configurable"].get("who")))


@asynccontextmanager
async def context_manager(config: RunnableConfig):
    yield saying("context manager " + str(config["configurable"].get("who"))).compile()
"""
FORMS = {
    "compiled": "compiled",
    "builder": "builder",
    "own_saver": "own saver",
    "factory": "factory",
    "async_factory": "async factory",
    "with_config": "config ann",
    "context_manager": "context manager ann",
}
FILES = {
    "graphs.py": GRAPHS,
    "package/src/looms/__init__.py": "",
    "package/src/looms/weave.py": "from graphs import saying\n\ngraph = saying('module')\n",
    "package/pyproject.toml": '[project]\nname = "looms"\nversion = "1"\n',
    "broken.py": "def (",
    "absent.py": "graph = None\n",
}


def test_every_form_of_a_graph_is_served(serve: Any, project: Any) -> None:
    graphs: dict[str, Any] = {name: f"./graphs.py:{name}" for name in FORMS}
    graphs["module"] = "looms.weave:graph"
    graphs["described"] = {"path": "./graphs.py:compiled", "description": "says who it is"}
    graphs |= {"broken": "./broken.py:graph", "absent": "./absent.py:grph"}
    folder = project(graphs, FILES, dependencies=[".", "./package"], env={"GREETING": "hello"})
    server = serve(folder)
    client = get_sync_client(url=server.url)
    config = {"configurable": {"who": "ann"}}
    for name, text in {**FORMS, "module": "module", "described": "compiled"}.items():
        said = client.runs.wait(None, name, input={}, config=config)
        assert said == {"said": f"{text} hello"}, (name, said)
    assert client.assistants.search(graph_id="described")[0]["description"] == "says who it is"

    # Its own checkpointer is not used, which is said once.
    thread_id = client.threads.create()["thread_id"]
    for _ in range(2):
        client.runs.wait(thread_id, "own_saver", input={})
    assert len(client.threads.get_history(thread_id)) == 6
    server.wait_for_log("checkpointer")
    assert server.log().count("checkpointer") == 1

    for name, why in {"broken": "SyntaxError", "absent": "grph"}.items():
        answer = httpx.post(f"{server.url}/runs/wait", json={"assistant_id": name, "input": {}})
        assert answer.status_code == 503
        assert f"`{name}`" in answer.json()["detail"] and why in answer.json()["detail"]


def test_an_env_file_is_read(serve: Any, project: Any) -> None:
    files = {**FILES, ".env": "GREETING='from a file'\n"}
    server = serve(project({"builder": "./graphs.py:builder"}, files, env=".env"))
    said = get_sync_client(url=server.url).runs.wait(None, "builder", input={})
    assert said == {"said": "builder from a file"}
