"""Group commit: what many tasks write, or ask, at the same time goes into one transaction, and each hears of its own.

An idle database adds no delay: the first entry starts a transaction at once, and what comes while it runs makes up the next one. Memory is bounded
by the callers, for each waits for its entry. When a transaction fails for what is in it rather than for the database's sake, its entries are
tried one by one, so that one that cannot be written fails alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

from shared.database.engine import Unavailable


class Entry(msgspec.Struct, frozen=True, eq=False):
    """Something to write: its kind, what it is, and about how many rows it makes. `outcome` is what its caller waits for."""

    kind: str
    payload: Any
    weight: int
    outcome: asyncio.Future[Any]


Write = Callable[[Sequence[Entry]], Awaitable[list[Any]]]
"""Writes entries in one transaction, and answers for each; raises when nothing of it was written."""


class Batcher:
    """Gathers entries into transactions of about `limit` rows, `parallel` of them at a time."""

    def __init__(
        self,
        write: Write,
        poisonous: Callable[[Exception], bool],
        unavailable: Unavailable,
        *,
        parallel: int,
        limit: int,
    ) -> None:
        self._write = write
        self._poisonous = poisonous
        self._unavailable = unavailable
        self._parallel = parallel
        self._limit = limit
        self._waiting: deque[Entry] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, kind: str, payload: Any, *, weight: int = 1) -> Any:
        """Write one entry; returns its answer when it is committed, raises what it failed with."""
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(Entry(kind, payload, weight, outcome))
        if len(self._running) < self._parallel:
            task = asyncio.create_task(self._run())
            self._running.add(task)
        return await outcome

    async def close(self) -> None:
        """Wait until what was submitted is written."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self) -> None:
        try:
            while self._waiting:
                entries = self._take()
                try:
                    await self._flush(entries)
                finally:  # cancelled, at the end of the loop: nobody may wait for ever
                    for entry in entries:
                        entry.outcome.cancel()
        finally:  # with nothing awaited since the queue was seen empty: what is submitted next starts another run
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _take(self) -> list[Entry]:
        """The next entries, one at least, up to the limit; without those whose callers have gone."""
        entries: list[Entry] = []
        rows = 0
        while self._waiting and (not entries or rows + self._waiting[0].weight <= self._limit):
            entry = self._waiting.popleft()
            if not entry.outcome.done():
                entries.append(entry)
                rows += entry.weight
        return entries

    async def _flush(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            answers = await self._written(entries)
        except Exception as error:
            if len(entries) == 1 or not self._poisonous(error):
                self._fail(entries, error)
            else:
                await self._one_by_one(entries)
        else:
            for entry, answer in zip(entries, answers, strict=True):
                if not entry.outcome.done():
                    entry.outcome.set_result(answer)

    async def _written(self, entries: Sequence[Entry]) -> list[Any]:
        """Write; a cancellation that nobody of ours asked for (drivers turn their time-outs into such) is an error like others."""
        try:
            return await self._write(entries)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._unavailable("the database driver cancelled a transaction") from error

    async def _one_by_one(self, entries: Sequence[Entry]) -> None:
        for number, entry in enumerate(entries):
            try:
                (answer,) = await self._written((entry,))
            except Exception as error:
                if not self._poisonous(error):  # the database went away meanwhile
                    self._fail(entries[number:], error)
                    return
                self._fail((entry,), error)
            else:
                if not entry.outcome.done():
                    entry.outcome.set_result(answer)

    @staticmethod
    def _fail(entries: Sequence[Entry], error: Exception) -> None:
        for entry in entries:
            if not entry.outcome.done():
                entry.outcome.set_exception(error)
