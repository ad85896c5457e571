"""The sweeper: drops finished posts that are older than HORO_LEDGER_KEEP, and bodies that nobody needs any more.

It must never take a body that somebody still needs. Two kinds of post are not in the ledger yet: those in the queues before the expander,
however old they are (a system that was off for a week comes back with them), and those that an expander has in hand. So bodies are only
looked at when those queues are empty and this process has been up for a while, and only those that are older than any retry. It fails by
trying again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from shared import journal
from shared.bodies import Bodies
from shared.bus import Bus
from shared.ledger import Ledger
from shared.replies import TransientError
from shared.settings import Settings, seconds
from shared.topology import Queue
from shared.worker import no_cancellation_of_others

FIRST = 600.0
"""Seconds after the start until the first sweep."""

EVERY = 3600.0
"""Seconds between sweeps."""

SOON = 60.0
"""Seconds until the next look when the queues were not empty, or something did not answer."""

MARGIN = 86400.0
"""Seconds that a body is kept beyond HORO_RETRY_MAX_AGE."""


class Sweeper:
    """Sweeps every hour until `stop`."""

    def __init__(self, settings: Settings, *, bus: Bus, ledger: Ledger, bodies: Bodies) -> None:
        self._keep = seconds(settings.ledger_keep)
        self._orphan_age = seconds(settings.retry_max_age) + MARGIN
        self._bus = bus
        self._ledger = ledger
        self._bodies = bodies
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `run` at the next step."""
        self._stopping.set()

    async def run(self, *, first: float = FIRST, every: float = EVERY, soon: float = SOON) -> None:
        """Sweep until stopped; the seconds are parameters for tests."""
        pause = first
        while not await self._stopped_within(pause):
            pause = every if await self._try_sweep() else soon

    async def _try_sweep(self) -> bool:
        """Whether the sweep went through; trouble is told and tried again, it never ends the service."""
        try:
            with no_cancellation_of_others():
                return await self.sweep(time.time())
        except TransientError as error:
            journal.unavailable("sweep", str(error))
        except Exception as error:
            journal.crashed("sweep", error)
        return False

    async def sweep(self, now: float) -> bool:
        """One sweep at `now`; False when bodies have to wait because posts do."""
        journal.swept("posts", await self._ledger.sweep(posts_before=now - self._keep))
        if await self._bus.depth(Queue.POSTS) or await self._bus.depth(Queue.SLICES):
            return False
        journal.swept("bodies", await self._collect(now - self._orphan_age))
        return True

    async def _collect(self, older_than: float) -> int:
        """Delete bodies made before `older_than` that no unfinished post and no parked message needs; how many."""
        gone = 0
        async for key in self._bodies.list(older_than=older_than):
            if self._stopping.is_set():
                break
            if not await self._ledger.body_in_use(key):
                await self._bodies.delete(key)
                gone += 1
        return gone

    async def _stopped_within(self, pause: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause)
        return self._stopping.is_set()
