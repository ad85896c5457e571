"""In-memory ports for the reporter's tests, each with the law that matters here, and ways to make them fail."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from shared.bodies import BodyMissing
from shared.bus import BusUnavailable, Outgoing, Parked
from shared.groups import Domain
from shared.ledger import LedgerUnavailable, PostRecord, PostSummary, TargetRecord, Totals
from shared.messages import BodyRef, Delivery, Expanded, Refused, decode, encode
from shared.topology import Queue


class MemoryIncoming:
    """A message handed out; how it ended is remembered in `ended`."""

    def __init__(self, bus: MemoryBus, queue: Queue, payload: bytes, tries: int, parked: Parked | None) -> None:
        self._bus, self.queue, self.payload, self.tries, self.redelivered = bus, queue, payload, tries, False
        self.parked, self.ended = parked, ""

    async def ack(self) -> None:
        self.ended = "ack"
        self._bus.acked[self.queue] += 1

    async def park(self, reason: str) -> None:
        self.ended = "park"
        self._bus.put_parked(self.payload, Parked(queue=self.queue.value, reason=reason, tries=self.tries))

    async def release(self) -> None:
        self.ended = "release"
        self._bus.queues[self.queue].put_nowait(self)


class MemoryConsumer:
    def __init__(self, queue: asyncio.Queue[MemoryIncoming]) -> None:
        self._queue = queue

    async def get(self) -> MemoryIncoming:
        return await self._queue.get()

    def ready(self) -> MemoryIncoming | None:
        return None if self._queue.empty() else self._queue.get_nowait()


class MemoryBus:
    """Queues and events in lists. `refuse` makes the next publishes and emits fail."""

    def __init__(self) -> None:
        self.queues: dict[Queue, asyncio.Queue[MemoryIncoming]] = defaultdict(asyncio.Queue)
        self.published: list[Outgoing] = []
        self.events: list[tuple[str, bytes]] = []
        self.acked: dict[Queue, int] = defaultdict(int)
        self.depths: dict[Queue, int] = defaultdict(int)
        self.refuse = 0

    def _may(self) -> None:
        if self.refuse:
            self.refuse -= 1
            raise BusUnavailable("told to")

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        self._may()
        self.published.append(message)
        self.queues[message.queue].put_nowait(MemoryIncoming(self, message.queue, message.payload, message.tries, None))

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        for message in messages:
            await self.publish(message, timeout=timeout)

    def put_parked(self, payload: bytes, parked: Parked) -> MemoryIncoming:
        incoming = MemoryIncoming(self, Queue.PARKED, payload, parked.tries, parked)
        self.queues[Queue.PARKED].put_nowait(incoming)
        return incoming

    @asynccontextmanager
    async def consume(self, queue: Queue, *, prefetch: int) -> AsyncIterator[MemoryConsumer]:
        yield MemoryConsumer(self.queues[queue])

    def parked(self, message: MemoryIncoming) -> Parked:
        assert message.parked is not None
        return message.parked

    async def emit(self, routing_key: str, payload: bytes) -> None:
        self._may()
        self.events.append((routing_key, payload))

    async def emit_all(self, events: Sequence[tuple[str, bytes]]) -> None:
        for routing_key, payload in events:
            await self.emit(routing_key, payload)

    async def depth(self, queue: Queue) -> int:
        return self.depths[queue]

    @property
    def reports(self) -> list[Delivery]:
        """The deliveries that were published, in order."""
        deliveries = []
        for message in self.published:
            assert message.queue is Queue.DELIVERIES_EXPRESS
            delivery = decode(message.payload)
            assert isinstance(delivery, Delivery)
            deliveries.append(delivery)
        return deliveries

    def emitted(self, routing_key: str) -> list[dict[str, object]]:
        """The events of one kind, as plain JSON."""
        return [msgspec.json.decode(payload) for name, payload in self.events if name == routing_key]


class MemoryLedger:
    """Posts, shares and parked messages in dicts. `away` makes everything raise."""

    def __init__(self) -> None:
        self.posts: dict[str, tuple[PostRecord, dict[str, tuple[TargetRecord, str]]]] = {}
        self.shares: dict[tuple[str, str], dict[int, Expanded]] = defaultdict(dict)
        self.refusals: list[Refused] = []
        self.parked_rows: dict[str, tuple[str, str, bytes, int]] = {}
        self.needed: set[str] = set()
        self.swept_before: list[float] = []
        self.asked = 0
        self.away = False
        self.poison = b""

    def open(self, record: PostRecord, *targets: TargetRecord, verdict: str = "open") -> None:
        _, known = self.posts.setdefault(record.id, (record, {}))
        for target in targets:
            known.setdefault(target.group, (target, verdict))

    def _here(self) -> None:
        if self.away:
            raise LedgerUnavailable("told to")

    async def file(self, share: Expanded) -> bool:
        self._here()
        filed = self.shares[share.post_id, share.group]
        filed.setdefault(share.index, share)
        return len(filed) == share.of

    async def post(self, post_id: str) -> PostSummary | None:
        self._here()
        self.asked += 1
        if post_id not in self.posts:
            return None
        record, targets = self.posts[post_id]
        entries = [(target, verdict, self._totals(post_id, group)) for group, (target, verdict) in targets.items()]
        return PostSummary(record=record, targets=entries, totals=_sum([totals for _, _, totals in entries]))

    def _totals(self, post_id: str, group: str) -> Totals:
        shares = self.shares[post_id, group].values()
        queued = sum(share.copies for share in shares)
        suppressed = sum(share.left_out for share in shares)
        return Totals(
            expanded=queued + suppressed,
            delivered=0,
            deferred=queued,
            failed=0,
            suppressed=suppressed,
            announced=queued,
            complete=True,
        )

    async def refused(self, message: Refused) -> None:
        self._here()
        self.refusals.append(message)

    async def park(self, queue: str, reason: str, payload: bytes, tries: int, *, unique: str) -> int:
        self._here()
        if self.poison and payload == self.poison:
            raise ValueError("SQL refuses this one")
        self.parked_rows.setdefault(unique, (queue, reason, payload, tries))
        return list(self.parked_rows).index(unique) + 1

    async def body_in_use(self, key: str) -> bool:
        self._here()
        return key in self.needed

    async def sweep(self, *, posts_before: float) -> int:
        self._here()
        self.swept_before.append(posts_before)
        return 2


def _sum(all_totals: Sequence[Totals]) -> Totals:
    names = ("expanded", "delivered", "deferred", "failed", "suppressed", "announced")
    return Totals(complete=True, **{name: sum(getattr(totals, name) for totals in all_totals) for name in names})


class MemoryBodies:
    """Blobs by key, each with the time it was made."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[bytes, float]] = {}

    async def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        if ref.key not in self.blobs:
            raise BodyMissing(ref.key)
        data = self.blobs[ref.key][0][offset:]
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    async def list(self, *, older_than: float) -> AsyncIterator[str]:
        for key in [key for key, (_, made) in self.blobs.items() if made < older_than]:
            yield key

    async def delete(self, key: str) -> None:
        self.blobs.pop(key, None)


class MemoryDirectory:
    """Domains alone: all that the reporter asks for."""

    def __init__(self, *domains: Domain) -> None:
        self.domains = {domain.name: domain for domain in domains}

    async def domain(self, name: str) -> Domain | None:
        return self.domains.get(name)


async def until(condition: object, *, seconds: float = 10.0) -> None:
    """Wait until `condition()` holds, or fail."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        await asyncio.sleep(0.002)


__all__ = ["MemoryBodies", "MemoryBus", "MemoryDirectory", "MemoryIncoming", "MemoryLedger", "encode", "until"]
