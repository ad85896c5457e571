"""The directory as the pipeline reads it: the process's cache, then Redis, then SQL, the truth (P6).

Two tasks keep watch. One polls the change counter in SQL; the other tells Redis what SQL said, or, when SQL does not answer us, asks
Redis what SQL told another instance. A cached answer is given only while one of the two has confirmed, within the last second, that all
changes are known; otherwise SQL is asked, and what it does not answer is `DirectoryUnavailable`, never "no such group". Lists of members
are kept only when short.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shared import journal
from shared.directory.cache_few import Few
from shared.directory.cache_local import Entry, LocalCache
from shared.directory.cache_log import ChangeLog
from shared.directory.cache_redis import WITNESS_CHANGES, SharedCache
from shared.directory.channels import Reach, SealedChannel
from shared.directory.store_write import SqlDirectory
from shared.groups import SLOTS, Domain, Group, Member, Roll
from shared.replies import TransientError

INTERVAL = 0.3
"""Seconds between two polls of the change counter."""
POLL_LIMIT = 1.5
FEW = 500
"""Members of a list that is kept."""
ALONE = 8
"""Groups at most whose lists are read rather than the groups in them asked for: the graph of most fan-outs."""
TOGETHER = 20
"""Lists of one fan-out that are asked for at a time."""
MOST = 100_000
"""Weight of all that the process keeps: entries, and the members of lists."""
JOINABLE = 0.2
"""Seconds for which a question that is under way answers others, too."""
SPREADING = 64
"""Values on their way to Redis at one time; more are not shared."""

_DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "domain": msgspec.msgpack.Decoder(Domain | None),
    "group": msgspec.msgpack.Decoder(Group | None),
    "members": msgspec.msgpack.Decoder(tuple[Member, ...] | None),
}
_encoder = msgspec.msgpack.Encoder()


def _portions(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Keys, some at a time: as many questions as SQL is asked at once."""
    for start in range(0, len(keys), TOGETHER):
        yield keys[start : start + TOGETHER]


