"""Webhooks: signatures that stock packages verify, and the receiver that comes with the program."""

from __future__ import annotations

import base64
import json
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from conftest import ROOT, Receiver, Server, until
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from langgraph_sdk import get_sync_client
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

Hook = tuple[str, dict[str, str], str]


class Endpoint(Receiver):
    """Keeps bodies to the byte."""

    def hook(self) -> Hook:
        return self.raw.get(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(ROOT / "examples/gallery", tmp_path_factory.mktemp("webhooks") / "data")
    yield server
    server.stop()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.stop()


def run(server: Server, webhook: str) -> None:
    get_sync_client(url=server.url).runs.wait(None, "review", input={"topic": "looms"}, webhook=webhook)


def secret(server: Server, url: str) -> dict[str, Any]:
    return httpx.get(f"{server.url}/webhooks/secret", params={"origin": url}).json()


def public_key(server: Server) -> dict[str, Any]:
    return httpx.get(f"{server.url}/webhooks/public-key").json()


def verify_asymmetric(key: str, headers: dict[str, str], body: str) -> None:
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    given = [part.split(",", 1) for part in headers["webhook-signature"].split(" ")]
    signatures = [base64.b64decode(value) for kind, value in given if kind == "v1a"]
    assert signatures
    for signature in signatures:
        try:
            return public.verify(signature, message)
        except InvalidSignature:
            continue
    raise InvalidSignature


def test_a_stock_package_verifies_signatures(server: Server, endpoint: Endpoint) -> None:
    run(server, endpoint.url)
    _, headers, body = endpoint.hook()
    verifier = Webhook(secret(server, endpoint.url)["key"])
    assert verifier.verify(body, headers)["type"] == "run.waiting"
    for tampered in (body.replace("looms", "rooms"), body + " "):
        with pytest.raises(WebhookVerificationError):
            verifier.verify(tampered, headers)
    for name, value in (("webhook-id", "msg_x_1"), ("webhook-timestamp", str(int(headers["webhook-timestamp"]) - 1))):
        with pytest.raises(WebhookVerificationError):
            verifier.verify(body, {**headers, name: value})
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(server, "https://example.org")["key"]).verify(body, headers)
    verify_asymmetric(public_key(server)["key"], headers, body)
    with pytest.raises(InvalidSignature):
        verify_asymmetric(public_key(server)["key"], headers, body + " ")


def test_keys_rotate_with_grace_and_survive_kill_9(serve: Any, endpoint: Endpoint) -> None:
    server = serve("examples/gallery")
    first, first_public = secret(server, endpoint.url)["key"], public_key(server)["key"]
    httpx.post(f"{server.url}/webhooks/secret/rotate", json={}).raise_for_status()
    server.kill()
    server = serve("examples/gallery")
    second = secret(server, endpoint.url)
    assert [it["key"] for it in second["previous"]] == [first]
    run(server, endpoint.url)
    _, headers, body = endpoint.hook()
    for key in (first, second["key"]):
        Webhook(key).verify(body, headers)
    for key in (first_public, public_key(server)["key"]):
        verify_asymmetric(key, headers, body)
    httpx.post(f"{server.url}/webhooks/secret/rotate", json={"grace_seconds": 0}).raise_for_status()
    run(server, endpoint.url)
    _, headers, body = endpoint.hook()
    for key in (first, second["key"]):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)
    Webhook(secret(server, endpoint.url)["key"]).verify(body, headers)


def test_a_given_signing_secret_is_the_key_and_is_never_shown(serve: Any, endpoint: Endpoint, tmp_path: Any) -> None:
    given = "a long random text that only the operator knows"
    keys = []
    for folder in ("one", "two"):
        server = serve("examples/gallery", data=tmp_path / folder, LG_WEBHOOK_SIGNING_SECRET=given)
        keys.append(secret(server, endpoint.url)["key"])
        refused = httpx.post(f"{server.url}/webhooks/secret/rotate", json={})
        assert refused.status_code == 400 and "LG_WEBHOOK_SIGNING_SECRET" in refused.json()["detail"]
        run(server, endpoint.url)
        _, headers, body = endpoint.hook()
        Webhook(keys[0]).verify(body, headers)
        server.stop()
        assert given not in server.log() and keys[0] not in server.log()
    assert keys[0] == keys[1]


