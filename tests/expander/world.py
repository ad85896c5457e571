"""An expander in a world of its own: a directory and a bus in memory, the real ledger on a file of SQLite, bodies in a dict.

The bus hands out one message at a time, oldest first and whatever its delay, so that a run is the same every time; what the expander publishes for
itself (posts made inside, slices, retries) comes back to it until nothing is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from services.expander.story import Expander
from shared.address import key
from shared.bus import Outgoing
from shared.database import migrate
from shared.database.engine import open_engine
from shared.directory import DirectoryUnavailable
from shared.identity import new_id
from shared.ledger import Claim, Opened, PostRecord, TargetRecord
from shared.ledger.open import open_ledger
from shared.ledger.store import SqlLedger
from shared.messages import (
    Attempted,
    BodyRef,
    Content,
    Delivery,
    Expanded,
    Fate,
    Origin,
    Post,
    Reason,
    Recipient,
    Signal,
    SignalExpanded,
    Slice,
    Target,
    TargetKind,
    Wire,
    decode,
    encode,
)
from shared.settings import Settings
from shared.topology import MAX_PAYLOAD, Queue
from tests.expander.town import Town
from tests.support.doubles import Fault, MemoryBodies, MemoryBus

SECRET = "a secret of the tests only"
HOST = "mx.horo.test"
HOP = "smtp://127.0.0.1:2599"
ACCEPTED = 1_795_000_000.0
WORKED = (Queue.POSTS, Queue.SLICES, Queue.SIGNALS, Queue.SIGNALS_IN)
_numbers = itertools.count()


# --- the bus ----------------------------------------------------------------------------------------------------------
class Taken:
    """A message in hand."""

    def __init__(self, bus: QueueBus, message: Outgoing) -> None:
        self._bus, self._message = bus, message
        self.queue, self.payload, self.tries, self.redelivered = message.queue, message.payload, message.tries, False

    async def ack(self) -> None:
        await self._bus.end()

    async def park(self, reason: str) -> None:
        self._bus.aside.append((self._message, reason))
        await self._bus.end()

    async def release(self) -> None:
        self._bus.waiting.appendleft(self._message)
        await self._bus.end()


class _Consumer:
    def __init__(self, bus: QueueBus, queue: Queue) -> None:
        self._bus, self._queue = bus, queue

    async def get(self) -> Taken:
        return await self._bus.take(self._queue)

    def ready(self) -> Taken | None:
        return None


class QueueBus(MemoryBus):
    """A bus that hands out what was published to the expander's own queues. `aside` holds what was parked, with the reasons."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Outgoing] = deque()
        self.aside: list[tuple[Outgoing, str]] = []
        self.retries = 0
        self._in_hand = False
        self._changed = asyncio.Condition()

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        if len(message.payload) > MAX_PAYLOAD:
            raise ValueError(f"{len(message.payload)} octets are more than a message may have")
        await self.fault()
        self.retries += message.tries > 0
        self.published.append(message)
        await self.feed(message)
        await self.late()

    async def feed(self, message: Outgoing) -> None:
        """Put a message where the expander finds it, as another service would."""
        async with self._changed:
            if message.queue in WORKED:
                self.waiting.append(message)
            self._changed.notify_all()

    @asynccontextmanager
    async def consume(self, queue: Queue, *, prefetch: int) -> AsyncIterator[_Consumer]:
        yield _Consumer(self, queue)

    async def take(self, queue: Queue) -> Taken:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._in_hand and self.waiting and self.waiting[0].queue is queue)
            self._in_hand = True
            return Taken(self, self.waiting.popleft())

    async def end(self) -> None:
        async with self._changed:
            self._in_hand = False
            self._changed.notify_all()

    async def empty(self) -> None:
        """Wait until nothing waits and nothing is in hand."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._in_hand and not self.waiting)


# --- the ledger -------------------------------------------------------------------------------------------------------
class Book:
    """The real ledger with switchable faults, before the call or after it (done, but nobody heard)."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.real = ledger
        self.fault, self.late = Fault(), Fault()

    async def open_post(self, post: PostRecord, targets: Sequence[TargetRecord]) -> Opened:
        await self.fault()
        opened = await self.real.open_post(post, targets)
        await self.late()
        return opened

    async def set_target(self, post_id: str, group: str, verdict: str) -> None:
        await self.fault()
        await self.real.set_target(post_id, group, verdict)
        await self.late()

    async def record(self, claim: Claim, group: str, fates: Sequence[Fate]) -> None:
        await self.fault()
        await self.real.record(claim, group, fates)
        await self.late()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