class CachedDirectory:
    """The port `Directory` over a store, with the process's cache and, where there is a URL, Redis. `start` it, and `close` it."""

    def __init__(self, store: SqlDirectory, redis_url: str | None, secret: str) -> None:
        self._store = store
        self._redis = SharedCache(redis_url, secret) if redis_url else None
        self._log = ChangeLog()
        self._local: LocalCache[Any] = LocalCache(MOST)
        self._flights: dict[tuple[str, str], tuple[float, asyncio.Task[Entry[Any]]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._sql_well = True
        self._told_at = 0.0  # wall clock of SQL's last word
        store.listener = self._log.note

    # --- life --------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Ask SQL and Redis once, whether they answer or not, and keep watch from now on."""
        await self._poll()
        watches = [self._watch(self._poll)]
        if self._redis is not None:
            await self._confer(self._redis)
            watches.append(self._watch(lambda redis=self._redis: self._confer(redis)))  # type: ignore[misc]
        for watch in watches:
            self._spawn(watch)

    async def close(self) -> None:
        """End the watch and let go of everything, the store included."""
        self._closing = True
        self._store.listener = None
        tasks = [*self._tasks, *(task for _, task in self._flights.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._redis is not None:
            await self._redis.close()
        await self._store.close()

    async def check(self) -> None:
        """Whether SQL answers and its schema is ours; raises `DirectoryUnavailable`."""
        await self._store.check()

    # --- the port ----------------------------------------------------------------------------------------------------
    async def domain(self, name: str) -> Domain | None:
        """The domain, if it is ours."""
        found: Domain | None = await self._find("domain", name)
        return found

    async def group(self, key: str) -> Group | None:
        """The group of this key."""
        found: Group | None = await self._find("group", key)
        return found

    async def subgroups(self, key: str) -> Sequence[Member]:
        """The group's members that are groups themselves."""
        few = await self._few(key)
        if few is None:
            return await self._store.subgroups(key)
        return few.subgroups

    async def nested(self, keys: Sequence[str]) -> Mapping[str, Sequence[Member]]:
        """The members that are groups themselves, of several groups: of lists that are known here, else from SQL, together."""
        found: dict[str, Sequence[Member]] = {}
        for key in keys:
            few = self._known("members", key)
            if few is not None and few.value is not None:
                found[key] = few.value.subgroups
        unknown = [key for key in keys if key not in found]
        if len(unknown) <= ALONE:  # whose members are wanted next: they are read now, and kept
            for key, read in zip(unknown, await asyncio.gather(*map(self._few, unknown)), strict=True):
                if read is not None:
                    found[key] = read.subgroups
            unknown = [key for key in unknown if key not in found]
        return {**found, **(await self._store.nested(unknown) if unknown else {})}

    async def is_member(self, key: str, member: str) -> bool:
        """Whether `member` (a key) is a member of the group itself."""
        few = await self._few(key)
        if few is None:
            return await self._store.is_member(key, member)
        return member in few.keys

    async def members(self, key: str, *, low: int = 0, high: int = SLOTS) -> AsyncIterator[Sequence[Member]]:
        """The group's members whose slot is in [low, high), in key order; long lists come from SQL, page by page (P10)."""
        few = await self._few(key)
        if few is not None:
            if page := few.between(low, high):
                yield page
            return
        async for long in self._store.members(key, low=low, high=high):
            yield long

    async def rolls(
        self, keys: Sequence[str], *, cells: int, low: int = 0, high: int = SLOTS
    ) -> Mapping[str, Mapping[int, Roll]]:
        """The members of several groups by cell: of short lists from the cache, of all others from SQL, together.

        A part of a fan-out comes from SQL whatever the lists: finding in each of a thousand short ones who belongs to each of two hundred slices
        costs more than reading them.
        """
        if (low, high) != (0, SLOTS):
            return await self._store.rolls(keys, cells=cells, low=low, high=high)
        found: dict[str, Mapping[int, Roll]] = {}
        long: list[str] = []
        for some in _portions(keys):
            for key, few in zip(some, await asyncio.gather(*map(self._few, some)), strict=True):
                if few is None:
                    long.append(key)
                elif rolls := few.rolls(cells, low, high):
                    found[key] = rolls
        if long:
            found.update(await self._store.rolls(long, cells=cells, low=low, high=high))
        return found

    async def reached(self, groups: Sequence[str], *, low: int, high: int) -> Sequence[Reach]:
        """The channels that a signal reaches: asked of SQL, for signals are few, and no cache holds a secret."""
        return await self._store.reached(groups, low=low, high=high)

    async def sealed_channel(self, number: int) -> SealedChannel | None:
        """One channel, to be notified."""
        return await self._store.sealed_channel(number)

    async def _few(self, key: str) -> Few | None:
        """The list, if it is a short one; that of a group which is known to be large is not asked for."""
        group = self._known("group", key)
        if group is not None and group.value is not None and group.value.members > FEW:
            return None
        found: Few | None = await self._find("members", key)
        return found

    # --- answers -----------------------------------------------------------------------------------------------------
    async def _find(self, kind: str, name: str) -> Any:
        known = self._known(kind, name)
        return (known or await self._joined(kind, name)).value

    def _known(self, kind: str, name: str) -> Entry[Any] | None:
        """What is known here, if it may be given as an answer now."""
        entry = self._local.get(kind, name)
        return entry if entry is not None and self._good(kind, name, entry.stamp) else None

    def _good(self, kind: str, name: str, stamp: int) -> bool:
        """Whether a value read at `stamp` may be given as an answer now."""
        log = self._log
        return log.fresh(asyncio.get_running_loop().time()) and log.holds(_change_key(kind, name), stamp)

    async def _joined(self, kind: str, name: str) -> Entry[Any]:
        """One question for all who ask it at once; one that has been under way for long is asked again, for its answer may be old."""
        now = asyncio.get_running_loop().time()
        flight = self._flights.get((kind, name))
        if flight is None or now - flight[0] > JOINABLE:
            flight = (now, asyncio.create_task(self._fetch(kind, name)))
            self._flights[kind, name] = flight
            flight[1].add_done_callback(lambda task: self._landed(kind, name, task))
        return await asyncio.shield(flight[1])

    def _landed(self, kind: str, name: str, task: asyncio.Task[Entry[Any]]) -> None:
        flight = self._flights.get((kind, name))
        if flight is not None and flight[1] is task:
            del self._flights[kind, name]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone: then nobody else would look at it

    async def _fetch(self, kind: str, name: str) -> Entry[Any]:
        entry = await self._from_redis(kind, name)
        if entry is None:
            generation, epoch = self._log.generation, self._log.epoch
            entry = await self._from_sql(kind, name)
            if generation == self._log.generation:
                self._share(epoch, kind, name, entry)
            else:
                return entry  # read in another database's time: an answer, but nothing to keep
        self._local.put(kind, name, entry, _weight(kind, entry.value))
        return entry

    async def _from_redis(self, kind: str, name: str) -> Entry[Any] | None:
        """What Redis holds, if it is ours, decodes, and holds at the moment it arrives."""
        redis = self._redis
        if redis is None or not redis.usable or not self._log.fresh(asyncio.get_running_loop().time()):
            return None
        found = await redis.get(self._log.epoch, kind, name)
        if found is None or not self._good(kind, name, found[0]):
            return None
        try:
            value = _DECODERS[kind].decode(found[1])
            return Entry(Few(value) if kind == "members" and value is not None else value, found[0])
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return None  # written by another version of Horo

    async def _from_sql(self, kind: str, name: str) -> Entry[Any]:
        match kind:
            case "domain":
                return Entry(*await self._store.domain_at(name))
            case "group":
                return Entry(*await self._store.group_at(name))
            case _:
                few, stamp = await self._store.few_members_at(name, FEW)
                return Entry(None if few is None else Few(few), stamp)

    def _share(self, epoch: str, kind: str, name: str, entry: Entry[Any]) -> None:
        """Give a value to Redis, behind the answer's back."""
        if self._redis is not None and self._redis.usable and epoch and len(self._tasks) < SPREADING:
            payload = _encoder.encode(entry.value.members if isinstance(entry.value, Few) else entry.value)
            self._spawn(self._redis.put(epoch, kind, name, entry.stamp, payload))

    # --- the watch ---------------------------------------------------------------------------------------------------
    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Look every `INTERVAL`; what nobody foresaw is told and does not end the watch. A cancellation that a driver turned into an
        error of its own does not keep it going either."""
        while not self._closing:
            await asyncio.sleep(INTERVAL)
            try:
                await look()
            except Exception as error:
                journal.crashed("directory watch", error)

    async def _poll(self) -> None:
        """Ask SQL what has changed. The time that counts is that before the question."""
        asked, at, wall = self._log.seq, asyncio.get_running_loop().time(), time.time()
        try:
            found = await self._store.progress(asked, limit=POLL_LIMIT)
        except TransientError as error:
            if self._sql_well:
                journal.unavailable("the directory's database", error.why)
            self._sql_well = False
            return
        if not self._sql_well:
            journal.available("the directory's database")
        self._sql_well = True
        self._learn(lambda: self._log.learn(found, asked, at))
        self._told_at = wall

    async def _confer(self, redis: SharedCache) -> None:
        """Tell the others through Redis what SQL said, or, where SQL said nothing of late, ask what it told them."""
        if time.time() - self._told_at < 2 * INTERVAL:
            await redis.testify(self._log.since(WITNESS_CHANGES), self._told_at)
            return
        told = await redis.witness(time.time())
        if told is not None:
            at = asyncio.get_running_loop().time() - told[1]
            self._learn(lambda: self._log.hear(told[0], at))

    def _learn(self, learn: Callable[[], Any]) -> None:
        before = self._log.generation
        learn()
        if self._log.generation != before:
            self._local.clear()


def _change_key(kind: str, name: str) -> str:
    """The key of the change log that a value depends on: a group's settings and its members change under one."""
    return f"domain:{name}" if kind == "domain" else f"group:{name}"


def _weight(kind: str, value: Any) -> int:
    return 1 + len(value.members) if kind == "members" and value is not None else 1