def test_operators_have_a_token(serve: Any) -> None:
    server = serve("examples/gallery", THREADYARD_OPERATOR_TOKEN="t0ken")
    url = f"{server.url}/webhooks/secret?origin=https://example.com"
    assert httpx.get(url).status_code == 403
    assert httpx.get(url, headers={"authorization": "Bearer t0ken"}).status_code == 200
    shown = threadyard("webhooks", "secret", "https://example.com", "--server", server.url, THREADYARD_OPERATOR_TOKEN="t0ken")
    assert shown.stdout.startswith("whsec_")
    refused = threadyard("webhooks", "secret", "https://example.com", "--server", server.url)
    assert refused.returncode == 1 and "operators only" in refused.stderr
    assert "t0ken" not in server.log()


def threadyard(*arguments: str, input: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [os.environ["THREADYARD_BIN"], *arguments]
    return subprocess.run(command, input=input, capture_output=True, text=True, timeout=120, env={**os.environ, **env})


def test_the_program_checks_messages(server: Server, endpoint: Endpoint) -> None:
    run(server, endpoint.url)
    _, headers, body = endpoint.hook()
    shown = threadyard("webhooks", "public-key", "--server", server.url).stdout.strip()
    assert shown == public_key(server)["key"]
    for key in (shown, secret(server, endpoint.url)["key"]):
        arguments = ["webhooks", "verify", "--key", key, "--id", headers["webhook-id"], "--timestamp", headers["webhook-timestamp"]]
        arguments += ["--signature", headers["webhook-signature"]]
        assert threadyard(*arguments, input=body).returncode == 0
        wrong = threadyard(*arguments, input=body + " ")
        assert wrong.returncode == 1 and "no signature of the message fits" in wrong.stderr


@pytest.mark.parametrize("status", [200, 503])
def test_the_program_receives_webhooks(status: int, server: Server) -> None:
    command = [os.environ["THREADYARD_BIN"], "webhooks", "listen", "--count", "2" if status == 503 else "1"]
    command += ["--status", str(status), "--server", server.url]
    listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in listener.stdout or ()], daemon=True)
    reader.start()
    url = lines.get(timeout=60).removeprefix("webhook URL: ").strip()
    run(server, f"{url}hook?token=abc")
    # What is refused comes again two seconds later.
    assert listener.wait(timeout=60) == 0
    reader.join(60)
    said = []
    while not lines.empty():
        said.append(lines.get())
    heads = [line for line in said if "attempt" in line and line.startswith("msg_")]
    assert [head.rstrip().split(" ", 1)[1] for head in heads] == [
        f"attempt {n}: signature valid" for n in range(1, len(heads) + 1)
    ]
    assert len(heads) == (2 if status == 503 else 1)
    assert "run.waiting" in "".join(said)


def test_only_origins_are_asked_for(server: Server) -> None:
    for wrong in ("", "x", "mailto:a@b.c"):
        assert httpx.get(f"{server.url}/webhooks/secret", params={"origin": wrong}).status_code == 422
    assert json.loads(httpx.get(f"{server.url}/openapi.json").text)["paths"]["/webhooks/secret"]


def deliveries(server: Server, **query: Any) -> list[dict[str, Any]]:
    found = httpx.post(f"{server.url}/webhooks/deliveries/search", json=query)
    found.raise_for_status()
    return found.json()


def settled(server: Server, run_id: str, state: str = "delivered") -> dict[str, Any]:
    until(lambda: deliveries(server, run_id=run_id)[0]["state"] == state, f"the delivery is not {state}")
    return deliveries(server, run_id=run_id)[0]


