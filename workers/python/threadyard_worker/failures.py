"""Exceptions as the host hears of them."""

from __future__ import annotations

import traceback


class AuthFailed(Exception):
    """An auth handler raised. Its message may hold what callers prove themselves with, so that it is not passed on."""

    def __init__(self, error: BaseException, message: str = "an auth handler failed") -> None:
        super().__init__()
        self.body = {
            "error": type(error).__name__,
            "message": message,
            "traceback": _encodable("".join(traceback.format_tb(error.__traceback__))),
        }


def error_body(error: BaseException) -> dict[str, str]:
    """The class, text and traceback of an exception; never raises, whatever the exception is like."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"<the exception has no text: {type(broken).__name__}>"
    return {
        "error": type(error).__name__,
        "message": _encodable(text),
        "traceback": _encodable(_traceback(error)),
    }


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
