"""Reading the directory from SQL, the truth. Every method is one short transaction or, for pages, one a page.

Whatever the cache may keep is read together with the change that it was read at: the counter is read first, or in the same statement, so that a
stamp is never newer than its value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import migrate
from shared.database.engine import WAIT_LIMIT, patience, read
from shared.database.line import Step, open_line
from shared.database.tables import directory_state, domains, groups, members
from shared.directory import DirectoryUnavailable, NotFound
from shared.directory.rules import domain_name, group_key
from shared.directory.store_asked import Asked
from shared.directory.store_rolls import read_rolls
from shared.directory.store_rows import MEMBER_COLUMNS, escaped, to_domain, to_group, to_member
from shared.groups import SLOTS, Domain, Group, Member, Roll

PAGE = 1000
"""Members of a page."""
SORTED = 20_000
"""A range of slots with about this many members is read by slot and sorted by SQL; a wider one is read in the order of keys."""
MAX_CHANGES = 50_000
"""Changes that one poll reads; a cache that is further behind starts afresh."""
_PROGRESS = {
    dialect: "SELECT s.epoch, s.seq, s.floor, c.seq, c.key FROM directory_state s "  # noqa: S608 - its own placeholders
    f"LEFT JOIN changes c ON c.seq > {after} WHERE s.id = 1 ORDER BY c.seq DESC LIMIT {most}"
    for dialect, after, most in (("sqlite", ":after", ":most"), ("postgresql", "%(after)s", "%(most)s"))
}
"""Over a line: every process asks three times a second."""

NESTED = 500
"""Groups that one statement asks about."""
MOST_NESTED = 100_000
"""Sub-groups of all these together: more is a mistake or an attack (P10)."""


class Progress(msgspec.Struct, frozen=True):
    """The change counter: the database's `epoch`, the last change `seq`, and the changes after the one asked for, oldest first.

    `after` is the change from which on the list is complete: the one asked for, or a later one where the log does not reach so far back.
    """

    epoch: str
    seq: int
    after: int
    changes: Sequence[tuple[int, str]] = ()


class SqlReader:
    """The port `Directory` on SQL, and what the cache and the console read beyond it."""

    def __init__(self, engine: AsyncEngine, *, own_engine: bool = True) -> None:
        self._engine = engine
        self._own_engine = own_engine
        self._asked = Asked(engine)
        self._watching = open_line(engine, DirectoryUnavailable, writing=False)

    async def close(self) -> None:
        """Let go of the engine, where it is this object's own."""
        await self._asked.close()
        await self._watching.close()
        if self._own_engine:
            await self._engine.dispose()

    async def check(self) -> None:
        """Whether SQL answers and its schema is ours or a newer Horo's. Raises `DirectoryUnavailable`."""
        try:
            await migrate.check(self._engine, newer=True)
        except migrate.SchemaError as error:
            raise DirectoryUnavailable(str(error)) from error
        except migrate.DatabaseUnavailable as error:
            raise DirectoryUnavailable(error.why) from error

    # --- the port ----------------------------------------------------------------------------------------------------
    async def domain(self, name: str) -> Domain | None:
        """The domain, if it is ours."""
        return (await self.domain_at(name))[0]

    async def group(self, key: str) -> Group | None:
        """The group of this key."""
        return (await self.group_at(key))[0]

    async def subgroups(self, key: str) -> Sequence[Member]:
        """The group's members that are groups themselves, in key order."""
        async with read(self._engine, DirectoryUnavailable) as connection:
            group_id, _ = await _group(connection, key)
            query = _of_group(group_id).where(members.c.group_key.is_not(None)).order_by(members.c.key)
            return [to_member(row) for row in await connection.execute(query)]

    async def nested(self, keys: Sequence[str]) -> Mapping[str, Sequence[Member]]:
        """The members that are groups themselves of each of the groups, in key order."""
        found: dict[str, list[Member]] = {key: [] for key in keys}
        for start in range(0, len(keys), NESTED):
            chosen = select(groups.c.id, groups.c.address).where(groups.c.address.in_(keys[start : start + NESTED]))
            async with read(self._engine, DirectoryUnavailable) as connection:
                names = {row.id: row.address for row in await connection.execute(chosen)}
                inside = select(*MEMBER_COLUMNS, members.c.group_id).where(
                    members.c.group_id.in_(list(names)), members.c.group_key.is_not(None)
                )
                rows = (await connection.execute(inside.order_by(members.c.key).limit(MOST_NESTED + 1))).all()
            if len(rows) > MOST_NESTED:
                raise DirectoryUnavailable(f"more than {MOST_NESTED} groups in {len(names)} others")
            for *member, group_id in rows:
                found[names[group_id]].append(to_member(member))
        return found

    async def is_member(self, key: str, member: str) -> bool:
        """Whether `member` (a key) is a member of the group itself."""
        async with read(self._engine, DirectoryUnavailable) as connection:
            group_id, _ = await _group(connection, key)
            query = _of_group(group_id).where(members.c.key == member)
            return (await connection.execute(query)).first() is not None

    async def members(self, key: str, *, low: int = 0, high: int = SLOTS) -> AsyncIterator[Sequence[Member]]:
        """The group's members whose slot is in [low, high), in key order, a page a transaction: edits meanwhile hide nobody who stays."""
        async with read(self._engine, DirectoryUnavailable) as connection:
            group = (
                await connection.execute(select(groups.c.id, groups.c.members).where(groups.c.address == key))
            ).first()
        low, high = max(low, 0), min(high, SLOTS)
        if group is None or low >= high:
            return
        after = ""
        while True:
            query = _page(group.id, group.members, low, high, after)
            async with read(self._engine, DirectoryUnavailable) as connection:
                page = [to_member(row) for row in await connection.execute(query)]
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = page[-1].key

    async def rolls(
        self, keys: Sequence[str], *, cells: int, low: int = 0, high: int = SLOTS
    ) -> Mapping[str, Mapping[int, Roll]]:
        """The members of several groups whose slot is in [low, high), by group and by cell."""
        return await read_rolls(self._engine, keys, cells=cells, low=low, high=high)

    # --- lists for people --------------------------------------------------------------------------------------------
    async def domains(self, *, after: str = "", limit: int = 100, search: str = "") -> Sequence[Domain]:
        """Domains by name, the page after `after`."""
        query = select(domains).where(domains.c.name > after).order_by(domains.c.name).limit(limit)
        if search:
            query = query.where(_has(domains.c.name, search))
        async with read(self._engine, DirectoryUnavailable) as connection:
            return [to_domain(row) for row in await connection.execute(query)]

    async def groups(self, *, domain: str = "", after: str = "", limit: int = 100, search: str = "") -> Sequence[Group]:
        """Groups by address, the page after `after`; `search` looks in address and title."""
        query = select(groups).where(groups.c.address > after).order_by(groups.c.address).limit(limit)
        if domain:
            query = query.where(groups.c.domain == domain_name(domain))
        if search:
            query = query.where(_has(groups.c.search, search))
        async with read(self._engine, DirectoryUnavailable) as connection:
            seq = await _seq(connection)
            return [to_group(row, seq) for row in await connection.execute(query)]

    async def list_members(
        self, address: str, *, after: str = "", limit: int = 100, search: str = "", suspended: bool = False
    ) -> Sequence[Member]:
        """Members by key, the page after the key `after`; `search` looks in address and name, `suspended` are those alone. Raises `NotFound`."""
        key = group_key(address)
        async with read(self._engine, DirectoryUnavailable) as connection:
            group_id = await connection.scalar(select(groups.c.id).where(groups.c.address == key))
            if group_id is None:
                raise NotFound(f"there is no group {key}")
            query = select(*MEMBER_COLUMNS).where(members.c.group_id == group_id, members.c.key > after)
            if search:
                query = query.where(or_(_has(members.c.key, search), _has(members.c.search, search)))
            if suspended:
                query = query.where(members.c.bounce == "suspended")
            return [to_member(row) for row in await connection.execute(query.order_by(members.c.key).limit(limit))]

    # --- what the cache keeps ----------------------------------------------------------------------------------------
    async def domain_at(self, name: str) -> tuple[Domain | None, int]:
        """The domain and the change it was read at."""
        return await self._asked.domain(name)

    async def group_at(self, key: str) -> tuple[Group | None, int]:
        """The group and the change it was read at."""
        return await self._asked.group(key)

    async def few_members_at(self, key: str, most: int) -> tuple[Sequence[Member] | None, int]:
        """All members in key order, or None where there are more than `most`; and the change they were read at."""
        return await self._asked.few_members(key, most)

    async def progress(self, after: int | None, *, limit: float = WAIT_LIMIT) -> Progress:
        """Where the counter stands, and what has changed since `after` (None: as far back as the log goes), within `limit` seconds."""
        asked = Step(_PROGRESS, {"after": -1 if after is None else after, "most": MAX_CHANGES})
        with patience(limit):
            (rows,) = await self._watching.run([asked])
        if not rows:
            raise DirectoryUnavailable("the change counter is missing: the database is damaged")
        epoch, seq, floor, oldest, _ = rows[0][:3] + rows[-1][3:]
        start = floor if after is None else max(after, floor)
        if len(rows) == MAX_CHANGES:
            start = max(start, oldest)  # it may have lost its other keys to the limit
        found = [(changed, key) for *_, changed, key in reversed(rows) if changed is not None and changed > start]
        return Progress(epoch, seq, start, found)


