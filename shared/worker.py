"""The worker loop that expander, sender and reporter share: take, decode, handle, ack; trouble is retried later, never dropped.

The handler gets a decoded message and returns when its work is done and recorded; only then the message is acked. What it raises decides:
`TransientError` or anything unknown -> published again with a delay and one more try, then acked; `Undecodable`, `PermanentError` or too many
tries -> parked with the reason. When that publish is not confirmed the message stays unacked and is worked again after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from shared import journal
from shared.bus import Bus, BusUnavailable, Consumer, Incoming, Outgoing
from shared.messages import Undecodable, Wire, decode
from shared.replies import PermanentError, TransientError
from shared.topology import Queue

RETRY_DELAYS: tuple[float, ...] = (1, 1, 5, 5, 15, 15, 60, 60, 60, 300)
"""Seconds before the tries after the first, for trouble of our own; the last repeats."""

Handler = Callable[[Wire, Incoming], Awaitable[None]]


def retry_delay(tries: int) -> float:
    """Seconds before the next try of work that was tried `tries` times before."""
    return RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)]


class Worker:
    """Works one queue with `concurrency` tasks until `stop`, which lets work in hand finish and gives the rest back."""

    def __init__(self, bus: Bus, queue: Queue, handle: Handler, *, concurrency: int, max_tries: int) -> None:
        self._bus = bus
        self._queue = queue
        self._handle = handle
        self._concurrency = concurrency
        self._max_tries = max_tries
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more; `run` returns when the work in hand is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped. Leaving the consumer gives back what was prefetched and not begun."""
        async with (
            self._bus.consume(self._queue, prefetch=self._concurrency * 2) as consumer,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(self._concurrency):
                tasks.create_task(self._work(consumer))

    async def _work(self, consumer: Consumer) -> None:
        while (incoming := await self._next(consumer)) is not None:
            await self._one(incoming)

    async def _next(self, consumer: Consumer) -> Incoming | None:
        """The next message, or None once stopped."""
        if self._stopping.is_set():
            return None
        getting = asyncio.ensure_future(consumer.get())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
            return None
        finally:
            stopping.cancel()
            if not getting.done():
                getting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    late = (
                        await getting
                    )  # taken in the same instant: give it back rather than lose it until the connection ends
                    await late.release()

    async def _one(self, incoming: Incoming) -> None:
        try:
            await self._handle(decode(incoming.payload), incoming)
        except Undecodable as error:
            await self._end(incoming, reason=f"undecodable: {error}")
        except PermanentError as error:
            await self._end(incoming, reason=str(error))
        except TransientError as error:
            await self._again(incoming, error)
        except Exception as error:
            journal.crashed(self._queue, error)
            await self._again(incoming, error)
        else:
            await incoming.ack()

    async def _again(self, incoming: Incoming, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if incoming.tries + 1 >= self._max_tries:
            await self._end(incoming, reason=f"after {incoming.tries + 1} tries: {reason}")
            return
        delay = retry_delay(incoming.tries)
        journal.retried(self._queue, reason, tries=incoming.tries + 1, delay=delay)
        await self._surely(
            lambda: self._bus.publish(
                Outgoing(queue=self._queue, payload=incoming.payload, delay=delay, tries=incoming.tries + 1)
            )
        )
        await incoming.ack()

    async def _end(self, incoming: Incoming, *, reason: str) -> None:
        journal.parked(self._queue, reason)
        await self._surely(lambda: incoming.park(reason))

    async def _surely(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it until it is confirmed: meanwhile the message stays unacked, so nothing is lost if this process ends."""
        tries = 0
        while True:
            try:
                await act()
            except BusUnavailable as error:
                journal.retried(self._queue, str(error), tries=tries, delay=retry_delay(tries))
                tries += 1
                await asyncio.sleep(retry_delay(tries))
            else:
                return
