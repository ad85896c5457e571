"""In-memory doubles of the ports, with switchable faults: what the ingress needs of a bus, a directory and a body store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from shared.bodies import BodyMissing
from shared.bus import BusUnavailable, Outgoing
from shared.directory import DirectoryUnavailable
from shared.directory.channels import Reach
from shared.groups import SLOTS, Domain, Group, Member, Roll, Settings, rolls, slot
from shared.identity import new_id
from shared.messages import BodyRef, Post, Refused, decode
from shared.topology import Queue


class Fault:
    """What happens at a call: nothing, an exception, a wait for `release`, or a CancelledError from inside (as broker clients do)."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.hanging = False
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.calls = 0

    def hang(self) -> None:
        """Wait at every call until `release`."""
        self.hanging = True

    def release(self) -> None:
        """Let go of those that wait."""
        self.hanging = False
        self.released.set()

    async def __call__(self) -> None:
        self.calls += 1
        self.reached.set()
        if self.error is not None:
            raise self.error
        if self.hanging:
            await self.released.wait()


class MemoryBus:
    """Records what was published, in order. `fault` comes before the record, `late` after it: published, but the confirm is lost."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.fault = Fault()
        self.late = Fault()

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        await self.fault()
        self.published.append(message)
        await self.late()

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        for message in messages:
            await self.publish(message, timeout=timeout)

    @property
    def posts(self) -> list[Post]:
        """The posts on the bus."""
        found = [decode(message.payload) for message in self.published if message.queue is Queue.POSTS]
        assert all(isinstance(post, Post) for post in found)
        return found  # type: ignore[return-value]

    @property
    def refused(self) -> list[Refused]:
        """The refusals on the bus."""
        found = [decode(message.payload) for message in self.published if message.queue is Queue.OUTCOMES]
        return [one for one in found if isinstance(one, Refused)]

    async def check(self, *, timeout: float = 5.0) -> None:
        await self.fault()

    async def close(self) -> None:
        self.fault.release()
        self.late.release()


def bus_unavailable() -> BusUnavailable:
    return BusUnavailable("no confirm")


def directory_unavailable() -> DirectoryUnavailable:
    return DirectoryUnavailable("database is down")


class MemoryDirectory:
    """A directory over dicts. `add` makes a group and its domain; a member whose address is a group here gets its `group` set."""

    def __init__(self) -> None:
        self.domains: dict[str, Domain] = {}
        self.groups: dict[str, Group] = {}
        self.rows: dict[str, list[Member]] = {}
        self.channels: list[tuple[str, str]] = []
        self.fault = Fault()

    def add(self, address: str, *members: str, **settings: object) -> Group:
        """Add a group, or put another in its place."""
        key = address.lower()
        group = Group(
            id=len(self.groups) + 1,
            address=key,
            settings=Settings(**settings),
            members=len(members),  # type: ignore[arg-type]
        )
        self.groups[key] = group
        self.domains.setdefault(group.domain, Domain(name=group.domain))
        self.rows[key] = [Member(address=member, key=member.lower()) for member in members]
        return group

    async def reached(self, groups: Sequence[str], *, low: int, high: int) -> Sequence[Reach]:
        """The channels of these groups in `channels`; each is (group, label), its number is its place."""
        await self.fault()
        return [
            Reach(id=number, group=group, label=label)
            for number, (group, label) in enumerate(self.channels, 1)
            if group in groups and low <= slot(label) < high
        ]

    async def domain(self, name: str) -> Domain | None:
        await self.fault()
        return self.domains.get(name)

    async def group(self, key: str) -> Group | None:
        await self.fault()
        return self.groups.get(key)

    async def subgroups(self, key: str) -> Sequence[Member]:
        await self.fault()
        return [
            Member(address=row.address, key=row.key, group=row.key)
            for row in self.rows.get(key, [])
            if row.key in self.groups
        ]

    async def nested(self, keys: Sequence[str]) -> Mapping[str, Sequence[Member]]:
        return {key: await self.subgroups(key) for key in keys}

    async def members(self, key: str, *, low: int = 0, high: int = SLOTS) -> AsyncIterator[Sequence[Member]]:
        await self.fault()
        yield sorted((row for row in self.rows.get(key, []) if low <= slot(row.key) < high), key=lambda row: row.key)

    async def rolls(
        self, keys: Sequence[str], *, cells: int, low: int = 0, high: int = SLOTS
    ) -> Mapping[str, Mapping[int, Roll]]:
        found = {}
        for key in keys:
            members = [member async for page in self.members(key) for member in page]
            if rows := rolls(members, cells=cells, low=low, high=high):
                found[key] = rows
        return found

    async def is_member(self, key: str, member: str) -> bool:
        await self.fault()
        return any(row.key == member for row in self.rows.get(key, []))

    async def check(self) -> None:
        await self.fault()

    async def close(self) -> None:
        self.fault.release()


class _MemoryWriter:
    def __init__(self, bodies: MemoryBodies) -> None:
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self._hash = hashlib.sha256()
        self._size = 0
        self.committed = False

    async def write(self, chunk: bytes) -> None:
        await self._bodies.fault()
        self._size += len(chunk)
        self._hash.update(chunk)
        if self._bodies.keep:
            self._chunks.append(chunk)

    async def commit(self) -> BodyRef:
        await self._bodies.commit_fault()
        key = new_id()
        self._bodies.blobs[key] = b"".join(self._chunks)
        self.committed = True
        return BodyRef(key=key, size=self._size, sha256=self._hash.digest())


class MemoryBodies:
    """A body store in a dict. With `keep` off only sizes and digests are kept, so that memory can be measured. `open` counts unfinished blobs."""

    def __init__(self, *, keep: bool = True) -> None:
        self.keep = keep
        self.blobs: dict[str, bytes] = {}
        self.fault = Fault()
        self.commit_fault = Fault()
        self.open = 0
        self.thrown_away = 0

    @asynccontextmanager
    async def create(self) -> AsyncIterator[_MemoryWriter]:
        await self.fault()
        self.open += 1
        writer = _MemoryWriter(self)
        try:
            yield writer
        finally:
            self.open -= 1
            self.thrown_away += not writer.committed

    async def put(self, data: bytes) -> BodyRef:
        async with self.create() as writer:
            await writer.write(data)
            return await writer.commit()

    async def get(self, ref: BodyRef) -> bytes:
        blob = self.blobs.get(ref.key)
        if blob is None or hashlib.sha256(blob).digest() != ref.sha256:
            raise BodyMissing(ref.key)
        return blob

    async def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        yield (await self.get(ref))[offset:]

    async def delete(self, key: str) -> None:
        self.blobs.pop(key, None)

    async def list(self, *, older_than: float) -> AsyncIterator[str]:
        for key in tuple(self.blobs):
            yield key

    async def check(self) -> None:
        await self.fault()

    async def close(self) -> None:
        self.fault.release()
        self.commit_fault.release()
