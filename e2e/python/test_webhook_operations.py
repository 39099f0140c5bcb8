"""Running webhooks: receivers and how they fare, trying one, metrics, switching off, and what an outage leaves."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

import httpx
from conftest import ROOT, Server, free_port, until
from langgraph_sdk import get_sync_client

REVIEW = {"topic": "looms"}


def threadyard(*arguments: str) -> str:
    done = subprocess.run([os.environ["THREADYARD_BIN"], *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metrics(server: Server) -> dict[str, float]:
    """The samples that have a value."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples if float(value)}


def run_for(server: Server, url: str, count: int = 1) -> list[str]:
    runs = get_sync_client(url=server.url).runs
    return [runs.create(None, "review", input=REVIEW, webhook=url)["run_id"] for _ in range(count)]


def destination(server: Server, url: str) -> dict[str, Any]:
    found = httpx.get(f"{server.url}/webhooks/destinations").json()
    return next((it for it in found if url.startswith(it["origin"])), {})


def test_a_dead_receiver_is_shown_and_counted_and_probed(serve: Any) -> None:
    server = serve("examples/gallery")
    dead = f"http://127.0.0.1:{free_port()}/hook?token=c4nary"
    run_for(server, dead, 6)
    until(lambda: destination(server, dead).get("breaker") == "open", "the breaker does not open")
    shown = destination(server, dead)
    assert shown["pending"] == 6 and shown["failures"] >= 5 and shown["not_before"]
    seen = metrics(server)
    assert seen["threadyard_webhook_breaker_open"] == 1 and seen["threadyard_webhook_queue_depth"] == 6
    attempts = 'threadyard_webhook_attempts_total{outcome="retry",code_class="none"}'
    assert seen[attempts] == seen["threadyard_webhook_attempt_seconds_count"]
    assert httpx.post(f"{server.url}/webhooks/destinations/probe", json={"origin": dead}).status_code == 202
    until(lambda: metrics(server)[attempts] > seen[attempts], "the receiver is not probed")
    listed = threadyard("webhooks", "destinations", "--server", server.url)
    assert "6 pending  breaker open" in listed
    told = [httpx.get(f"{server.url}/metrics").text, str(httpx.get(f"{server.url}/webhooks/destinations").json())]
    assert not any("c4nary" in text for text in [*told, listed, server.log()])


def test_what_is_delivered_is_counted(serve: Any, receiver: Any) -> None:
    hooks = receiver(500)
    server = serve("examples/gallery")
    run_for(server, hooks.url)
    delivered = 'threadyard_webhook_deliveries_total{event="run.waiting",state="delivered"}'
    until(lambda: metrics(server).get(delivered) == 1, "the delivery is not counted")
    arrived = 'threadyard_webhook_attempts_total{outcome="delivered",code_class="2xx"}'
    until(lambda: metrics(server).get(arrived) == 1, "the attempt is not counted")
    seen = metrics(server)
    assert seen['threadyard_webhook_attempts_total{outcome="retry",code_class="5xx"}'] == 1
    assert 1 < seen["threadyard_webhook_delivery_latency_seconds_sum"] < 300
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain") and "# TYPE" in answer.text
    queue = httpx.get(f"{server.url}/metrics", params={"format": "json"}).json()["queue"]
    assert (queue["n_pending"], queue["n_running"]) == (0, 0)
    assert httpx.get(f"{server.url}/metrics", params={"format": "xml"}).status_code == 422


def test_a_receiver_can_be_tried(serve: Any, receiver: Any) -> None:
    hooks, broken = receiver(), receiver(*[500] * 2)
    server = serve("examples/gallery")
    tried = httpx.post(f"{server.url}/webhooks/test", json={"url": hooks.url, "event": "run.error"}).json()
    _, headers, body = hooks.got.get(timeout=60)
    assert (tried["status"], tried["failure"], tried["webhook_id"]) == (200, None, headers["webhook-id"])
    assert (body["type"], body["test"]) == ("run.error", True) and headers["webhook-signature"].startswith("v1,")
    assert httpx.post(f"{server.url}/webhooks/test", json={"url": broken.url}).json()["status"] == 500
    assert re.match(r"msg_test_\w+: 500 after \d+ ms", threadyard("webhooks", "test", broken.url, "--server", server.url))
    refused = httpx.post(f"{server.url}/webhooks/test", json={"url": "http://169.254.169.254/"})
    assert refused.status_code == 422
    assert httpx.post(f"{server.url}/webhooks/deliveries/count", json={}).json() == 0, "nothing is kept of it"


