"""Ports for programs that are told which one to take."""

from __future__ import annotations

import secrets
import socket

_claims: list[socket.socket] = []


def free_port() -> int:
    """A port that stays free until it is used: it is below those that connections get, and no other test is given it."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            # A name of the kernel's, which lasts as long as this process.
            claim.bind(f"\0threadyard-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
