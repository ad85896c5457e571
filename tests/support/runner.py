"""How a server is run, apart from what it is: as a child process here (binaries.py), as a container there (containers.py)."""

from __future__ import annotations

from typing import Protocol


class CannotServe(Exception):
    """A server cannot be had on this machine. The text is one sentence that says what to install or to start."""


class Runner(Protocol):
    """One server, however it is run. All calls block; none waits until the server answers, but all wait until their signal has had its effect."""

    def start(self) -> None:
        """Start it, with the data of its last run if it had one."""

    def stop(self) -> None:
        """Ask it to end and wait until it has."""

    def kill(self) -> None:
        """End it without a word, as a power cut would."""

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""

    def resume(self) -> None:
        """Let it go on."""

    def running(self) -> bool:
        """Whether it is there at all, paused or not."""

    def execute(self, *command: str) -> str:
        """Run one of the server's own tools beside it; its output. Raises RuntimeError with what it printed."""

    def logs(self) -> str:
        """The end of what the server printed, for error messages."""

    def close(self) -> None:
        """End it and remove its data."""
