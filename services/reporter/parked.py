"""The filer: takes what was put aside from the queue `parked` and files it in the ledger, where a person finds it (`horo parked list`).

It must never decode what it files, for that may be why it was parked, and never give up on it: while the ledger does not answer, a message stays
unacked on the bus. Whoever can write to the broker controls payload and headers; each message is filed by a task of its own, so that one
which SQL refuses does not stand in the way of the others.
"""

from __future__ import annotations

import asyncio
import contextlib

from services.reporter import mime
from shared import journal
from shared.bus import Bus, Consumer, Incoming
from shared.identity import new_id
from shared.ledger import Ledger
from shared.replies import TransientError
from shared.topology import Queue
from shared.worker import no_cancellation_of_others, retry_delay

IN_HAND = 16
"""Parked messages in hand at a time; at up to 8 MiB each this bounds the memory (P10)."""

_MOST_TRIES = (1 << 31) - 1


class Filer:
    """Files parked messages until `stop`."""

    def __init__(self, bus: Bus, ledger: Ledger) -> None:
        self._bus = bus
        self._ledger = ledger
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more; `run` returns when what is in hand is filed or given back."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped."""
        async with self._bus.consume(Queue.PARKED, prefetch=IN_HAND) as consumer, asyncio.TaskGroup() as tasks:
            for _ in range(IN_HAND):
                tasks.create_task(self._work(consumer))

    async def _work(self, consumer: Consumer) -> None:
        while (incoming := await self._next(consumer)) is not None:
            await self._file(incoming)

    async def _next(self, consumer: Consumer) -> Incoming | None:
        """The next message, or None once stopped; one that is taken in that instant is given back."""
        if self._stopping.is_set():
            return None
        getting = asyncio.ensure_future(consumer.get())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            stopping.cancel()
            if not getting.done():
                getting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await (await getting).release()

    async def _file(self, incoming: Incoming) -> None:
        """File, then ack; until that succeeds the message is ours, or the bus's again when we stop.

        The row's name is new for every parking, not a hash of the payload: `horo parked retry` publishes a message and then forgets its row,
        and if the same bytes are parked again in between, they must not be taken for that row. The price is a second row after a crash
        between filing and ack.
        """
        unique = new_id()
        tries = 0
        while True:
            try:
                with no_cancellation_of_others():
                    parked = self._bus.parked(incoming)
                    await self._ledger.park(
                        mime.clean(parked.queue, 100),
                        mime.clean(parked.reason, 1000),
                        incoming.payload,
                        min(max(parked.tries, 0), _MOST_TRIES),
                        unique=unique,
                    )
            except TransientError as error:
                journal.retried(Queue.PARKED, str(error), tries=tries, delay=retry_delay(tries))
            except Exception as error:
                journal.crashed("filing a parked message", error)
            else:
                await incoming.ack()
                return
            if await self._stopped_within(retry_delay(tries)):
                await incoming.release()
                return
            tries += 1

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()
