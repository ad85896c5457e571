"""Refusals as outcomes for the reporter: best effort, so that counting them can never delay or fail a reply, nor fill the memory."""

from __future__ import annotations

import asyncio
import contextlib
import time

from shared import journal
from shared.bus import Bus, Outgoing
from shared.messages import Refused, encode
from shared.replies import Reply, TransientError
from shared.topology import Queue

MAX_WAITING = 1000
"""Refusals that wait to be published; more are dropped and counted."""

BATCH = 100


class Refusals:
    """Publishes refusals of groups that exist, from a bounded queue, by a task of its own."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: asyncio.Queue[Refused] = asyncio.Queue(MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="ingress refusals")

    async def stop(self, *, patience: float) -> None:
        """Give what waits `patience` seconds to go, and end."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._waiting.join()
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None

    def note(self, group: str, reply: Reply, *, mail_from: str, ip: str) -> None:
        """A recipient or message for a group was refused. Returns at once."""
        refused = Refused(
            group=group,
            mail_from=mail_from,
            code=reply.code,
            status=reply.status,
            text=reply.text,
            ip=ip,
            at=time.time(),
        )
        try:
            self._waiting.put_nowait(refused)
        except asyncio.QueueFull:
            journal.refusals_dropped(1)

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self._publish(batch)
            finally:
                for _ in batch:
                    self._waiting.task_done()

    async def _publish(self, batch: list[Refused]) -> None:
        try:
            await self._bus.publish_all([Outgoing(queue=Queue.OUTCOMES, payload=encode(one)) for one in batch])
        except TransientError as error:
            journal.unavailable("bus", error.why)
            journal.refusals_dropped(len(batch))
        except asyncio.CancelledError:
            journal.refusals_dropped(len(batch))
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        except Exception as error:
            journal.crashed("ingress.refusals", error)
            journal.refusals_dropped(len(batch))
