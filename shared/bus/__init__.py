"""The bus: durable queues between the services, and the topic exchange `events` for other systems.

Two implementations keep this port, `embedded.py` (SQLite in the process) and `rabbitmq.py` (quorum queues); `tests/contract/test_bus.py`
holds both to it. The laws:

- `publish` returns when the message is durable (fsynced, or confirmed by the broker) and not before; otherwise it raises `BusUnavailable`
  within `timeout`. After a `BusUnavailable` the message may or may not be there: consumers are idempotent.
- A message that was taken and not acked comes again: after a crash at once, after a lost connection when it is back. Order is not promised.
- Work never runs inside a broker callback: a consumer hands out `Incoming` from a local queue of at most `prefetch`; ack comes last.
- Small messages for one queue that are published at the same time may cross the broker as one (a bundle, bounded in octets): `prefetch` and `depth`
  count it once, each of its messages is ended for itself, and after a crash all of them come again.
- `park` puts a message aside for a person, with the reason, and never loses it; nothing is requeued in a loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from shared.replies import TROUBLE, TransientError
from shared.topology import Queue


class BusUnavailable(TransientError):
    """The bus did not confirm in time, or cannot be reached. The client's answer is 451."""

    def __init__(self, why: str) -> None:
        super().__init__(TROUBLE, why=why)


class BusUnusable(BusUnavailable):
    """Trying again cannot help: the queue's file is damaged, of a newer version, or another process consumes from it. The text says what would."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message to publish. `delay` in seconds is rounded up to a step of the topology. `tries` is how often its work was tried before."""

    queue: Queue
    payload: bytes
    delay: float = 0.0
    tries: int = 0


class Incoming(Protocol):
    """A message taken from a queue; exactly one of `ack`, `park` and `release` ends it. All three tolerate a bus that went away."""

    @property
    def queue(self) -> Queue:
        """The queue it was taken from."""

    @property
    def payload(self) -> bytes:
        """Its bytes, which an attacker with access to the broker may have written."""

    @property
    def tries(self) -> int:
        """How often the work was tried before, by the `tries` it was published with."""

    @property
    def redelivered(self) -> bool:
        """Whether it may have been handed out before."""

    async def ack(self) -> None:
        """The work is done and recorded: forget the message."""

    async def park(self, reason: str) -> None:
        """Move the message to the queue `parked` with the reason and its queue's name (confirmed first, acked then)."""

    async def release(self) -> None:
        """Give it back unworked, for somebody else (drain). Not for retries: those are published with a delay."""


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """What a message of the queue `parked` says of itself, from its headers: where it came from and why it is there."""

    queue: str
    reason: str
    tries: int = 0


class Consumer(Protocol):
    """An open consumer of one queue."""

    async def get(self) -> Incoming:
        """The next message; waits for one. Survives a broker restart."""

    def ready(self) -> Incoming | None:
        """The next message if one has arrived, without waiting."""


class EventStream(Protocol):
    """Events as they come, each (routing key, JSON bytes)."""

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]: ...


@runtime_checkable
class Exclusive(Protocol):
    """A bus that one process alone may consume from."""

    async def own(self) -> None:
        """Become that process, until `close`. Raises `BusUnusable`, which names the other one."""


class Bus(Protocol):
    """The port. One instance a process; safe for use by many tasks."""

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        """Make one message durable. Raises `BusUnavailable`; ValueError for a payload over the topology's size limit."""

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        """Make all of them durable, in one group of confirms; raises `BusUnavailable` if any is not (some may be)."""

    def consume(self, queue: Queue, *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Consume a queue; leaving the context cancels the consumer and gives back what was not ended."""

    def parked(self, message: Incoming) -> Parked:
        """The headers of a message taken from the queue `parked`: put there by `park`, or by the broker itself (delivery limit)."""

    async def emit(self, routing_key: str, payload: bytes) -> None:
        """Publish an event to the topic exchange `events`; durable when it returns, kept only where somebody has bound a queue."""

    async def emit_all(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish events, each (routing key, payload), in one group of confirms; raises `BusUnavailable` if any is not durable."""

    def events(self, pattern: str = "#") -> AbstractAsyncContextManager[EventStream]:
        """Events whose routing key matches `pattern` (AMQP topic rules), from now on."""

    async def depth(self, queue: Queue) -> int:
        """How many messages are ready or delayed for the queue (not those in work)."""

    async def check(self, *, timeout: float = 5.0) -> None:
        """A confirmed canary publish; raises `BusUnavailable`. An open connection proves nothing under a memory alarm."""

    async def close(self) -> None:
        """Let go of everything; whatever was taken and not acked goes back."""
