"""The trace that a run belongs to, for OpenTelemetry in the user's code, where that is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

_KEYS = ("traceparent", "tracestate")


def go_on(metadata: Mapping[str, Any]) -> None:
    """Have the spans of this task begin below the one that the metadata of a run's config name, if they name one."""
    carrier = {key: metadata[key] for key in _KEYS if isinstance(metadata.get(key), str)}
    if carrier and (attach := _attach()) is not None:
        # It goes with the task, whose context nobody else sees.
        attach(carrier)


@functools.cache
def _attach() -> Callable[[Mapping[str, str]], Any] | None:
    try:
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return None
    propagator = TraceContextTextMapPropagator()
    return lambda carrier: context.attach(propagator.extract(carrier))
