"""Real processes of ours under test: started with an environment, watched, ended in every way there is, and never left behind.

    expander = processes.start("expander", ["horo", "serve", "expander"], env={"HORO_BROKER_URL": rabbitmq_url, ...})
    expander.wait_http(f"http://127.0.0.1:{port}/readyz")
    expander.kill()

All of it blocks: an async test whose own loop serves the process (a sink, a proxy) takes `asyncio.to_thread(expander.wait_http, ...)`.
What a process printed is shown when its test fails.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psutil

from tests.support import keeper
from tests.support.trees import kill_family
from tests.support.waiting import wait_until

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0


class Ended(AssertionError):
    """A process ended while a test waited for something from it."""


class Child:
    """One process, its own group. Its standard output and error go to one file, `log`."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.cwd = cwd
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or start it again with the same environment after it has ended. The log goes on."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )
        keeper.keep(self._process.pid)

    @property
    def pid(self) -> int:
        """Its process id, of its last life if it has ended."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it lives (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status: None while it lives, -9 after `kill`."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """All that it has printed so far, in all its lives."""
        return self.log.read_text(errors="replace")

    def wait_for_line(self, pattern: str, timeout: float = START_TIMEOUT) -> re.Match[str]:
        """The first match of the regular expression in the output. Raises `Ended`, or AssertionError after `timeout` seconds."""
        expression = re.compile(pattern, re.MULTILINE)
        return self.wait_until(lambda: expression.search(self.output), f"a line like {pattern!r}", timeout)

    def wait_http(self, url: str, status: int = 200, timeout: float = START_TIMEOUT) -> None:
        """Wait until the URL answers with the status. Raises `Ended`, or AssertionError after `timeout` seconds."""
        self.wait_until(lambda: http_status(url) == status, f"{url} to answer {status}", timeout)

    def wait_until(self, condition: Callable[[], T | None], what: str, timeout: float = START_TIMEOUT) -> T:
        """The first true value of `condition` while the process lives. Raises `Ended`, or AssertionError after `timeout` seconds."""

        def look() -> T | None:
            alive = self.running
            value = condition()  # asked after `alive`: what a process prints last still counts
            if not value and not alive:
                raise Ended(
                    f"{self.name} ended with {self.returncode} while the test waited for {what}:\n{self.output[-4000:]}"
                )
            return value

        return wait_until(look, f"{what} ({self.name})", timeout)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Its exit status, once it has ended by itself. Raises AssertionError after `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end in {timeout:g} s:\n{self.output[-4000:]}") from None

    def terminate(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM, as Kubernetes does; its exit status. Raises AssertionError when it does not end within `timeout` seconds."""
        self._popen.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to it and all that it started, and wait until it is gone."""
        if self.running:
            kill_family(psutil.Process(self.pid))
        self._popen.wait(STOP_TIMEOUT)
        keeper.forget(self.pid)

    def pause(self) -> None:
        """Freeze it (SIGSTOP), as a machine out of breath does."""
        self._popen.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED, f"{self.name} to freeze", 5)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._popen.send_signal(signal.SIGCONT)

    @property
    def _popen(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


class Processes:
    """The processes of one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.children: list[Child] = []

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """Start a process. `horo` and `python` as the first word are those of this environment.

        The child gets our environment without its HORO_* keys, and `env` over it. It does not wait for anything: call `wait_http` or `wait_for_line`.
        """
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HORO_")}
        # Print at once: a test waits for lines, and a killed process must not take its last words with it.
        environment = {**inherited, "PYTHONUNBUFFERED": "1", **(env or {})}
        log = self._folder / f"{len(self.children)}-{name}.log"
        child = Child(name, [_program(command[0]), *command[1:]], environment, cwd or ROOT, log)
        self.children.append(child)
        return child

    def close(self) -> None:
        """End all that still live."""
        for child in self.children:
            child.kill()


def http_status(url: str, timeout: float = 5.0) -> int | None:
    """The status that the URL answers with; None when nothing answers."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _program(word: str) -> str:
    if word == "python":
        return sys.executable
    beside = Path(sys.executable).parent / word
    return str(beside) if "/" not in word and beside.exists() else word
