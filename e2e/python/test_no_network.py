"""Nothing is asked of the network that the user did not ask for: no telemetry, no look for newer versions, no key check."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import no_network
import pytest

BINARY = os.environ["THREADYARD_BIN"]


def test_the_first_command_of_the_readme_needs_no_network_and_looks_for_none(tmp_path: Path) -> None:
    done = no_network.run(BINARY, "demo", "--once", "--folder", tmp_path / "demo")
    assert done.code == 0, done.said
    assert "received and checked" in done.said
    assert done.sent_elsewhere == {}, done.said


CALLS = {
    "a connection": "socket.create_connection(('192.0.2.1', 443), 2)",
    "a connection over IPv6": "socket.create_connection(('2001:db8::1', 443), 2)",
    "a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 8125))",
    "a name": "socket.getaddrinfo('telemetry.example.com', 443)",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_would_be_seen_even_if_its_failure_is_swallowed(call: str) -> None:
    swallowed = f"import contextlib, socket\nwith contextlib.suppress(OSError):\n    {call}"
    done = no_network.run(sys.executable, "-c", swallowed)
    assert done.code == 0, done.said
    assert sum(done.sent_elsewhere.values()) >= 1
