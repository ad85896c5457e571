"""The command line as a script sees it: words in; status, standard output and standard error out. Over files of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli import output
from cli.main import main

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str
    raw: bytes = b""
    """Standard output as it came."""

    @property
    def json(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)


Horo = Callable[..., Done]


@pytest.fixture(autouse=True)
def _own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HORO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HORO_DATA", str(tmp_path / "var"))
    monkeypatch.setenv("HORO_SMTP_LISTEN", "127.0.0.1:1")  # where nothing listens
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(output.console, "_width", 300)  # whoever imported it first, and whatever the terminal then


@pytest.fixture
def horo(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Horo:
    """Run a command in this process, as `horo` would; no command may end in a traceback."""

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["horo", *words])
        status = main()
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return Done(int(status), out.decode("utf-8", "replace"), err.decode(), out)

    return run


@pytest.fixture
def process() -> Iterator[Callable[..., Done]]:
    """Run a command as a process, with bytes on its standard input."""

    def run(*words: str, stdin: bytes = b"") -> Done:
        command = [str(Path(sys.executable).parent / "horo"), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, timeout=60, check=False)
        assert b"Traceback" not in done.stderr
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    yield run
