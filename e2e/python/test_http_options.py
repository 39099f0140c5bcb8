"""The section `http` of langgraph.json, its variables, and the log of requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from conftest import Server, write_project

GRAPH = """
from langgraph.graph import START, StateGraph

def work(state, config):
    return {"seen": {k: v for k, v in config["configurable"].items() if isinstance(v, str)}}

builder = StateGraph(dict)
builder.add_node("work", work)
builder.add_edge(START, "work")
"""
HTTP = {
    "configurable_headers": {"includes": ["x-my-*"], "excludes": ["x-my-secret"]},
    "logging_headers": {"includes": ["x-my-*"], "excludes": ["x-my-secret"]},
    "mount_prefix": "/my/api",
    "disable_store": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("http")
    project = write_project(folder / "project", {"work": "./graph.py:builder"}, {"graph.py": GRAPH}, http=HTTP, nonsense=1)
    server = PrefixedServer(project, folder / "data", LOG_JSON="true", CORS_ALLOW_ORIGINS="https://ok.test")
    yield server
    server.stop()


class PrefixedServer(Server):
    """One whose routes are below a prefix; only its health is not."""

    def _wait_until_up(self) -> None:
        self.url += "/my/api"
        super()._wait_until_up()


def test_a_run_sees_what_it_should_of_its_request(server: Server) -> None:
    headers = {"x-my-tenant": "t1", "x-my-secret": "s3cret", "x-other": "o", "x-request-id": "rid-7"}
    body = {"assistant_id": "work", "input": {}, "config": {"configurable": {"x-my-tenant": "forged"}}}
    answer = httpx.post(f"{server.url}/runs/wait", json=body, headers=headers)
    seen = answer.json()["seen"]
    assert seen["x-my-tenant"] == "t1" and seen["langgraph_request_id"] == "rid-7"
    assert "x-my-secret" not in seen and "x-other" not in seen
    assert answer.headers["content-location"].startswith("/threads/"), "places have no prefix"

    server.wait_for_log("POST /my/api/runs/wait 200")
    assert "s3cret" not in server.log()
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    line = next(line for line in lines if line["event"].startswith("POST /my/api/runs/wait 200"))
    assert line["request_id"] == "rid-7" and line["method"] == "POST" and line["path"] == "/my/api/runs/wait"
    assert line["level"] == "info" and line["logger"] == "access" and line["status"] == 200
    assert line["headers"] == 'x-my-tenant="t1"' and line["latency_ms"] >= 0 and "timestamp" in line
    assert not any(line["event"].startswith("GET /ok") for line in lines)


def logged(server: Server, event: str) -> dict[str, object]:
    server.wait_for_log(event)
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return next(line for line in lines if line["event"].startswith(event))


def test_the_log_says_what_a_failed_request_was_told(server: Server) -> None:
    refused = httpx.post(f"{server.url}/runs", json={"assistant_id": 7, "c4nary": 1}, params={"token": "c4nary"})
    line = logged(server, "POST /my/api/runs 422")
    assert line["error_detail"] == refused.json()["detail"].splitlines()[0]
    assert (line["proto"], line["status"]) == ("HTTP/1.1", 422) and "c4nary" not in server.log()
    assert "error_detail" not in logged(server, "GET /my/api/info 200")


def test_the_log_says_how_a_run_went(server: Server) -> None:
    httpx.post(f"{server.url}/runs/wait", json={"assistant_id": "work", "input": {}})
    line = logged(server, "run ended")
    assert {"run_id", "thread_id", "assistant_id", "graph_id", "run_attempt"} <= set(line)
    assert line["status"] == "success" and line["run_queue_ms"] >= 0 and line["run_exec_ms"] >= 0


def test_each_line_of_the_log_is_an_object(server: Server) -> None:
    lines = server.log().splitlines()
    assert lines and all({"event", "level", "logger", "timestamp"} <= set(json.loads(line)) for line in lines)


def test_routes_move_and_groups_go(server: Server) -> None:
    root = server.url.removesuffix("/my/api")
    assert httpx.get(f"{root}/ok").json()["ok"] is True
    assert httpx.get(f"{root}/info").status_code == 404
    assert httpx.get(f"{server.url}/store/items").status_code == 404
    moved = httpx.get(server.url)
    assert moved.status_code == 307 and moved.headers["location"] == "/my/api/"


def test_only_named_sites_may_use_it(server: Server) -> None:
    for origin, allowed in (("https://ok.test", "https://ok.test"), ("https://bad.test", None)):
        answer = httpx.get(f"{server.url}/info", headers={"origin": origin})
        assert answer.status_code == 200
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_a_key_that_nobody_knows_is_warned_of(server: Server) -> None:
    server.wait_for_log("`nonsense` is not a key that this server knows")
