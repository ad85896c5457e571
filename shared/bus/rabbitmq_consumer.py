"""Consumers on the broker: a subscription that is renewed for ever, and the messages it hands out.

The library's callback only puts a message into a local queue: callbacks are cancelled when their channel dies, and work must not be.
Messages of a dead channel are dropped here, for the broker hands them out again; ending one of them later is harmless.
An attacker with access to the broker controls payload, headers and properties: nothing of them is believed beyond its type.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelInvalidStateError

from shared import journal
from shared.bus import BusUnavailable, Parked
from shared.bus.rabbitmq_bundles import BUNDLE_TYPE, decode_bundle
from shared.bus.rabbitmq_link import Link, close_channel
from shared.bus.rabbitmq_topology import queue_name
from shared.topology import DELIVERY_LIMIT, Queue

TRIES_HEADER = "horo-tries"
QUEUE_HEADER = "horo-queue"
REASON_HEADER = "horo-reason"
END_TIMEOUT = 10.0
"""Seconds for an ack to leave this machine; a broker that takes no bytes for so long is as good as gone, and delivers again."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to consume again; the last repeats."""

SCATTERED_AFTER = 3
"""Deliveries of a bundle without an end before its parts travel alone."""

_NAMES = {queue_name(queue): queue.value for queue in Queue}

Attach = Callable[[AbstractChannel], Awaitable[AbstractQueue]]
Park = Callable[["Delivered", str], Awaitable[None]]
Scatter = Callable[[AbstractIncomingMessage, list[bytes]], Awaitable[None]]
"""Publishes parts of a message one by one, as what was handed out before; raises `BusUnavailable`."""


def tries_of(headers: dict[str, Any]) -> int:
    """Our count of tries; 0 where the header is missing or nonsense."""
    value = headers.get(TRIES_HEADER, 0)
    return value if type(value) is int and 0 <= value <= 1_000_000 else 0


def _deliveries(headers: dict[str, Any]) -> int:
    """How often the broker has handed a message out before."""
    value = headers.get("x-delivery-count", 0)
    return value if type(value) is int else 0


def parked_of(headers: dict[str, Any]) -> Parked:
    """Where a parked message came from and why: from our own headers, else from what the broker wrote when it dead-lettered it."""
    if isinstance(headers.get(QUEUE_HEADER), str):
        return Parked(queue=headers[QUEUE_HEADER], reason=str(headers.get(REASON_HEADER, "")), tries=tries_of(headers))
    deaths = headers.get("x-death")
    # The latest death comes first; those of a delay queue are none to us.
    for death in deaths if isinstance(deaths, list) else []:
        name = death.get("queue") if isinstance(death, dict) else None
        if isinstance(name, str) and name in _NAMES:
            return Parked(queue=_NAMES[name], reason=_reason(death.get("reason")), tries=tries_of(headers))
    first = str(headers.get("x-first-death-queue", ""))
    return Parked(
        queue=_NAMES.get(first, first), reason=_reason(headers.get("x-first-death-reason")), tries=tries_of(headers)
    )


def scattered_headers(queue: Queue, headers: dict[str, Any]) -> dict[str, Any]:
    """The headers of a bundle's part that goes on alone: it was handed out before, and where a parked one came from stays with it."""
    if queue is Queue.PARKED:
        was = parked_of(headers)
        return {QUEUE_HEADER: was.queue, REASON_HEADER: was.reason, TRIES_HEADER: was.tries}
    return {TRIES_HEADER: tries_of(headers) + 1}


def _reason(word: object) -> str:
    """The broker's word for why it dead-lettered a message, as a sentence."""
    if word == "delivery_limit":
        return f"delivery_limit: delivered more than {DELIVERY_LIMIT} times without an end"
    return f"{word}: dead-lettered by the broker" if word else "unknown"


def is_fresh(message: AbstractIncomingMessage) -> bool:
    """Whether a message's channel is still open: otherwise the broker has taken the message back."""
    try:
        return not message.channel.is_closed
    except ChannelInvalidStateError:
        return False


class Part:
    """A message of the bus in a message of the broker: the whole of it, or a part of a bundle."""

    __slots__ = ("done", "ended", "payload", "whole")

    def __init__(self, payload: bytes, whole: Whole) -> None:
        self.payload = payload
        self.whole = whole
        self.ended = False
        self.done = False