def test_switching_off_skips_what_waits_and_switching_on_recovers_it(serve: Any, project: Any, receiver: Any) -> None:
    graph = "from langgraph.graph import START, StateGraph\n\nbuilder = StateGraph(dict)\n"
    graph += "builder.add_node('work', lambda state: state)\nbuilder.add_edge(START, 'work')\n"
    hooks = receiver(*[503] * 1)
    made = lambda **http: project({"review": "./work.py:builder"}, {"work.py": graph}, http=http)  # noqa: E731
    server = serve(made())
    (run_id,) = run_for(server, hooks.url)
    hooks.got.get(timeout=60)
    server.kill()
    server = serve(made(disable_webhooks=True))
    state = lambda: httpx.post(f"{server.url}/webhooks/deliveries/search", json={}).json()[0]["state"]  # noqa: E731
    until(lambda: state() == "skipped", "it is not skipped")
    assert hooks.got.empty()
    assert httpx.post(f"{server.url}/webhooks/recover", json={}).status_code == 409
    run_for(server, hooks.url)
    queued = lambda: httpx.get(f"{server.url}/metrics", params={"format": "json"}).json()["queue"]  # noqa: E731
    until(lambda: (queued()["n_pending"], queued()["n_running"]) == (0, 0), "the run does not end")
    server.kill()
    server = serve(made())
    assert "1 deliveries are sent again" in threadyard("webhooks", "recover", "--server", server.url)
    assert hooks.got.get(timeout=60)[2]["run_id"] == run_id
    until(lambda: state() == "delivered", "it is not delivered")
    assert hooks.got.empty(), "what ended while webhooks were off is not told"


def test_only_operators_steer_at_large(serve: Any) -> None:
    server = serve("examples/gallery", THREADYARD_OPERATOR_TOKEN="0perator")
    for method, path, body in [
        ("GET", "/webhooks/destinations", None),
        ("POST", "/webhooks/destinations/probe", {"origin": "http://a.com"}),
        ("POST", "/webhooks/test", {"url": "http://a.com"}),
        ("POST", "/webhooks/recover", {}),
        ("GET", "/webhooks/recoveries/00000000-0000-0000-0000-000000000000", None),
    ]:
        assert httpx.request(method, f"{server.url}{path}", json=body).status_code == 403, path
    allowed = {"authorization": "Bearer 0perator"}
    assert httpx.get(f"{server.url}/webhooks/destinations", headers=allowed).json() == []


def test_a_recovery_says_exactly_what_it_takes(gallery: Server) -> None:
    for body, word in [
        ({"origins": "https://a.com"}, "unknown field `origins`"),
        ({"origin": "a.com"}, "origin"),
        ({"state": "delivered"}, "state"),
        ({"limit": 5}, "limit"),
    ]:
        refused = httpx.post(f"{gallery.url}/webhooks/recover", json=body)
        assert refused.status_code == 422 and word in refused.json()["detail"], refused.text
    count = lambda **query: httpx.post(f"{gallery.url}/webhooks/deliveries/count", json=query)  # noqa: E731
    assert count(origin="https://a.com").json() == 0
    assert count(thread="x").status_code == 422


def test_pages_of_other_sites_are_no_operators(gallery: Server) -> None:
    secret = f"{gallery.url}/webhooks/secret?origin=https://a.com"
    for headers, status in [
        ({}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "rebound.example"}, 403),
    ]:
        assert httpx.get(secret, headers=headers).status_code == status


def test_a_secret_that_can_be_guessed_stops_the_start(serve: Any) -> None:
    command = [os.environ["THREADYARD_BIN"], "dev", "--config", "examples/gallery/langgraph.json"]
    environment = {**os.environ, "LG_WEBHOOK_SIGNING_SECRET": "short"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)
    assert done.returncode == 1 and "at least 24 characters" in done.stderr and "short" not in done.stderr
    server = serve("examples/gallery", LG_WEBHOOK_SIGNING_SECRET="", THREADYARD_OPERATOR_TOKEN="")
    assert httpx.get(f"{server.url}/webhooks/secret?origin=https://a.com").status_code == 200


def test_what_ends_while_webhooks_are_disabled_is_skipped(serve: Any, project: Any, receiver: Any, tmp_path: Any) -> None:
    graph = "import time\nfrom pathlib import Path\nfrom langgraph.graph import START, StateGraph\n\n"
    graph += "def work(state):\n    while not Path(state['go']).exists():\n        time.sleep(0.02)\n    return state\n\n"
    graph += "builder = StateGraph(dict)\nbuilder.add_node('work', work)\nbuilder.add_edge(START, 'work')\n"
    files, hooks = {"work.py": graph}, receiver()
    server = serve(project({"work": "./work.py:builder"}, files))
    thread = get_sync_client(url=server.url).threads.create()["thread_id"]
    go = {"go": str(tmp_path / "go")}
    get_sync_client(url=server.url).runs.create(thread, "work", input=go, webhook=hooks.url)
    server.kill()
    server = serve(project({"work": "./work.py:builder"}, files, http={"disable_webhooks": True}))
    (tmp_path / "go").touch()
    count = lambda state: httpx.post(f"{server.url}/webhooks/deliveries/count", json={"state": state}).json()  # noqa: E731
    until(lambda: count("skipped") == 1, "it is not skipped")
    assert httpx.post(f"{server.url}/webhooks/test", json={"url": hooks.url}).status_code == 409
    server.stop()
    server = serve(project({"work": "./work.py:builder"}, files))
    assert count("pending") == 0 and hooks.got.empty()
