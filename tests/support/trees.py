"""Signals to a process and to all that it started.

A process group alone is not enough: PostgreSQL puts every backend into a group of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal

import psutil


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and its descendants, itself first; empty when it is gone (also when another process has its number now)."""
    if not process.is_running():
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def send_family(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to the process and all descendants. Those that are gone already are passed over."""
    for member in family(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(number)


def kill_family(process: psutil.Process) -> None:
    """End the process and all descendants at once, with nothing said to them, and the rest of the group it leads."""
    send_family(process, signal.SIGKILL)
    # Descendants whose parents died earlier are in nobody's tree any more, but mostly still in the leader's group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
