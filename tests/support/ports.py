"""Free loopback ports, each handed out once among all test processes of this machine.

They lie below the kernel's ephemeral range (from 32768): a client that hammers a closed port inside that range can be given the same port as its
own source port, connects to itself, and the server that wants to come back finds the address in use.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

LOW, HIGH = 15000, 32000

_reserved: dict[int, int] = {}
"""Port -> descriptor of its lock file. The lock is the kernel's, so it ends with this process however that ends."""


def free_port() -> int:
    """A port that nothing listens on and that no other test process gets until this one ends or calls `release_port`. Raises OSError."""
    for port in random.sample(range(LOW, HIGH), HIGH - LOW):
        if port not in _reserved and _reserve(port):
            return port
    raise OSError(f"no free port between {LOW} and {HIGH}")


def release_port(port: int) -> None:
    """Give a port back."""
    if (descriptor := _reserved.pop(port, None)) is not None:
        os.close(descriptor)


def _reserve(port: int) -> bool:
    descriptor = os.open(_folder() / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    if not _can_bind(port):
        os.close(descriptor)
        return False
    _reserved[port] = descriptor
    return True


def _can_bind(port: int) -> bool:
    """Whether nobody holds the port, on loopback or on all addresses."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"horo-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder
