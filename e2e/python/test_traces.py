"""Traces over OTLP: one from the request over its run to the webhook, over a kill, and none unless asked for."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, Server, until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SECRETS = ("c4nary-token", "c4nary-header", "c4nary-query", "c4nary-input", "c4nary-message", "s3cret")

GRAPH = """
from pathlib import Path
from typing import TypedDict
import asyncio
from langgraph.graph import START, StateGraph
from opentelemetry import trace

class State(TypedDict, total=False):
    text: str
    seen: dict
    fail: bool

async def work(state, config):
    span = trace.get_current_span().get_span_context()
    metadata = config["metadata"]
    if metadata["run_attempt"] == 1 and (Path(__file__).parent / "hold").exists():
        (Path(__file__).parent / "held").touch()
        await asyncio.sleep(300)
    if state.get("fail"):
        raise RuntimeError("c4nary-message")
    seen = {"trace": f"{span.trace_id:032x}", "span": f"{span.span_id:016x}"}
    return {"seen": seen | {key: metadata.get(key) for key in ("traceparent", "tracestate")}}

builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
"""

TYPESCRIPT = """
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Annotation, START, StateGraph } from "@langchain/langgraph";
import { INVALID_SPAN_CONTEXT, context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

const State = Annotation.Root({ text: Annotation<string>, seen: Annotation<object>, fail: Annotation<boolean> });
const file = (name: string) => join(import.meta.dirname, name);

class RuntimeError extends Error {
  override name = "RuntimeError";
}

async function work({ fail }: typeof State.State, { metadata }: any) {
  const span = trace.getActiveSpan()?.spanContext() ?? INVALID_SPAN_CONTEXT;
  if (metadata.run_attempt === 1 && existsSync(file("hold"))) {
    writeFileSync(file("held"), "");
    await new Promise((done) => setTimeout(done, 300_000));
  }
  if (fail) throw new RuntimeError("c4nary-message");
  const { traceparent = null, tracestate = null } = metadata;
  return { seen: { trace: span.traceId, span: span.spanId, traceparent, tracestate } };
}

export const graph = new StateGraph(State).addNode("work", work).addEdge(START, "work").compile();
"""

APPLICATION = """
import { Hono } from "hono";

export const app = new Hono();
app.get("/heard", (context) => context.json(context.req.header()));
"""


class Collector:
    """Takes spans as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        self.services: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces" and self.headers["x-collector-key"] == "k3y"
                outer.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._http.server_port}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=k3y",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {it.value.string_value for it in resource.resource.attributes if it.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def wait_for(self, name: str, count: int = 1) -> list[Span]:
        def found() -> list[Span]:
            return [span for span in self.spans if span.name == name]

        until(lambda: len(found()) >= count, lambda: f"no span `{name}` among {[span.name for span in self.spans]}")
        return found()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    it = Collector()
    yield it
    it.stop()


@pytest.fixture
def python(project: Callable[..., Path]) -> Path:
    return project({"work": "./graph.py:builder"}, {"graph.py": GRAPH})


@pytest.fixture
def typescript(project: Callable[..., Path]) -> Path:
    return in_typescript(project, ROOT / "workers/node/node_modules")


@pytest.fixture(params=["python", "typescript"])
def graph(request: pytest.FixtureRequest) -> Path:
    """The same graph in each language."""
    return request.getfixturevalue(request.param)


def in_typescript(project: Callable[..., Path], packages: Path, **config: Any) -> Path:
    assert packages.is_dir(), "`cargo xtask test` installs the packages of graphs in TypeScript; run it once"
    files = {"graph.ts": TYPESCRIPT, "app.ts": APPLICATION, "package.json": '{"type": "module"}'}
    made = project({"work": "./graph.ts:graph"}, files, **config)
    (made / "node_modules").symlink_to(packages)
    return made


def attributes(span: Span) -> dict[str, Any]:
    return {it.key: it.value.string_value or it.value.int_value for it in span.attributes}


def ask(server: Server, path: str, **body: Any) -> httpx.Response:
    headers = {
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "tracestate": "vendor=1",
        "authorization": "Bearer c4nary-header",
        "x-request-id": "rid-7",
    }
    body = {"assistant_id": "work", "input": {"text": "c4nary-input"}, "if_not_exists": "create"} | body
    return httpx.post(f"{server.url}{path}?q=c4nary-query", json=body, headers=headers, timeout=60)


