"""Clients that cost next to nothing, so that many of them fit beside the server that is measured."""

import asyncio
import json
import time


class Connection:
    """One connection of HTTP/1.1 that is kept open."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def send(self, method: str, path: str, body: object = None) -> int:
        """Asks, and reads the head of the answer; the length of its body, -1 when it is told in chunks."""
        if not hasattr(self, "read"):
            self.read, self.write = await asyncio.open_connection("127.0.0.1", self.port)
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        self.write.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
        answer = (await self.read.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " not in answer.split("\r\n")[0]:
            raise SystemExit(f"{method} {path} was answered with {answer}")
        lengths = [line for line in answer.split("\r\n") if line.startswith("content-length:")]
        return int(lengths[0].partition(":")[2]) if lengths else -1

    async def chunk(self) -> bytes:
        """The next piece of a stream; empty at its end."""
        size = int(await self.read.readuntil(b"\r\n"), 16)
        return (await self.read.readexactly(size + 2))[:-2]

    async def ask(self, method: str, path: str, body: object = None) -> object:
        length = await self.send(method, path, body)
        if length >= 0:
            return json.loads(await self.read.readexactly(length))
        whole = b""
        while piece := await self.chunk():
            whole += piece
        return json.loads(whole)

    async def moments(self, method: str, path: str, body: object = None, sign: bytes = b"event: ") -> list[float]:
        """When each event of a stream came that has this sign."""
        await self.send(method, path, body)
        came = []
        while piece := await self.chunk():
            came += [time.perf_counter()] * piece.count(sign)
        return came

    def close(self) -> None:
        self.write.close()


def gaps(moments: list[float]) -> list[float]:
    return [after - before for before, after in zip(moments, moments[1:], strict=False)]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
