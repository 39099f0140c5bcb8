"""Simulates how many servers look for a run that waits, as there are more of them.

A run goes to a server at random, which executes it if it has a slot free. Otherwise the run waits and all servers are
woken; each that has a slot free looks, and the first takes the run. Who has ended a run looks as well while some wait.
"""

import heapq
import random

SLOTS, RUNS = 10, 200_000


def looks_per_run(servers: int, load: float) -> tuple[float, float]:
    """Looks for runs per run, and the share of runs that waited."""
    free = [SLOTS] * servers
    with_room = servers
    ends: list[tuple[float, int]] = []
    waiting = looks = waited = 0
    now = 0.0
    for _ in range(RUNS):
        now += random.expovariate(servers * SLOTS * load)
        while ends and ends[0][0] <= now:
            ended, server = heapq.heappop(ends)
            if waiting:
                looks, waiting = looks + 1, waiting - 1
                heapq.heappush(ends, (ended + random.expovariate(1), server))
                continue
            with_room += free[server] == 0
            free[server] += 1
        server = random.randrange(servers)
        if not free[server]:
            waited += 1
            looks += with_room
            if not with_room:
                waiting += 1
                continue
            server = random.choice([it for it in range(servers) if free[it]])
        free[server] -= 1
        with_room -= free[server] == 0
        heapq.heappush(ends, (now + random.expovariate(1), server))
    return looks / RUNS, waited / RUNS


def main() -> None:
    print("| servers | slots in use | runs that waited | looks per run |\n| ---: | ---: | ---: | ---: |")
    for servers in (4, 10, 100, 1_000):
        for load in (0.5, 0.8, 0.95):
            looks, waited = looks_per_run(servers, load)
            print(f"| {servers:,} | {load:.0%} | {waited:.1%} | {looks:.2f} |", flush=True)


if __name__ == "__main__":
    main()