def attempts(server: Server, delivery: dict[str, Any]) -> list[tuple[Any, ...]]:
    found = httpx.get(f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}/attempts").json()
    return [(it["n"], it["trigger"], it["state"], it["status"]) for it in found]


def test_deliveries_are_seen_and_sent_again(server: Server, receiver: Any) -> None:
    client = get_sync_client(url=server.url)
    hooks = receiver(500)
    thread = client.threads.create()["thread_id"]
    canary = hooks.url.replace("s3cret", "c4nary").replace("http://", "http://user:passw0rd@")
    run_id = client.runs.create(thread, "review", input={"topic": "looms"}, webhook=canary)["run_id"]
    first, second = hooks.raw.get(timeout=60), hooks.raw.get(timeout=60)
    assert first[0] == "/hook?token=c4nary"
    assert (first[1]["webhook-id"], first[2]) == (second[1]["webhook-id"], second[2])
    delivery = settled(server, run_id)
    assert delivery["url"] == hooks.url.split("?")[0] and delivery["event"] == "run.waiting"
    assert attempts(server, delivery) == [(1, "schedule", "done", 500), (2, "schedule", "done", 200)]

    base = f"{server.url}/webhooks/deliveries/{delivery['delivery_id']}"
    assert httpx.post(f"{base}/resend").status_code == 202
    again = hooks.raw.get(timeout=60)
    assert (again[1]["webhook-id"], again[1]["webhook-attempt"], again[2]) == (first[1]["webhook-id"], "3", first[2])
    until(lambda: attempts(server, delivery)[-1] == (3, "resend", "done", 200), "the resend is not noted")
    assert httpx.get(f"{base}/body").text == first[2]
    assert httpx.post(f"{base}/cancel").status_code == 409
    of_run = httpx.get(f"{server.url}/threads/{thread}/runs/{run_id}/deliveries").json()
    assert [it["delivery_id"] for it in of_run] == [delivery["delivery_id"]] and len(of_run[0]["attempts"]) == 3
    assert httpx.post(f"{server.url}/webhooks/deliveries/count", json={"run_id": run_id}).json() == 1

    # What is secret about the URL is in nothing that is shown.
    shown = [httpx.get(base).text, httpx.get(f"{base}/attempts").text, json.dumps(of_run), first[2], server.log()]
    shown.append(httpx.post(f"{server.url}/webhooks/deliveries/search", json={}).text)
    assert not any("c4nary" in text or "passw0rd" in text for text in shown)


def test_a_delivery_is_cancelled_and_recovered(server: Server, receiver: Any) -> None:
    client = get_sync_client(url=server.url)
    hooks = receiver(*[500] * 100)
    run_id = client.runs.create(None, "review", input={"topic": "looms"}, webhook=hooks.url)["run_id"]
    hooks.raw.get(timeout=60)
    until(lambda: bool(deliveries(server, run_id=run_id)), "there is no delivery")
    base = f"{server.url}/webhooks/deliveries/{deliveries(server, run_id=run_id)[0]['delivery_id']}"
    until(lambda: httpx.post(f"{base}/cancel").status_code == 204, "it can't be cancelled")
    assert settled(server, run_id, "cancelled")["next_attempt_at"] is None
    while not hooks.raw.empty():
        hooks.raw.get()
    # Somebody asks for it, and it is refused: it stays cancelled.
    assert httpx.post(f"{base}/resend").status_code == 202
    hooks.raw.get(timeout=60)
    assert settled(server, run_id, "cancelled")["last_status"] == 500
    hooks.answers.clear()
    recovered = httpx.post(f"{server.url}/webhooks/recover", json={"url": hooks.url.split("?")[0]})
    assert recovered.status_code == 202
    recovery = f"{server.url}/webhooks/recoveries/{recovered.json()['recovery_id']}"
    until(lambda: httpx.get(recovery).json()["finished_at"], "the recovery does not end")
    assert httpx.get(recovery).json()["recovered"] == 1
    hooks.raw.get(timeout=60)
    settled(server, run_id)
    assert httpx.get(f"{server.url}/webhooks/deliveries/none").status_code == 404