# --- what comes out ---------------------------------------------------------------------------------------------------
class Copy(NamedTuple):
    """One recipient of one delivery."""

    post_id: str
    group: str
    mail_from: str
    head: bytes
    recipient: Recipient
    delivery: Delivery


class LeftOut(NamedTuple):
    """One address that got no copy."""

    address: str
    reason: Reason
    via: tuple[str, ...]


class Result:
    """What the expander published, decoded. `copies` by key; `posts` by id are those made inside and those that came from outside."""

    def __init__(self, published: Sequence[Outgoing], came: Sequence[Post]) -> None:
        self.wires: list[tuple[Outgoing, Wire]] = [(message, decode(message.payload)) for message in published]
        messages = [wire for _, wire in self.wires]
        self.deliveries = [one for one in messages if isinstance(one, Delivery)]
        self.expanded = [one for one in messages if isinstance(one, Expanded)]
        self.attempted = [one for one in messages if isinstance(one, Attempted)]
        self.signals = [one for one in messages if isinstance(one, SignalExpanded)]
        self.slices = [one for one in messages if isinstance(one, Slice)]
        self.inside = [one for one in messages if isinstance(one, Post) and one.parent is not None]
        self.posts = {post.id: post for post in (*came, *self.inside)}
        self.copies: dict[str, list[Copy]] = {}
        for one in self.deliveries:
            for recipient in one.recipients:
                made = Copy(one.post_id, one.group, one.mail_from, one.content.head, recipient, one)
                self.copies.setdefault(key(recipient.address), []).append(made)

    @property
    def people(self) -> list[str]:
        """The key of every copy's recipient, sorted: somebody with two copies is there twice."""
        return sorted(who for who, copies in self.copies.items() for _ in copies)

    @property
    def claims(self) -> set[tuple[str, str, int, str]]:
        """(post, key, cell, hop) of every copy: the sender's record makes all that is equal here one copy (P3)."""
        return {
            (copy.post_id, who, copy.delivery.cell, copy.delivery.hop)
            for who, copies in self.copies.items()
            for copy in copies
        }

    @property
    def suppressed(self) -> list[LeftOut]:
        return [
            LeftOut(address, row.reason, row.via)
            for one in self.expanded
            for row in one.suppressed
            for address in row.addresses
        ]

    def reasons(self, address: str) -> list[str]:
        """Why an address was left out, each row."""
        return sorted(row.reason for row in self.suppressed if key(row.address) == key(address))

    def one(self, address: str) -> Copy:
        """The only copy that somebody got."""
        (copy,) = self.copies[key(address)]
        return copy


