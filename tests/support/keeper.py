"""Ends the processes that a test run started, should the run itself be killed.

One small child holds the other end of a pipe. The kernel closes the pipe however the run ends; then the keeper kills what is still on its list.
A server must not outlive its run: it holds ports and memory, and nobody knows it any more.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import psutil

_ROOT = Path(__file__).parents[2]
_lock = threading.Lock()
_keeper: subprocess.Popen[bytes] | None = None


def keep(pid: int) -> None:
    """Have the process `pid`, its descendants and the group it leads killed when this process dies."""
    _tell(f"+{pid}\n")


def forget(pid: int) -> None:
    """The process has been ended: its number may be another's soon."""
    _tell(f"-{pid}\n")


def _tell(line: str) -> None:
    global _keeper  # noqa: PLW0603 -- one for the whole process, made when first needed
    with _lock:
        if _keeper is None or _keeper.poll() is not None:
            # A session of its own, so that Ctrl-C in the terminal does not end it before its work.
            command = [sys.executable, "-m", "tests.support.keeper"]
            _keeper = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=_ROOT, start_new_session=True)
        assert _keeper.stdin is not None
        _keeper.stdin.write(line.encode())
        _keeper.stdin.flush()


def _watch() -> None:
    from tests.support.trees import kill_family

    kept: dict[int, psutil.Process] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "-":
            kept.pop(pid, None)
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            kept[pid] = psutil.Process(pid)  # remembers when the process began, and so never kills a stranger
    for process in kept.values():
        if process.is_running():
            kill_family(process)


if __name__ == "__main__":
    _watch()
