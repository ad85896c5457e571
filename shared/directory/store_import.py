"""Importing members, however many: staged page by page in a table of the transaction's own, then merged by SQL in a few statements.

Staging holds no lock: the source may be an upload that drips, and other changes go on meanwhile; the counter is taken for the merge alone.
Nothing is seen by anybody until the commit, and an error on the way, the source's own among them, leaves nothing behind (P10: memory
is a page's, and the database's cache).

The staging table has no key: a million rows in any order go into a heap for a twentieth of what they cost in a tree, and the merge sorts them once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared import journal
from shared.database.engine import connected, guarded, patience, turn, write
from shared.database.tables import groups
from shared.directory import Added, DirectoryError, DirectoryUnavailable, NewMember, NotFound, rules
from shared.directory.rules import Prepared

PAGE = 5000
"""Members that one statement stages."""
GROWN = 10_000
"""Members that an import brings from which on the database is made to look at the table."""
ANALYZE_LIMIT = 30.0
"""Seconds for that; it reads a sample."""

BREATH = 500
"""Members that are checked before the event loop gets its turn."""
LIMIT = 600.0
"""Seconds for one statement of the merge."""
SQLITE_CACHE = 24_000
"""KiB of pages that SQLite keeps while it imports: slots come in any order, and its usual 2 MiB would write and read every page of their index
again and again."""

_CREATE = """
CREATE TEMPORARY TABLE staged_members (
    n integer {serial}, key text{collate} NOT NULL, slot integer NOT NULL, search text NOT NULL, base text{collate} NOT NULL,
    address text NOT NULL, name text NOT NULL, paused boolean, own_copies boolean
) {options}
"""
"""`n` numbers the rows as they came; the columns after it are those of `Prepared`, in its order."""

_STAGE_SQLITE = "INSERT INTO staged_members (key, slot, search, base, address, name, paused, own_copies) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_STAGE_POSTGRESQL = "COPY staged_members FROM STDIN WITH (NULL E'\\x02')"
_FLAGS = {None: "\x02", True: "t", False: "f"}

_INDEX = "CREATE INDEX staged_members_key ON staged_members (key, n)"
_FIRST = """
DELETE FROM staged_members WHERE EXISTS (SELECT 1 FROM staged_members f WHERE f.key = staged_members.key AND f.n < staged_members.n)
"""

_THERE = """
SELECT count(*) FROM members m WHERE m.group_id = :group AND EXISTS (SELECT 1 FROM staged_members s WHERE s.key = m.key)
"""

_CHANGED = """
UPDATE members SET
    name = CASE WHEN s.name = '' THEN members.name ELSE s.name END,
    search = CASE WHEN s.name = '' THEN members.search ELSE s.search END,
    paused = COALESCE(s.paused, members.paused),
    own_copies = COALESCE(s.own_copies, members.own_copies)
FROM staged_members s
WHERE members.group_id = :group AND members.key = s.key AND (
    (s.name <> '' AND s.name <> members.name) OR COALESCE(s.paused, members.paused) <> members.paused
    OR COALESCE(s.own_copies, members.own_copies) <> members.own_copies
)
"""

_ADDED = """
INSERT INTO members (group_id, key, slot, address, name, search, paused, own_copies, bounce, group_key)
SELECT {first} :group, s.key, s.slot, s.address, s.name, s.search, COALESCE(s.paused, false), COALESCE(s.own_copies, false), 'ok', g.address
FROM staged_members s LEFT JOIN groups g ON g.address = s.base
WHERE NOT EXISTS (SELECT 1 FROM members m WHERE m.group_id = :group AND m.key = s.key)
ORDER BY {order}, s.n {rest}
"""
_ADDED_SQLITE = _ADDED.format(first="", order="s.key", rest="ON CONFLICT (group_id, key) DO NOTHING")
_ADDED_POSTGRESQL = _ADDED.format(first="DISTINCT ON (s.slot, s.key)", order="s.slot, s.key", rest="")
"""Of several rows with one key the first counts. SQLite keeps members by key. PostgreSQL keeps them as they come, and a fan-out reads them by
ranges of slots: in that order a range of 5,000 of a million members is 100 pages, in the order of keys 4,000."""

_GONE = """
DELETE FROM members WHERE group_id = :group AND NOT EXISTS (SELECT 1 FROM staged_members s WHERE s.key = members.key)
"""
_GONE_CHANNELS = """
DELETE FROM channels WHERE group_id = :group AND member_key <> ''
AND NOT EXISTS (SELECT 1 FROM staged_members s WHERE s.key = channels.member_key)
"""


class Merge:
    """Staged members, ready to be merged: `run` is called once, in a transaction that has taken the counter."""

    def __init__(self, sql: AsyncConnection, key: str, staged: int, replace: bool) -> None:
        self.sql = sql
        self._key = key
        self._staged = staged
        self._replace = replace

    async def run(self, touched: Callable[[str, str], None]) -> Added:
        """Make the group's members what the import says. Raises `NotFound` if the group went away meanwhile."""
        row = (
            await self.sql.execute(select(groups.c.id, groups.c.members).where(groups.c.address == self._key))
        ).first()
        if row is None:
            raise NotFound(f"there is no group {self._key}")
        if self._replace and not self._staged:
            raise DirectoryError("the import is empty: it would remove every member")
        there = updated = removed = 0
        if row.members:
            await self.sql.execute(text(_INDEX))
            await self.sql.execute(text(_FIRST))
            there = int(await self.sql.scalar(text(_THERE), {"group": row.id}) or 0)
            updated = await self._do(_CHANGED, row.id)
        added = await self._do(_ADDED_SQLITE if _is_sqlite(self.sql) else _ADDED_POSTGRESQL, row.id)
        if row.members and self._replace:
            removed = await self._do(_GONE, row.id)
            await self._do(_GONE_CHANNELS, row.id)
        await self._do("UPDATE groups SET members = members + :more WHERE id = :group", row.id, more=added - removed)
        if updated or added or removed:
            touched("group", self._key)
        return Added(added=added, present=there - updated, updated=updated, removed=removed)

    async def _do(self, statement: str, group_id: int, **values: Any) -> int:
        return (await self.sql.execute(text(statement), {"group": group_id, **values})).rowcount