class World:
    """The expander with its ports. `directory`, `bus`, `ledger` and `bodies` have faults to switch."""

    def __init__(self, settings: Settings, ledger: SqlLedger) -> None:
        self.settings = settings
        self.directory, self.bus, self.bodies = Town(), QueueBus(), MemoryBodies()
        self.ledger = Book(ledger)
        self.came: list[Post] = []

    async def work(self) -> None:
        """Let a fresh expander work until nothing is left."""
        expander = Expander(
            self.settings,
            bus=self.bus,
            directory=self.directory,
            ledger=self.ledger,  # type: ignore[arg-type]
            bodies=self.bodies,
            secret=SECRET,
            hostname=HOST,
        )
        running = asyncio.create_task(expander.run())
        empty = asyncio.create_task(self.bus.empty())
        try:
            async with asyncio.timeout(60):
                await asyncio.wait((running, empty), return_when=asyncio.FIRST_COMPLETED)
        finally:
            empty.cancel()
            expander.stop()
            await running

    async def run(self, *posts: Post | Slice | Signal) -> Result:
        """Hand in messages, work them and all that comes of them; what was published meanwhile."""
        start = len(self.bus.published)
        for one in posts:
            if isinstance(one, Post):
                self.came.append(one)
            queue = {Post: Queue.POSTS, Slice: Queue.SLICES, Signal: Queue.SIGNALS}[type(one)]
            await self.bus.feed(Outgoing(queue=queue, payload=encode(one)))
        await self.work()
        return self.since(start)

    def since(self, start: int = 0) -> Result:
        """What was published from message `start` on, retries of the worker left out."""
        return Result([one for one in self.bus.published[start:] if not one.tries], self.came)

    async def file(self, result: Result) -> None:
        """Tell the ledger of the shares, as the reporter does."""
        for share in result.expanded:
            await self.ledger.real.file(share)


_made: list[bytes] = []


async def _empty_ledger(folder: Path) -> bytes:
    """A migrated file of SQLite, made once a test process."""
    if not _made:
        file = folder / "template.db"
        engine = open_engine(f"sqlite:///{file}")
        await migrate.upgrade(engine)
        await engine.dispose()
        _made.append(file.read_bytes())
    return _made[0]


@asynccontextmanager
async def open_world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    """A world on a fresh ledger in `folder`."""
    chosen = Settings(**{"data": str(folder), "next_hop": HOP, "workers": 1, "max_tries": 5, **settings})
    file = folder / "ledger.db"
    file.write_bytes(await _empty_ledger(folder))
    engine = open_engine(f"sqlite:///{file}")
    ledger = open_ledger(chosen, engine)
    try:
        yield World(chosen, ledger)
    finally:
        await ledger.close()
        await engine.dispose()


# --- messages ---------------------------------------------------------------------------------------------------------
def head(
    author: str = "Ana <ana@example.test>", *lines: str, to: str = "", cc: str = "", message_id: str = ""
) -> bytes:
    """A header section; `lines` are more of its fields."""
    given = [f"From: {author}", f"Message-ID: {message_id or f'<{next(_numbers)}@client.test>'}", "Subject: News"]
    given += ["Date: Mon, 23 Nov 2026 10:00:00 +0000"]
    given += [f"To: {to}"] * bool(to) + [f"Cc: {cc}"] * bool(cc) + list(lines)
    return ("\r\n".join(given) + "\r\n\r\n").encode()


def post(
    *targets: str | Target,
    head: bytes | None = None,
    tail: bytes = b"Hello\r\n",
    ref: BodyRef | None = None,
    **changes: Any,
) -> Post:
    """A post from outside to groups, by their keys, or to other targets."""
    top = head if head is not None else globals()["head"]()
    aims = [Target(group=one, recipient=one) if isinstance(one, str) else one for one in targets]
    return Post(
        **{
            "id": new_id(),
            "accepted_at": ACCEPTED,
            "mail_from": "ana@example.test",
            "targets": tuple(aims),
            "content": Content(head=top, tail=b"" if ref else tail, ref=ref),
            "digest": hashlib.sha256(top + tail).digest(),
            "origin": Origin(ip="192.0.2.1", helo="client.test", protocol="ESMTP"),
            **changes,
        }
    )


def role(group: str, kind: TargetKind, recipient: str = "") -> Target:
    """A target that is no group: owners, bounces, postmaster."""
    return Target(group=group, recipient=recipient or group, kind=kind)


class FailAt(Fault):
    """Fails at the n-th call from now (1 is the next), and at `times` calls in all from there on."""

    def __init__(self, number: int, error: BaseException | None = None, *, times: int = 1) -> None:
        super().__init__()
        self._from, self._to = number, number + times
        self._failure = error or DirectoryUnavailable("switched off")

    async def __call__(self) -> None:
        self.calls += 1
        if self._from <= self.calls < self._to:
            raise self._failure.with_traceback(None)  # not with that of its last time
