"""LangGraph's own conformance suite for checkpointers, run by a node of a graph on the real server."""

from typing import Any

import pytest
from langgraph_sdk import get_sync_client

GRAPH = '''
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.config import get_config
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    saver: str
    passed: int
    failures: list[str]
    capabilities: dict[str, Any]


async def check(state: State) -> State:
    served: BaseCheckpointSaver[str] = get_config()["configurable"]["__pregel_checkpointer"]

    @checkpointer_test(name="served")
    async def saver() -> AsyncIterator[BaseCheckpointSaver[str]]:
        yield served

    results = (await validate(saver)).results
    return {
        "saver": type(served).__name__,
        "passed": sum(result.tests_passed for result in results.values()),
        "failures": [str(failure) for result in results.values() for failure in result.failures],
        "capabilities": {name: result.passed for name, result in results.items()},
    }


graph = StateGraph(State).add_node(check).add_edge(START, "check")
'''


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_langgraph_conformance(serve: Any, project: Any, durability: str) -> None:
    server = serve(project({"suite": "./suite.py:graph"}, {"suite.py": GRAPH}))
    client = get_sync_client(url=server.url)
    report = client.runs.wait(None, "suite", input={}, durability=durability)
    assert report["saver"] == "HostSaver"
    assert report["failures"] == []
    capabilities = ("put", "put_writes", "get_tuple", "list", "delete_thread", "delete_for_runs", "copy_thread", "prune")
    assert report["capabilities"] == {name: True for name in capabilities}
    assert report["passed"] > 50
