"""How deliveries travel: what redirects, bad certificates, slow answers and a stop do to them."""

from __future__ import annotations

import datetime
import ipaddress
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, Server, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from langgraph_sdk import get_sync_client

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(ROOT / "examples/gallery", tmp_path_factory.mktemp("transport") / "data")
    yield server
    server.stop()


class Peer:
    """A receiver that counts what reaches it and answers in its own way."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                requests.append(self.rfile.read(int(self.headers["content-length"])))
                answer(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.http.server_port}/hook"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(answer: Answer, tls: ssl.SSLContext | None = None) -> Peer:
        peers.append(Peer(answer, tls))
        return peers[-1]

    yield start
    for it in peers:
        it.stop()


def accept(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()


def told(server: Server, url: str) -> dict[str, Any]:
    """The delivery of a run with this webhook, once an attempt is done."""
    run_id = get_sync_client(url=server.url).runs.create(None, "review", input={"topic": "x"}, webhook=url)["run_id"]
    found: list[dict[str, Any]] = []

    def tried() -> bool:
        found[:] = httpx.post(f"{server.url}/webhooks/deliveries/search", json={"run_id": run_id}).json()
        return bool(found and (found[0]["last_status"] or found[0]["last_failure"]))

    until(tried, "no attempt was made")
    return found[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int, server: Server, peer: Any) -> None:
    other = peer(accept)

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("location", other.url)
        request.end_headers()

    delivery = told(server, peer(elsewhere).url)
    assert (delivery["state"], delivery["last_status"]) == ("pending", status)
    httpx.post(f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}/cancel")
    assert other.requests == []


def certificate(folder: Path, days: int) -> ssl.SSLContext:
    """For 127.0.0.1, signed by itself, and over when `days` is negative."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=9))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "receiver.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize("days", [9, -1], ids=["self-signed", "expired"])
def test_a_receiver_that_can_t_prove_who_it_is_gets_nothing(days: int, server: Server, peer: Any, tmp_path: Path) -> None:
    impostor = peer(accept, certificate(tmp_path, days))
    delivery = told(server, impostor.url)
    assert (delivery["state"], delivery["last_status"]) == ("pending", None)
    assert delivery["last_failure"] == "the receiver's certificate or protocol is not to be trusted"
    httpx.post(f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}/cancel")
    assert impostor.requests == []


def never(request: BaseHTTPRequestHandler) -> None:
    request.send_response(503)
    request.send_header("webhook-delivery", "abort-message")
    request.end_headers()


def gone(request: BaseHTTPRequestHandler) -> None:
    request.send_response(410)
    request.end_headers()


@pytest.mark.parametrize("answer", [never, gone])
def test_a_receiver_can_say_never_again(answer: Answer, server: Server, peer: Any) -> None:
    receiver = peer(answer)
    delivery = told(server, receiver.url)
    assert (delivery["state"], len(receiver.requests)) == ("failed", 1), delivery


def test_of_an_endless_answer_only_a_little_is_read(server: Server, peer: Any) -> None:
    written = [0]

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("content-length", str(10 << 30))
        request.end_headers()
        try:
            while True:
                written[0] += request.wfile.write(b"x" * 65_536)
        except OSError:
            pass

    delivery = told(server, peer(endless).url)
    assert (delivery["state"], delivery["last_status"]) == ("delivered", 200)
    # What the sockets between them hold comes on top of what is read.
    assert written[0] < 32 << 20


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nx: \xff\xfe\r\ncontent-length: 2\r\n\r\n\xff\xfe",
                                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
                                    b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"],
                         ids=["no text", "broken chunks", "cut short"])
def test_the_status_decides_whatever_follows(answer: bytes, server: Server, peer: Any) -> None:
    def raw(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(answer)
        request.close_connection = True

    delivery = told(server, peer(raw).url)
    assert (delivery["state"], delivery["last_status"]) == ("delivered", 200)


@pytest.mark.parametrize(("url", "why"), [
    ("http://127.0.0.1:9/hook", "the receiver refuses connections"),
    ("http://receiver.invalid/hook", "the receiver's name can't be resolved"),
])
def test_what_went_wrong_is_told(url: str, why: str, server: Server) -> None:
    delivery = told(server, url)
    assert (delivery["state"], delivery["last_failure"]) == ("pending", why)
    httpx.post(f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}/cancel")


def test_one_that_is_asked_for_is_sent_to_a_receiver_that_is_left_alone(server: Server, peer: Any) -> None:
    statuses = [429]

    def later(request: BaseHTTPRequestHandler) -> None:
        request.send_response(statuses.pop() if statuses else 200)
        request.send_header("retry-after", "3600")
        request.end_headers()

    delivery = told(server, peer(later).url)
    assert (delivery["state"], delivery["last_status"]) == ("pending", 429)
    place = f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}"
    assert httpx.post(f"{place}/resend").status_code < 300
    until(lambda: httpx.get(place).json()["state"] == "delivered", "it is not sent")