@asynccontextmanager
async def import_members(
    engine: AsyncEngine, key: str, pages: AsyncIterator[Sequence[NewMember]], *, replace: bool
) -> AsyncIterator[Merge]:
    """Stage all pages for the group `key`, take the writer's turn, and hand out the merge; what it did is committed when the block ends."""
    sqlite = engine.dialect.name == "sqlite"
    with guarded(DirectoryUnavailable), patience(LIMIT):
        async with connected(engine) as sql:
            try:
                async with sql.begin() as transaction:
                    await _prepare(sql)
                    staged = await _stage(sql, key, pages)
                    async with turn(engine):
                        yield Merge(sql, key, staged, replace)
                        await transaction.commit()
            finally:
                if sqlite:
                    await sql.invalidate()  # closes it, and with it go the temporary table and the large cache


def _is_sqlite(sql: AsyncConnection) -> bool:
    return sql.dialect.name == "sqlite"


async def _prepare(sql: AsyncConnection) -> None:
    if _is_sqlite(sql):
        await sql.execute(text(f"PRAGMA cache_size = -{SQLITE_CACHE}"))
        await sql.execute(text(_CREATE.format(serial="PRIMARY KEY", collate="", options="")))
    else:
        await sql.execute(text(f"SET LOCAL statement_timeout = {int(LIMIT * 1000) - 500}"))
        await sql.execute(text(_CREATE.format(serial="NOT NULL", collate=' COLLATE "C"', options="ON COMMIT DROP")))


async def _stage(sql: AsyncConnection, key: str, pages: AsyncIterator[Sequence[NewMember]]) -> int:
    """Stage every page, checked if it is not yet; how many rows there are."""
    domain = key.rpartition("@")[2]
    waiting: list[Prepared] = []
    staged = 0
    async for page in pages:
        for start in range(0, len(page), BREATH):
            part = page[start : start + BREATH]
            waiting += [new if isinstance(new, Prepared) else rules.member(new, domain) for new in part]
            await asyncio.sleep(0)
            if len(waiting) >= PAGE:
                staged += await _insert(sql, staged, waiting)
                waiting.clear()
    if waiting:
        staged += await _insert(sql, staged, waiting)
    if not _is_sqlite(sql):
        await sql.execute(text("ANALYZE staged_members"))
    return staged


async def note_statistics(engine: AsyncEngine) -> None:
    """Have PostgreSQL look at a table that has grown by an import, as it would by itself a minute later: until then it plans for the table of before,
    and walks a million members to find the hundred that are groups. That it cannot look now is no failure of the import.
    """
    if engine.dialect.name != "postgresql":
        return
    try:
        async with write(engine, DirectoryUnavailable, limit=ANALYZE_LIMIT) as sql:
            await sql.execute(text("ANALYZE members"))
    except DirectoryUnavailable as error:
        journal.unavailable("statistics of members", error.why)


async def _insert(sql: AsyncConnection, number: int, rows: Sequence[Prepared]) -> int:
    """Stage rows, the first of which is the one after `number`; how many they are."""
    if _is_sqlite(sql):
        await sql.exec_driver_sql(_STAGE_SQLITE, [msgspec.structs.astuple(row) for row in rows])
    else:
        await _copy(sql, _copied(rows, number))
    return len(rows)


def _copied(rows: Sequence[Prepared], number: int) -> bytes:
    """Rows in COPY's text format. No value has a control character (`rules`), so a backslash is all there is to escape."""
    lines = [
        f"{n}\t{row.key}\t{row.slot}\t{row.search}\t{row.base}\t{row.address}\t{row.name}"
        f"\t{_FLAGS[row.paused]}\t{_FLAGS[row.own_copies]}\n"
        for n, row in enumerate(rows, number + 1)
    ]
    return "".join(lines).replace("\\", "\\\\").encode()


async def _copy(sql: AsyncConnection, data: bytes) -> None:
    """COPY is nothing that SQLAlchemy has, so its driver's errors are translated here, and a connection that broke is given up: its
    transaction's end would else wait for it."""
    connection = (await sql.get_raw_connection()).driver_connection
    assert isinstance(connection, psycopg.AsyncConnection)
    try:
        async with connection.cursor() as cursor, cursor.copy(_STAGE_POSTGRESQL) as copy:
            await copy.write(data)
    except BaseException as error:
        if connection.closed:
            await sql.invalidate()
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError):
            why = (str(error).splitlines() or [""])[0][:200]
            raise DirectoryUnavailable(f"{type(error).__name__}: {why}") from error
        raise
