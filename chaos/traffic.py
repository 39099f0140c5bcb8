"""What several servers are asked for while things go wrong, and whether all of it came to be, once."""

import threading
import time
import uuid
from collections import Counter, defaultdict

from runs import PER_THREAD, RUNS, Load, Reader, asked, effects_of_steps, misheard, mistakes
from server import BROKEN
from webhooks import LEFT, Receiver
from yard import DROPPED, Replica, Yard, until

OPEN = "SELECT count(*) FROM run WHERE status IN ('pending', 'running')"
UNSETTLED = f"SELECT ({OPEN}) + (SELECT count(*) FROM delivery WHERE state <> 'delivered')"


class Traffic(Load):
    """Runs on threads, each with a webhook, some of them read at any server; and crons."""

    def __init__(self, yard: Yard, at_once: int = 30, crons: int = 2) -> None:
        super().__init__(yard)
        self.yard, self.at_once, self.receiver = yard, at_once, Receiver()
        self.answered: dict[str, str] = {}
        self.crons: dict[str, str] = {}
        self._done = threading.Event()
        for _ in range(crons):
            self.cron()
        self._clients = [threading.Thread(target=self.offer, daemon=True) for _ in range(2)]
        for client in self._clients:
            client.start()

    def offer(self) -> None:
        while not self._done.wait(0.2):
            if self.in_flight() < self.at_once:
                self.thread(read=len(self.readers) < 150)

    def thread(self, read: bool = True) -> None:
        """Asks for the runs of a new thread, of any server each, as long as they are answered: what is not may be made
        late, and behind the next one."""
        thread = str(uuid.uuid4())
        for turn in range(PER_THREAD):
            try:
                made = self.yard.ask("POST", f"/threads/{thread}/runs", self.hooked(turn))
            except BROKEN:
                return
            self.made[thread].append(turn)
            self.answered[made["run_id"]] = thread
            if read and turn < 2:
                self.readers.append(Reader(self.yard, thread, made["run_id"]))

    def read_at(self, replica: Replica) -> None:
        """Reads some of what is under way at one server, whatever becomes of it."""
        running = "SELECT id, thread_id FROM run WHERE status = 'running' ORDER BY k DESC LIMIT 10"
        self.readers += [Reader(replica, str(thread), str(run)) for run, thread in self.yard.query(running)]

    def cron(self) -> None:
        """Makes one that is due every second, on a thread of its own."""
        thread = self.yard.insist("POST", "/threads", {})["thread_id"]
        cron = self.hooked(0) | {"schedule": "* * * * * *"}
        del cron["if_not_exists"]
        self.crons[thread] = self.yard.insist("POST", f"/threads/{thread}/runs/crons", cron)["cron_id"]

    def hooked(self, turn: int) -> dict[str, object]:
        return asked(turn) | {"webhook": self.receiver.url}

    def in_flight(self) -> int:
        return self.yard.query(OPEN)[0][0]

    def fill(self) -> None:
        until(lambda: self.in_flight() >= self.at_once - PER_THREAD, "there are too few runs", 300)

    def end(self, seconds: float = 600) -> None:
        """Asks for no more, and waits for all that was asked for; each server has to take part again."""
        for replica in self.yard.answering:
            until(lambda at=replica: works(at), f"the server at {replica.data} executes nothing any more")
        self._done.set()
        for client in self._clients:
            client.join()
        for cron in self.crons.values():
            self.yard.insist("PATCH", f"/runs/crons/{cron}", {"enabled": False})
        self.settle(seconds)
        deadline = time.monotonic() + seconds
        while self.yard.query(UNSETTLED)[0][0]:
            if time.monotonic() > deadline:
                raise SystemExit(f"not everything was delivered: {self.yard.query(LEFT)}")
            time.sleep(0.1)


def works(replica: Replica) -> bool:
    try:
        return "step" in replica.ask("POST", "/runs/wait", {"assistant_id": "turns", "input": {"turn": 0}})
    except BROKEN:
        return False


def check(traffic: Traffic) -> dict[str, object]:
    """Looks for what must not be."""
    yard, wrong = traffic.yard, []
    ends = {str(run): (str(thread), status) for run, thread, status in yard.query(RUNS)}
    gone = traffic.answered.keys() - ends.keys()
    wrong += [f"run {run} was answered and is gone" for run in gone]
    if busy := yard.insist("POST", "/threads/count", {"status": "busy"}):
        wrong.append(f"{busy} threads are busy without a run")
    by_thread = defaultdict(list)
    for thread, status in ends.values():
        by_thread[thread].append(status)
    for thread, turns in traffic.made.items():
        values = yard.insist("GET", f"/threads/{thread}/state").get("values") or {}
        wrong += mistakes(thread, values.get("log", []), turns, by_thread[thread])
    stored = {str(run): count for run, count in yard.query(EVENTS)}
    for reader in traffic.readers:
        wrong += misheard(reader, stored.get(reader.run_id, 0))
        if reader.status != ends[reader.run_id][1]:
            wrong.append(f"the reader of {reader.run_id} was told {reader.status}, and it is {ends[reader.run_id][1]}")
    again, ambiguous = effects_of_steps(yard.effects)
    wrong += ambiguous + untold(traffic, ends) + fired_twice(yard)
    if wrong:
        raise SystemExit("\n".join(wrong[:20]))
    heard = traffic.receiver.heard.values()
    return {
        "runs": len(ends),
        **Counter(status for _, status in ends.values()),
        "streams read": len(traffic.readers),
        "nodes begun again": again,
        "moments of crons": yard.query("SELECT count(*) FROM chaos_moment")[0][0],
        "webhooks": len(heard),
        "of these again": sum(bodies.total() - 1 for bodies in heard),
        "attempts dropped": sum(it.said(DROPPED) for it in yard.replicas),
    }


EVENTS = "SELECT run.id, count(*) FROM event JOIN run ON run.k = event.run GROUP BY 1"


def untold(traffic: Traffic, ends: dict[str, tuple[str, str]]) -> list[str]:
    """What is wrong with the webhooks: each run is told once, with the status that it has."""
    wrong, heard = [], traffic.receiver.heard
    expected = {f"msg_{uuid.UUID(run).hex}_1": status for run, (_, status) in ends.items()}
    wrong += [f"webhook {name} is missing" for name in expected.keys() - heard.keys()]
    # A run without a row is stateless, and has no webhook here.
    wrong += [f"webhook {name} is of no run" for name in heard.keys() - expected.keys()]
    wrong += [f"webhook {name} has several bodies" for name, bodies in heard.items() if len(bodies) > 1]
    for name, status in expected.items():
        if (told := traffic.receiver.statuses.get(name, {status})) != {status}:
            wrong.append(f"webhook {name} told of {told}, and it is {status}")
    return wrong


def fired_twice(yard: Yard) -> list[str]:
    """Moments of crons that passed twice, or passed with another number of runs than one, and runs of no moment."""
    twice = yard.query("SELECT thread, at, count(*) FROM chaos_moment GROUP BY 1, 2 HAVING count(*) > 1")
    unlike = yard.query(
        """SELECT thread, tx, moments, runs FROM
            (SELECT thread, tx, count(*) AS moments FROM chaos_moment GROUP BY 1, 2) AS passed
            FULL JOIN (SELECT thread, tx, count(*) AS runs FROM chaos_made
                WHERE thread IN (SELECT thread FROM chaos_moment) GROUP BY 1, 2) AS made USING (thread, tx)
        WHERE moments IS DISTINCT FROM runs"""
    )
    return [f"a moment fired twice: {it}" for it in twice] + [f"moments and runs differ: {it}" for it in unlike]
