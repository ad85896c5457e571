"""Traces in SQL: slices of a post are read one by one, as far as a page needs; slices that can hold nobody who is asked for are passed by.

A page begins after a row, not at a number: while a post is expanded rows come in between, and nobody is told twice or never for it. What an attacker
controls: the addresses, and whatever he sends as the place where a page begins.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.address import key
from shared.database.engine import read
from shared.database.line import Rows, Step
from shared.ledger import LedgerUnavailable, PostSummary, Row, store_find, store_read
from shared.ledger.fold import Folded, Sheet, left_out_rows, people_rows
from shared.ledger.rows import STATES, bounded, recipient_key
from shared.ledger.sheets import fates_of, keys_of
from shared.ledger.store_sums import Book, Span, book_steps, books_of, folds, plan_steps, sheets_of, slices_of
from shared.ledger.tables import post_groups, posts
from shared.ledger.traces import LEFT_OUT, TracePage, Try
from shared.messages import Reason, State

PAGE = 500
"""Rows of one page of a trace."""
LONG = 30.0
"""Seconds for a read that may look through all big shares."""

_RECIPIENTS, _LEFT_OUT = 0, 1
_Position = tuple[int, int, list[str]]
"""Which of the two parts, which slice, and what a row is ordered by in it."""
_START: _Position = (_RECIPIENTS, 0, [])
_position: msgspec.json.Decoder[_Position] = msgspec.json.Decoder(_Position)


class StoredTraces:
    """The part of the ledger that tells, in one database."""

    _engine: AsyncEngine

    if TYPE_CHECKING:

        async def _ask(self, steps: Sequence[Step]) -> list[Rows]: ...

    async def find(
        self,
        *,
        message_id: str = "",
        group: str = "",
        recipient: str = "",
        since: float | None = None,
        until: float | None = None,
        after: str = "",
        limit: int = 20,
    ) -> Sequence[PostSummary]:
        """Posts by Message-ID (with or without its brackets), group, recipient and time, newest first."""
        sought = store_find.sought(message_id, group, recipient, since, until, after)
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            ids = await store_find.find(connection, sought, limit)
        return await store_read.summaries(self._ask, ids)

    async def trace(
        self, post_id: str, *, recipient: str = "", states: Collection[str] = ()
    ) -> AsyncIterator[Sequence[Row]]:
        """Every address of a post, in pages of at most 500."""
        async for part in self._parts(post_id, recipient, states, _START):
            rows = [row for _, row in part]
            for start in range(0, len(rows), PAGE):
                yield rows[start : start + PAGE]

    async def trace_page(
        self,
        post_id: str,
        *,
        recipient: str = "",
        states: Collection[str] = (),
        groups: Collection[str] = (),
        after: str = "",
        limit: int = PAGE,
    ) -> TracePage:
        """One page of a trace; it reads the slices that it needs and the beginning of the next one."""
        rows: list[Row] = []
        last = position = _decoded(after) if after else _START
        async for part in self._parts(post_id, recipient, states, position):
            for where, row in part:
                if groups and row.group not in groups:
                    continue
                if len(rows) == limit:
                    return TracePage(rows=rows, after=_encoded(last))
                rows.append(row)
                last = where
        return TracePage(rows=rows, after="")

    async def tries(self, post_id: str, recipient: str) -> Sequence[Try]:
        """Every recorded attempt at a recipient, in the order in which they were told."""
        name, found = recipient_key(recipient), list[tuple[int, Try]]()
        book = await self._book(post_id, plan_steps([bounded(post_id)]))
        spans = [Span(bounded(post_id), book.plan, number) for number in book.plan.slices_of([key(recipient)])]
        async for _, sheets in sheets_of(self._ask, spans):
            for sheet in sheets:
                found += [(sheet.seq, each) for each in _tries(sheet, name)]
        return [each for _, each in sorted(found, key=lambda entry: (entry[0], entry[1].attempt))]

    async def children(self, post_id: str) -> Sequence[tuple[str, str]]:
        """The posts made from this one: ids that are derived from another one begin with its time."""
        own = bounded(post_id)
        query = select(posts.c.id, post_groups.c.group_key).join(post_groups, post_groups.c.post_id == posts.c.id)
        query = query.where(posts.c.id >= own[:10], posts.c.id < own[:10] + "~", posts.c.parent == own)
        async with read(self._engine, LedgerUnavailable) as connection:
            return [
                (child, group) for child, group in await connection.execute(query.order_by(post_groups.c.group_key))
            ]

    # --- parts -------------------------------------------------------------------------------------------------------
    async def _book(self, post_id: str, steps: Sequence[Step]) -> Book:
        return books_of([bounded(post_id)], await self._ask(steps))[bounded(post_id)]

    async def _parts(
        self, post_id: str, recipient: str, states: Collection[str], after: _Position
    ) -> AsyncIterator[list[tuple[_Position, Row]]]:
        """The rows that follow a position, slice by slice, each with its own."""
        post_id = bounded(post_id)
        book = await self._book(post_id, book_steps([post_id]) if states else plan_steps([post_id]))
        name = recipient_key(recipient) if recipient else ""
        numbers = book.plan.slices_of([key(recipient)]) if recipient else range(book.plan.slices)
        for part in (_RECIPIENTS, _LEFT_OUT):
            may = _may_hold(book, part, states)
            spans = [
                Span(post_id, book.plan, number) for number in numbers if number in may and (part, number) >= after[:2]
            ]
            async for span, folded in folds(self._ask, spans):
                rows = _people(post_id, folded, name, book) if part == _RECIPIENTS else _left_out(post_id, folded, name)
                told = [((part, span.number, order), row) for order, row in rows if not states or _is(row, states)]
                yield [each for each in told if each[0] > after]


def _may_hold(book: Book, part: int, states: Collection[str]) -> set[int]:
    """The slices that may hold rows of a part in one of these states, by what is counted beside their sheets."""
    if part == _LEFT_OUT:
        if states and not (LEFT_OUT in states or set(states) & {reason.value for reason in Reason}):
            return set()
        return {book.plan.slice_of(head.number) for head in book.heads if head.suppressed}
    if not states or book.stopped:  # who was stopped is found by a look
        return set(range(book.plan.slices))
    may: set[int] = set()
    for number, heads, finals in slices_of(book):
        counts = {
            State.DELIVERED: sum(final.delivered for final in finals),
            State.FAILED: sum(final.failed for final in finals),
            State.DEFERRED: sum(final.deferred for final in finals),
        }
        ended = counts[State.DELIVERED] + counts[State.FAILED]
        settled = len(heads) == 1 and heads[0].queued == ended  # of two tellings of a share nobody knows without a look
        counts[State.QUEUED] = 0 if settled else sum(head.queued for head in heads)
        if any(counts.get(State(state), 0) for state in states if state in State.__members__.values()):
            may.add(number)
    return may


def _people(post_id: str, folded: Folded, name: str, book: Book) -> list[tuple[list[str], Row]]:
    if name:
        folded.people = {who: entry for who, entry in folded.people.items() if who == name}
    rows = people_rows(post_id, folded, stopped=book.stopped)
    return list(zip(([who] for who in sorted(folded.people)), rows, strict=True))


def _left_out(post_id: str, folded: Folded, name: str) -> list[tuple[list[str], Row]]:
    if name:
        folded.left_out = {what: told for what, told in folded.left_out.items() if what[0] == name}
    ordered = sorted([*what[:3], what[3] or ""] for what in folded.left_out)
    return list(zip(ordered, left_out_rows(post_id, folded), strict=True))


def _is(row: Row, states: Collection[str]) -> bool:
    if row.state is not None:
        return row.state.value in states
    return LEFT_OUT in states or (row.reason is not None and row.reason.value in states)


def _tries(sheet: Sheet, name: str) -> list[Try]:
    """What a sheet says of one recipient; mostly it does not name him."""
    if not sheet.attempts or msgspec.json.encode(name).decode() not in sheet.content:
        return []
    return [
        Try(
            attempt=sheet.attempts - 1,
            group=sheet.group,
            state=STATES[fate.state],
            at=fate.at,
            hop=fate.hop,
            code=fate.code,
            status=fate.status,
            text=fate.text,
            next_at=fate.next_at,
        )
        for fate in fates_of(sheet.content)
        if name in keys_of(fate.names)
    ]


# --- where a page begins ---------------------------------------------------------------------------------------------
def _encoded(position: _Position) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _decoded(text: str) -> _Position:
    try:
        return _position.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{text[:100]!r} is no place in a trace") from error
