"""Where the time goes: py-spy samples every Python service while a load runs; its samples become a short table a service.

A profiled run is slower than a measured one, so the two are never the same run.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Roots, look
from tests.support import keeper

RATE = 200
"""Samples a second."""
TOP = 12
OURS = ("services/", "shared/")
ROOT = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Line:
    """One function: its share of the samples on its own, and with all that it called."""

    function: str
    own: float
    total: float


@contextmanager
def recording(roots: Roots, folder: Path | None) -> Iterator[None]:
    """Record every Python process among the roots, into FOLDER/ROLE-PID.raw; nothing where there is no folder."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    pids = [(role, pid) for role, members in roots.items() for pid in members if _is_python(pid)]
    spies = [_spy(pid, folder / f"{role}-{pid}.raw") for role, pid in pids]
    try:
        yield
    finally:
        for spy in spies:
            spy.send_signal(signal.SIGINT)  # writes what it has
        for spy in spies:
            spy.wait(60)
            keeper.forget(spy.pid)


def _is_python(pid: int) -> bool:
    seen = look(pid)
    return seen is not None and (seen.name.startswith(("python", "horo")))


def _spy(pid: int, out: Path) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("py-spy"))
    options = ["--format", "raw", "--rate", str(RATE), "--nonblocking", "--output", str(out), "--pid", str(pid)]
    spy = subprocess.Popen(
        [program, "record", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    keeper.keep(spy.pid)
    return spy


def read(folder: Path) -> dict[str, list[str]]:
    """Role -> the stacks of all its processes, "outer;inner count" each."""
    stacks: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.raw")):
        stacks.setdefault(path.stem.rpartition("-")[0], []).extend(path.read_text().splitlines())
    return stacks


@dataclass(frozen=True)
class Summary:
    """A service's profile: how many samples, the functions with the most of their own, and those of Horo's own code with the most in all."""

    samples: int
    own: list[Line]
    ours: list[Line]


def summary(stacks: Iterable[str], count: int = TOP) -> Summary:
    """Count the samples of stacks."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        names = [_short(frame) for frame in frames.split(";")]
        samples += int(number)
        own[names[-1]] += int(number)
        for name in set(names):
            total[name] += int(number)

    def lines(counted: Counter[str]) -> list[Line]:
        return [Line(name, own[name] / samples, total[name] / samples) for name, _ in counted.most_common(count)]

    ours = Counter({name: hits for name, hits in total.items() if name.partition(" (")[2].startswith(OURS)})
    return Summary(samples, lines(own), lines(ours))


def _short(frame: str) -> str:
    """A frame as py-spy writes it, "function (path:line)", without the line and with the path from its package on."""
    function, _, place = frame.rpartition(" (")
    if not function:  # a thread or a process, not a function
        return frame or "(no Python frame)"
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    path = path.removeprefix(ROOT + "/").rpartition("site-packages/")[2].rpartition("lib/python3.11/")[2]
    return f"{function} ({path})"


def tables(folder: Path) -> str:
    """Markdown: two tables a service, of what was recorded into the folder."""
    parts = []
    for role, stacks in read(folder).items():
        found = summary(stacks)
        if found.samples:
            parts += [f"#### {role} ({found.samples:,} samples)\n", _table("function, by its own time", found.own)]
            parts += [_table("Horo's own functions, by their time with callees", found.ours)]
    return "\n".join(parts)


def _table(title: str, lines: Iterable[Line]) -> str:
    rows = [f"| {line.own:.1%} | {line.total:.1%} | `{line.function}` |" for line in lines]
    return "\n".join([f"| own | with callees | {title} |", "|---:|---:|---|", *rows, ""])