def test_one_trace_goes_from_the_request_over_its_run_to_the_webhook(
    graph: Path, serve: Any, receiver: Any, collector: Collector
) -> None:
    hooks = receiver(500)
    server = serve(graph, **collector.env)
    url = hooks.url.replace("s3cret", "c4nary-token")
    answer = ask(server, "/runs/wait", webhook=url)
    seen = answer.json()["seen"]
    (asked,) = collector.wait_for("POST /runs/wait")
    (run,) = collector.wait_for("invoke_agent work")
    first, second = collector.wait_for("webhook run.success", 2)

    assert {span.trace_id.hex() for span in (asked, run, first, second)} == {TRACE}
    assert asked.parent_span_id.hex() == PARENT
    assert run.parent_span_id == first.parent_span_id == second.parent_span_id == asked.span_id
    assert asked.kind == Span.SPAN_KIND_SERVER and first.kind == Span.SPAN_KIND_CLIENT
    told = attributes(asked)
    assert told["http.route"] == "/runs/wait" and told["http.response.status_code"] == 200
    assert told["threadyard.request_id"] == "rid-7"
    told = attributes(run)
    assert told["gen_ai.agent.name"] == "work" and told["langgraph.run_status"] == "success"
    assert told["gen_ai.conversation.id"] in answer.headers["content-location"]
    assert (attributes(first)["error.type"], attributes(second)["http.response.status_code"]) == ("500", 200)

    here = f"00-{TRACE}-{run.span_id.hex()}-01"
    assert seen == {"trace": TRACE, "span": run.span_id.hex(), "traceparent": here, "tracestate": "vendor=1"}
    sent = [hooks.got.get(timeout=60)[1]["traceparent"] for _ in range(2)]
    assert sent == [f"00-{TRACE}-{span.span_id.hex()}-01" for span in (first, second)]
    assert collector.services == {"threadyard"}
    assert not any(secret.encode() in collector.raw for secret in SECRETS)


def test_an_application_in_typescript_finds_the_span_of_its_request(
    project: Callable[..., Path], serve: Any, collector: Collector
) -> None:
    folder = in_typescript(project, ROOT / "target/test-env/node/node_modules", http={"app": "./app.ts:app"})
    server = serve(folder, **collector.env)
    heard = httpx.get(f"{server.url}/heard", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).json()
    until(lambda: any(attributes(it).get("url.path") == "/heard" for it in collector.spans), "no span of the request")
    [asked] = [it for it in collector.spans if attributes(it).get("url.path") == "/heard"]
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == (TRACE, PARENT)
    assert heard["traceparent"] == f"00-{TRACE}-{asked.span_id.hex()}-01"


def test_a_run_that_is_taken_up_again_stays_in_its_trace(graph: Path, serve: Any, collector: Collector) -> None:
    (graph / "hold").touch()
    first = serve(graph, THREADYARD_LEASE_SECS="8", **collector.env)
    thread = httpx.post(f"{first.url}/threads", json={}).json()["thread_id"]
    run = ask(first, f"/threads/{thread}/runs").json()["run_id"]
    until((graph / "held").exists, first.log)
    (asked,) = collector.wait_for("POST /threads/{thread_id}/runs")
    first.kill()
    second = serve(graph, **collector.env)
    joined = httpx.get(f"{second.url}/threads/{thread}/runs/{run}/join", timeout=60).json()
    (again,) = collector.wait_for("invoke_agent work")
    assert attributes(again)["langgraph.run_attempt"] == 2
    assert again.trace_id.hex() == TRACE and again.parent_span_id == asked.span_id
    assert joined["seen"]["span"] == again.span_id.hex()


def test_failures_are_told_by_their_kind_alone(graph: Path, serve: Any, collector: Collector) -> None:
    server = serve(graph, **collector.env)
    ask(server, "/runs/wait", input={"fail": True})
    (run,) = collector.wait_for("invoke_agent work")
    assert attributes(run)["error.type"] == "RuntimeError" and run.status.code == 2
    assert not any(secret.encode() in collector.raw for secret in SECRETS)


def test_the_last_spans_are_sent_when_the_server_stops(python: Path, serve: Any, collector: Collector) -> None:
    server = serve(python, **collector.env | {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    ask(server, "/runs/wait")
    server.stop()
    assert {span.name for span in collector.spans} >= {"POST /runs/wait", "invoke_agent work"}


@pytest.mark.parametrize("off", [{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_sent_unless_somebody_wants_it(
    graph: Path, serve: Any, receiver: Any, collector: Collector, off: dict[str, str]
) -> None:
    hooks = receiver()
    server = serve(graph, **collector.env | off)
    seen = ask(server, "/runs/wait", webhook=hooks.url).json()["seen"]
    assert seen == {"trace": "0" * 32, "span": "0" * 16, "traceparent": None, "tracestate": None}
    assert "traceparent" not in hooks.got.get(timeout=60)[1]
    server.stop()
    assert collector.spans == []


def test_a_collector_that_is_not_there_holds_up_nobody(python: Path, serve: Any) -> None:
    server = serve(python, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="50")
    assert ask(server, "/runs/wait").json()["seen"]["trace"] == TRACE


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"),
    ],
)
def test_what_can_not_be_done_stops_the_start(python: Path, tmp_path: Path, name: str, given: str) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} | {name: given}
    command = [os.environ["THREADYARD_BIN"], "dev", "--port", "0", "--data-dir", str(tmp_path / "data"), "-c", str(python / "langgraph.json")]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and name in done.stderr, done.stderr
