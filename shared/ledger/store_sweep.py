"""What may go: posts that are finished and old, and what has run out. Deleted in portions, so that no writer waits long behind it.

A post goes in this order: the post and its targets, then its sheets, and with a small share its people. A sweep that is cut short leaves sheets
without a post; the next one finds them (`strays`), as it finds the attempts of reports, which have no post of their own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import ColumnElement, Delete, Table, delete, exists, func, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.identity import new_id
from shared.ledger import LedgerUnavailable
from shared.ledger.due import NEVER
from shared.ledger.fold import Sheet, fold
from shared.ledger.rows import FINAL, bounded
from shared.ledger.sheets import hashes, share_keys
from shared.ledger.store_bulk import CLOCK, Bulk
from shared.ledger.store_open import FINGERPRINTS_KEPT
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

PORTION = 500
"""Sheets deleted in one transaction."""
SHARES_AT_ONCE = 20
"""Small shares deleted in one transaction: each has up to a thousand people, whose rows go with it."""
POSTS_AT_ONCE = 100
CLAIMS_KEPT = 3600.0
"""Seconds that a claim is kept after it ran out; nobody's clock is asked."""
REFUSALS_KEPT = 100_000
"""Refusals kept in all: a client may name any number of groups."""
RECENT = 7 * 86400.0
"""A post's body is needed at least this long: a report that quotes it may still be on its way when the post is finished."""


_FORGET = Bulk(
    {"hash": "int8", "post_id": "text"},
    "DELETE FROM people WHERE (hash, post_id) IN (SELECT hash, post_id FROM r)",
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

    async def sweep(self, before: float) -> int:
        """Drop finished posts accepted before that time, and all that has run out; how many posts went."""
        dropped = 0
        async for ids in self._old_posts(before):
            dropped += await self._drop(ids)
        for table in (attempts, shares):
            await self._strays(table, before)
        await self._run_out(before)
        return dropped

    async def _old_posts(self, before: float) -> AsyncIterator[list[str]]:
        """Ids sort by time: those of the time before are looked at, and no others."""
        after, horizon = "", new_id(before + 1)[:10]
        while True:
            query = select(posts.c.id).where(posts.c.accepted_at < before, posts.c.id > after, posts.c.id < horizon)
            async with read(self._engine, LedgerUnavailable) as connection:
                ids = list(await connection.scalars(query.order_by(posts.c.id).limit(POSTS_AT_ONCE)))
            if not ids:
                return
            busy = await unfinished(self._run, ids)
            after = ids[-1]
            yield [post_id for post_id in ids if post_id not in busy]

    async def _drop(self, ids: Sequence[str]) -> int:
        """Posts and targets in one transaction; then their sheets, in portions."""
        if not ids:
            return 0

        async def heads(connection: AsyncConnection) -> int:
            for table in (notes, post_groups):
                await connection.execute(delete(table).where(table.c.post_id.in_(ids)))
            return (await connection.execute(delete(posts).where(posts.c.id.in_(ids)))).rowcount

        gone = await transact(self._engine, LedgerUnavailable, heads)
        await self._drop_sheets(ids)
        return gone

    async def _drop_sheets(self, ids: Sequence[str]) -> None:
        await self._drop_small_shares(ids)
        for table in (attempts, shares):
            names = tuple_(*table.primary_key.columns)
            some = select(*table.primary_key.columns).where(table.c.post_id.in_(ids)).limit(PORTION)
            statement = delete(table).where(names.in_(some))

            async def portion(connection: AsyncConnection, statement: Delete = statement) -> int:
                return (await connection.execute(statement)).rowcount

            while await transact(self._engine, LedgerUnavailable, portion):
                pass  # ends when a portion finds nothing more

    async def _drop_small_shares(self, ids: Sequence[str]) -> None:
        """The shares that `people` has rows of, with those."""
        columns, names = shares.c, tuple_(*shares.primary_key.columns)
        some = select(*shares.primary_key.columns, columns.content).where(columns.post_id.in_(ids))
        some = some.where(columns.signature.is_(None)).limit(SHARES_AT_ONCE)

        async def portion(connection: AsyncConnection) -> int:
            found = (await connection.execute(some)).all()
            if not found:
                return 0
            everybody = {(number, row.post_id) for row in found for number in hashes(share_keys(row.content))}
            await _FORGET.run(connection, sorted(everybody))
            await connection.execute(delete(shares).where(names.in_([tuple(row)[:-1] for row in found])))
            return len(found)

        while await transact(self._engine, LedgerUnavailable, portion):
            pass  # ends when a portion finds nothing more

    async def _strays(self, table: Table, before: float) -> None:
        """Sheets without a post, all they tell of final and old: of reports, and of a sweep that was cut short."""
        horizon, after = new_id(before)[:10], ""
        while True:
            query = select(func.min(table.c.post_id)).where(table.c.post_id > after, table.c.post_id < horizon)
            async with read(self._engine, LedgerUnavailable) as connection:
                post_id = await connection.scalar(query)
                if post_id is None:
                    return
                keep = await self._kept(connection, table, post_id, before)
            after = post_id
            if not keep:
                await self._drop_sheets([post_id])

    async def _kept(self, connection: AsyncConnection, table: Table, post_id: str, before: float) -> bool:
        if await connection.scalar(select(posts.c.id).where(posts.c.id == post_id)) is not None:
            return True
        young = select(table.c.post_id).where(table.c.post_id == post_id, table.c.at >= before).limit(1)
        if await connection.scalar(young) is not None:
            return True
        return table is attempts and await self._waits(connection, post_id)

    @staticmethod
    async def _waits(connection: AsyncConnection, post_id: str) -> bool:
        """Whether a recipient is deferred still: looked for in the cells of which a sheet says so, one by one."""
        columns = attempts.c
        told = (columns.seq, columns.group_key, columns.attempts, columns.at, columns.content)
        late = select(columns.cell).distinct().where(columns.post_id == post_id, columns.deferred > 0)
        for cell in await connection.scalars(late):
            rows = await connection.execute(select(*told).where(columns.post_id == post_id, columns.cell == cell))
            people = fold(Sheet(*row) for row in rows).people
            if any(entry.fate.state < FINAL for entry in people.values()):
                return True
        return False

    async def _run_out(self, before: float) -> None:
        clock: ColumnElement[float] = literal_column(CLOCK[self._engine.dialect.name])
        last = select(refusals.c.at).order_by(refusals.c.at.desc()).limit(1).offset(REFUSALS_KEPT)
        day = time.strftime("%Y-%m-%d", time.gmtime(before))
        old = (
            delete(fingerprints).where(fingerprints.c.at < time.time() - FINGERPRINTS_KEPT),
            delete(claims).where(claims.c.until < clock - CLAIMS_KEPT),
            delete(refusals).where(or_(refusals.c.at < before, refusals.c.at <= last.scalar_subquery())),
            delete(refusal_counts).where(refusal_counts.c.day < day),
            delete(due).where(due.c.at >= NEVER, due.c.since < before),
            # of posts that are not in the ledger: those of others go with their post
            delete(notes).where(
                notes.c.post_id < new_id(before)[:10],
                notes.c.at < before,
                ~exists().where(posts.c.id == notes.c.post_id),
            ),
        )
        for statement in old:

            async def work(connection: AsyncConnection, statement: Delete = statement) -> None:
                await connection.execute(statement)

            await transact(self._engine, LedgerUnavailable, work, limit=60.0)
