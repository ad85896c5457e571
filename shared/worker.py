"""The worker loop that expander, sender and reporter share: take, decode, handle, ack; trouble is retried later, never dropped.

The handler gets a decoded message and returns when its work is done and recorded; only then the message is acked. What it raises decides:
`TransientError` or anything unknown -> published again with a delay and one more try, then acked; `Undecodable`, `PermanentError` or too many
tries -> parked with the reason. When that publish is not confirmed the message stays unacked and is worked again after a pause.
Nothing but `stop` or a cancellation ends the loop: whatever a handler, a message or the bus does, the next message is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from shared import journal
from shared.bus import Bus, BusUnavailable, BusUnusable, Consumer, Incoming, Outgoing
from shared.hand import Hand
from shared.messages import Undecodable, Wire, decode, post_of
from shared.replies import TROUBLE, PermanentError, TransientError
from shared.topology import Queue

RETRY_DELAYS: tuple[float, ...] = (1, 1, 5, 5, 15, 15, 60, 60, 60, 300)
"""Seconds before the tries after the first, for trouble of our own; the last repeats."""

CONSUME_AGAIN: tuple[float, ...] = (0.2, 1, 5)
"""Seconds before the queue is consumed again when its consumer failed; the last repeats."""

Handler = Callable[[Wire, Incoming], Awaitable[None]]
Decoder = Callable[[bytes], Wire]


def retry_delay(tries: int) -> float:
    """Seconds before the next try of work that was tried `tries` times before."""
    return RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)]


class Worker:
    """Works one queue with `concurrency` tasks until `stop`, which lets work in hand finish and gives the rest back."""

    def __init__(
        self,
        bus: Bus,
        queue: Queue,
        handle: Handler,
        *,
        concurrency: int,
        max_tries: int,
        read: Decoder = decode,
    ) -> None:
        """`read` makes a message of a payload; it raises `Undecodable`."""
        self._read = read
        self._bus = bus
        self._queue = queue
        self._handle = handle
        self._concurrency = concurrency
        self._max_tries = max_tries
        self._hand = Hand(queue)
        self._stopping = asyncio.Event()
        self._leaving = asyncio.Event()

    def stop(self) -> None:
        """Take no more; `run` returns when the work in hand is done."""
        self._stopping.set()
        self._leaving.set()

    async def run(self) -> None:
        """Work until stopped, over any number of failures of the bus. Raises `BusUnusable` where trying again cannot help."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._consume()
                failures = 0
            except BusUnusable:
                raise
            except BusUnavailable as error:
                delay = CONSUME_AGAIN[min(failures, len(CONSUME_AGAIN) - 1)]
                journal.unavailable(f"consumer of {self._queue}", error.why)
                failures += 1
                await self._stopped_within(delay)

    async def _consume(self) -> None:
        """One consumer, worked until stopped or until it fails. Leaving it gives back what was prefetched and not begun."""
        async with self._bus.consume(self._queue, prefetch=self._concurrency * 2) as consumer:
            if not self._stopping.is_set():
                self._leaving.clear()
            tasks = [asyncio.create_task(self._work(consumer)) for _ in range(self._concurrency)]
            try:
                # Not a TaskGroup: it would cut off the others' work in hand because one of them failed to get more.
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            except asyncio.CancelledError:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                raise
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _work(self, consumer: Consumer) -> None:
        try:
            while (incoming := await self._next(consumer)) is not None:
                await self._one(incoming)
        finally:
            self._leaving.set()  # a consumer that fails one of us is left by all, once their work in hand is done

    async def _next(self, consumer: Consumer) -> Incoming | None:
        """The next message, or None once stopped or when the consumer is to be left. Raises what the consumer raised."""
        if self._leaving.is_set():
            return None
        if (
            incoming := consumer.ready()
        ) is not None:  # without the tasks of a wait, which cost more than many a handler
            return incoming
        getting = asyncio.ensure_future(consumer.get())
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((getting, leaving), return_when=asyncio.FIRST_COMPLETED)
            if getting.done() and not self._leaving.is_set():
                return getting.result()
            return None
        finally:
            leaving.cancel()
            if self._leaving.is_set() or not getting.done():
                await _give_back(getting)

    async def _one(self, incoming: Incoming) -> None:
        """Work one message and end it. Whatever goes wrong is the message's trouble, not the loop's."""
        try:
            await self._worked(incoming)
        except Exception as error:  # it could not even be put off or aside: it stays unacked, and comes again
            journal.crashed(self._queue, error, post=self._about(incoming))

    async def _worked(self, incoming: Incoming) -> None:
        try:
            with no_cancellation_of_others():
                message = self._read(incoming.payload)
                with self._hand.take(message, tries=incoming.tries):
                    await self._handle(message, incoming)
        except Undecodable as error:
            await self._end(incoming, reason=f"undecodable: {error}")
        except PermanentError as error:
            await self._end(incoming, reason=str(error))
        except TransientError as error:
            await self._again(incoming, error)
        except Exception as error:
            journal.crashed(self._queue, error, post=self._about(incoming))
            await self._again(incoming, error)
        else:
            await incoming.ack()

    async def _again(self, incoming: Incoming, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if incoming.tries + 1 >= self._max_tries:
            await self._end(incoming, reason=f"after {incoming.tries + 1} tries: {reason}")
            return
        delay = retry_delay(incoming.tries)
        message = Outgoing(queue=self._queue, payload=incoming.payload, delay=delay, tries=incoming.tries + 1)
        about = self._about(incoming)
        journal.retried(self._queue, reason, tries=incoming.tries + 1, delay=delay, post=about)
        try:
            published = await self._surely(lambda: self._bus.publish(message))
        except (
            ValueError
        ) as unfit:  # over the bus's limit: somebody else put it there, and it cannot be put there again
            await self._end(incoming, reason=f"{reason}; it cannot be put off: {unfit}")
            return
        if published:
            await incoming.ack()

    async def _end(self, incoming: Incoming, *, reason: str) -> None:
        journal.parked(self._queue, reason, post=self._about(incoming))
        await self._surely(lambda: incoming.park(reason))

    def _about(self, incoming: Incoming) -> str:
        """The post that a message is about, for the log; empty where it cannot be read."""
        try:
            return post_of(self._read(incoming.payload))
        except Undecodable:
            return ""

    async def _surely(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Do it until it is confirmed: meanwhile the message stays unacked, so nothing is lost if this process ends.

        False when we were stopped first: the message is given back with the consumer, and is worked again by somebody else.
        """
        tries = 0
        while True:
            try:
                with no_cancellation_of_others():
                    await act()
            except TransientError as error:
                if self._stopping.is_set():
                    return False
                journal.retried(self._queue, error.why or str(error), tries=tries, delay=retry_delay(tries))
                await self._stopped_within(retry_delay(tries))
                tries += 1
            else:
                return True

    async def _stopped_within(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def _give_back(getting: asyncio.Future[Incoming]) -> None:
    """End a wait for a message; one that was taken in the same instant is given back rather than lost until the connection ends."""
    getting.cancel()
    with contextlib.suppress(asyncio.CancelledError, BusUnavailable):
        late = await getting
        await late.release()


class Interrupted(TransientError):
    """A library gave up its own work by a `CancelledError`, as clients of dying connections do; nobody has cancelled us."""


@contextlib.contextmanager
def no_cancellation_of_others() -> Iterator[None]:
    """A `CancelledError` that nobody asked for is trouble like any other: taken for the real one, it would end this task without a word."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > before:
            raise
        raise Interrupted(TROUBLE, why="the connection that this was waiting for was lost") from error