async def _seq(connection: AsyncConnection) -> int:
    return int(await connection.scalar(select(func.max(directory_state.c.seq))) or 0)


async def _group(connection: AsyncConnection, key: str) -> tuple[int, int]:
    """A group's number, and how many members it has; (0, 0) where there is none: nobody is a member of that."""
    row = (await connection.execute(select(groups.c.id, groups.c.members).where(groups.c.address == key))).first()
    return (row.id, row.members) if row else (0, 0)


def _of_group(group_id: int) -> Select[Any]:
    """Its members. By the number: a join would have the planner expect as many of a small group as groups have on average, and, with one group of
    a million, walk all members of all groups in the order of keys rather than look for five hundred."""
    return select(*MEMBER_COLUMNS).where(members.c.group_id == group_id)


def _page(group_id: int, count: int, low: int, high: int, after: str) -> Select[Any]:
    """The next page in key order. A narrow range is found by slot and sorted; a wide one is walked by key, most of which belong to it."""
    ours = select(*MEMBER_COLUMNS).where(members.c.group_id == group_id)
    if (low, high) != (0, SLOTS):
        wide = count * (high - low) // SLOTS > SORTED
        column = (
            members.c.slot + 0 if wide else members.c.slot
        )  # an expression, so that the walk is by key whatever SQL guesses
        ours = ours.where(column >= low, column <= high - 1)  # SLOTS itself is no int4
        if not wide:
            narrow = ours.cte("narrow").prefix_with("MATERIALIZED")
            return select(narrow).where(narrow.c.key > after).order_by(narrow.c.key).limit(PAGE)
    return ours.where(members.c.key > after).order_by(members.c.key).limit(PAGE)


def _has(column: ColumnElement[str], search: str) -> ColumnElement[bool]:
    return column.like(f"%{escaped(search.casefold())}%", escape="\\")
