"""What may go: posts that are finished and old, and what has run out. Deleted in portions, so that no writer waits long behind it.

A post goes in this order: the post and its targets, then its sheets, and with a small share its people. On PostgreSQL the sheets go with their
period (`store_periods.py`), as soon as all of it is old; on SQLite, and in the rest, in portions. A sweep that is cut short leaves sheets without
a post; the next one finds them (`strays`), as it finds the attempts of reports, which have no post of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Delete,
    Table,
    column,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy import table as sql_table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.identity import new_id
from shared.ledger import LedgerUnavailable
from shared.ledger.due import NEVER
from shared.ledger.fold import Sheet, fold
from shared.ledger.rows import FINAL, SqlRow, bounded
from shared.ledger.sheets import hashes, share_keys
from shared.ledger.store_bulk import CLOCK, Bulk
from shared.ledger.store_open import FINGERPRINTS_KEPT
from shared.ledger.store_periods import REST, TABLES, Period, Periods
from shared.ledger.store_read import unfinished
from shared.ledger.store_sums import Run
from shared.ledger.tables import (
    attempts,
    claims,
    due,
    fingerprints,
    notes,
    post_groups,
    posts,
    refusal_counts,
    refusals,
    shares,
)

T = TypeVar("T")

PORTION = 500
"""Sheets deleted in one transaction."""
PEOPLE_AT_ONCE = 3000
"""Rows of `people` deleted in one transaction: neighbours, for they are found in the order of their table."""
ROWS_AT_ONCE = 3000
"""Rows of any other table deleted in one transaction."""
POSTS_AT_ONCE = {"sqlite": 500, "postgresql": 5000}
"""Posts deleted in one transaction: on SQLite everybody waits for it."""
FOLDED_AT_ONCE = 200
"""Posts whose sheets are read at a time."""
BREATH = 0.25
"""Pause after a portion, as a part of the time that it took: others have their turn."""
BETWEEN = 0.1
"""Seconds between one change of periods and the next: after each one everybody plans his statements anew."""
LONG = 60.0
"""Seconds for a read that may look through all the sheets of a period."""
CLAIMS_KEPT = 3600.0
"""Seconds that a claim is kept after it ran out; nobody's clock is asked."""
REFUSALS_KEPT = 100_000
"""Refusals kept in all: a client may name any number of groups."""
RECENT = 7 * 86400.0
"""A post's body is needed at least this long: a report that quotes it may still be on its way when the post is finished."""

_PEOPLE_KEY = {"hash": "int8", "post_id": "text"}
_FORGET = "DELETE FROM {people} WHERE (hash, post_id) IN (SELECT hash, post_id FROM r)"

# A post is seen to be finished when all shares of all its targets are there, each once, nobody was ever put off, and as many are final as
# were queued, with the same digest (added up in halves, for SQLite's sums must not overflow). Whatever else there is, is folded.
_UNSURE = text(
    "WITH s AS (SELECT post_id, count(*) AS n, count(DISTINCT group_key || '/' || CAST(number AS text)) AS told, "
    "count(DISTINCT group_key) AS held, min(parts) AS least, max(parts) AS parts, sum(queued) AS queued, "
    "CAST(sum(digest & 4294967295) AS bigint) AS low, CAST(sum(digest / 4294967296) AS bigint) AS high "
    "FROM shares WHERE post_id > :after AND post_id <= :last GROUP BY post_id), "
    "a AS (SELECT post_id, sum(deferred) AS deferred, sum(delivered + failed) AS final, "
    "CAST(sum(digest & 4294967295) AS bigint) AS low, CAST(sum(digest / 4294967296) AS bigint) AS high "
    "FROM attempts WHERE post_id > :after AND post_id <= :last GROUP BY post_id), "
    "t AS (SELECT post_id FROM post_groups WHERE post_id > :after AND post_id <= :last AND NOT EXISTS "
    "(SELECT 1 FROM shares WHERE shares.post_id = post_groups.post_id AND shares.group_key = post_groups.group_key)) "
    "SELECT posts.id FROM posts LEFT JOIN s ON s.post_id = posts.id LEFT JOIN a ON a.post_id = posts.id "
    "WHERE posts.id > :after AND posts.id <= :last AND posts.accepted_at < :before AND NOT ("
    "coalesce(s.n, 0) > 0 AND s.n = s.told AND s.n = s.held * s.parts AND s.least = s.parts "
    "AND coalesce(a.deferred, 0) = 0 AND coalesce(a.final, 0) = s.queued "
    "AND (coalesce(a.low, 0) & 4294967295) = (s.low & 4294967295) "
    "AND ((coalesce(a.high, 0) + (coalesce(a.low, 0) >> 32)) & 2147483647) = ((s.high + (s.low >> 32)) & 2147483647) "
    "AND posts.id NOT IN (SELECT post_id FROM t)) ORDER BY posts.id"
)