class Whole:
    """A message of the broker: ended when the last of its parts is. `scatter` publishes parts one by one, for those that are given back alone."""

    __slots__ = ("_open", "_scatter", "message", "parts")

    def __init__(self, message: AbstractIncomingMessage, scatter: Scatter | None) -> None:
        payloads = decode_bundle(message.body) if scatter and message.content_type == BUNDLE_TYPE else None
        self.message = message
        self.parts = [Part(payload, self) for payload in payloads or [message.body]]
        self._scatter = scatter
        self._open = len(self.parts)

    @property
    def fresh(self) -> bool:
        """Whether the message's channel is still open."""
        return is_fresh(self.message)

    @property
    def open(self) -> bool:
        """Whether one of its parts is not ended."""
        return self._open > 0

    def ends_with(self, part: Part) -> bool:
        """Whether all the other parts are ended."""
        return self._open == 1 and not part.ended

    def note(self, part: Part, *, done: bool) -> None:
        """A part is done, or is for somebody else."""
        part.ended, part.done = True, done
        if done and len(self.parts) > 1:
            part.payload = b""  # P10: the others may be in work for long
        self._open -= 1

    async def end(self, part: Part, *, done: bool) -> None:
        """The last part is ended, and with it the message."""
        self.note(part, done=done)
        await self._finish()

    async def give_back(self) -> None:
        """All parts that are not ended are for somebody else."""
        for part in self.parts:
            part.ended = True
        self._open = 0
        await self._finish()

    async def apart(self) -> bool:
        """Publish all parts one by one and forget the whole; False where they cannot be published now."""
        return await self._scattered(self.parts)

    async def _scattered(self, parts: Sequence[Part]) -> bool:
        try:
            if parts and self._scatter is not None:
                await self._scatter(self.message, [part.payload for part in parts])
        except BusUnavailable as error:
            journal.unavailable("bundle", f"cannot be taken apart: {error.why}")
            return False
        await self.message.ack()
        return True

    async def _finish(self) -> None:
        """What was done of a bundle does not come again with the rest."""
        back = [part for part in self.parts if not part.done]
        if len(back) == len(self.parts) or not await self._scattered(back):
            await self.message.nack(requeue=True)


