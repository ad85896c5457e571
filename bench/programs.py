"""The compiled ends of a benchmark: the source that sends a load and the sink that counts what arrives (native/*.c).

Both are programs in C, so that what is measured is what lies between them; their own processor time is in the results all the same.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import keeper
from tests.support.install import require
from tests.support.ports import free_port, release_port

NATIVE = Path(__file__).parent / "native"
FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra", "-Werror")
FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
WORD = (1 << 64) - 1


def build(folder: Path) -> None:
    """Compile both programs into the folder. Raises RuntimeError with what the compiler printed."""
    require_compiler()
    for name, sources in (("sink", ("sink.c", "smtp.c", "counting.c")), ("source", ("source.c",))):
        command = ["gcc", *FLAGS, "-o", str(folder / name), *(str(NATIVE / source) for source in sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")


def require_compiler() -> None:
    """A C compiler and the C library's headers, installed where they are missing."""
    probe = subprocess.run(["/bin/sh", "-c", "echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1"], check=False)
    if probe.returncode:
        require(("gcc", "libc6-dev"))


def fingerprint(text: str) -> int:
    """A Message-ID's hash, as both programs print it: FNV-1a of the lower-case octets, mixed."""
    value = FNV_OFFSET
    for octet in text.lower().encode():
        value = ((value ^ octet) * FNV_PRIME) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31) or 1


@dataclass(frozen=True)
class Seen:
    """One message at the sink. Times are of `time.monotonic()`, in seconds."""

    first: float
    last: float
    copies: int


class Sink:
    """The counting next hop, as a process. `delay` is the answer time of every group of replies, seconds."""

    def __init__(self, programs: Path, delay: float = 0.0) -> None:
        self.port, self._control_port = free_port(), free_port()
        command = [str(programs / "sink"), str(self.port), str(self._control_port), f"{delay * 1000:g}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        keeper.keep(self._process.pid)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("the sink did not start")
        self._control = socket.create_connection(("127.0.0.1", self._control_port), timeout=60)
        self._answers = self._control.makefile("r")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def reset(self) -> None:
        """Forget all that was counted."""
        self._ask("RESET")

    def counts(self) -> dict[str, Any]:
        """copies, pairs (different ones), twice, transactions, messages, nameless, connections, refused, first, last (times; 0 for none)."""
        return dict(json.loads(self._ask("STATS")))

    def wait(self, pairs: int, timeout: float) -> bool:
        """Wait until so many different copies have come; whether they have within `timeout` seconds."""
        self._control.settimeout(timeout)
        try:
            self._ask(f"WAIT {pairs}")
        except TimeoutError:
            # The connection is of no more use: its answer may come at any time.
            self._answers.close()
            self._control.close()
            self._control = socket.create_connection(("127.0.0.1", self._control_port), timeout=60)
            self._answers = self._control.makefile("r")
            return False
        self._control.settimeout(60)
        return True

    def messages(self) -> dict[int, Seen]:
        """What is known of every message, by its fingerprint."""
        with tempfile.NamedTemporaryFile("r") as file:
            self._ask(f"MESSAGES {file.name}")
            rows = (line.split() for line in file)
            return {int(row[0], 16): Seen(float(row[1]), float(row[2]), int(row[3])) for row in rows}

    def check(self, expected: Path) -> dict[str, int]:
        """Compare with a file of `expected_lines`: expected, lost, unexpected (pairs)."""
        self._control.settimeout(300)
        return dict(json.loads(self._ask(f"CHECK {expected}")))

    def close(self) -> None:
        """End it."""
        self._answers.close()
        self._control.close()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        keeper.forget(self._process.pid)
        release_port(self.port)
        release_port(self._control_port)

    def _ask(self, line: str) -> str:
        self._control.sendall(line.encode() + b"\n")
        answer = self._answers.readline().strip()
        if not answer or answer == "error":
            raise RuntimeError(f"the sink answered {line!r} with {answer!r}")
        return answer


@dataclass(frozen=True)
class Load:
    """What a source sends."""

    groups: Sequence[str]
    """Addresses; message n goes to number n (times `recipients`) modulo their count, and those that follow it."""
    messages: int
    connections: int = 20
    size: int = 10240
    """Octets of the body."""
    recipients: int = 1
    rate: float = 0.0
    """Messages a second; 0 for as fast as they are taken."""
    prefix: str = "load"


@dataclass(frozen=True)
class Sent:
    """One message as the source saw it: when it began, when it was answered, and with what (0: the connection broke)."""

    id: int
    began: float
    answered: float
    code: int


class Source:
    """A running load."""

    def __init__(self, programs: Path, port: int, protocol: str, load: Load) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="horo-bench-source-")
        self._out = Path(self._folder.name) / "out"
        groups = Path(self._folder.name) / "groups"
        groups.write_text("".join(f"{group}\n" for group in load.groups))
        numbers = [port, load.connections, load.messages, load.size, load.recipients, load.rate]
        command = [
            str(programs / "source"),
            *(f"{number:g}" if isinstance(number, float) else str(number) for number in numbers),
        ]
        command += [protocol, load.prefix, str(groups), str(self._out)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        keeper.keep(self._process.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def finish(self, timeout: float) -> list[Sent]:
        """Wait for its end; what became of every message. Raises TimeoutError."""
        try:
            self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the load was not sent in {timeout:g} s") from None
        finally:
            self.close()
        rows = (line.split() for line in self._out.read_text().splitlines())
        sent = [Sent(int(row[0], 16), float(row[1]), float(row[2]), int(row[3])) for row in rows]
        self._folder.cleanup()
        return sent

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        keeper.forget(self._process.pid)


def message_id(prefix: str, number: int) -> str:
    """The Message-ID of message `number` of a load, without brackets."""
    return f"{prefix}.{number}@source.example.test"
