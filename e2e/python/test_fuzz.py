"""Made-up requests for every operation of the OpenAPI document: no failure inside, no hang, every answer as documented."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from conftest import ROOT, Server
from hypothesis import HealthCheck, Phase, settings
from langgraph_sdk import get_sync_client
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DOCUMENT = schemathesis.openapi.from_dict(
    json.loads(subprocess.check_output([os.environ["THREADYARD_BIN"], "openapi"])),
    # Requests that fit the document, and requests that don't.
    config=schemathesis.Config.from_dict({"generation": {"mode": "all"}}),
)
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
# The requests are the same each time.
EVERY_TIME = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(ROOT / "examples/gallery", tmp_path_factory.mktemp("fuzz") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def known(server: Server) -> dict[str, str]:
    """Ids that lead somewhere, so that requests get beyond the first question."""
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    client.runs.wait(thread, "review", input={"topic": "looms"})
    run = client.runs.create(thread, "review", after_seconds=3600)["run_id"]
    client.runs.wait(None, "review", input={"topic": "looms"}, webhook="http://127.0.0.1:9/hook")
    deliveries = httpx.post(f"{server.url}/webhooks/deliveries/search", json={}).json()
    cron = client.crons.create("review", schedule="0 0 1 1 *")
    assistant = client.assistants.create("review")["assistant_id"]
    checkpoint = client.threads.get_state(thread)["checkpoint"]["checkpoint_id"]
    return {
        "thread_id": thread,
        "run_id": run,
        "cron_id": cron["cron_id"],
        "assistant_id": assistant,
        "checkpoint_id": checkpoint,
        "namespace": "review",
        "delivery_id": deliveries[0]["delivery_id"],
        "recovery_id": httpx.post(f"{server.url}/webhooks/recover", json={}).json()["recovery_id"],
    }


@DOCUMENT.parametrize()
@EVERY_TIME
def test_made_up_requests_get_documented_answers(case: Any, server: Server, known: dict[str, str]) -> None:
    check(case, server.url)
    for name in case.path_parameters or {}:
        case.path_parameters[name] = known[name]
    check(case, server.url)


def check(case: Any, url: str) -> None:
    if case.operation.path.startswith("/threads/{thread_id}/stream"):
        # It has no end: what comes first says enough.
        request = case.as_transport_kwargs(base_url=url)
        asked = {key: request[key] for key in ("params", "headers", "json", "data") if request.get(key) is not None}
        with httpx.stream(request["method"], request["url"], timeout=60, **asked) as answer:
            if answer.status_code in (400, 426) and request["method"] == "GET":
                return
            assert answer.status_code in (200, 400, 404, 405, 422)
            kind = "text/event-stream" if answer.status_code == 200 else "application/json"
            assert answer.headers["content-type"].startswith(kind)
        return
    case.call_and_validate(base_url=url, timeout=60, checks=list(CHECKS))
