"""The desk of what waits: reports that are due when a post is finished, or a while after something happened.

What waits is a row of the ledger (`shared.ledger.due`), taken by one of any number of reporters, and looked at with growing pauses. What a look
finds is read from the ledger then, so that a crash, a redelivery or another reporter changes nothing. Nothing waits for an ordinary post, and
nothing is asked but when the next look is due. Fails by looking again later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from services.reporter import decide, waiting
from services.reporter.waiting import Case, Kind, Memory, decode, encode
from shared import journal
from shared.identity import derive, new_id
from shared.ledger import Ledger, PostSummary, TargetRecord, Totals
from shared.ledger.due import Due
from shared.replies import TransientError
from shared.worker import no_cancellation_of_others, retry_delay

POLL = 5.0
"""Seconds between two questions whether something is due, where this process knows of nothing: another may have put it there."""

LEASE = 60.0
"""Seconds that a look may take."""

AT_ONCE = 4
"""Looks at a time, so that one post of a million does not hold the others up."""

TAKEN = 20
KNOWN = 2000


class Next(NamedTuple):
    """What follows a look: nothing more (`done`), or another one, at `until` at the latest."""

    done: bool
    until: float = 0.0


Act = Callable[[Case], Awaitable[Next]]


class Lost(Exception):
    """Somebody else has taken the row since: it is theirs now."""


async def remember(ledger: Ledger, case: Case) -> None:
    """Write the memory down before what it says is done. Raises `Lost`."""
    if not await ledger.due_keep(case.due, at=case.now + LEASE, detail=encode(case.memory)):
        raise Lost


class Desk:
    """Remembers what is due and looks at it, until `stop`. `acts` does what a look of a kind asks for, `sum_up` sums up a group's day."""

    def __init__(
        self,
        ledger: Ledger,
        acts: Mapping[str, Act],
        sum_up: Callable[[str, float, float], Awaitable[None]],
        *,
        max_age: float,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._acts = acts
        self._sum_up = sum_up
        self._max_age = max_age
        self._clock = clock
        self._said: dict[str, float] = {}
        self._next = 0.0
        self._wake = asyncio.Event()
        self._stopping = False

    # --- what becomes due --------------------------------------------------------------------------------------------
    async def wait(
        self, kind: Kind, post_id: str, group: str, *, first: float = waiting.FIRST, memory: Memory | None = None
    ) -> None:
        """Look at a target of a post in `first` seconds, and again until it is told. Raises `LedgerUnavailable`."""
        now = self._clock()
        name = derive(post_id, group, "due", kind.value)
        detail = encode(memory or Memory())
        await self._say(
            Due(id=name, kind=kind.value, post_id=post_id, group=group, at=now + first, since=now, detail=detail)
        )

    async def wait_day(self, group: str, at: float) -> None:
        """Sum up the group's day that `at` lies in, when it is over."""
        day = waiting.day_of(at)
        name = derive(new_id(day)[:10], group, "due", Kind.DAY.value)
        when = max(day + waiting.DAY + waiting.NEXT_DAY, self._clock())
        await self._say(Due(id=name, kind=Kind.DAY.value, post_id="", group=group, at=when, since=day))

    async def _say(self, due: Due) -> None:
        """Write it down. What this process has said, and nobody looks at before, is not written again: a large post fails in many batches."""
        if self._said.get(due.id, 0.0) > self._clock():
            return
        await self._ledger.due_put(due)
        self._said.pop(due.id, None)
        self._said[due.id] = due.at
        if len(self._said) > KNOWN:
            del self._said[next(iter(self._said))]
        if due.at < self._next:
            self._next = due.at
            self._wake.set()

    # --- the loop ----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Look until stopped; trouble is told, and tried again."""
        while not self._stopping:
            self._next = self._clock() + POLL
            try:
                with no_cancellation_of_others():
                    while not self._stopping and await self.look():
                        pass
                    self._next = min(self._next, await self._ledger.due_next())
            except TransientError as error:
                journal.unavailable("due reports", str(error))
            except Exception as error:
                journal.crashed("due reports", error)
            await self._pause()

    def stop(self) -> None:
        """End `run` when the looks in hand are done."""
        self._stopping = True
        self._wake.set()

    async def _pause(self) -> None:
        while not self._stopping and (left := self._next - self._clock()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left, POLL))
            self._wake.clear()

    async def look(self) -> int:
        """Look at what is due now; how much that was. Raises `LedgerUnavailable`."""
        taken = await self._ledger.due_take(self._clock(), limit=TAKEN, lease=LEASE)
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._one(due, turn) for due in taken))
        return len(taken)

    async def _one(self, due: Due, turn: asyncio.Semaphore) -> None:
        """One look. Whatever goes wrong, there will be another."""
        async with turn:
            try:
                with no_cancellation_of_others():
                    await self._look(due)
            except Lost:
                return
            except TransientError as error:
                why, delay = error.why or str(error), retry_delay(due.tries)
                journal.retried("due reports", why, tries=due.tries, delay=delay, post=due.post_id)
                await self._later(due)
            except Exception as error:
                journal.crashed("due reports", error, post=due.post_id)
                await self._later(due)

    async def _later(self, due: Due) -> None:
        """What was written down during the look stays; only the time is set. Where that fails too, it comes again with the end of its lease."""
        with contextlib.suppress(TransientError):
            await self._ledger.due_later(due, at=self._clock() + retry_delay(due.tries))

    async def _look(self, due: Due) -> None:
        now, following = self._clock(), Next(done=True)
        memory = decode(due.detail)
        if due.kind == Kind.DAY:
            if not memory.round:
                await self._sum_up(due.group, due.since, now)
            memory.round = 1
        elif (case := await self._case(due, memory, now)) is not None:
            following = await self._acts[due.kind](case)
        detail, at = encode(memory), waiting.next_look(due.since, now, until=following.until)
        if following.done:
            await self._ledger.due_done(due, detail=detail, again=at)
        else:
            await self._ledger.due_keep(due, at=at, detail=detail)

    async def _case(self, due: Due, memory: Memory, now: float) -> Case | None:
        """What there is to look at; None where the post has gone from the ledger, or a later version waits for something unknown."""
        summary = await self._ledger.post(due.post_id)
        entry = None if summary is None else _entry(summary, due.group)
        if summary is None or entry is None or due.kind not in self._acts:
            return None
        target, verdict, totals = entry
        over = decide.finished(totals) or now >= due.since + self._max_age + waiting.MARGIN
        return Case(due, memory, summary.record, target, verdict, totals, now, over)


def _entry(summary: PostSummary, group: str) -> tuple[TargetRecord, str, Totals] | None:
    return next((entry for entry in summary.targets if entry[0].group == group), None)