class Delivered:
    """A message taken from a queue of the broker (the port's `Incoming`)."""

    def __init__(self, part: Part, queue: Queue, park: Park) -> None:
        self._part = part
        self._payload = part.payload
        self._queue = queue
        self._park = park

    @property
    def queue(self) -> Queue:
        """The queue it was taken from."""
        return self._queue

    @property
    def payload(self) -> bytes:
        """Its bytes."""
        return self._payload

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers, not to be believed."""
        return dict(self._part.whole.message.headers)

    @property
    def tries(self) -> int:
        """How often the work was tried before."""
        return tries_of(self._part.whole.message.headers)

    @property
    def redelivered(self) -> bool:
        """Whether it may have been handed out before."""
        return bool(self._part.whole.message.redelivered)

    async def ack(self) -> None:
        """Forget the message; a channel that died has given it back, and it will come again."""
        await self._end(done=True)

    async def park(self, reason: str) -> None:
        """Publish it to `parked`, then ack it. Raises `BusUnavailable` when that is not confirmed: it stays with its queue."""
        await self._park(self, reason)
        await self.ack()

    async def release(self) -> None:
        """Give it back."""
        await self._end(done=False)

    async def _end(self, *, done: bool) -> None:
        if self._part.ended or not self._part.whole.fresh:
            return
        if not self._part.whole.ends_with(self._part):
            self._part.whole.note(self._part, done=done)
            return
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self._part.whole.end(self._part, done=done)
        except asyncio.CancelledError:
            if task is not None and task.cancelling() > before:
                raise  # somebody cancels us; otherwise the library says that the connection is gone
        except Exception as error:  # the connection is going: the broker takes the message back and delivers it again
            journal.unavailable(f"queue {self._queue}", f"cannot end a message: {type(error).__name__}")


class Subscription:
    """A consumer that is attached again whenever its channel dies, with at most `prefetch` messages unended."""

    def __init__(self, link: Link, name: str, attach: Attach, prefetch: int, scatter: Scatter | None = None) -> None:
        """`scatter` publishes the parts of a bundle one by one; for queues that hold bundles."""
        self._link = link
        self._name = name
        self._attach = attach
        self._prefetch = prefetch
        self._scatter = scatter
        self._arrived: asyncio.Queue[Part] = asyncio.Queue()
        self._wholes: list[Whole] = []  # those that are not ended: at most `prefetch`
        self.attached = asyncio.Event()

    async def get(self) -> Part:
        """The next message whose channel lives."""
        while True:
            part = await self._arrived.get()
            if part.whole.fresh:
                return part

    def ready(self) -> Part | None:
        """The next message that has arrived, if its channel lives."""
        while not self._arrived.empty():
            part = self._arrived.get_nowait()
            if part.whole.fresh:
                return part
        return None

    async def give_back(self) -> None:
        """Of bundles that are partly done, give back the rest alone. All else that is not ended goes back when the channel closes."""
        self._drop()
        partly = [one for one in self._wholes if one.fresh and one.open and any(part.done for part in one.parts)]
        with contextlib.suppress(TimeoutError):  # the rest is given back whole, with the channel
            async with asyncio.timeout(END_TIMEOUT):
                await asyncio.gather(*(whole.give_back() for whole in partly), return_exceptions=True)

    async def run(self) -> None:
        """Consume until cancelled. Nothing else ends it: a consumer that ended without a word would leave its queue to grow."""
        task = asyncio.current_task()
        failures = 0
        while task is None or not task.cancelling():
            try:
                with self._link.failing(f"consume {self._name}"):
                    await self._session()
                failures = 0
            except BusUnavailable as error:
                if failures == 0:
                    journal.unavailable(f"consumer of {self._name}", error.why)
                failures += 1
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, so that consumers do not come back in step

    async def _session(self) -> None:
        """Consume until the channel dies or the broker cancels the consumer. Raises `BusUnavailable`."""
        channel = await self._link.channel()
        lost = asyncio.Event()
        try:
            with self._link.failing(f"consume {self._name}"):
                async with asyncio.timeout(30):
                    await self._start(channel, lost)
            self.attached.set()
            await lost.wait()
        except BusUnavailable as error:
            if "NOT_FOUND" in error.why:
                await self._link.renew()  # the queue was deleted: a new connection declares it again
            raise
        finally:
            self.attached.clear()
            self._drop()
            await close_channel(channel)

    async def _start(self, channel: AbstractChannel, lost: asyncio.Event) -> None:
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda *_: lost.set())
        await channel.set_qos(prefetch_count=self._prefetch)
        queue = await self._attach(channel)
        await queue.consume(self._take)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        whole = Whole(message, self._scatter)
        again_and_again = len(whole.parts) > 1 and _deliveries(message.headers) >= SCATTERED_AFTER
        # One of its parts may be what ends every consumer, and the others shall not be parked with it. Under an alarm nothing can be
        # published: then they are worked as they are, for to give them back again and again would have the broker park them all.
        if again_and_again and await whole.apart():
            return
        self._wholes = [known for known in self._wholes if known.open and known.fresh]
        self._wholes.append(whole)
        for part in whole.parts:
            self._arrived.put_nowait(part)

    def _drop(self) -> None:
        while not self._arrived.empty():
            self._arrived.get_nowait()


@contextlib.asynccontextmanager
async def running(subscription: Subscription) -> AsyncIterator[Subscription]:
    """Run a subscription in the background of the context."""
    task = asyncio.create_task(subscription.run())
    try:
        yield subscription
    finally:
        task.cancel()
        await asyncio.wait((task,))


class WorkConsumer:
    """The port's `Consumer` over a subscription to a work queue."""

    def __init__(self, subscription: Subscription, queue: Queue, park: Park) -> None:
        self._subscription = subscription
        self._queue = queue
        self._park = park

    async def get(self) -> Delivered:
        """The next message; waits for one, over any number of broker restarts."""
        return Delivered(await self._subscription.get(), self._queue, self._park)

    def ready(self) -> Delivered | None:
        """The next message that has arrived."""
        part = self._subscription.ready()
        return None if part is None else Delivered(part, self._queue, self._park)


class EventFeed:
    """The port's `EventStream` over a subscription to a queue of our own, bound to the topic exchange."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        return self._events()

    async def _events(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            message = (await self._subscription.get()).whole.message
            yield message.routing_key or "", message.body
            with contextlib.suppress(
                Exception
            ):  # the queue died with its channel: there is nothing left to acknowledge
                await message.ack()
