"""A chat of many turns on one thread: what its last turns cost, and what it takes up on disk."""

import json
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

TURNS = 300
# The last turns, which cost the most.
LAST = 20


def turn(number: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"turn {number} " + "lorem ipsum dolor sit amet " * 8}]}


class Thread:
    """A thread of a server that serves bench/project."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=120)
        self._id = self._post("/threads", {})["thread_id"]

    def talk(self, turns: range) -> None:
        for number in turns:
            state = self._post(f"/threads/{self._id}/runs/wait", {"assistant_id": "echo", "input": turn(number)})
            if len(state.get("messages", [])) != 2 * (number + 1):
                raise SystemExit(f"turn {number + 1} of the chat came to {str(state)[:300]}")

    def _post(self, path: str, body: object) -> dict[str, object]:
        self._http.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"POST {path} was answered with {answer.status}: {data[:300]!r}")
        return json.loads(data)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
