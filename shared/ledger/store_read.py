"""What the ledger tells: posts, standings, traces. Read over a line in few trips; what a person searches for, by the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger

from shared.address import key
from shared.database.line import Rows, Step
from shared.groups import SLOTS, slot
from shared.ledger import PostSummary, Standing, TargetRecord, Totals
from shared.ledger import Row as TraceRow
from shared.ledger.fold import LeftOut, left_out_rows, people_rows
from shared.ledger.rows import bounded, message_key, post_record, recipient_key, target_record
from shared.ledger.sheets import hashes, mark_of
from shared.ledger.store_bulk import Bulk
from shared.ledger.store_sums import EMPTY, Book, Run, Span, book_steps, books_of, folds, together, totals_of
from shared.ledger.tables import people, post_groups, posts, shares

PAGE = 500
"""Rows of one page of a trace."""

_ID = {"post_id": "text"}
_POST_NAMES = tuple(column.name for column in posts.columns)
_POSTS = Bulk(_ID, f"SELECT {', '.join(_POST_NAMES)} FROM r JOIN posts ON posts.id = r.post_id")  # noqa: S608
_TARGETS = Bulk(
    _ID,
    "SELECT r.post_id, group_key, verdict, token, detail FROM r "
    "JOIN post_groups ON post_groups.post_id = r.post_id ORDER BY position",
)
_FILED = Bulk(
    {"post_id": "text", "group_key": "text"},
    "SELECT r.post_id, r.group_key, count(DISTINCT number), max(parts) FROM r "
    "JOIN shares ON shares.post_id = r.post_id AND shares.group_key = r.group_key GROUP BY 1, 2",
)


# --- posts -----------------------------------------------------------------------------------------------------------
async def summaries(run: Run, ids: Sequence[str]) -> list[PostSummary]:
    """The posts of these ids that there are, in the order of the ids."""
    if not ids:
        return []
    rows = [(post_id,) for post_id in ids]
    told = await run([_POSTS.step(rows), _TARGETS.step(rows), *book_steps(ids)])
    found = [dict(zip(_POST_NAMES, row, strict=True)) for row in told[0]]
    records = {row["id"]: post_record(row) for row in found}
    targets: dict[str, list[tuple[TargetRecord, str]]] = {}
    for post_id, group, verdict, token, detail in told[1]:
        targets.setdefault(post_id, []).append((target_record(group, token, detail), verdict))
    sums = await totals_of(run, books_of(ids, told[2:]))
    return [
        PostSummary(
            record=records[post_id],
            targets=[
                (target, verdict, sums[post_id].get(target.group, EMPTY))
                for target, verdict in targets.get(post_id, [])
            ],
            totals=together(sums[post_id]),
        )
        for post_id in ids
        if post_id in records
    ]


async def books(run: Run, ids: Sequence[str]) -> dict[str, Book]:
    """What is known of posts without looking inside their sheets."""
    return books_of(ids, await run(book_steps(ids)))


async def totals(run: Run, post_id: str, group: str) -> Totals:
    """The sums of a post, or of one of its groups."""
    groups = (await totals_of(run, await books(run, [bounded(post_id)])))[bounded(post_id)]
    return groups.get(bounded(group), EMPTY) if group else together(groups)


async def unfinished(run: Run, ids: Sequence[str]) -> set[str]:
    """Those of the posts that wait for a recipient's fate, or for a share of their fan-out."""
    sums = await totals_of(run, await books(run, ids))
    return {post_id for post_id, groups in sums.items() if not _finished(together(groups))}


def _finished(sums: Totals) -> bool:
    return sums.complete and not sums.deferred


def filed_step(asked: Sequence[tuple[str, str]]) -> Step:
    """Asks of each (post, group) whether all shares of its fan-out are filed."""
    return _FILED.step(sorted({(bounded(post_id), bounded(group)) for post_id, group in asked}))


def filed_of(asked: Sequence[tuple[str, str]], rows: Rows) -> list[bool]:
    """The answers to `filed_step`."""
    complete = {(post_id, group) for post_id, group, number, parts in rows if number >= parts}
    return [(bounded(post_id), bounded(group)) in complete for post_id, group in asked]


# --- recipients ------------------------------------------------------------------------------------------------------
async def standings(run: Run, post_id: str, keys: Sequence[str]) -> dict[str, Standing]:
    """Where those recipients of a post stand who have a standing."""
    wanted = {bounded(each): each for each in keys}
    book = (await books(run, [bounded(post_id)]))[bounded(post_id)]
    found = {}
    async for _, folded in folds(run, _spans(bounded(post_id), book, keys)):
        for name in wanted.keys() & folded.people.keys():
            found[wanted[name]] = folded.people[name].standing()
    return found


