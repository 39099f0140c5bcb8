"""Starts PostgreSQL and Redis for the tests where none is named and none is running, and stops them at the end of its input.

Prints the variables that name them as JSON in one line.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from ports import free_port

NO_POSTGRES = (
    "the tests need PostgreSQL: set TEST_POSTGRES_URL, start a server on 127.0.0.1:5432, or install the server's programs "
    "(Debian and Ubuntu: `apt-get install postgresql`)"
)
NO_REDIS = (
    "the tests need Redis: set TEST_REDIS_URL, start a server on 127.0.0.1:6379, or install redis-server or valkey-server "
    "(Debian and Ubuntu: `apt-get install redis-server`)"
)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def postgres(stack: ExitStack) -> str:
    """Starts a PostgreSQL server that ends with the stack; its URI."""
    program, port = postgres_program(stack)
    started(stack, program, port)
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def postgres_program(stack: ExitStack) -> tuple[list[str], int]:
    """What starts a PostgreSQL server on files that go with the stack, and its port."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (installed and str(installed[-1]))
    if not initdb:
        sys.exit(NO_POSTGRES)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    as_user: list[str] = []
    if os.getuid() == 0:  # It refuses to be run by root.
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", "--clear-groups", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    data, port = folder / "data", free_port()
    make = [initdb, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(data)]
    subprocess.run([*as_user, *make], check=True, stdout=subprocess.DEVNULL, cwd="/")
    serve = [str(Path(initdb).parent / "postgres"), "-D", str(data), "-p", str(port), "-c", "fsync=off"]
    serve += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    return [*as_user, *serve], port


def redis(stack: ExitStack) -> str:
    """Starts a Redis that ends with the stack; its URI."""
    program, port = redis_program(stack)
    started(stack, program, port)
    return f"redis://127.0.0.1:{port}"


def redis_program(stack: ExitStack) -> tuple[list[str], int]:
    """What starts a Redis, and its port."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if not program:
        sys.exit(NO_REDIS)
    folder, port = stack.enter_context(tempfile.TemporaryDirectory()), free_port()
    return [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder], port


def started(stack: ExitStack, program: list[str], port: int) -> None:
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + 120
    while not answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"`{program[0]}` did not start")
        time.sleep(0.05)


def main() -> None:
    with ExitStack() as stack:
        named = {}
        if not os.environ.get("TEST_POSTGRES_URL") and not answers(5432):
            named["TEST_POSTGRES_URL"] = postgres(stack)
        if not os.environ.get("TEST_REDIS_URL") and not answers(6379):
            named["TEST_REDIS_URL"] = redis(stack)
        print(json.dumps(named), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