def test_an_attempt_whose_sender_died_is_unknown(serve: Any, receiver: Any) -> None:
    hooks = receiver()
    server = serve("examples/gallery", THREADYARD_KILL_AT="delivery.sent")
    client = get_sync_client(url=server.url)
    thread = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread, "review", input={"topic": "looms"}, webhook=hooks.url)["run_id"]
    first = hooks.raw.get(timeout=60)
    server.process.wait(timeout=60)
    server = serve("examples/gallery")
    second = hooks.raw.get(timeout=60)
    assert (first[1]["webhook-id"], first[2]) == (second[1]["webhook-id"], second[2])
    delivery = settled(server, run_id)
    assert attempts(server, delivery) == [(1, "schedule", "unknown", None), (2, "schedule", "done", 200)]


def test_a_receiver_is_left_alone_for_as_long_as_it_asks(server: Server) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(503)
            self.send_header("retry-after", "600")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}/hook"
    run_id = get_sync_client(url=server.url).runs.create(None, "review", input={"topic": "looms"}, webhook=url)["run_id"]
    until(lambda: any(it["last_status"] == 503 for it in deliveries(server, run_id=run_id)), "no attempt was made")
    delivery = deliveries(server, run_id=run_id)[0]
    wait = datetime.fromisoformat(delivery["next_attempt_at"]) - datetime.fromisoformat(delivery["created_at"])
    assert 590 < wait.total_seconds() < 900
    http.shutdown()
    http.server_close()


def test_the_program_shows_and_resends(server: Server, receiver: Any) -> None:
    hooks = receiver()
    run_id = get_sync_client(url=server.url).runs.create(None, "review", input={"topic": "looms"}, webhook=hooks.url)["run_id"]
    sent = hooks.raw.get(timeout=60)
    delivery = settled(server, run_id)["delivery_id"]
    listed = threadyard("webhooks", "list", "--run", run_id, "--server", server.url).stdout
    assert listed.split()[:3] == [delivery, "delivered", "run.waiting"] and "s3cret" not in listed
    assert threadyard("webhooks", "resend", delivery, "--server", server.url).returncode == 0
    assert hooks.raw.get(timeout=60)[2] == sent[2]
    until(lambda: len(attempts(server, {"delivery_id": delivery})) == 2, "the resend is not noted")
    shown = threadyard("webhooks", "show", delivery, "--body", "--server", server.url).stdout
    assert "resend" in shown and json.loads(shown[shown.index("{") :]) == json.loads(sent[2])
    unknown = threadyard("webhooks", "show", "msg_none", "--server", server.url)
    assert unknown.returncode == 1 and "Delivery not found" in unknown.stderr
    recovered = threadyard("webhooks", "recover", "--url", "http://nobody", "--server", server.url)
    assert recovered.stdout == "0 deliveries are sent again\n"
    absent = threadyard("webhooks", "list", "--server", "http://127.0.0.1:9")
    assert absent.returncode == 1 and "no server answers at http://127.0.0.1:9" in absent.stderr


def review_project(project: Any, **webhooks: Any) -> Any:
    graph = (ROOT / "examples/gallery/review.py").read_text()
    return project({"review": "./review.py:builder"}, {"review.py": graph}, webhooks=webhooks, env={"LG_WEBHOOK_TEAM": "looms"})


def refused(server: Server, url: str) -> str:
    answer = httpx.post(f"{server.url}/runs", json={"assistant_id": "review", "input": {}, "webhook": url})
    assert answer.status_code == 422, (url, answer.text)
    return answer.json()["detail"]