def _spans(post_id: str, book: Book, keys: Sequence[str]) -> list[Span]:
    """The slices that these recipients are in. The first one also has the sub-groups that are handed a post of their own."""
    count = book.plan.slices
    return [Span(post_id, book.plan, number) for number in sorted({0, *(slot(each) * count // SLOTS for each in keys)})]


async def trace(run: Run, post_id: str, recipient: str) -> AsyncIterator[list[TraceRow]]:
    """Every address of a post (or one), in pages of at most `PAGE`: recipients first, slice by slice, then those left out."""
    post_id = bounded(post_id)
    book = (await books(run, [post_id]))[post_id]
    spans = [Span(post_id, book.plan, number) for number in range(book.plan.slices)]
    name = recipient_key(recipient) if recipient else ""
    if recipient:
        spans = _spans(post_id, book, [key(recipient)])
    async for _, folded in folds(run, spans):
        if recipient:
            folded.people = {who: entry for who, entry in folded.people.items() if who == name}
        for page in _pages(people_rows(post_id, folded)):
            yield page
    async for _, folded in folds(run, spans):
        if recipient:
            folded.left_out = {what: told for what, told in folded.left_out.items() if _who(what) == name}
        for page in _pages(left_out_rows(post_id, folded)):
            yield page


def _who(left_out: LeftOut) -> str:
    return left_out[0]


def _pages(rows: Sequence[TraceRow]) -> list[list[TraceRow]]:
    return [list(rows[start : start + PAGE]) for start in range(0, len(rows), PAGE)]


# --- searching -------------------------------------------------------------------------------------------------------
async def find(connection: AsyncConnection, *, message_id: str, group: str, recipient: str, limit: int) -> list[str]:
    """Ids of posts by what is given of Message-ID, group and recipient, newest first."""
    conditions: list[ColumnElement[bool]] = []
    if message_id:
        conditions.append(posts.c.message_key == message_key(message_id))
    if group:
        held = post_groups.alias()
        target = select(held.c.post_id).where(held.c.post_id == posts.c.id, held.c.group_key == recipient_key(group))
        conditions.append(target.exists())
    sqlite = connection.dialect.name == "sqlite"
    ids: set[str] = set()
    for query in _candidates(recipient, recipient_key(group) if group else "", sqlite=sqlite):
        ids.update(await connection.scalars(query.where(*conditions).limit(limit)))
    return sorted(ids, reverse=True)[:limit]


def _candidates(recipient: str, group: str, *, sqlite: bool) -> list[Select[tuple[str]]]:
    """Ids of posts, newest first, by the index that tells most: the recipient's, else the group's, else the posts' own."""
    if recipient:
        return [_in_small_shares(recipient), _in_big_shares(recipient, sqlite=sqlite)]
    if group:
        joined = select(post_groups.c.post_id).join(posts, posts.c.id == post_groups.c.post_id)
        return [joined.where(post_groups.c.group_key == group).order_by(post_groups.c.post_id.desc())]
    return [select(posts.c.id).order_by(posts.c.id.desc())]


def _in_small_shares(recipient: str) -> Select[tuple[str]]:
    (number,) = hashes([recipient_key(recipient)])
    joined = select(people.c.post_id).join(posts, posts.c.id == people.c.post_id)
    return joined.where(people.c.hash == number).order_by(people.c.post_id.desc())


def _in_big_shares(recipient: str, *, sqlite: bool) -> Select[tuple[str]]:
    """A big share has somebody whose slot is in it, by its signature (which may err) and its content (which does not)."""
    name = recipient_key(recipient)
    (number,) = hashes([name])
    within = func.instr if sqlite else func.strpos
    columns = shares.c
    its = literal(slot(key(recipient)), BigInteger) * columns.parts // SLOTS
    return (
        select(columns.post_id)
        .distinct()
        .join(posts, posts.c.id == columns.post_id)
        .where(columns.signature.is_not(None), (columns.number == its) | (columns.number == 0))
        .where(within(columns.signature, mark_of(number)) > 0)
        .where(within(columns.content, msgspec.json.encode(name).decode()) > 0)
        .order_by(columns.post_id.desc())
    )


async def target_of_token(connection: AsyncConnection, token: str) -> tuple[str, str] | None:
    """The (post, group) of a bounce address's token."""
    if not token:
        return None
    columns = post_groups.c
    query = select(columns.post_id, columns.group_key).where(columns.token == bounded(token)).limit(1)
    row = (await connection.execute(query.where(columns.token != ""))).one_or_none()
    return None if row is None else (row.post_id, row.group_key)
