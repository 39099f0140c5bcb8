"""An exchange with the host: nobody gets more than a window ahead, and who has left is told of."""

from __future__ import annotations

import asyncio
from typing import Any

import ormsgpack
import pytest
from threadyard_worker import frames
from threadyard_worker.exchange import WINDOW, Exchange

GONE = {"type": "http.disconnect"}


class Host:
    """What a connection is to an exchange."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Any]] = []

    def send(self, kind: int, id: int, body: bytes) -> None:
        self.sent.append((kind, body))

    def send_map(self, kind: int, id: int, body: dict[str, Any]) -> None:
        self.sent.append((kind, ormsgpack.unpackb(ormsgpack.packb(body))))

    def payload(self) -> int:
        return sum(len(body["body"]) for kind, body in self.sent if kind == frames.ASGI_MESSAGE)


def _exchange() -> tuple[Exchange, Host]:
    host = Host()
    return Exchange(1, host, GONE), host  # type: ignore[arg-type]


def _body(size: int, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"x" * size, "more_body": more}


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _big_bodies() -> None:
    exchange, host = _exchange()
    sending = asyncio.ensure_future(exchange.send(_body(4 * WINDOW)))
    await _turn()
    assert host.payload() == WINDOW and not sending.done()
    exchange.credit(WINDOW)
    await _turn()
    assert host.payload() == 2 * WINDOW and not sending.done()
    exchange.close()
    await sending
    assert host.payload() == 2 * WINDOW, "nothing is sent to who has left"


def test_a_body_waits_for_room() -> None:
    asyncio.run(_big_bodies())


async def _pieces() -> None:
    exchange, host = _exchange()
    await exchange.send(_body(150_000))
    pieces = [(len(body["body"]), body["more_body"]) for _, body in host.sent]
    assert pieces == [(65536, True), (65536, True), (18928, False)]


def test_a_long_body_is_sent_in_pieces() -> None:
    asyncio.run(_pieces())


async def _credit() -> None:
    exchange, host = _exchange()
    exchange.deliver({"type": "websocket.receive", "text": "é" * 40_000})
    exchange.deliver({"type": "websocket.receive", "text": "a"})
    await exchange.receive()
    assert host.sent == [(frames.ASGI_CREDIT, (80_000).to_bytes(4, "little"))]
    await exchange.receive()
    assert len(host.sent) == 1, "a little is told of later"


def test_what_was_taken_is_told_in_bytes() -> None:
    asyncio.run(_credit())


async def _left() -> None:
    exchange, host = _exchange()
    receiving = asyncio.ensure_future(exchange.receive())
    await _turn()
    assert not receiving.done()
    exchange.close()
    assert await receiving == GONE and await exchange.receive() == GONE
    exchange.finish()
    assert host.sent == [], "the host knows that it is over"


async def _sends_on() -> None:
    exchange, host = _exchange()
    message = {"type": "websocket.send", "text": "tick"}
    await exchange.send(message)
    exchange.deliver({"type": "websocket.disconnect", "code": 1001})
    with pytest.raises(OSError):
        await exchange.send(message)
    assert len(host.sent) == 1


def test_who_only_sends_hears_that_the_other_side_has_left() -> None:
    asyncio.run(_sends_on())


def test_who_has_left_is_told_of() -> None:
    asyncio.run(_left())
