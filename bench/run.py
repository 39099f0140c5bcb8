"""Measures a server next to the bare graphs in one run, and prints a table and a plot.

Rounds of the floor, of ours and of the peer alternate, so that what else the machine does hits all of them; what is
reported are medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import chat
import matplotlib
from cases import CASES
from load import load
from serving import start

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "e2e/python"))
import services  # noqa: E402

Round = dict[str, dict[str, float]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, required=True, help="the server to measure")
    arguments.add_argument("--out", type=Path, required=True, help="the folder for the table and the plot")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--shared", action="store_true", help="keep state in PostgreSQL and Redis, and count them")
    arguments.add_argument("--peer", help="URL of another server on this machine that serves the same graphs")
    arguments.add_argument("--typescript", type=Path, help="the graphs in TypeScript, beside their packages, instead")
    arguments.add_argument("--peer-share", type=float, default=0.1, help="how many of the runs the peer gets")
    options = arguments.parse_args()

    floor: list[Round] = []
    ours: list[Round] = []
    peer: list[Round] = []
    with tempfile.TemporaryDirectory() as data:
        variables = services.shared(Path(data)) if options.shared else {}
        ports = tuple(port(uri) for name, uri in variables.items() if name in ("DATABASE_URI", "REDIS_URI"))
        project = options.typescript or HERE / "project"
        server, url = start(options.binary, Path(data), project=project, **variables)
        try:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                floor.append(bare(options.typescript))
                ours.append(load(url, services=ports))
                if options.peer:
                    peer.append(load(options.peer, options.peer_share))
        finally:
            server.terminate()
            server.wait()
            services.drop_shared()
    table = render(floor, ours, peer)
    print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.md").write_text(table)
    (options.out / "bench.json").write_text(json.dumps({"floor": floor, "ours": ours, "peer": peer}, indent=1))
    plot(floor, ours, peer, options.out / "bench.svg")
    print(f"written to {options.out}", file=sys.stderr)


def bare(typescript: Path | None) -> Round:
    """A round of the graphs without a server, in a process of their language."""
    if typescript is None:
        return json.loads(subprocess.check_output([sys.executable, HERE / "floor.py"]))
    turns = [chat.turn(number) for number in range(chat.TURNS)]
    what = {"cases": [asdict(case) for case in CASES], "turns": turns, "last": chat.LAST}
    floor = ["node", "--import", "tsx", "floor.ts", json.dumps(what)]
    return json.loads(subprocess.check_output(floor, cwd=typescript))


def port(uri: str) -> int:
    return urlsplit(uri).port or {"redis": 6379}.get(urlsplit(uri).scheme, 5432)


def median(rounds: list[Round], graph: str, what: str) -> float:
    return statistics.median(round[graph][what] for round in rounds)


def render(floor: list[Round], ours: list[Round], peer: list[Round]) -> str:
    heads = ["", "bare graph, CPU ms", "ours, CPU ms", "ours : bare", "ours, latency ms"]
    heads += ["peer, CPU ms", "peer : ours", "peer, latency ms"] if peer else []
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for graph, title in [*((case.graph, case.title) for case in CASES), ("chat", "a turn, the 281st to 300th of a chat")]:
        least, own = median(floor, graph, "cpu_s"), median(ours, graph, "cpu_s")
        row = [title, ms(least), ms(own), f"{own / least:.2f}", ms(median(ours, graph, "latency_s"))]
        if peer and graph in peer[0]:
            other = median(peer, graph, "cpu_s")
            row += [ms(other), f"{other / own:.1f}", ms(median(peer, graph, "latency_s"))]
        rows.append(row + [""] * (len(heads) - len(row)))
    memory = f"Memory of all processes after the last round: ours {ours[-1]['memory']['mib']:.0f} MiB"
    memory += f", peer {peer[-1]['memory']['mib']:.0f} MiB" if peer else ""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = f"CPU per run of all processes, medians of {len(ours)} interleaved rounds; latency of one run at a time."
    return "\n".join([*lines, "", notes, "", memory + ".", ""])


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def plot(floor: list[Round], ours: list[Round], peer: list[Round], target: Path) -> None:
    """CPU per run relative to the bare graph."""
    figure, axes = pyplot.subplots(figsize=(8, 4))
    series = [("bare graph", floor), ("ours", ours)] + ([("peer", peer)] if peer else [])
    width = 0.8 / len(series)
    for number, (name, rounds) in enumerate(series):
        ratios = [median(rounds, case.graph, "cpu_s") / median(floor, case.graph, "cpu_s") for case in CASES]
        bars = axes.bar([i + number * width for i in range(len(CASES))], ratios, width, label=name)
        axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], fontsize=8)
    axes.set_xticks([i + width * (len(series) - 1) / 2 for i in range(len(CASES))], [case.title for case in CASES])
    axes.set_ylabel("CPU per run, bare graph = 1")
    if peer:
        axes.set_yscale("log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main()
