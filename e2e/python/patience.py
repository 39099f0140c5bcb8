"""What names no timeout waits a minute for an answer, and not five seconds: a debug server on a busy machine may need more."""

from __future__ import annotations

import contextlib
import importlib
import inspect


def _patient(package: str) -> None:
    # Clients and functions of the package share this one object as their default.
    usual = inspect.signature(importlib.import_module(package).get).parameters["timeout"].default
    usual.connect = usual.read = usual.write = usual.pool = 60.0


_patient("httpx")
with contextlib.suppress(ImportError):
    _patient("httpx2")
