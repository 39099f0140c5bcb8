"""Kills the real server over and over, and checks that webhooks hear of every run, once in effect.

First in each window in which a crash could lose or double something, then at random under load. The database and what
the receiver heard have the last word: nothing may be lost, and a second body for a run is a failure.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from server import BROKEN, Server

ROOT = Path(__file__).parents[1]
# The points at which the server kills itself, in the order of a delivery's life.
POINTS = ["run.claimed", "finish.before_commit", "finish.committed", "delivery.claimed", "delivery.sent"]
# More than the server recovers in one transaction.
MANY = 1200


class Receiver:
    """Hears webhooks; can have the server killed before it answers."""

    def __init__(self) -> None:
        self.heard: dict[str, Counter[str]] = {}
        self.statuses: dict[str, set[str]] = {}
        self.before_answer = lambda: None
        lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    bodies = receiver.heard.setdefault(self.headers["webhook-id"], Counter())
                    bodies[hashlib.sha256(body).hexdigest()] += 1
                    statuses = receiver.statuses.setdefault(self.headers["webhook-id"], set())
                    statuses.add(json.loads(body)["status"])
                receiver.before_answer()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http.handle_error = lambda *_: None  # The connections of a killed server break off.
        self.url = f"http://127.0.0.1:{http.server_port}/hook"
        threading.Thread(target=http.serve_forever, daemon=True).start()


class Hooked(Server):
    """With runs that have a webhook."""

    def run(self, webhook: str) -> None:
        create = {"assistant_id": "noop", "input": {"count": 0}, "webhook": webhook, "if_not_exists": "create"}
        try:
            self.ask("POST", f"/threads/{uuid.uuid4()}/runs", create)
        except BROKEN:
            pass  # The server died meanwhile; whether the run was made is in the database.

    def settle(self, seconds: float = 600) -> None:
        """Waits until every run has ended and every delivery has arrived."""
        deadline = time.monotonic() + seconds
        open_rows = """SELECT (SELECT count(*) FROM run WHERE status IN ('pending', 'running'))
            + (SELECT count(*) FROM delivery WHERE state <> 'delivered')"""
        while self.query(open_rows)[0][0]:
            if time.monotonic() > deadline:
                raise SystemExit(f"not everything was delivered: {self.query(LEFT)}")
            time.sleep(0.05)


LEFT = """SELECT 'run', status, count(*) FROM run GROUP BY 1, 2
    UNION ALL SELECT 'delivery', state, count(*) FROM delivery GROUP BY 1, 2"""
# A run that ended, told of under its own id.
UNTOLD = """SELECT count(*) FROM run WHERE NOT EXISTS
    (SELECT 1 FROM delivery WHERE delivery.id = 'msg_' || lower(hex(run.id)) || '_1')"""


def check(server: Hooked, receiver: Receiver) -> dict[str, int]:
    """Compares the database with what the receiver heard."""
    runs = server.query("SELECT count(*) FROM run")[0][0]
    ids = {row[0] for row in server.query("SELECT id FROM delivery")}
    heard = receiver.heard
    per_run = Counter(name.rsplit("_", 1)[0] for name in heard)
    found = {
        "runs": runs,
        "lost": server.query(UNTOLD)[0][0] + len(ids - heard.keys()),
        "unknown": len(heard.keys() - ids),
        "second bodies": sum(len(bodies) > 1 for bodies in heard.values())
        + sum(count > 1 for count in per_run.values()),
        "heard again": sum(bodies.total() - 1 for bodies in heard.values()),
    }
    if found["lost"] or found["unknown"] or found["second bodies"]:
        raise SystemExit(f"webhooks were lost or doubled: {found}")
    return found


def at_points(server: Hooked, receiver: Receiver, kills: int) -> None:
    for point in POINTS:
        before = sum(bodies.total() for bodies in receiver.heard.values())
        for _ in range(kills):
            server.start(kill_at=point)
            server.run(receiver.url)
            server.process.wait(300)
            server.start()
            server.settle()
            server.kill()
        heard = sum(bodies.total() for bodies in receiver.heard.values()) - before
        print(f"{kills} kills at {point}: {check(server, receiver)}, {heard - kills} of these heard again", flush=True)


def before_the_answer(server: Hooked, receiver: Receiver, kills: int) -> None:
    for _ in range(kills):
        killed = threading.Event()

        def kill() -> None:
            if not killed.is_set():
                killed.set()
                server.kill()

        receiver.before_answer = kill
        server.start()
        server.run(receiver.url)
        if not killed.wait(300):
            raise SystemExit("no webhook came")
        receiver.before_answer = lambda: None
        server.process.wait()
        server.start()
        server.settle()
        server.kill()
    print(f"{kills} kills before the answer: {check(server, receiver)}", flush=True)


def in_recoveries(server: Hooked, receiver: Receiver, kills: int) -> None:
    server.start()
    for _ in range(MANY):
        server.run(receiver.url)
    server.settle()
    server.kill()
    for _ in range(kills):
        server.query("UPDATE delivery SET state = 'cancelled'")
        server.start(kill_at="recovery.advanced")
        try:
            server.ask("POST", "/webhooks/recover", {})
        except BROKEN:
            pass
        server.process.wait(300)
        left = server.query("SELECT count(*) FROM delivery WHERE state = 'cancelled'")[0][0]
        if not left:
            raise SystemExit("the server did not die in the middle of the recovery")
        server.start()
        server.settle()
        server.kill()
    print(f"{kills} kills in the middle of a recovery: {check(server, receiver)}", flush=True)


def at_random(server: Hooked, receiver: Receiver, minutes: float, rate: float) -> None:
    done = threading.Event()

    def offer() -> None:
        while not done.wait(1 / rate):
            server.run(receiver.url)

    clients = [threading.Thread(target=offer) for _ in range(1)]
    kills, end = 0, time.monotonic() + minutes * 60
    server.start()
    for client in clients:
        client.start()
    while time.monotonic() < end:
        time.sleep(random.uniform(0.2, 2))
        server.kill()
        kills += 1
        server.start()
    done.set()
    for client in clients:
        client.join()
    server.settle()
    ends = dict(server.query("SELECT status, count(*) FROM run GROUP BY 1"))
    server.kill()
    print(f"{kills} kills at random in {minutes:g} min: {check(server, receiver)}, runs ended {ends}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, required=True)
    arguments.add_argument("--kills", type=int, default=50, help="in each window")
    arguments.add_argument("--minutes", type=float, default=10, help="of kills at random")
    arguments.add_argument("--rate", type=float, default=50, help="runs a second meanwhile")
    options = arguments.parse_args()
    for name in ("windows", "random"):
        with tempfile.TemporaryDirectory() as folder:
            server, receiver = Hooked(options.binary, Path(folder) / "data", ROOT / "bench/project"), Receiver()
            try:
                if name == "windows" and options.kills:
                    at_points(server, receiver, options.kills)
                    before_the_answer(server, receiver, options.kills)
                    in_recoveries(server, receiver, options.kills)
                if name == "random" and options.minutes:
                    at_random(server, receiver, options.minutes, options.rate)
            except BaseException:
                sys.stderr.write((Path(folder) / "data.log").read_text()[-3000:])
                raise
            finally:
                if hasattr(server, "process") and server.process.poll() is None:
                    server.kill()
    print("nothing was lost and nothing doubled")


if __name__ == "__main__":
    main()
