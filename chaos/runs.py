"""Kills the real server and its workers over and over while runs go on, and checks that each did what it should, once.

First at named points, then at random under load. The database, the states of the threads, what readers of streams were
told and what nodes noted outside have the last word.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from http.client import HTTPConnection
from pathlib import Path

from server import BROKEN, Server

PROJECT = Path(__file__).parent / "project"
POINTS = ["run.claimed", "finish.before_commit", "finish.committed"]
STEPS = 6
# Runs on one thread wait for each other.
PER_THREAD = 5


class Reader(threading.Thread):
    """Reads the stream of a run to its end, over every crash, and notes the numbers of its events."""

    def __init__(self, server: Server, thread: str, run: str) -> None:
        super().__init__(daemon=True)
        self.server, self.path = server, f"/threads/{thread}/runs/{run}"
        self.run_id, self.seen, self.last, self.ended, self.status = run, [], "-1", False, None
        self.port = None
        self.start()

    def run(self) -> None:
        while not self.ended:
            try:
                self.read()
                # A stream that breaks off says nothing; one of a run that has ended is over.
                self.status = self.server.ask("GET", self.path).get("status")
                self.ended = self.status in ("success", "error", "interrupted", "timeout") and self.read()
            except (*BROKEN, AttributeError):
                time.sleep(0.05)

    def read(self) -> bool:
        self.port = self.server.port
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"{self.path}/stream", headers={"last-event-id": self.last})
            response = connection.getresponse()
            if response.status != 200:
                raise OSError("not now")
            for line in response:
                if line.startswith(b"id: "):
                    self.last = line[4:].strip().decode()
                    self.seen.append(int(self.last.rpartition("-")[2]))
        finally:
            connection.close()
        return True


def asked(turn: int) -> dict[str, object]:
    """What a run is asked for with."""
    return {
        "assistant_id": "turns",
        "input": {"turn": turn},
        "if_not_exists": "create",
        "multitask_strategy": "enqueue",
        "stream_mode": "custom",
        "stream_resumable": True,
    }


class Load:
    """Threads with some runs each, of which some are read as they go on."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.made: dict[str, list[int]] = defaultdict(list)
        self.readers: list[Reader] = []

    def thread(self, read: bool = True) -> None:
        """Asks for the runs of a new thread; those that are not answered may have been made all the same."""
        thread = str(uuid.uuid4())
        for turn in range(PER_THREAD):
            try:
                made = self.server.ask("POST", f"/threads/{thread}/runs", asked(turn))
            except BROKEN:
                continue
            self.made[thread].append(turn)
            if read:
                read = False
                self.readers.append(Reader(self.server, thread, made["run_id"]))

    def settle(self, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while self.server.query("SELECT count(*) FROM run WHERE status IN ('pending', 'running')")[0][0]:
            if time.monotonic() > deadline:
                raise SystemExit(f"not every run ended: {self.server.query('SELECT status, count(*) FROM run GROUP BY 1')}")
            time.sleep(0.05)
        for reader in self.readers:
            reader.join(max(0, deadline - time.monotonic()))
            if reader.is_alive():
                where = f"event {reader.last} at port {reader.port}"
                raise SystemExit(f"the stream of {reader.run_id} does not end after {where}")


def check(load: Load, effects: Path) -> dict[str, int]:
    """Looks for what must not be."""
    server, wrong = load.server, []
    ends = {bytes(id): (bytes(thread), status) for id, thread, status in server.query(RUNS)}
    busy = server.ask("POST", "/threads/count", {"status": "busy"})
    if busy:
        wrong.append(f"{busy} threads are busy without a run")
    integrity = server.query("PRAGMA integrity_check")
    if integrity != [("ok",)]:
        wrong.append(f"the database is damaged: {integrity}")
    by_thread = defaultdict(list)
    for thread, status in ends.values():
        by_thread[str(uuid.UUID(bytes=thread))].append(status)
    for thread, turns in load.made.items():
        if len(by_thread[thread]) < len(turns):
            wrong.append(f"runs of thread {thread} that were answered are gone")
        values = server.ask("GET", f"/threads/{thread}/state").get("values") or {}
        wrong += mistakes(thread, values.get("log", []), turns, by_thread[thread])
    for reader in load.readers:
        wrong += misheard(reader, server.query(EVENTS.format(uuid.UUID(reader.run_id).hex))[0][0])
    again, ambiguous = effects_of_steps(effects)
    wrong += ambiguous
    if wrong:
        raise SystemExit("\n".join(wrong[:20]))
    states = Counter(status for _, status in ends.values())
    return {
        "runs": len(ends),
        **states,
        "streams read": len(load.readers),
        "nodes begun again": again,
    }


RUNS = "SELECT id, thread_id, status FROM run"
EVENTS = "SELECT count(*) FROM event WHERE run = (SELECT k FROM run WHERE id = x'{}')"


def misheard(reader: Reader, stored: int) -> list[str]:
    """What is wrong with what the reader of a run was told, of which there are so many events."""
    wrong = []
    if reader.seen != list(range(1, len(reader.seen) + 1)):
        wrong.append(f"the reader of {reader.run_id} was told {reader.seen}")
    if stored != len(reader.seen):
        wrong.append(f"the reader of {reader.run_id} was told {len(reader.seen)} of {stored} events")
    return wrong


def effects_of_steps(effects: Path) -> tuple[int, list[str]]:
    """How many nodes were begun again, and which could not be told from others by their keys."""
    keys = defaultdict(set)
    lines = [line.split() for line in effects.read_text().splitlines()] if effects.exists() else []
    for run, step, key in lines:
        keys[run, step].add(key)
    wrong = [f"{step} has several keys: {several}" for step, several in keys.items() if len(several) > 1]
    if len(set().union(*keys.values())) < len(keys):
        wrong.append("different steps have the same key")
    return len(lines) - len(keys), wrong


def mistakes(thread: str, log: list[list[int]], turns: list[int], statuses: list[str]) -> list[str]:
    """What is wrong with what a thread's state says of its runs: each takes all its steps in order, each of them once;
    one that failed may lack the last ones."""
    wrong, seen = [], []
    for turn, step in log:
        if step == 0:
            seen.append([turn])
        elif not seen or seen[-1][0] != turn or len(seen[-1]) != step:
            wrong.append(f"thread {thread}: step {step} of turn {turn} is out of place in {log}")
            break
        else:
            seen[-1].append(step)
    order = [steps[0] for steps in seen]
    if order != sorted(set(order)):
        wrong.append(f"thread {thread}: turns {order}")
    whole = sum(len(steps) == STEPS + 1 for steps in seen)
    if whole < statuses.count("success"):
        wrong.append(f"thread {thread}: {statuses} with {whole} whole turns")
    if "error" not in statuses and not set(turns) <= set(order):
        wrong.append(f"thread {thread}: of turns {turns} only {order} were taken")
    return wrong


def descendants(pid: int) -> list[int]:
    """The processes of a server's workers, and what forks them."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            children[parent].append(int(entry.name))
    found, ahead = [], [pid]
    while ahead:
        below = children[ahead.pop()]
        found += below
        ahead += below
    return found


def at_points(server: Server, effects: Path, kills: int) -> None:
    for point in POINTS:
        load = Load(server)
        for _ in range(kills):
            server.start(kill_at=point)
            load.thread()
            server.process.wait(300)
            server.start()
            load.settle()
            server.kill()
        server.start()
        print(f"{kills} kills at {point}: {check(load, effects)}", flush=True)
        server.kill()


def at_random(server: Server, effects: Path, kills: int) -> None:
    load, done = Load(server), threading.Event()

    def offer() -> None:
        while not done.wait(0.3):
            load.thread(read=len(load.readers) < 100)

    server.start()
    offering = threading.Thread(target=offer)
    offering.start()
    killed = Counter()
    while sum(killed.values()) < kills:
        time.sleep(random.uniform(0.2, 2))
        workers = descendants(server.process.pid)
        if workers and random.random() < 0.5:
            try:
                os.kill(random.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed["workers"] += 1
        else:
            server.kill()
            killed["servers"] += 1
            server.start()
    done.set()
    offering.join()
    load.settle(600)
    print(f"kills at random of {json.dumps(killed)}: {check(load, effects)}", flush=True)
    server.kill()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, required=True)
    arguments.add_argument("--kills", type=int, default=50, help="at each point")
    arguments.add_argument("--random", type=int, default=500, help="kills at random, of the server and its workers")
    options = arguments.parse_args()
    for attempt in (at_points, at_random):
        count = options.kills if attempt is at_points else options.random
        if not count:
            continue
        with tempfile.TemporaryDirectory() as folder:
            effects = Path(folder) / "effects"
            kept = {"RESUMABLE_STREAM_TTL_SECONDS": "36000", "EFFECTS": str(effects)}
            server = Server(options.binary, Path(folder) / "data", PROJECT, **kept)
            try:
                attempt(server, effects, count)
            except BaseException:
                sys.stderr.write((Path(folder) / "data.log").read_text()[-3000:])
                raise
            finally:
                if hasattr(server, "process") and server.process.poll() is None:
                    server.kill()
    print("every run did what it should, once")


if __name__ == "__main__":
    main()
