"""The bus on RabbitMQ (3.10 and 4.x), with quorum queues and publisher confirms.

Two connections: under a memory or disk alarm the broker stops reading from connections that publish, and acks must get through all the same.
Never: a 250 on an unconfirmed publish; two publishes with one message id (the client library matches returns by it); a channel per message.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import PublishError

from shared.bus import BusUnavailable, Consumer, EventStream, Incoming, Outgoing, Parked
from shared.bus.rabbitmq_bundles import BUNDLE_TYPE, MAX_PART, Joiner, encode_bundle
from shared.bus.rabbitmq_consumer import (
    QUEUE_HEADER,
    REASON_HEADER,
    TRIES_HEADER,
    Delivered,
    EventFeed,
    Subscription,
    WorkConsumer,
    parked_of,
    running,
    scattered_headers,
)
from shared.bus.rabbitmq_events import Emitter
from shared.bus.rabbitmq_link import Link, Single, close_channel
from shared.bus.rabbitmq_topology import CANARY_KEY, declare, delay_name, queue_name
from shared.topology import DELAYS, EVENTS_EXCHANGE, MAX_PAYLOAD, PARKED_EXCHANGE, WORK_EXCHANGE, Queue, delay_step

IN_FLIGHT = 1000
"""Unconfirmed messages of this process: a confirm of many walks all that are outstanding."""
EVENT_BACKLOG = 100_000
"""Events that the broker keeps for one slow subscriber before it drops the oldest."""
EVENT_PREFETCH = 200
PUBLISH_TIMEOUT = 10.0
"""Seconds for a bundle's confirm; its publishers have time limits of their own."""
SCATTER_TIMEOUT = 3.0
"""Seconds for the parts of a bundle that go on alone; under an alarm the bundle comes again as it is."""
REASON_LIMIT = 1000
"""Characters of a reason kept in a header: headers are held in the broker's memory."""

Made = tuple[str, str, Message]
"""An exchange, a routing key, and the message for it."""


