"""Taking from an asynchronous generator without giving way between what it has ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any


class Drain:
    """Awaits a generator to its end: `take` gets each item, and `pause` is called whenever nothing more is ready.

    Between two calls of `pause` no other task runs, so what was taken since can be rendered in one go and is still what
    it was. What `take` returns, if it is something, is awaited before the next item.
    """

    def __init__(
        self,
        items: AsyncIterator[Any],
        take: Callable[[Any], Awaitable[None] | None],
        pause: Callable[[], None],
    ) -> None:
        self._items = items
        self._take = take
        self._pause = pause

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield from self._drained()
        except BaseException:
            # What went wrong first is what is told.
            self._paused()
            raise
        self._pause()

    def _drained(self) -> Generator[Any, Any, None]:
        while True:
            step = self._items.__anext__().__await__()
            try:
                waits_for = step.send(None)  # type: ignore[attr-defined]
            except StopIteration as ready:
                item = ready.value
            except StopAsyncIteration:
                return
            else:
                try:
                    item = yield from _resumed(step, waits_for, self._paused())
                except StopAsyncIteration:
                    return
            if (busy := self._take(item)) is not None:
                self._pause()
                yield from busy.__await__()

    def _paused(self) -> Exception | None:
        """What goes wrong at a pause."""
        try:
            self._pause()
        except Exception as error:
            return error
        return None


def _resumed(step: Any, waits_for: Any, error: Exception | None) -> Generator[Any, Any, Any]:
    """The rest of a step that has been begun already. An error is raised where it waits, so that it lets go of what it
    holds."""
    while True:
        try:
            if error is not None:
                raise error
            answer = yield waits_for
        except GeneratorExit:
            step.close()
            raise
        except BaseException as raised:
            go_on, argument, error = step.throw, raised, None
        else:
            go_on, argument = step.send, answer
        try:
            waits_for = go_on(argument)
        except StopIteration as ready:
            return ready.value
