"""What may go: posts that are finished and old, and what has run out. Deleted in portions, so that no writer waits long behind it.

A post goes in this order: the post and its targets, then its rows. A sweep that is cut short leaves rows without a post; the next one
finds them (`strays`), as it finds the rows of reports and forwards, which have no post of their own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import ColumnElement, Delete, Select, Table, and_, delete, func, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.identity import new_id
from shared.ledger import LedgerUnavailable
from shared.ledger.rows import FINAL, bounded
from shared.ledger.store_bulk import CLOCK
from shared.ledger.store_open import FINGERPRINTS_KEPT
from shared.ledger.tables import (
    claims,
    fingerprints,
    post_groups,
    posts,
    recipients,
    refusal_counts,
    refusals,
    slices,
    suppressions,
)

PORTION = 2000
"""Rows deleted in one transaction."""
POSTS_AT_ONCE = 100
CLAIMS_KEPT = 3600.0
"""Seconds that a claim is kept after it ran out; nobody's clock is asked."""
REFUSALS_KEPT = 100_000
"""Refusals kept in all: a client may name any number of groups."""
RECENT = 7 * 86400.0
"""A post's body is needed at least this long: a report that quotes it may still be on its way when the post is finished."""


async def unfinished(connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
    """Those of the posts that wait for a recipient's fate, or for a share of their fan-out."""
    waiting = select(recipients.c.post_id).distinct().where(recipients.c.post_id.in_(ids), recipients.c.state < FINAL)
    found = set(await connection.scalars(waiting))
    same = and_(slices.c.post_id == post_groups.c.post_id, slices.c.group_key == post_groups.c.group_key)
    shares: Select[tuple[str]] = (
        select(post_groups.c.post_id)
        .select_from(post_groups.outerjoin(slices, same))
        .where(post_groups.c.post_id.in_(ids))
        .group_by(post_groups.c.post_id, post_groups.c.group_key)
        .having(func.count(slices.c.number) < func.coalesce(func.max(slices.c.parts), 1))
    )
    return found | set(await connection.scalars(shares))


async def needs_body(connection: AsyncConnection, key: str) -> bool:
    """Whether a post that is recent or unfinished names this body."""
    result = await connection.execute(select(posts.c.id, posts.c.accepted_at).where(posts.c.body_key == bounded(key)))
    rows = result.all()
    if any(row.accepted_at > time.time() - RECENT for row in rows):
        return True
    return bool(rows) and bool(await unfinished(connection, [row.id for row in rows]))


class Sweeper:
    """Drops what is old from one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def sweep(self, before: float) -> int:
        """Drop finished posts accepted before that time, and all that has run out; how many posts went."""
        dropped = 0
        async for ids in self._old_posts(before):
            dropped += await self._drop(ids)
        for table in (recipients, suppressions):
            await self._strays(table, before)
        await self._run_out(before)
        return dropped

    async def _old_posts(self, before: float) -> AsyncIterator[list[str]]:
        after = ""
        while True:
            query = select(posts.c.id).where(posts.c.accepted_at < before, posts.c.id > after)
            async with read(self._engine, LedgerUnavailable) as connection:
                ids = list(await connection.scalars(query.order_by(posts.c.id).limit(POSTS_AT_ONCE)))
                busy = await unfinished(connection, ids) if ids else set()
            if not ids:
                return
            after = ids[-1]
            yield [post_id for post_id in ids if post_id not in busy]

    async def _drop(self, ids: Sequence[str]) -> int:
        """Posts, targets and shares in one transaction; then the rows, in portions."""
        if not ids:
            return 0

        async def heads(connection: AsyncConnection) -> int:
            for table in (post_groups, slices):
                await connection.execute(delete(table).where(table.c.post_id.in_(ids)))
            return (await connection.execute(delete(posts).where(posts.c.id.in_(ids)))).rowcount

        gone = await transact(self._engine, LedgerUnavailable, heads)
        for table in (recipients, suppressions):
            await self._drop_rows(table, ids)
        return gone

    async def _drop_rows(self, table: Table, ids: Sequence[str]) -> None:
        names = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(table.c.post_id.in_(ids)).limit(PORTION)

        async def portion(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(table).where(names.in_(some)))).rowcount

        while await transact(self._engine, LedgerUnavailable, portion):
            pass  # ends when a portion finds nothing more

    async def _strays(self, table: Table, before: float) -> None:
        """Rows without a post, all of them final and old: of reports, forwards, and of a sweep that was cut short."""
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
                await self._drop_rows(table, [post_id])

    @staticmethod
    async def _kept(connection: AsyncConnection, table: Table, post_id: str, before: float) -> bool:
        if await connection.scalar(select(posts.c.id).where(posts.c.id == post_id)) is not None:
            return True
        young = table.c.at >= before
        alive = or_(young, table.c.state < FINAL) if table is recipients else young
        query = select(table.c.post_id).where(table.c.post_id == post_id, alive).limit(1)
        return await connection.scalar(query) is not None

    async def _run_out(self, before: float) -> None:
        clock: ColumnElement[float] = literal_column(CLOCK[self._engine.dialect.name])
        last = select(refusals.c.at).order_by(refusals.c.at.desc()).limit(1).offset(REFUSALS_KEPT)
        day = time.strftime("%Y-%m-%d", time.gmtime(before))
        old = (
            delete(fingerprints).where(fingerprints.c.at < time.time() - FINGERPRINTS_KEPT),
            delete(claims).where(claims.c.until < clock - CLAIMS_KEPT),
            delete(refusals).where(or_(refusals.c.at < before, refusals.c.at <= last.scalar_subquery())),
            delete(refusal_counts).where(refusal_counts.c.day < day),
        )
        for statement in old:

            async def work(connection: AsyncConnection, statement: Delete = statement) -> None:
                await connection.execute(statement)

            await transact(self._engine, LedgerUnavailable, work, limit=60.0)
