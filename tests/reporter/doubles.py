"""In-memory ports for the reporter's tests, each with the law that matters here, and ways to make them fail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from shared.address import key
from shared.bodies import BodyMissing
from shared.bus import BusUnavailable, Outgoing, Parked
from shared.groups import SLOTS, Domain, Group, Member
from shared.ledger import LedgerUnavailable, PostRecord, PostSummary, Row, Standing, TargetRecord, Totals
from shared.ledger.due import NEVER, Backlog, Due
from shared.ledger.notes import Note
from shared.messages import BodyRef, Delivery, Expanded, Fate, Refused, State, decode, encode
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
        return self.reports_after(0)

    def reports_after(self, number: int) -> list[Delivery]:
        """Those that were published after so many messages."""
        deliveries = []
        for message in self.published[number:]:
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
        self.fates: dict[tuple[str, str], dict[str, Fate]] = defaultdict(dict)
        self.dues: dict[str, Due] = {}
        self.noted: dict[tuple[str, str, str], Note] = {}
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
        """The shares' people by their fates; who was tried and not told of is a recipient too."""
        shares = self.shares[post_id, group].values()
        people = {address for share in shares for entry in share.queued for address in entry.addresses}
        fates = self.fates[post_id, group]
        states = Counter(fate.state for fate in fates.values())
        copies, suppressed = len(people | fates.keys()), sum(share.left_out for share in shares)
        delivered, failed = states[State.DELIVERED], states[State.FAILED]
        return Totals(
            expanded=copies + suppressed,
            delivered=delivered,
            deferred=copies - delivered - failed,
            failed=failed,
            suppressed=suppressed,
            announced=copies,
            complete=all(len(shares) >= share.of for share in shares),
        )

    def record(self, post_id: str, group: str, fates: Sequence[Fate]) -> None:
        """What a sender records: a final state stays."""
        for fate in fates:
            known = self.fates[post_id, group].get(fate.address)
            if known is None or known.state is State.DEFERRED:
                self.fates[post_id, group][fate.address] = fate

    async def standings(self, post_id: str, keys: Sequence[str]) -> Mapping[str, Standing]:
        self._here()
        fates = {
            key(name): fate for (post, _), each in self.fates.items() if post == post_id for name, fate in each.items()
        }
        return {name: Standing(state=fates[name].state, attempts=1) for name in keys if name in fates}

    async def unreached(self, post_id: str, group: str, *, limit: int) -> Sequence[Row]:
        self._here()
        fates = sorted(self.fates[post_id, group].items())
        return [
            _row(post_id, group, fate)
            for state in (State.FAILED, State.DEFERRED)
            for _, fate in [entry for entry in fates if entry[1].state is state][:limit]
        ]

    async def left_out(self, post_id: str, group: str) -> Mapping[str, int]:
        self._here()
        found: Counter[str] = Counter()
        for share in self.shares[post_id, group].values():
            for entry in share.suppressed:
                found[entry.reason.value] += len(entry.addresses)
        return found

    async def posts_between(
        self, group: str, since: float, until: float, *, after: str = "", limit: int = 100
    ) -> Sequence[PostSummary]:
        found = [
            await self.post(name)
            for name, (record, targets) in sorted(self.posts.items())
            if name > after and since <= record.accepted_at < until and group in targets
        ]
        return [each for each in found if each is not None][:limit]

    # --- what is due -------------------------------------------------------------------------------------------------
    async def due_put(self, due: Due) -> None:
        self._here()
        known = self.dues.get(due.id)
        if known is None:
            self.dues[due.id] = due
        else:
            at = due.at if known.at >= NEVER else known.at
            self.dues[due.id] = msgspec.structs.replace(known, at=at, puts=known.puts + 1)

    async def due_take(self, now: float, *, limit: int, lease: float) -> Sequence[Due]:
        self._here()
        taken = sorted((due for due in self.dues.values() if due.at <= now), key=lambda due: due.at)[:limit]
        for due in taken:
            self.dues[due.id] = msgspec.structs.replace(due, at=now + lease, tries=due.tries + 1)
        return [self.dues[due.id] for due in taken]

    def _mine(self, due: Due, **changes: object) -> bool:
        self._here()
        mine = self.dues[due.id].tries == due.tries
        if mine:
            self.dues[due.id] = msgspec.structs.replace(self.dues[due.id], **changes)
        return mine

    async def due_keep(self, due: Due, *, at: float, detail: str) -> bool:
        return self._mine(due, at=at, detail=detail)

    async def due_later(self, due: Due, *, at: float) -> None:
        self._mine(due, at=at)

    async def due_done(self, due: Due, *, detail: str, again: float) -> bool:
        return self._mine(due, at=NEVER if self.dues[due.id].puts == due.puts else again, detail=detail)

    async def backlog(self, now: float) -> Backlog:
        self._here()
        open_at = [due.at for due in self.dues.values() if due.at < NEVER]
        late = max(now - min(open_at), 0.0) if open_at else 0.0
        return Backlog(due=len(open_at), late=late, parked=0)

    async def due_next(self) -> float:
        self._here()
        return min((due.at for due in self.dues.values()), default=NEVER)

    @property
    def waiting(self) -> list[str]:
        """The kinds of what is still due."""
        return sorted(due.kind for due in self.dues.values() if due.at < NEVER)

    # --- notes, refusals, parked messages ----------------------------------------------------------------------------
    async def note(self, note: Note) -> None:
        self._here()
        self.noted.setdefault((note.post_id, note.kind, note.unique), note)

    async def probe_of_token(self, token: str) -> None:
        self._here()

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


def _row(post_id: str, group: str, fate: Fate) -> Row:
    return Row(
        post_id=post_id,
        group=group,
        address=fate.address,
        via=(),
        state=fate.state,
        reason=None,
        attempts=fate.attempt + 1,
        code=fate.code,
        status=fate.status,
        text=fate.text,
        hop=fate.hop,
        at=fate.at,
        next_at=fate.next_at,
    )


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
        for name in [name for name, (_, made) in self.blobs.items() if made < older_than]:
            yield name

    async def delete(self, key: str) -> None:
        self.blobs.pop(key, None)


class MemoryDirectory:
    """Domains, groups and members: what the reporter asks for."""

    def __init__(self, *domains: Domain) -> None:
        self.domains = {domain.name: domain for domain in domains}
        self.groups: dict[str, Group] = {}
        self.people: dict[str, list[Member]] = {}

    async def domain(self, name: str) -> Domain | None:
        return self.domains.get(name)

    async def group(self, name: str) -> Group | None:
        return self.groups.get(name)

    async def subgroups(self, name: str) -> Sequence[Member]:
        return [member for member in self.people.get(name, []) if member.group is not None]

    async def members(self, name: str, *, low: int = 0, high: int = SLOTS) -> AsyncIterator[Sequence[Member]]:
        for start in range(0, len(self.people.get(name, [])), 2):
            yield self.people[name][start : start + 2]


async def until(condition: object, *, seconds: float = 10.0) -> None:
    """Wait until `condition()` holds, or fail."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        await asyncio.sleep(0.002)


__all__ = ["MemoryBodies", "MemoryBus", "MemoryDirectory", "MemoryIncoming", "MemoryLedger", "encode", "until"]
