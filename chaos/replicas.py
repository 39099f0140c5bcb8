"""Breaks what several servers share, and them, while runs go on, and checks that each run did what it should, once.

The servers share a PostgreSQL and a Redis of the test's own. What the database holds, what readers of streams and the
receiver of webhooks were told, and what nodes noted outside have the last word.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from stores import Stores
from traffic import Traffic, check
from yard import DROPPED, LEASE_S, Replica, Yard

SERVERS = ("all", "all", "api")
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@dataclass
class Extent:
    """How often things go wrong, and for how long."""

    kills: int
    sleeps: int
    restarts: int
    outage_s: float
    watch_s: float


SHORT = Extent(kills=2, sleeps=1, restarts=1, outage_s=5, watch_s=3)
LONG = Extent(kills=30, sleeps=10, restarts=10, outage_s=60, watch_s=60)


def killed(yard: Yard, extent: Extent) -> Traffic:
    """kill -9 of one server after the other, while fifty runs are in flight."""
    yard.open(*SERVERS)
    traffic = Traffic(yard, at_once=60)
    for n in range(extent.kills):
        traffic.fill()
        doomed = yard.replicas[n % len(yard.replicas)]
        doomed.kill()
        time.sleep(random.uniform(0, 1.5 * LEASE_S))
        doomed.start()
    return traffic


def asleep(yard: Yard, extent: Extent) -> Traffic:
    """A server that sleeps beyond its leases, and then goes on; with its workers, or without."""
    # Runs are still under way at another server when the one that began them wakes up.
    yard.open(*SERVERS, environments=({"PART_SECONDS": "0.2"},) * len(SERVERS))
    traffic = Traffic(yard, crons=0)
    for n in range(extent.sleeps):
        sleeper = yard.replicas[n % 2]
        # On a slow machine it may have nothing to do when it falls asleep.
        if not any(late(traffic, sleeper, workers=n % 4 < 2) for _ in range(5)):
            raise SystemExit("nothing was done late")
    return traffic


def late(traffic: Traffic, sleeper: Replica, workers: bool) -> bool:
    """Has a server sleep beyond its leases. Whether it then does what is not its to do any more."""
    traffic.fill()
    before = sleeper.said(DROPPED)
    traffic.read_at(sleeper)
    sleeper.signal(signal.SIGSTOP, workers=workers)
    time.sleep(LEASE_S + 2)
    sleeper.signal(signal.SIGCONT, workers=True)
    deadline = time.monotonic() + 30
    while sleeper.said(DROPPED) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    return sleeper.said(DROPPED) > before


def postgres_restarted(yard: Yard, extent: Extent) -> Traffic:
    """PostgreSQL is stopped, or dies, and is started again."""
    yard.open(*SERVERS)
    traffic = Traffic(yard)
    for n in range(extent.restarts):
        traffic.fill()
        yard.stores.postgres.stop(signal.SIGQUIT if n % 2 else signal.SIGINT)
        time.sleep(random.uniform(0, 2))
        yard.stores.postgres.start()
    return traffic


def postgres_unreachable(yard: Yard, extent: Extent) -> Traffic:
    """PostgreSQL refuses connections of all servers; then what one server says to it, and hears, goes nowhere."""
    yard.open(*SERVERS)
    traffic = Traffic(yard)
    traffic.fill()
    for replica in yard.replicas:
        replica.postgres.refuse()
    time.sleep(extent.outage_s)
    for replica in yard.replicas:
        replica.postgres.mend()
    traffic.fill()
    yard.replicas[0].postgres.swallow()
    time.sleep(extent.outage_s)
    yard.replicas[0].postgres.mend()
    return traffic


def redis_lost(yard: Yard, extent: Extent) -> Traffic:
    """Redis is flushed, killed and started again, and goes silent for one server."""
    yard.open(*SERVERS)
    traffic = Traffic(yard)
    for _ in range(max(1, extent.restarts // 2)):
        traffic.fill()
        yard.stores.flush()
        yard.stores.redis.stop(signal.SIGKILL)
        time.sleep(3)
        yard.stores.redis.start()
        traffic.fill()
        yard.replicas[-1].redis.swallow()
        time.sleep(extent.outage_s / 2)
        yard.replicas[-1].redis.mend()
    return traffic


def clocks_apart(yard: Yard, extent: Extent) -> Traffic:
    """The clock of one server is ahead by half a minute, that of another one behind."""
    fake = {"LD_PRELOAD": str(FAKETIME[-1]), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    yard.open(*SERVERS, environments=(fake | {"FAKETIME": "+30"}, fake | {"FAKETIME": "-30"}, {}))
    traffic = Traffic(yard)
    time.sleep(extent.watch_s)
    traffic.fill()
    yard.replicas[0].kill()
    time.sleep(LEASE_S)
    yard.replicas[0].start()
    time.sleep(extent.watch_s / 2)
    return traffic


def senders_and_tickers(yard: Yard, extent: Extent) -> Traffic:
    """Two servers send webhooks, and two begin the runs of crons; then one of each dies."""
    yard.open("api", "worker", "worker", "sender", "sender")
    traffic = Traffic(yard, crons=8)
    time.sleep(extent.watch_s)
    for doomed in (yard.replicas[1], yard.replicas[3]):
        traffic.fill()
        doomed.kill()
        doomed.start()
    time.sleep(extent.watch_s / 2)
    return traffic


def rolling_restart(yard: Yard, extent: Extent) -> Traffic:
    """Each server is stopped and started again, one after the other."""
    yard.open(*SERVERS)
    traffic = Traffic(yard)
    for n in range(max(len(SERVERS), extent.restarts)):
        traffic.fill()
        leaving = yard.replicas[n % len(SERVERS)]
        leaving.process.send_signal(signal.SIGTERM)
        if leaving.process.wait(180) != 0:
            raise SystemExit(f"a server that was stopped ended with {leaving.process.returncode}")
        leaving.start()
    return traffic


SCENARIOS: tuple[Callable[[Yard, Extent], Traffic], ...] = (
    killed,
    asleep,
    postgres_restarted,
    postgres_unreachable,
    redis_lost,
    clocks_apart,
    senders_and_tickers,
    rolling_restart,
)


def play(scenario: Callable[[Yard, Extent], Traffic], extent: Extent, stores: Stores, binary: Path) -> None:
    begun, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="chaos-"))
    yard = Yard(binary, folder, stores)
    try:
        traffic = scenario(yard, extent)
        over = time.monotonic()
        traffic.end()
        settled = time.monotonic() - over
        print(f"{scenario.__name__}: {check(traffic)}, settled {settled:.0f} s later", end="", flush=True)
        print(f" ({time.monotonic() - begun:.0f} s)", flush=True)
    except BaseException:
        stores.dump(yard.database, folder / "database.csv")
        sys.stderr.write(f"what the servers said, and the database, are in {folder}\n")
        raise
    finally:
        yard.close()
    shutil.rmtree(folder)


def main() -> None:
    names = [it.__name__ for it in SCENARIOS]
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, required=True)
    arguments.add_argument("--only", choices=names, action="append", help="this one, or these")
    arguments.add_argument("--short", action="store_true", help="a little of each")
    options = arguments.parse_args()
    with ExitStack() as stack:
        stores = Stores(stack)
        for scenario in SCENARIOS:
            if scenario is clocks_apart and not FAKETIME:
                print("clocks_apart: not done, since libfaketime is not installed", flush=True)
            elif scenario.__name__ in (options.only or names):
                play(scenario, SHORT if options.short else LONG, stores, options.binary)
    print("every run did what it should, once, whoever executed it")


if __name__ == "__main__":
    main()
