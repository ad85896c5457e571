"""What is due, in SQL: few rows, taken under a lease by one of many reporters; and the reads that reports are made from.

The lease is by the caller's clock: two reporters whose clocks differ may look at the same thing at once. The one who took it last writes
(`tries`), and what both send has one id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Update, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.database.line import Rows, Step
from shared.identity import new_id
from shared.ledger import LedgerUnavailable, PostSummary, Row, store_read
from shared.ledger.due import MOST_COUNTED, NEVER, Backlog, Due
from shared.ledger.fold import people_rows
from shared.ledger.rows import bounded, clean
from shared.ledger.store_bulk import Bulk
from shared.ledger.store_sums import Span, folds, totals_of
from shared.ledger.tables import due as table
from shared.ledger.tables import parked, post_groups
from shared.messages import Reason, State

_COLUMNS = {
    "id": "text",
    "at": "float8",
    "since": "float8",
    "tries": "int4",
    "puts": "int4",
    "post_id": "text",
    "group_key": "text",
    "kind": "text",
    "detail": "text",
}
_PUT = Bulk(
    _COLUMNS,
    "INSERT INTO due ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (id) DO UPDATE SET puts = due.puts + 1, "
    "at = CASE WHEN due.at >= {never} THEN excluded.at ELSE due.at END",
    never=str(NEVER),
)


class StoredDue:
    """What is due, in one database."""

    _engine: AsyncEngine
    _ask: Callable[[Sequence[Step]], Awaitable[list[Rows]]]

    async def due_put(self, due: Due) -> None:
        """Say that this is due, insert-if-absent."""
        row = (
            bounded(due.id),
            due.at,
            due.since,
            due.tries,
            due.puts,
            bounded(due.post_id),
            bounded(due.group),
            clean(due.kind),
            clean(due.detail),
        )

        async def work(connection: AsyncConnection) -> None:
            await _PUT.run(connection, [row])

        await transact(self._engine, LedgerUnavailable, work)

    async def due_take(self, now: float, *, limit: int, lease: float) -> Sequence[Due]:
        """Take what is to be looked at. Nothing is written where nothing is due."""
        if await self.due_next() > now:
            return []
        some = select(table.c.id).where(table.c.at <= now).order_by(table.c.at).limit(limit)
        some = some.with_for_update(skip_locked=True)  # SQLite has one writer at a time, and ignores it
        columns = table.c
        taking = update(table).where(columns.id.in_(some)).values(at=now + lease, tries=columns.tries + 1)

        async def work(connection: AsyncConnection) -> list[Due]:
            rows = (await connection.execute(taking.returning(*columns))).mappings().all()
            return [_due(row) for row in rows]

        return sorted(await transact(self._engine, LedgerUnavailable, work), key=lambda due: due.since)

    async def due_keep(self, due: Due, *, at: float, detail: str) -> bool:
        """Look at it again at `at`; False where somebody else has taken it."""
        return await self._write(_mine(due).values(at=at, detail=clean(detail)))

    async def due_later(self, due: Due, *, at: float) -> None:
        """Look at it again at `at`, unless somebody else has taken it."""
        await self._write(_mine(due).values(at=at))

    async def due_done(self, due: Due, *, detail: str, again: float) -> bool:
        """It is done, or is looked at once more where it was said to be due meanwhile."""
        at = case((table.c.puts == due.puts, NEVER), else_=again)
        return await self._write(_mine(due).values(at=at, detail=clean(detail)))

    async def _write(self, statement: Update) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(statement)).rowcount)

        return await transact(self._engine, LedgerUnavailable, work)

    async def due_next(self) -> float:
        """When something is to be looked at next."""
        async with read(self._engine, LedgerUnavailable) as connection:
            found = await connection.scalar(select(func.min(table.c.at)))
        return NEVER if found is None else float(found)

    async def backlog(self, now: float) -> Backlog:
        """What waits."""
        waiting = select(table.c.at).where(table.c.at < NEVER).limit(MOST_COUNTED).subquery()
        kept = select(parked.c.id).limit(MOST_COUNTED).subquery()
        asked = select(
            select(func.count()).select_from(waiting).scalar_subquery(),
            select(func.min(table.c.at)).where(table.c.at < NEVER).scalar_subquery(),
            select(func.count()).select_from(kept).scalar_subquery(),
        )
        async with read(self._engine, LedgerUnavailable) as connection:
            due, first, parked_now = (await connection.execute(asked)).one()
        return Backlog(due=due, late=max(now - first, 0.0) if first is not None else 0.0, parked=parked_now)

    # --- what reports are made from ----------------------------------------------------------------------------------
    async def unreached(self, post_id: str, group: str, *, limit: int) -> Sequence[Row]:
        """Who has failed, then who is deferred; of each at most `limit`."""
        name, holder = bounded(post_id), bounded(group)
        book = (await store_read.books(self._ask, [name]))[name]
        found: dict[State, list[Row]] = {State.FAILED: [], State.DEFERRED: []}
        for number in sorted({final.slice for final in book.finals}):
            finals = [final for final in book.finals if final.slice == number]
            telling = {
                State.FAILED: any(final.failed for final in finals),
                State.DEFERRED: any(final.deferred for final in finals),
            }
            if not any(telling[state] and len(rows) < limit for state, rows in found.items()):
                continue
            async for _, folded in folds(self._ask, [Span(name, book.plan, number)]):
                for row in people_rows(name, folded, stopped=book.stopped):
                    if row.state in found and row.group == holder and len(found[row.state]) < limit:
                        found[row.state].append(row)
        return [*found[State.FAILED], *found[State.DEFERRED]]

    async def left_out(self, post_id: str, group: str) -> Mapping[str, int]:
        """How many addresses were left out, by reason; reads the shares alone that left somebody out."""
        name, holder = bounded(post_id), bounded(group)
        book = (await store_read.books(self._ask, [name]))[name]
        slices = {book.plan.slice_of(head.number) for head in book.heads if head.suppressed and head.group == holder}
        found: Counter[str] = Counter()
        async for _, folded in folds(self._ask, [Span(name, book.plan, number) for number in sorted(slices)]):
            found.update(reason for _, of, reason, _ in folded.left_out if of == holder)
        if book.stopped:
            sums = (await totals_of(self._ask, {name: book}))[name].get(holder)
            found[Reason.STOPPED] += (sums.suppressed if sums else 0) - found.total()
        return +found

    async def posts_between(
        self, group: str, since: float, until: float, *, after: str = "", limit: int = 100
    ) -> Sequence[PostSummary]:
        """Posts to a group by the time in their ids, oldest first."""
        columns = post_groups.c
        query = select(columns.post_id).where(columns.group_key == bounded(group), columns.post_id > after)
        query = query.where(columns.post_id >= new_id(since)[:10], columns.post_id < new_id(until)[:10])
        async with read(self._engine, LedgerUnavailable) as connection:
            ids = list(await connection.scalars(query.order_by(columns.post_id).limit(limit)))
        return await store_read.summaries(self._ask, ids)


def _mine(due: Due) -> Update:
    return update(table).where(table.c.id == bounded(due.id), table.c.tries == due.tries)


def _due(row: Mapping[Any, Any]) -> Due:
    values = {name: row[name] for name in _COLUMNS if name != "group_key"}
    return Due(group=row["group_key"], **values)