def test_a_receiver_that_asks_is_left_alone_over_a_restart(serve: Any, peer: Any) -> None:
    def later(request: BaseHTTPRequestHandler) -> None:
        request.send_response(429)
        request.send_header("retry-after", "3600")
        request.end_headers()

    asking = peer(later)
    first = serve("examples/gallery")
    told(first, asking.url)
    first.kill()
    second = serve("examples/gallery")
    get_sync_client(url=second.url).runs.create(None, "review", input={"topic": "x"}, webhook=asking.url)
    destinations = lambda: httpx.get(f"{second.url}/webhooks/destinations").json()  # noqa: E731
    until(lambda: [it["pending"] for it in destinations()] == [2], lambda: str(destinations()))
    time.sleep(2)
    assert len(asking.requests) == 1


def test_what_is_on_its_way_at_a_stop_arrives_once(serve: Any, peer: Any) -> None:
    let_go = threading.Event()

    def slowly(request: BaseHTTPRequestHandler) -> None:
        let_go.wait(60)
        accept(request)

    slow = peer(slowly)
    first = serve("examples/gallery")
    runs = get_sync_client(url=first.url).runs
    for _ in range(8):
        runs.create(None, "review", input={"topic": "x"}, webhook=slow.url)
    until(lambda: len(slow.requests) == 8, "they are not sent")
    first.process.send_signal(signal.SIGTERM)
    first.wait_for_log("again to stop at once")
    let_go.set()
    assert first.process.wait(60) == 0
    second = serve("examples/gallery")
    count = lambda **query: httpx.post(f"{second.url}/webhooks/deliveries/count", json=query).json()  # noqa: E731
    assert (count(), count(state="delivered")) == (8, 8)
    time.sleep(1)
    assert len(slow.requests) == 8


def test_a_large_result_arrives_cut_and_says_so(serve: Any, project: Any, receiver: Any) -> None:
    graph = "from langgraph.graph import START, StateGraph\n\nbuilder = StateGraph(dict)\n"
    graph += "builder.add_node('work', lambda state: {'text': 'x' * (30 << 20)})\nbuilder.add_edge(START, 'work')\n"
    server, hooks = serve(project({"big": "./big.py:builder"}, {"big.py": graph})), receiver()
    thread = get_sync_client(url=server.url).threads.create()["thread_id"]
    run = get_sync_client(url=server.url).runs.create(thread, "big", input={"n": 1}, webhook=hooks.url)
    body = hooks.got.get(timeout=60)[2]
    assert (body["values"], body["truncated"], body["kwargs"]["input"]) == (None, ["values"], {"n": 1})
    assert httpx.get(f"{server.url}{body['links']['run']}").json()["run_id"] == run["run_id"]
    assert len(httpx.get(f"{server.url}{body['links']['state']}").json()["values"]["text"]) == 30 << 20


@pytest.fixture
def echo(project: Any) -> Callable[..., Path]:
    """A project with a graph that does nothing, and this to say of webhooks."""
    graph = "from langgraph.graph import START, StateGraph\n\nbuilder = StateGraph(dict)\n"
    graph += "builder.add_node('work', lambda state: state)\nbuilder.add_edge(START, 'work')\n"
    return lambda **webhooks: project({"work": "./work.py:builder"}, {"work.py": graph}, webhooks=webhooks)


def test_the_project_says_when_to_try_again_and_how_long_it_takes(serve: Any, echo: Any, peer: Any) -> None:
    retry = {"schedule": ["200ms", "400ms"], "jitter": 0}
    server = serve(echo(retry=retry, timeouts={"total": "500ms"}))
    over = threading.Event()
    silent = peer(lambda _: over.wait(600))
    run_id = get_sync_client(url=server.url).runs.create(None, "work", input={}, webhook=silent.url)["run_id"]
    search = lambda: httpx.post(f"{server.url}/webhooks/deliveries/search", json={"run_id": run_id}).json()  # noqa: E731
    until(lambda: bool(search()) and search()[0]["state"] == "failed", "it is not given up")
    over.set()
    [delivery] = search()
    assert delivery["last_failure"] == "the receiver did not answer in time"
    attempts = httpx.get(f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}/attempts").json()
    began, ended = ([datetime.datetime.fromisoformat(it[key]) for it in attempts] for key in ("started_at", "ended_at"))
    waits = [(after - before).total_seconds() for before, after in zip(ended, began[1:], strict=False)]
    took = [(end - begin).total_seconds() for begin, end in zip(began, ended, strict=True)]
    # Only a server with a schedule of its own would give up so soon, or wait less than half a minute for an answer.
    assert [0.2 <= waits[0], 0.4 <= waits[1], len(waits)] == [True, True, 2], waits
    assert all(0.5 <= it < 20 for it in took), took


def test_the_project_says_how_many_are_sent_at_once(serve: Any, echo: Any, peer: Any) -> None:
    on_their_way, most = [0], [0]

    def slowly(request: BaseHTTPRequestHandler) -> None:
        on_their_way[0] += 1
        most[0] = max(most[0], on_their_way[0])
        time.sleep(0.3)
        on_their_way[0] -= 1
        accept(request)

    slow = peer(slowly)
    for limit in ("per_destination_concurrency", "max_concurrency"):
        server, most[0] = serve(echo(limits={limit: 1})), 0
        slow.requests.clear()
        for _ in range(4):
            get_sync_client(url=server.url).runs.create(None, "work", input={}, webhook=slow.url)
        until(lambda: len(slow.requests) == 4, "they do not arrive")
        server.stop()
        assert most == [1]
