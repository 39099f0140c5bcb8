"""One round against a server: CPU of all its processes per run, and how long a run takes with nothing else going on."""

import json
import os
import statistics
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import chat
from cases import CASES, Case

CONCURRENCY = 8
TICKS = os.sysconf("SC_CLK_TCK")


class Processes:
    """The processes that listen on some ports, with all their descendants."""

    def __init__(self, *ports: int) -> None:
        self.roots = [listener(port) for port in ports]

    def pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for pid, fields in stats():
            children.setdefault(int(fields[1]), []).append(pid)
        found, left = [], list(self.roots)
        while left:
            pid = left.pop()
            found.append(pid)
            left += children.get(pid, [])
        return found

    def cpu_s(self) -> float:
        """User and system time, that of ended children included."""
        tree = set(self.pids())
        return sum(sum(map(int, fields[11:15])) for pid, fields in stats() if pid in tree) / TICKS

    def memory_mib(self) -> float:
        """Proportional set size, where pages that are shared count once."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024


def stats() -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()))
            except OSError:
                continue  # It has ended meanwhile.
    return found


def listener(port: int) -> int:
    """The process that listens on a TCP port of this machine."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for pid, _ in stats():
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if inodes.intersection(links):
            return pid
    raise SystemExit(f"no process of this machine listens on port {port}, so its CPU can't be measured")


class Client:
    """One connection that is kept open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=120)

    def run(self, case: Case) -> float:
        """Executes a run to its end; the seconds it took."""
        body = {"assistant_id": case.graph, "input": case.input}
        if case.api_mode:
            body["stream_mode"] = [case.api_mode]
        path = "/runs/stream" if case.api_mode else "/runs/wait"
        started = time.perf_counter()
        self._http.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = self._http.getresponse()
        data = answer.read()
        took = time.perf_counter() - started
        events = data.count(b"event: messages") + data.count(b"event: custom")
        if answer.status != 200 or b"__error__" in data or b"event: error" in data or events < case.events:
            raise SystemExit(f"{case.title}: status {answer.status}, {events} events: {data[:300]!r}")
        return took


def measure(url: str, case: Case, processes: Processes, share: float) -> dict[str, float]:
    runs = max(CONCURRENCY, int(case.runs * share))
    clients = [Client(url) for _ in range(CONCURRENCY)]
    # As many as are counted, as the bare graphs in TypeScript have: V8 compiles what runs often, and forgets what rests.
    repeat(clients, case, runs)
    cpu = processes.cpu_s()
    repeat(clients, case, runs)
    cpu = processes.cpu_s() - cpu
    alone = [clients[0].run(case) for _ in range(max(5, runs // 20))]
    return {"cpu_s": cpu / runs, "latency_s": statistics.median(alone)}


def last_turns(url: str, processes: Processes) -> dict[str, float]:
    thread = chat.Thread(url)
    before = chat.TURNS - chat.LAST
    thread.talk(range(before))
    cpu, started = processes.cpu_s(), time.perf_counter()
    thread.talk(range(before, chat.TURNS))
    took = time.perf_counter() - started
    return {"cpu_s": (processes.cpu_s() - cpu) / chat.LAST, "latency_s": took / chat.LAST}


def repeat(clients: list[Client], case: Case, runs: int) -> None:
    """Executes that many runs, as many at once as there are clients."""
    left = iter(range(runs))
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            for _ in left:
                client.run(case)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def load(url: str, share: float = 1.0, services: tuple[int, ...] = ()) -> dict[str, dict[str, float]]:
    """A round of all cases, or of a share of their runs. What listens on the ports of `services` is counted as well."""
    processes = Processes(urlsplit(url).port or 80, *services)
    measured = {case.graph: measure(url, case, processes, share) for case in CASES}
    if share >= 1:
        measured["chat"] = last_turns(url, processes)
    return {**measured, "memory": {"mib": processes.memory_mib()}}