class Publisher:
    """One channel with confirms and returns, opened again when it dies."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel = Single(lambda: link.channel(confirms=True), lambda channel: not channel.is_closed)
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def publish(self, made: Made, *, timeout: float, mandatory: bool = True) -> None:
        """Publish and wait for the confirm. Raises `BusUnavailable` within `timeout`."""
        name, key, message = made
        try:
            with self._link.failing(f"publish to {name}"):
                async with asyncio.timeout(timeout), self._slots:
                    await self._link.unblocked()
                    exchange = await self._exchange(name)
                    # The library maps a return to a publish by this id: it has to be new for every attempt.
                    message.message_id = uuid.uuid4().hex
                    await exchange.publish(message, key, mandatory=mandatory)
        except Exception as error:
            if isinstance(error.__cause__, PublishError):
                await self._link.renew()  # nowhere to route it: something of the topology was deleted
            raise

    async def close(self) -> None:
        """Stop opening a channel; the connection closes the one there is."""
        await self._channel.close()

    async def _exchange(self, name: str) -> AbstractExchange:
        channel = await self._channel.get()
        return await channel.get_exchange(name, ensure=False)


class Rabbitmq:
    """The port `Bus` over one broker or cluster. Make it with `connect`."""

    def __init__(self, url: str) -> None:
        self._out = Link(url, "publish", declare)
        self._in = Link(url, "consume", declare)
        self._publisher = Publisher(self._out)
        self._emitter = Emitter(self._out)
        self._joiners = {queue: Joiner(queue, self._send, self._out.unblocked) for queue in Queue}

    @classmethod
    async def connect(cls, url: str) -> Rabbitmq:
        """Connect and declare the topology. Raises `BusUnavailable`, whose text says what is wrong and holds no password."""
        bus = cls(url)
        try:
            await bus._out.connection()
        except BaseException:
            await bus.close()
            raise
        return bus

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        """Make one message durable. Raises `BusUnavailable`; ValueError for a payload over MAX_PAYLOAD."""
        await self.publish_all((message,), timeout=timeout)

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        """Make all of them durable; raises `BusUnavailable` if any is not (some may be)."""
        for message in messages:
            _check_size(message.payload)
        joined = [self._joiners[message.queue].submit(message.payload) for message in messages if _joinable(message)]
        alone = [
            asyncio.ensure_future(self._publisher.publish(_made(message), timeout=timeout))
            for message in messages
            if not _joinable(message)
        ]
        await self._confirmed([*joined, *alone], timeout)

    async def _confirmed(self, published: Sequence[asyncio.Future[None]], timeout: float) -> None:
        """Wait for all of them. Raises the first trouble when all have ended, `BusUnavailable` when one has not ended in time."""
        try:
            done, late = await asyncio.wait(published, timeout=timeout) if published else ((), ())
        except asyncio.CancelledError:
            _forget(published)
            raise
        _forget(late)
        troubles = [trouble for one in done if (trouble := one.exception()) is not None]  # all of them are looked at
        if troubles:
            raise troubles[0]
        if late:
            raise BusUnavailable(f"not confirmed within {timeout:g} s")

    async def _send(self, queue: Queue, payloads: Sequence[bytes]) -> None:
        """What a `Joiner` has gathered, as one message."""
        if len(payloads) == 1:
            message = _message(payloads[0], {TRIES_HEADER: 0})
        else:
            message = _unbounded(encode_bundle(payloads), {TRIES_HEADER: 0}, BUNDLE_TYPE)
        await self._publisher.publish((WORK_EXCHANGE, queue.value, message), timeout=PUBLISH_TIMEOUT)

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue, *, prefetch: int) -> AsyncIterator[Consumer]:
        """Consume a queue with at most `prefetch` messages unended; leaving gives back what was not ended."""
        if prefetch < 1:
            raise ValueError("prefetch: at least 1")

        async def attach(channel: AbstractChannel) -> AbstractQueue:
            return await channel.get_queue(queue_name(queue), ensure=False)

        async def scatter(message: AbstractIncomingMessage, payloads: list[bytes]) -> None:
            headers = scattered_headers(queue, message.headers)
            made = [(WORK_EXCHANGE, queue.value, _unbounded(payload, dict(headers))) for payload in payloads]
            await _all(self._publisher.publish(one, timeout=SCATTER_TIMEOUT) for one in made)

        async with running(Subscription(self._in, queue_name(queue), attach, prefetch, scatter)) as subscription:
            yield WorkConsumer(subscription, queue, self._park)
            await subscription.give_back()

    def parked(self, message: Incoming) -> Parked:
        """Where a message of the queue `parked` came from and why it is there."""
        if not isinstance(message, Delivered):
            raise TypeError("not a message of this bus")
        return parked_of(message.headers)

    async def emit(self, routing_key: str, payload: bytes) -> None:
        """Publish an event, confirmed; nobody need have bound a queue."""
        await self.emit_all(((routing_key, payload),))

    async def emit_all(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish events, confirmed."""
        for _, payload in events:
            _check_size(payload)
        await self._emitter.emit_all(events)

    @contextlib.asynccontextmanager
    async def events(self, pattern: str = "#") -> AsyncIterator[EventStream]:
        """Events from now on; those of the time in which the broker was away are missed. Raises `BusUnavailable`."""

        async def attach(channel: AbstractChannel) -> AbstractQueue:
            # Exclusive: RabbitMQ 4.3 refuses transient queues that are not.
            queue = await channel.declare_queue(exclusive=True, arguments={"x-max-length": EVENT_BACKLOG})
            exchange = await channel.declare_exchange(EVENTS_EXCHANGE, ExchangeType.TOPIC, durable=True, passive=True)
            await queue.bind(exchange, routing_key=pattern)
            return queue

        async with running(Subscription(self._in, f"events {pattern}", attach, EVENT_PREFETCH)) as subscription:
            with self._in.failing("subscribe to events"):
                async with asyncio.timeout(30):
                    await subscription.attached.wait()
            yield EventFeed(subscription)

    async def depth(self, queue: Queue) -> int:
        """Messages ready in the queue. The broker does not tell for whom the delay queues hold messages: nearly all are deliveries put
        off, so all are counted under `deliveries.express`, and the sum over all queues is exact."""
        names = [queue_name(queue)]
        if queue is Queue.DELIVERIES_EXPRESS:
            names += [delay_name(step) for step in DELAYS]
        channel = await self._in.channel()
        try:
            with self._in.failing(f"count {queue_name(queue)}"):
                async with asyncio.timeout(30):
                    return sum([await _ready(channel, name) for name in names])
        finally:
            await close_channel(channel)

    async def check(self, *, timeout: float = 5.0) -> None:
        """A confirmed publish to a quorum queue of its own. Raises `BusUnavailable`."""
        await self._publisher.publish((WORK_EXCHANGE, CANARY_KEY, _message(b"canary", {})), timeout=timeout)

    async def close(self) -> None:
        """Close both connections; the broker takes back what was not ended."""
        for joiner in self._joiners.values():
            await joiner.close()
        await self._emitter.close()
        await self._publisher.close()
        await self._in.close()
        await self._out.close()

    async def _park(self, message: Delivered, reason: str) -> None:
        headers = {
            QUEUE_HEADER: message.queue.value,
            REASON_HEADER: reason.encode("utf-8", "replace").decode()[:REASON_LIMIT],
            TRIES_HEADER: message.tries,
        }
        # Without a look at its size: what was put on the broker by somebody else must not come back for ever because it is too large.
        await self._publisher.publish((PARKED_EXCHANGE, "", _unbounded(message.payload, headers)), timeout=30.0)


async def _ready(channel: AbstractChannel, name: str) -> int:
    queue = await channel.declare_queue(name, durable=True, passive=True)
    return queue.declaration_result.message_count or 0


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} octets is over the limit of {MAX_PAYLOAD}")


def _message(payload: bytes, headers: dict[str, Any], content_type: str = "application/msgpack") -> Message:
    _check_size(payload)
    return _unbounded(payload, headers, content_type)


def _unbounded(payload: bytes, headers: dict[str, Any], content_type: str = "application/msgpack") -> Message:
    return Message(payload, headers=headers, content_type=content_type, delivery_mode=DeliveryMode.PERSISTENT)


async def _all(publishing: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all, then raise the first trouble: nobody may think that it is over while one is still on its way."""
    for trouble in await asyncio.gather(*publishing, return_exceptions=True):
        if trouble is not None:
            raise trouble


def _joinable(message: Outgoing) -> bool:
    """Whether a message may travel in a bundle: what is put off has a header and a queue of its own, what is large gains nothing."""
    return message.delay <= 0 and message.tries == 0 and len(message.payload) <= MAX_PART


def _forget(published: Iterable[asyncio.Future[None]]) -> None:
    """Nobody waits for these any more: what is not sent yet is not sent, and no trouble of theirs is told."""
    for one in published:
        one.add_done_callback(lambda done: done.cancelled() or done.exception())
        one.cancel()


def _made(message: Outgoing) -> Made:
    """An `Outgoing` as the broker gets it: straight to its queue, or through the queue of its delay step."""
    step = delay_step(message.delay)
    exchange = delay_name(step) if step else WORK_EXCHANGE
    return exchange, message.queue.value, _message(message.payload, {TRIES_HEADER: message.tries})
