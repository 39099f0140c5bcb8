"""Entry of a worker that was started by itself: `python -m threadyard_worker`."""

from __future__ import annotations

import os
import sys

from .worker import main

if __name__ == "__main__":
    # User code and its child processes have no business with the token.
    path, token = os.environ.pop("THREADYARD_SOCKET"), os.environ.pop("THREADYARD_TOKEN")
    sys.exit(main(path, token))
