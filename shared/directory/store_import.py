"""Importing members, however many: staged page by page in a table of the transaction's own, then merged by SQL in three statements.

Staging holds no lock: the source may be an upload that drips, and other changes go on meanwhile; the counter is taken for the merge alone.
Nothing is seen by anybody until the commit, and an error on the way, the source's own among them, leaves nothing behind (P10: memory
is a page's).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import TextClause, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import connected, guarded, patience, turn
from shared.database.tables import groups
from shared.directory import Added, DirectoryError, DirectoryUnavailable, NewMember, NotFound, rules
from shared.directory.rules import Prepared

PAGE = 5000
"""Members that one statement stages."""
BREATH = 500
"""Members that are checked before the event loop gets its turn."""
LIMIT = 600.0
"""Seconds for one statement of the merge."""

_COLUMNS = ("key", "slot", "address", "name", "search", "paused", "own_copies", "base")
_TYPES = ("text", "integer", "text", "text", "text", "boolean", "boolean", "text")

_CREATE = """
CREATE TEMPORARY TABLE staged_members (
    key text{collate} NOT NULL PRIMARY KEY, slot integer NOT NULL, address text NOT NULL, name text NOT NULL, search text NOT NULL,
    paused boolean, own_copies boolean, base text{collate} NOT NULL
) {options}
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
SELECT :group, s.key, s.slot, s.address, s.name, s.search, COALESCE(s.paused, false), COALESCE(s.own_copies, false), 'ok', g.address
FROM staged_members s LEFT JOIN groups g ON g.address = s.base
WHERE NOT EXISTS (SELECT 1 FROM members m WHERE m.group_id = :group AND m.key = s.key)
ORDER BY {order}
"""
_ORDERS = {"sqlite": "s.key", "postgresql": "s.slot, s.key"}
"""SQLite keeps members by key. PostgreSQL keeps them as they come, and a fan-out reads them by ranges of slots: in that order a range of 5,000
of a million members is 100 pages, in the order of keys 4,000."""

_GONE = """
DELETE FROM members WHERE group_id = :group AND NOT EXISTS (SELECT 1 FROM staged_members s WHERE s.key = members.key)
"""


class Merge:
    """Staged members, ready to be merged: `run` is called once, in a transaction that has taken the counter."""

    def __init__(self, sql: AsyncConnection, key: str, replace: bool) -> None:
        self.sql = sql
        self._key = key
        self._replace = replace

    async def run(self, touched: Callable[[str, str], None]) -> Added:
        """Make the group's members what the import says. Raises `NotFound` if the group went away meanwhile."""
        group_id = await self.sql.scalar(select(groups.c.id).where(groups.c.address == self._key))
        if group_id is None:
            raise NotFound(f"there is no group {self._key}")
        staged = int(await self.sql.scalar(text("SELECT count(*) FROM staged_members")) or 0)
        if self._replace and not staged:
            raise DirectoryError("the import is empty: it would remove every member")
        updated = await self._do(_CHANGED, group_id)
        added = await self._do(_ADDED.format(order=_ORDERS[self.sql.dialect.name]), group_id)
        removed = await self._do(_GONE, group_id) if self._replace else 0
        await self._do("UPDATE groups SET members = members + :more WHERE id = :group", group_id, more=added - removed)
        if updated or added or removed:
            touched("group", self._key)
        return Added(added=added, present=staged - added - updated, updated=updated, removed=removed)

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
                    await _prepare(sql, sqlite=sqlite)
                    await _stage(sql, key, pages, sqlite=sqlite)
                    async with turn(engine):
                        yield Merge(sql, key, replace)
                        await transaction.commit()
            finally:
                if sqlite:
                    await sql.invalidate()  # closes it, and with it goes the temporary table


async def _prepare(sql: AsyncConnection, *, sqlite: bool) -> None:
    if not sqlite:
        await sql.execute(text(f"SET LOCAL statement_timeout = {int(LIMIT * 1000) - 500}"))
    collate, options = ("", "WITHOUT ROWID") if sqlite else (' COLLATE "C"', "ON COMMIT DROP")
    await sql.execute(text(_CREATE.format(collate=collate, options=options)))


async def _stage(sql: AsyncConnection, key: str, pages: AsyncIterator[Sequence[NewMember]], *, sqlite: bool) -> None:
    """Check and stage every page; of several rows with one key the first counts."""
    domain = key.rpartition("@")[2]
    insert = _insert_sqlite() if sqlite else _insert_postgresql()
    waiting: dict[str, Prepared] = {}
    async for page in pages:
        for start in range(0, len(page), BREATH):
            for new in page[start : start + BREATH]:
                row = rules.member(new, domain)
                waiting.setdefault(row.key, row)
            await asyncio.sleep(0)
            if len(waiting) >= PAGE:
                await _insert(sql, insert, waiting, sqlite=sqlite)
                waiting = {}
    if waiting:
        await _insert(sql, insert, waiting, sqlite=sqlite)
    if not sqlite:
        await sql.execute(text("ANALYZE staged_members"))


async def _insert(sql: AsyncConnection, statement: TextClause, rows: dict[str, Prepared], *, sqlite: bool) -> None:
    if sqlite:
        await sql.execute(statement, [{name: getattr(row, name) for name in _COLUMNS} for row in rows.values()])
    else:
        await sql.execute(statement, {name: [getattr(row, name) for row in rows.values()] for name in _COLUMNS})


def _insert_sqlite() -> TextClause:
    values = ", ".join(f":{name}" for name in _COLUMNS)
    return text(f"INSERT OR IGNORE INTO staged_members ({', '.join(_COLUMNS)}) VALUES ({values})")  # noqa: S608 - constants


def _insert_postgresql() -> TextClause:
    """One statement a page, its columns as arrays: an executemany is a round of messages a row."""
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in zip(_COLUMNS, _TYPES, strict=True))
    return text(
        f"INSERT INTO staged_members ({', '.join(_COLUMNS)}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"  # noqa: S608
    )