async def needs_body(connection: AsyncConnection, run: Run, key: str) -> bool:
    """Whether a post that is recent or unfinished names this body."""
    result = await connection.execute(select(posts.c.id, posts.c.accepted_at).where(posts.c.body_key == bounded(key)))
    rows = result.all()
    if any(row.accepted_at > time.time() - RECENT for row in rows):
        return True
    return bool(rows) and bool(await unfinished(run, [row.id for row in rows]))


class Sweeper:
    """Drops what is old from one database. `run` reads many sheets in few trips."""

    def __init__(self, engine: AsyncEngine, run: Run) -> None:
        self._engine = engine
        self._run = run
        self._periods = Periods(engine) if engine.dialect.name == "postgresql" else None

    async def sweep(self, before: float) -> int:
        """Drop finished posts accepted before that time, and all that has run out; how many posts went."""
        horizon, now = new_id(before)[:10], time.time()
        if self._periods is not None:
            await self._periods.ahead(now, now - before)
        dropped = await self._drop_posts(before)
        if self._periods is None:
            suffix = ""
        else:
            suffix = REST
            await self._drop_periods(self._periods, horizon, before)
        if await self._strays(suffix, "", horizon, before):
            await self._forget_people("people" + suffix, horizon)
        await self._run_out(before)
        return dropped

    # --- posts -------------------------------------------------------------------------------------------------------
    async def _drop_posts(self, before: float) -> int:
        """Posts with their targets and notes, window by window; ids sort by time: those of the time before are looked at, and no others."""
        dropped, after, horizon = 0, "", new_id(before + 1)[:10]
        size = POSTS_AT_ONCE[self._engine.dialect.name]
        while (last := await self._end_of_window(after, horizon, size)) is not None:
            busy = await self._unfinished(after, last, before)
            dropped += await self._drop_heads(after, last, before, busy)
            after = last
        return dropped

    async def _end_of_window(self, after: str, horizon: str, size: int) -> str | None:
        window = select(posts.c.id).where(posts.c.id > after, posts.c.id < horizon).order_by(posts.c.id).limit(size)
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            last: str | None = await connection.scalar(select(func.max(window.subquery().c.id)))
        return last

    async def _unfinished(self, after: str, last: str, before: float) -> list[str]:
        """Posts of a window that have to stay: most are seen to be finished by their counts and digests alone, the others are folded."""
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            values = {"after": after, "last": last, "before": before}
            unsure = list(await connection.scalars(_UNSURE, values))
        busy: list[str] = []
        for start in range(0, len(unsure), FOLDED_AT_ONCE):
            busy += await unfinished(self._run, unsure[start : start + FOLDED_AT_ONCE])
        return busy

    async def _drop_heads(self, after: str, last: str, before: float, busy: Sequence[str]) -> int:
        columns = posts.c
        old = (columns.id > after) & (columns.id <= last) & (columns.accepted_at < before) & columns.id.not_in(busy)

        async def heads(connection: AsyncConnection) -> int:
            for table in (notes, post_groups):
                name = table.c.post_id
                within = delete(table).where(name > after, name <= last, name.in_(select(columns.id).where(old)))
                await connection.execute(within)
            return (await connection.execute(delete(posts).where(old))).rowcount

        return await self._in_turn(heads)

    # --- periods -----------------------------------------------------------------------------------------------------
    async def _drop_periods(self, periods: Periods, horizon: str, before: float) -> None:
        """Drop the periods whose posts are gone; what is not finished goes on in the rest. Where that is much, the period stays for now, and what
        is finished is taken from among it."""
        old = [period for table in TABLES for period in await periods.all(table) if period.high <= horizon]
        staying: dict[tuple[str, str], list[str]] = {}
        for period in old:
            bounds = period.low, period.high
            if bounds not in staying:
                staying[bounds] = await self._staying(period, before)
            people = await self._people_of(staying[bounds]) if period.table == "people" else []
            if await periods.detach(period, staying[bounds], people):
                await asyncio.sleep(BETWEEN)
                continue
            if period.table == "people":
                await self._forget_people(period.name, period.high)
            else:
                await self._strays("", *bounds, before)
        await periods.drop_detached(time.time())

    async def _staying(self, period: Period, before: float) -> list[str]:
        """The posts of a period that are not to go: those that are still there, and sheets without a post that wait for something."""
        within = posts.c.id >= period.low, posts.c.id < period.high
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            keep = set(await connection.scalars(select(posts.c.id).where(*within)))
            name, told = attempts.c.post_id, exists().where(shares.c.post_id == attempts.c.post_id)
            late = (attempts.c.deferred > 0) | (attempts.c.at >= before)
            query = select(name).distinct().where(name >= period.low, name < period.high, late, ~told)
            suspects = set(await connection.scalars(query))
        names = sorted(suspects - keep)
        for start in range(0, len(names), FOLDED_AT_ONCE):
            keep |= await self._waiting(names[start : start + FOLDED_AT_ONCE], before)
        return sorted(keep)

    async def _people_of(self, ids: Sequence[str]) -> list[SqlRow]:
        """The rows of `people` of these posts."""
        query = select(shares.c.post_id, shares.c.content).where(shares.c.signature.is_(None))
        found: set[SqlRow] = set()
        for start in range(0, len(ids), FOLDED_AT_ONCE):
            async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
                rows = await connection.execute(query.where(shares.c.post_id.in_(ids[start : start + FOLDED_AT_ONCE])))
                for post_id, content in rows:
                    found.update((number, post_id) for number in hashes(share_keys(content)))
        return sorted(found, key=str)

    # --- sheets, in portions -----------------------------------------------------------------------------------------
    async def _strays(self, suffix: str, after: str, horizon: str, before: float) -> bool:
        """Drop sheets without a post, all they tell of final and old, in the tables with this suffix: of posts that went, and of reports. Whether
        there were any."""
        found = False
        for table in (attempts, shares):
            name: ColumnClause[str] = column("post_id")
            last = after
            part = sql_table(table.name + suffix, name)
            while True:
                some = select(name).distinct().select_from(part).where(name > last, name < horizon)
                async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
                    ids = list(await connection.scalars(some.order_by(name).limit(FOLDED_AT_ONCE)))
                    if not ids:
                        break
                    keep = set(await connection.scalars(select(posts.c.id).where(posts.c.id.in_(ids))))
                keep |= await self._waiting([each for each in ids if each not in keep], before)
                gone = [each for each in ids if each not in keep]
                found = found or bool(gone)
                await self._drop_sheets(gone, suffix)
                last = ids[-1]
        return found

    async def _waiting(self, ids: Sequence[str], before: float) -> set[str]:
        """Those of some posts without a record that have a young sheet, or of which a recipient is deferred still.

        A report has no record and no share, and one of an old post may be on its way; what has a share had a record, and that went.
        """
        told = (attempts.c.post_id, attempts.c.cell, attempts.c.seq, attempts.c.group_key, attempts.c.attempts)
        waits: set[str] = set()
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            gone = set(await connection.scalars(select(shares.c.post_id).distinct().where(shares.c.post_id.in_(ids))))
            ids = [each for each in ids if each not in gone]
            young = select(attempts.c.post_id).distinct().where(attempts.c.post_id.in_(ids), attempts.c.at >= before)
            waits.update(await connection.scalars(young))
            late = select(attempts.c.post_id, attempts.c.cell).distinct()
            late = late.where(attempts.c.post_id.in_(ids), attempts.c.deferred > 0)
            cells = sorted(tuple(row) for row in await connection.execute(late) if row[0] not in waits)
            for start in range(0, len(cells), FOLDED_AT_ONCE):
                some = tuple_(attempts.c.post_id, attempts.c.cell).in_(cells[start : start + FOLDED_AT_ONCE])
                sheets: dict[tuple[str, int], list[Sheet]] = {}
                for post_id, cell, *rest in await connection.execute(
                    select(*told, attempts.c.at, attempts.c.content).where(some)
                ):
                    sheets.setdefault((post_id, cell), []).append(Sheet(*rest))
                waits.update(post_id for (post_id, _), each in sheets.items() if _anybody_waits(each))
        return waits

    async def _drop_sheets(self, ids: Sequence[str], suffix: str) -> None:
        if not ids:
            return
        for table in (attempts, shares):
            names: list[ColumnClause[Any]] = [column(each.name) for each in table.primary_key.columns]
            part = sql_table(table.name + suffix, *names)
            some = select(*names).select_from(part).where(column("post_id").in_(ids)).limit(PORTION)
            statement = delete(part).where(tuple_(*names).in_(some))

            async def portion(connection: AsyncConnection, statement: Delete = statement) -> int:
                return (await connection.execute(statement)).rowcount

            while await self._in_turn(portion) == PORTION:
                pass  # ends when a portion finds no more

    async def _forget_people(self, table: str, horizon: str) -> None:
        """Drop the rows of `people`, or of a part of it, of posts that are gone, in its own order: in that of the posts each is on another page."""
        number: ColumnClause[int] = column("hash")
        post: ColumnClause[str] = column("post_id")
        gone = select(number, post).select_from(sql_table(table, number, post))
        gone = gone.where(post < horizon, ~exists().where(posts.c.id == post)).order_by(number, post)
        forget = Bulk(_PEOPLE_KEY, _FORGET, people=table)
        last: Any = -1
        while True:
            some = gone.where(number >= last).limit(PEOPLE_AT_ONCE)
            async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
                rows = [tuple(row) for row in await connection.execute(some)]
            if not rows:
                return
            last = rows[-1][0]

            async def portion(connection: AsyncConnection, rows: Sequence[SqlRow] = rows) -> None:
                await _by_key(connection)
                await forget.run(connection, rows)

            await self._in_turn(portion)

    async def _in_turn(self, portion: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do a portion of the work, and let others have their turn."""
        began = time.monotonic()
        done = await transact(self._engine, LedgerUnavailable, portion)
        await asyncio.sleep((time.monotonic() - began) * BREATH)
        return done

    # --- what runs out -----------------------------------------------------------------------------------------------
    async def _run_out(self, before: float) -> None:
        clock: ColumnElement[float] = literal_column(CLOCK[self._engine.dialect.name])
        last = select(refusals.c.at).order_by(refusals.c.at.desc()).limit(1).offset(REFUSALS_KEPT)
        day = time.strftime("%Y-%m-%d", time.gmtime(before))
        horizon = new_id(before)[:10]
        old: tuple[tuple[Table, ColumnElement[bool]], ...] = (
            (fingerprints, fingerprints.c.at < time.time() - FINGERPRINTS_KEPT),
            (claims, claims.c.until < clock - CLAIMS_KEPT),
            (refusals, or_(refusals.c.at < before, refusals.c.at <= last.scalar_subquery())),
            (refusal_counts, refusal_counts.c.day < day),
            # an id begins with the time of what it is about: all that is done has one `at`, and would be looked through each time
            (due, (due.c.id < horizon) & (due.c.at >= NEVER) & (due.c.since < before)),
            # of posts that are not in the ledger: those of others go with their post
            (
                notes,
                (notes.c.post_id < horizon) & (notes.c.at < before) & ~exists().where(posts.c.id == notes.c.post_id),
            ),
        )
        for table, gone in old:
            await self._drop_rows(table, gone)

    async def _drop_rows(self, table: Table, gone: ColumnElement[bool]) -> None:
        """Drop these rows of a small table, which may be many after a long time without a sweep."""
        names = list(table.primary_key.columns)
        statement = delete(table).where(tuple_(*names).in_(select(*names).where(gone).limit(ROWS_AT_ONCE)))

        async def portion(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        while await self._in_turn(portion) == ROWS_AT_ONCE:
            pass  # ends when a portion finds no more


def _anybody_waits(sheets: Sequence[Sheet]) -> bool:
    return any(entry.fate.state < FINAL for entry in fold(sheets).people.values())


async def _by_key(connection: AsyncConnection) -> None:
    """Find rows by their keys in this transaction, whatever PostgreSQL thinks of the size of a table."""
    if connection.dialect.name == "postgresql":
        for method in ("seqscan", "hashjoin", "mergejoin"):
            await connection.execute(text(f"SET LOCAL enable_{method} = off"))
