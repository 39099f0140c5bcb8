"""What is measured: a graph, its input, what is streamed, and how many runs make a round."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    graph: str
    title: str
    input: dict[str, Any]
    runs: int
    # As `stream_mode` of the API, and of `astream`; None: the run is waited for.
    api_mode: str | None = None
    graph_mode: str | None = None
    events: int = 0


CASES = [
    Case("noop", "noop run", {"count": 0}, 600),
    Case("steps", "10 supersteps", {"count": 0, "until": 10}, 200),
    Case(
        "tokens",
        "500 tokens",
        {"messages": [{"role": "user", "content": "go"}], "until": 500},
        50,
        "messages-tuple",
        "messages",
        500,
    ),
    Case("custom", "500 custom events", {"until": 500}, 200, "custom", "custom", 500),
]
