"""The periods of the ledger's large tables on PostgreSQL: partitions by post id, which sorts by time. An old one is taken away in a moment.

Beside the periods each table has a "rest": rows of posts that are older or younger than any period, such as an unfinished post that was moved out of
a period before that was dropped. A change of the periods locks its table, as everything does that PostgreSQL calls DDL: so it waits for the lock for
a few hundredths of a second only, while others wait behind it, and tries again later. One table is changed at a time: readers take the
tables in an order of their own. Two processes may do all of this at once.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from sqlalchemy import bindparam, exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.identity import new_id
from shared.ledger import LedgerUnavailable
from shared.ledger.rows import SqlRow
from shared.ledger.store_bulk import Bulk

T = TypeVar("T")

TABLES = ("people", "attempts", "shares")
"""In the order in which their periods are dropped: a share tells that its post had a record."""
REST = "_rest"
DAY = 86400
PERIODS = 32
"""About how many periods the time that is kept is cut into: each statement looks at all of them, briefly, and a search for a person in earnest."""
AHEAD = 7 * DAY
"""Periods are made so long before they are needed: nobody's absence for a few days may matter."""
LOCK_WAIT = 50
"""Milliseconds that a change of periods waits for its lock, for all that comes after it waits too."""
TRIES = 20
LOCK = 0x484F5250
"""The advisory lock of whoever drops what was taken away."""
PAUSE = 0.3
"""Seconds between such tries, about."""
MOVED_ROWS = 1000
MOVED_OCTETS = 4 << 20
MOVED_PEOPLE = 5000
"""Sheets of unfinished posts that are moved out of a period while the table is locked; of more, the period is kept."""
_BUSY = "55P03"  # lock_not_available

_BOUNDS = re.compile(r"FROM \((?:'(?P<low>[^']*)'|MINVALUE)\) TO \('(?P<high>[^']*)'\)")
_PARTS = rf"^({'|'.join(TABLES)})_(first|\d{{8}}_\d{{8}})$"
_PEOPLE = Bulk(
    {"hash": "int8", "post_id": "text"},
    "INSERT INTO people ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT DO NOTHING",
)


class Period(NamedTuple):
    """One part of a table: post ids from `low` (included) to `high` (not included)."""

    table: str
    name: str
    low: str
    high: str


class Periods:
    """The periods of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def all(self, table: str) -> list[Period]:
        """The periods of a table in the order of time, without the rest."""
        async with read(self._engine, LedgerUnavailable) as connection:
            return await _periods(connection, table)

    async def ahead(self, now: float, keep: float) -> None:
        """Make the periods of the days to come, each a part of the seconds that outcomes are kept."""
        width = max(1, round(keep / PERIODS / DAY)) * DAY
        for table in TABLES:
            periods = await self.all(table)
            start = max([int(now) // DAY * DAY, *(_time_of(period.high) for period in periods)])
            while start < now + AHEAD + width:
                start += width if await self._made(table, start, start + width) else DAY

    async def _made(self, table: str, start: int, end: int) -> bool:
        """Whether a period could be made: not where the rest has rows of it, after nobody made any for days."""
        name = f"{table}_{_day(start)}_{_day(end)}"
        low, high = new_id(start)[:10], new_id(end)[:10]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            if not any(period.high > low for period in await _periods(connection, table)):  # another process was faster
                made = f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{low}') TO ('{high}')"
                await connection.execute(text(made))

        try:
            await self._briefly(work)
        except exc.IntegrityError:
            return False
        return True

    async def detach(self, period: Period, keep: Sequence[str], people: Sequence[SqlRow]) -> bool:
        """Take a period away, and put the rows of the posts in `keep` into the rest, of `people` these rows. False when they are too many."""

        async def work(connection: AsyncConnection) -> bool:
            await connection.execute(text(f"LOCK TABLE {period.table} IN ACCESS EXCLUSIVE MODE"))
            if period not in await _periods(connection, period.table):
                return True  # another process was faster
            if len(keep) > MOVED_ROWS or len(people) > MOVED_PEOPLE or not await _few(connection, period, keep):
                return False
            await connection.execute(text(f"ALTER TABLE {period.table} DETACH PARTITION {period.name}"))
            if period.table == "people":
                await _PEOPLE.run(connection, people)
            elif keep:
                moved = text(f"INSERT INTO {period.table} SELECT * FROM {period.name} WHERE post_id IN :keep")  # noqa: S608
                await connection.execute(moved.bindparams(bindparam("keep", expanding=True)), {"keep": list(keep)})
            return True

        return await self._briefly(work)

    async def drop_detached(self, now: float) -> None:
        """Drop what was taken away, now or by somebody who got no further; but for what was written while it was looked through."""
        query = text(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND pg_table_is_visible(oid) AND relname ~ :name"
        )
        async with read(self._engine, LedgerUnavailable) as connection:
            names = list(await connection.scalars(query, {"name": _PARTS}))
        for name in names:
            await self._briefly(partial(_drop, name=name, since=now - DAY))

    async def _briefly(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work` in a transaction that waits for no lock longer than `LOCK_WAIT`; again, when it would have to."""

        async def limited(connection: AsyncConnection) -> T:
            await connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_WAIT}"))
            return await work(connection)

        for tries in range(1, TRIES + 1):
            try:
                return await transact(self._engine, LedgerUnavailable, limited)
            except LedgerUnavailable as error:
                cause = error.__cause__
                busy = isinstance(cause, exc.DBAPIError) and getattr(cause.orig, "sqlstate", None) == _BUSY
                if not busy or tries == TRIES:
                    raise
            await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE)  # noqa: S311 - a pause, not a secret
        raise AssertionError("unreachable")


async def _drop(connection: AsyncConnection, *, name: str, since: float) -> None:
    await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        return  # another process was faster
    if not name.startswith("people"):
        table = name.partition("_")[0]
        late = f"INSERT INTO {table} SELECT * FROM {name} WHERE at >= :since ON CONFLICT DO NOTHING"  # noqa: S608
        await connection.execute(text(late), {"since": since})
    await connection.execute(text(f"DROP TABLE {name}"))


async def _few(connection: AsyncConnection, period: Period, keep: Sequence[str]) -> bool:
    """Whether the sheets of these posts are few enough to be moved while others wait."""
    if not keep or period.table == "people":
        return True
    query = text(
        f"SELECT count(*), coalesce(sum(pg_column_size(content)), 0) FROM {period.name} WHERE post_id IN :keep"  # noqa: S608
    )
    rows, octets = (
        await connection.execute(query.bindparams(bindparam("keep", expanding=True)), {"keep": list(keep)})
    ).one()
    return bool(rows <= MOVED_ROWS and octets <= MOVED_OCTETS)


async def _periods(connection: AsyncConnection, table: str) -> list[Period]:
    query = text(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = to_regclass(:table)"
    )
    found = []
    for name, expression in await connection.execute(query, {"table": table}):
        if (bounds := _BOUNDS.search(expression)) is not None:
            found.append(Period(table, name, bounds["low"] or "", bounds["high"]))
    return sorted(found, key=lambda period: period.high)


def _time_of(bound: str) -> int:
    """The day that a bound of a period is of, in seconds: where a post id of that time begins."""
    low, high = 0, (1 << 48) // 1000
    while low < high:  # ids sort by time: no second way to write them is needed
        middle = (low + high) // 2
        low, high = (middle + 1, high) if new_id(middle)[:10] < bound else (low, middle)
    return low


def _day(at: float) -> str:
    return time.strftime("%Y%m%d", time.gmtime(at))
