"""How far a long command has come, on standard error: a bar on a terminal, a line now and then in a log, nothing for programs (`--json`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.output import clean, errors

EVERY = 10.0
"""Seconds between the lines in a log: what takes less has none."""


class Meter:
    """Told of every row that is done; shows nothing."""

    def advance(self, rows: int) -> None:
        """So many more are done."""

    def finish(self, what: str) -> None:
        """All rows are done, and what is left is one step, of which nobody knows how far it is: "writing"."""


class _Bar(Meter):
    def __init__(self, bar: Progress, title: str, total: int | None) -> None:
        self._bar = bar
        self._title = clean(title)
        self._task = bar.add_task(self._title, total=total)

    def advance(self, rows: int) -> None:
        self._bar.advance(self._task, rows)

    def finish(self, what: str) -> None:
        done = self._bar.tasks[-1].completed
        self._bar.remove_task(self._task)  # for a total cannot be taken back from it
        self._task = self._bar.add_task(f"{self._title}: {what}", total=None, completed=int(done))


class _Lines(Meter):
    def __init__(self, title: str, total: int | None) -> None:
        self._title = clean(title)
        self._total = total
        self._done = 0
        self._began = self._told = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done += rows
        if (now := time.monotonic()) - self._told >= EVERY:
            self._told = now
            self._tell(_of(self._done, self._total), _rate(self._done / (now - self._began)))

    def finish(self, what: str) -> None:
        if self._told > self._began:
            self._tell(f"{self._done:,}", what)

    def _tell(self, *words: str) -> None:
        errors.print(Text(f"{self._title}: {', '.join(words)}"))


class _Rows(ProgressColumn):
    """Rows done, of all where that is known, and how many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(_of(int(task.completed), None if task.total is None else int(task.total))) + Text(
            f"  {_rate(speed)}" if speed else "", style="cyan"
        )


def _of(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


def _rate(speed: float) -> str:
    return f"{speed:,.0f} a second"


@contextmanager
def meter(title: str, *, total: int | None, hidden: bool) -> Iterator[Meter]:
    """What to tell of each row done while the block runs; `total` is how many there are, None where nobody knows."""
    if hidden:
        yield Meter()
    elif not sys.stderr.isatty():
        yield _Lines(title, total)
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Rows(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=errors, transient=True) as bar:
            yield _Bar(bar, title, total)
