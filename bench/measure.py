"""What processes have used: processor time, and the most memory they held. Read from /proc, by role.

A process that has ended is in its parent's account once the parent has waited for it (PostgreSQL's backends, Postfix's daemons), so the sum over
a tree is `own + waited-for` of every living member: nothing is missed, nothing counted twice.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
PERIOD = 0.5
"""Seconds between two looks at memory."""

Roots = Mapping[str, Iterable[int]]
"""Role -> processes whose trees are the role's."""


@dataclass(frozen=True)
class Look:
    """One process as /proc shows it: processor seconds of its own and of the children it has waited for, and octets."""

    parent: int
    name: str
    own: float
    waited: float
    resident: int
    peak: int


@dataclass
class Usage:
    """What a role used. `memory` is the most that one of its processes held, `grown` how much more that is than at the beginning (octets)."""

    cpu: float = 0.0
    memory: int = 0
    grown: int = 0


@dataclass
class Usages:
    """By role."""

    roles: dict[str, Usage] = field(default_factory=dict)
    machine: float = 0.0
    """Processor seconds of the whole machine meanwhile."""

    @property
    def cpu(self) -> float:
        """Seconds of all roles."""
        return sum(usage.cpu for usage in self.roles.values())


def look(pid: int) -> Look | None:
    """The process, or None when it is gone."""
    folder = Path("/proc") / str(pid)
    try:
        stat = (folder / "stat").read_text()
        status = (folder / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = stat[stat.index("(") + 1 :].rpartition(") ")
    words = rest.split()
    memory = dict(line.split(":", 1) for line in status.splitlines() if line.startswith(("VmHWM", "VmRSS")))
    return Look(
        parent=int(words[1]),
        name=name.split(")")[0],
        own=(int(words[11]) + int(words[12])) / TICKS,
        waited=(int(words[13]) + int(words[14])) / TICKS,
        resident=_octets(memory.get("VmRSS")),
        peak=_octets(memory.get("VmHWM")),
    )


def _octets(text: str | None) -> int:
    return int(text.split()[0]) * 1024 if text else 0


def machine_cpu() -> float:
    """Processor seconds that this machine has been busy since it started, all cores."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    idle = int(words[3]) + int(words[4])
    # guest time is in user time already
    return (sum(map(int, words[:8])) - idle) / TICKS


def trees(roots: Roots) -> dict[str, dict[int, Look]]:
    """Every living process of every role."""
    every = {pid: seen for pid in _pids() if (seen := look(pid))}
    children: dict[int, list[int]] = {}
    for pid, seen in every.items():
        children.setdefault(seen.parent, []).append(pid)
    found: dict[str, dict[int, Look]] = {}
    for role, pids in roots.items():
        members: dict[int, Look] = {}
        todo = [pid for pid in pids if pid in every]
        while todo:
            pid = todo.pop()
            members[pid] = every[pid]
            todo += children.get(pid, ())
        found[role] = members
    return found


def held(roots: Roots) -> dict[str, int]:
    """Octets that each role holds now: what is shared among processes is counted in parts (PSS)."""
    return {role: sum(_held(pid) for pid in members) for role, members in trees(roots).items()}


def _held(pid: int) -> int:
    try:
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or it is the kernel's
        return 0
    return next((_octets(line.split(":", 1)[1]) for line in lines if line.startswith("Pss:")), 0)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def forget_peaks(roots: Roots) -> None:
    """Let the kernel count the most memory of every process from now on (man 5 proc, clear_refs)."""
    for members in trees(roots).values():
        for pid in members:
            with contextlib.suppress(OSError):
                (Path("/proc") / str(pid) / "clear_refs").write_text("5")


class Moment(NamedTuple):
    """All roles' processes at one time."""

    at: float
    machine: float
    members: Mapping[str, Mapping[int, Look]]


class Meter:
    """Measures roles from its making to `stop`, with a thread that looks at memory now and then: it ends with the `with` block at the latest."""

    def __init__(self, roots: Callable[[], Roots]) -> None:
        self._roots = roots
        forget_peaks(roots())
        self._before = Moment(time.monotonic(), machine_cpu(), trees(roots()))
        self._marked: Moment | None = None
        self._most: dict[str, Usage] = {}
        self._ended = threading.Event()
        self._note(self._before.members)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    def cpu(self) -> float:
        """Seconds that all roles have used so far."""
        return _all(trees(self._roots())) - _all(self._before.members)

    def quiet(self, timeout: float, share: float = 0.15, window: float = 0.5) -> float:
        """Wait until all roles together use less than `share` of a core for two windows; the monotonic time when they were last busy.

        What `stop` tells is then of that time: the wait itself is not charged to anybody.
        """
        deadline = time.monotonic() + timeout
        before = self._mark()
        still = 0
        while still < 2 and time.monotonic() < deadline:
            time.sleep(window)
            after = self.cpu()
            if after - before > share * window:
                still, after = 0, self._mark()
            else:
                still += 1
            before = after
        assert self._marked is not None
        return self._marked.at

    def _mark(self) -> float:
        """Note the moment as the last busy one; the seconds used so far."""
        self._marked = Moment(time.monotonic(), machine_cpu(), trees(self._roots()))
        return _all(self._marked.members) - _all(self._before.members)

    def stop(self) -> Usages:
        """What each role used since the beginning."""
        self._end()
        self._note(trees(self._roots()))
        if self._marked is None:
            self._mark()
        assert self._marked is not None
        usages = Usages(machine=self._marked.machine - self._before.machine)
        for role, members in self._marked.members.items():
            usage, before = self._most[role], self._before.members.get(role, {})
            usage.cpu = _cpu(members) - _cpu(before)
            usage.grown = usage.memory - max((seen.resident for seen in before.values()), default=0)
            usages.roles[role] = usage
        return usages

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD):
            self._note(trees(self._roots()))

    def _note(self, found: Mapping[str, Mapping[int, Look]]) -> None:
        for role, members in found.items():
            usage = self._most.setdefault(role, Usage())
            usage.memory = max([usage.memory, *(seen.peak for seen in members.values())])


def _cpu(members: Mapping[int, Look]) -> float:
    return sum(seen.own + seen.waited for seen in members.values())


def _all(roles: Mapping[str, Mapping[int, Look]]) -> float:
    return sum(map(_cpu, roles.values()))
