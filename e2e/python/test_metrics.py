"""What Prometheus reads: as its own parsers understand it, by the names that are documented, and without secrets."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from conftest import ROOT, Server, until
from langgraph_sdk import get_sync_client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}

WEBHOOKS = ("webhook_deliveries", "webhook_attempts")
"""Of these there is nothing to tell yet."""

GRAPH = """
import os, time
from pathlib import Path
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    pid: int
    block: str

def work(state):
    return {"pid": os.getpid()}

async def block(state):
    while "block" in state and not Path(state["block"]).exists():
        time.sleep(0.02)

builder = StateGraph(State)
builder.add_node("work", work)
builder.add_node("block", block)
builder.add_edge(START, "work")
builder.add_edge("work", "block")
"""


def scraped(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples, by name and labels."""
    answer = httpx.get(f"{server.url}/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = parse_openmetrics(answer.text)
    return {(it.name, frozenset(it.labels.items())): it.value for family in families for it in family.samples}


def value(server: Server, name: str, **labels: str) -> float | None:
    return scraped(server).get((name, frozenset(labels.items())))


def start(project: Callable[..., Any], serve: Callable[..., Server]) -> Server:
    return serve(project({"work": "./graph.py:builder"}, {"graph.py": GRAPH}))


def test_both_parsers_of_prometheus_read_what_the_documentation_lists(project: Any, serve: Any) -> None:
    server = start(project, serve)
    get_sync_client(url=server.url).runs.wait(None, "work", input={})

    def shown() -> dict[str, Any]:
        text = httpx.get(f"{server.url}/metrics", headers=OPENMETRICS).text
        return {family.name: family for family in parse_openmetrics(text)}

    # The end of a run is told before it is counted.
    until(lambda: "threadyard_run_duration_seconds" in shown(), "no run is counted")
    families = shown()
    assert all(family.documentation and family.type != "unknown" for family in families.values())
    plain = httpx.get(f"{server.url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    described = {family.name: (family.type, bool(family.documentation)) for family in parse_plain(plain.text)}
    # What the older format has no word for, such as `info`, would fail the whole of it in Go.
    assert {kind for kind, _ in described.values()} == {"counter", "gauge", "histogram"}
    assert all(documented for _, documented in described.values()) and len(described) == len(families)

    table = (ROOT / "docs/observability.md").read_text().split("## Metrics")[1].split("## Traces")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `threadyard_")]
    named = {re.sub(r"_(total|info)$", "", name) for row in rows for name in re.findall(r"`(threadyard_\w+)`", row)}
    named |= {f"threadyard_database_connections{rest}" for row in rows for rest in re.findall(r"`…(_\w+)`", row)}
    unseen = {f"threadyard_{name}" for name in ("http_streams", "run_attempts_given_back", *WEBHOOKS)}
    assert named - unseen == set(families), "each is documented, and the other way round"


def test_requests_are_counted_by_route_and_not_by_path(project: Any, serve: Any) -> None:
    server = start(project, serve)
    client = get_sync_client(url=server.url)
    threads = [client.threads.create()["thread_id"] for _ in range(3)]
    for thread in threads:
        client.threads.get(thread)
    httpx.get(f"{server.url}/threads/{'0' * 8}-0000-0000-0000-{'0' * 12}")
    httpx.get(f"{server.url}/no/such/place/c4nary")
    httpx.request("C4NARY", f"{server.url}/threads/{threads[0]}")
    requests = "threadyard_http_requests_total"
    route = "/threads/{thread_id}"
    assert value(server, requests, method="GET", route=route, status="200") == 3
    assert value(server, requests, method="GET", route=route, status="404") == 1
    assert value(server, requests, method="GET", route="none", status="404") == 1
    assert value(server, requests, method="other", route=route, status="405") == 1
    timed = "threadyard_http_request_duration_seconds_count"
    assert value(server, timed, method="GET", route=route, code_class="2xx") == 3
    text = httpx.get(f"{server.url}/metrics").text
    assert "c4nary" not in text.lower() and not any(thread in text for thread in threads)


def test_streams_are_counted_while_somebody_listens(project: Any, serve: Any) -> None:
    server = start(project, serve)
    thread = get_sync_client(url=server.url).threads.create()["thread_id"]
    streams = {"name": "threadyard_http_streams", "kind": "sse"}
    with httpx.stream("GET", f"{server.url}/threads/{thread}/stream", timeout=60):
        until(lambda: value(server, **streams) == 1, "an open stream is not counted")
    until(lambda: value(server, **streams) == 0, "a stream that was left is still counted")


def test_runs_and_workers_are_told_of(project: Any, serve: Any, tmp_path: Path) -> None:
    server = start(project, serve)
    runs = get_sync_client(url=server.url).runs
    pid = runs.wait(None, "work", input={})["pid"]
    until(lambda: value(server, "threadyard_run_duration_seconds_count", status="success") == 1, "no run is counted")
    assert value(server, "threadyard_run_wait_seconds_count") == 1
    assert value(server, "threadyard_workers_replaced_total") == 0
    until(lambda: (value(server, "threadyard_worker_memory_bytes", worker="0") or 0) > 10 << 20, "no memory is told")
    assert value(server, "threadyard_database_connections_limit", purpose="read")

    lag = {"name": "threadyard_worker_event_loop_lag_seconds", "worker": "0"}
    runs.create(None, "work", input={"block": str(tmp_path / "go")})
    until(lambda: (value(server, **lag) or 0) > 0.5, "a blocked event loop is not told of")
    (tmp_path / "go").touch()
    until(lambda: (value(server, **lag) or 0) < 0.5, "a blocked event loop is told of for too long")

    os.kill(pid, signal.SIGKILL)
    until(lambda: value(server, "threadyard_workers_replaced_total") == 1, "a worker that died is not counted")
    assert value(server, "threadyard_worker_runs", worker="1") is None, "the new one has the place of the dead one"