def test_the_project_says_what_webhooks_carry_and_where_they_go(serve: Any, project: Any, endpoint: Endpoint) -> None:
    headers = {"Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}", "X-Team": "team-${{env.LG_WEBHOOK_TEAM}}"}
    port = int(endpoint.url.split(":")[2].split("/")[0])
    url = {"allowed_domains": ["127.0.0.1", "*.corp.example"], "allowed_ports": [port], "require_https": False, "max_url_length": 80}
    server = serve(review_project(project, headers=headers, url=url), LG_WEBHOOK_TOKEN="c4nary")
    run(server, endpoint.url)
    _, got, body = endpoint.hook()
    assert (got["authorization"], got["x-team"]) == ("Bearer c4nary", "team-looms")
    assert "allowed_domains" in refused(server, f"http://example.com:{port}/")
    assert "allowed_domains" in refused(server, f"http://corp.example:{port}/")
    assert "allowed_ports" in refused(server, "http://127.0.0.1:9/")
    assert "80 characters" in refused(server, endpoint.url + "x" * 80)
    accepted = {"assistant_id": "review", "input": {}, "webhook": f"http://a.corp.example:{port}/"}
    assert httpx.post(f"{server.url}/runs", json=accepted).status_code == 200
    assert "c4nary" not in server.log() + body


def test_https_is_meant_when_anything_is_said_about_urls(serve: Any, project: Any) -> None:
    server = serve(review_project(project, url={"disable_loopback": True}))
    assert "require_https" in refused(server, "http://example.com/")
    assert "disable_loopback" in refused(server, "https://127.0.0.1/")
    assert "metadata" in refused(server, "https://169.254.169.254/")


@pytest.mark.parametrize(
    ("webhooks", "reason"),
    [
        ({"headers": {"A": "${{ env.LG_WEBHOOK_GONE }}"}}, "the environment variable `LG_WEBHOOK_GONE` is not set"),
        ({"headers": {"A": "${{ env.HOME }}"}}, "`HOME` does not begin with `LG_WEBHOOK_`"),
        ({"signing": {}}, "`webhooks.signing`: is not a key that this server knows"),
    ],
)
def test_what_webhooks_can_t_carry_stops_the_start(webhooks: Any, reason: str, serve: Any, project: Any) -> None:
    with pytest.raises(AssertionError) as failure:
        serve(review_project(project, **webhooks))
    assert "ended with 2" in str(failure.value) and reason in str(failure.value)


def test_a_name_that_leads_inside_is_not_called(serve: Any, project: Any, endpoint: Endpoint) -> None:
    """The name is not suspicious when the run is created; what it stands for is judged when something is sent."""
    # The name of this machine, which stands for an address of its own.
    inside = endpoint.url.replace("127.0.0.1", socket.gethostname())
    server = serve(review_project(project, url={"disable_loopback": True, "require_https": False}, network={"allow_private": False}))
    run_id = get_sync_client(url=server.url).runs.create(None, "review", input={"topic": "a"}, webhook=inside)["run_id"]
    until(lambda: any(it["last_failure"] for it in deliveries(server, run_id=run_id)), "no attempt was made")
    assert endpoint.raw.empty()


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_dead_receiver_costs_the_others_nothing(kind: str, server: Server, endpoint: Endpoint) -> None:
    client = get_sync_client(url=server.url)

    def heard_after() -> float:
        begun = time.monotonic()
        run(server, endpoint.url)
        endpoint.hook()
        return time.monotonic() - begun

    usual, first = heard_after(), time.monotonic()
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        if kind == "hangs":
            dead.listen(100)
        url = f"http://127.0.0.1:{dead.getsockname()[1]}/hook"
        for _ in range(40):
            client.runs.wait(None, "review", input={"topic": "looms"}, webhook=url)
        assert heard_after() < 5 + 5 * usual
        time.sleep(3)
        waiting = deliveries(server, url=url, limit=100)
        assert len(waiting) == 40
        # Only so many were tried at once, and after five failures only probes are: what waits burns no attempts.
        probes = (time.monotonic() - first) / 15
        assert sum(it["attempt_count"] for it in waiting) <= 16 + probes
