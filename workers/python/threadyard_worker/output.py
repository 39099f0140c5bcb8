"""Standard output and error of the worker, captured by the host."""

from __future__ import annotations

import os
import sys

from .hello import connect


def capture(path: str, token: str) -> None:
    """Put a connection to the host in place of file descriptors 1 and 2."""
    for descriptor, role in ((1, "stdout"), (2, "stderr")):
        connection = connect(path, role, token)
        os.dup2(connection.fileno(), descriptor, inheritable=True)
        connection.close()
    # Lines have to arrive when they are printed, as on a terminal.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
