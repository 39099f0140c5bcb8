"""Runs a program where there is no network but loopback, and tells what of it was meant for elsewhere."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_ASKED_FOR = ("OTEL_", "LANGSMITH_", "LANGCHAIN_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Whoever sets these wants calls to be made."""


@dataclasses.dataclass
class Done:
    code: int
    said: str
    sent_elsewhere: dict[str, int]
    """What the kernel counted of packets and connections that have no way to go, and of questions to nobody."""


def run(*command: str | os.PathLike[str], timeout: float = 120) -> Done:
    """Runs a command in a network namespace of its own, in which nothing but loopback is up."""
    own = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*own, "true"], capture_output=True).returncode != 0:
        raise AssertionError(
            "this machine lets nobody make a network namespace, which this test needs: `unshare --map-root-user --net` "
            "failed; allow unprivileged user namespaces, or run the tests as root of a machine that has them"
        )
    env = {name: value for name, value in os.environ.items() if not name.upper().startswith(_ASKED_FOR)}
    program = [*own, sys.executable, __file__, *map(str, command)]
    done = subprocess.run(program, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    said, _, counted = done.stdout.rstrip().rpartition("\n")
    return Done(done.returncode, said, json.loads(counted))


def _counted() -> dict[str, int]:
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    counts = {names[0] + name: int(value) for names, values in zip(lines[::2], lines[1::2], strict=True)
              for name, value in zip(names[1:], values[1:], strict=True)}  # fmt: skip
    snmp6 = Path("/proc/net/snmp6")
    if snmp6.exists():
        counts |= {name: int(value) for name, value in map(str.split, snmp6.read_text().splitlines())}
    # A resolver that listens on loopback of the machine is nobody here.
    wanted = ("Ip:OutNoRoutes", "Ip6OutNoRoutes", "Udp:NoPorts", "Udp6NoPorts")
    return {name: counts[name] for name in wanted if counts.get(name)}


def _main() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
    code = subprocess.run(sys.argv[1:]).returncode
    print("\n" + json.dumps(_counted()))
    return code


if __name__ == "__main__":
    sys.exit(_main())
