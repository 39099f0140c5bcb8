"""Standard output and error of the worker, captured by the host."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from .hello import connect


def capture(path: str, token: str) -> None:
    """Put a connection to the host in place of file descriptors 1 and 2."""
    for descriptor, role in ((1, "stdout"), (2, "stderr")):
        connection = connect(path, role, token)
        os.dup2(connection.fileno(), descriptor, inheritable=True)
        connection.close()
    sys.stdout = sys.__stdout__ = _text(1)
    sys.stderr = sys.__stderr__ = _text(2)


def _text(descriptor: int) -> TextIO:
    # A new stream, since the old one remembers what kind of file it was opened on. Lines have to arrive when they are
    # printed, as on a terminal.
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
