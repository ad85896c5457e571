"""What the ledger tells: standings, sums, posts, traces. Each function reads in its caller's transaction.

Sums come from one statement over all rows of a post, hence from one snapshot: they add up at every read (P4), whatever is written meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, literal, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.ledger import PostSummary, Standing, TargetRecord, Totals
from shared.ledger import Row as TraceRow
from shared.ledger.rows import (
    STATES,
    bounded,
    message_key,
    post_record,
    reason_of,
    recipient_key,
    target_record,
    via_path,
)
from shared.ledger.store_bulk import Bulk
from shared.ledger.tables import post_groups, posts, recipients, slices, suppressions

PAGE = 500
"""Rows of one page of a trace."""
_EMPTY = Totals(expanded=0, delivered=0, deferred=0, failed=0, suppressed=0, announced=0, complete=False)


_STANDINGS = Bulk(
    {"post_id": "text", "key": "text"},
    "SELECT r.post_id, r.key, state, attempts, next_at, code, status, reply FROM r "
    "JOIN recipients ON recipients.post_id = r.post_id AND recipients.key = r.key",
)


async def standings_all(
    connection: AsyncConnection, asked: Sequence[tuple[str, Sequence[str]]]
) -> list[dict[str, Standing]]:
    """For each (post, keys), the recorded standing of each key that has one: many senders' questions in one statement."""
    wanted = sorted({(bounded(post_id), bounded(key)) for post_id, keys in asked for key in keys})
    found = {
        (row.post_id, row.key): Standing(
            state=STATES[row.state],
            attempts=row.attempts,
            next_at=row.next_at,
            code=row.code,
            status=row.status,
            text=row.reply,
        )
        for row in await _STANDINGS.run(connection, wanted)
    }
    answers = []
    for post_id, keys in asked:
        known = ((key, found.get((bounded(post_id), bounded(key)))) for key in keys)
        answers.append({key: standing for key, standing in known if standing is not None})
    return answers


# --- sums ------------------------------------------------------------------------------------------------------------
async def totals(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, dict[str, Totals]]:
    """For each post, the sums of each of its groups, all from one snapshot."""
    targets, shares = post_groups.c, slices.c
    counts: Select[Any] = select(
        recipients.c.post_id,
        recipients.c.group_key,
        recipients.c.state.label("what"),
        func.count().label("number"),
        literal(0).label("announced"),
    ).where(recipients.c.post_id.in_(ids))
    left_out = select(
        suppressions.c.post_id, suppressions.c.group_key, literal(_SUPPRESSED), func.count(), literal(0)
    ).where(suppressions.c.post_id.in_(ids))
    filed = select(shares.post_id, shares.group_key, literal(_FILED), func.count(), func.sum(shares.announced)).where(
        shares.post_id.in_(ids)
    )
    parts = select(shares.post_id, shares.group_key, literal(_PARTS), func.max(shares.parts), literal(0)).where(
        shares.post_id.in_(ids)
    )
    expected = select(targets.post_id, targets.group_key, literal(_TARGET), literal(1), literal(0)).where(
        targets.post_id.in_(ids)
    )
    query = union_all(
        counts.group_by(recipients.c.post_id, recipients.c.group_key, recipients.c.state),
        left_out.group_by(suppressions.c.post_id, suppressions.c.group_key),
        filed.group_by(shares.post_id, shares.group_key),
        parts.group_by(shares.post_id, shares.group_key),
        expected,
    )
    numbers: dict[str, dict[str, dict[int, int]]] = {}
    announced: dict[tuple[str, str], int] = {}
    for post_id, group, what, number, said in await connection.execute(query):
        numbers.setdefault(post_id, {}).setdefault(group, {})[what] = number
        if what == _FILED:
            announced[post_id, group] = int(said)
    return {
        post_id: {group: _sum(found, announced.get((post_id, group), 0)) for group, found in groups.items()}
        for post_id, groups in numbers.items()
    }


_SUPPRESSED, _FILED, _PARTS, _TARGET = 10, 11, 12, 13


def _sum(numbers: Mapping[int, int], announced: int) -> Totals:
    queued, deferred, delivered, failed = (numbers.get(number, 0) for number in range(len(STATES)))
    suppressed = numbers.get(_SUPPRESSED, 0)
    return Totals(
        expanded=queued + deferred + delivered + failed + suppressed,
        delivered=delivered,
        deferred=queued + deferred,
        failed=failed,
        suppressed=suppressed,
        announced=announced,
        complete=numbers.get(_FILED, 0) >= numbers.get(_PARTS, 1),
    )


def together(groups: Mapping[str, Totals]) -> Totals:
    """The sums of a post: complete when each of its groups is."""
    if not groups:
        return _EMPTY
    each = groups.values()
    return Totals(
        expanded=sum(one.expanded for one in each),
        delivered=sum(one.delivered for one in each),
        deferred=sum(one.deferred for one in each),
        failed=sum(one.failed for one in each),
        suppressed=sum(one.suppressed for one in each),
        announced=sum(one.announced for one in each),
        complete=all(one.complete for one in each),
    )


async def totals_of(connection: AsyncConnection, post_id: str, group: str) -> Totals:
    """The sums of a post, or of one of its groups."""
    groups = (await totals(connection, [bounded(post_id)])).get(bounded(post_id), {})
    return groups.get(bounded(group), _EMPTY) if group else together(groups)


async def filed(connection: AsyncConnection, post_id: str, group: str) -> bool:
    """Whether all shares of a group's fan-out are filed."""
    columns = slices.c
    query = select(func.count(), func.max(columns.parts)).where(
        columns.post_id == bounded(post_id), columns.group_key == bounded(group)
    )
    number, parts = (await connection.execute(query)).one()
    return parts is not None and number >= parts


# --- posts -----------------------------------------------------------------------------------------------------------
async def summaries(connection: AsyncConnection, ids: Sequence[str]) -> list[PostSummary]:
    """The posts of these ids that there are, in the order of the ids."""
    if not ids:
        return []
    found = (await connection.execute(select(posts).where(posts.c.id.in_(ids)))).mappings()
    records = {row["id"]: post_record(dict(row)) for row in found}
    query = select(post_groups).where(post_groups.c.post_id.in_(ids)).order_by(post_groups.c.position)
    targets: dict[str, list[tuple[TargetRecord, str]]] = {}
    for row in await connection.execute(query):
        entry = target_record(row.group_key, row.token, row.detail), row.verdict
        targets.setdefault(row.post_id, []).append(entry)
    sums = await totals(connection, list(records))
    told = []
    for post_id in (post_id for post_id in ids if post_id in records):
        groups = sums.get(post_id, {})
        entries = [(target, verdict, groups.get(target.group, _EMPTY)) for target, verdict in targets.get(post_id, [])]
        told.append(PostSummary(record=records[post_id], targets=entries, totals=together(groups)))
    return told


async def find(
    connection: AsyncConnection, *, message_id: str, group: str, recipient: str, limit: int
) -> list[PostSummary]:
    """Posts by what is given of Message-ID, group and recipient, newest first."""
    conditions: list[ColumnElement[bool]] = []
    if message_id:
        conditions.append(posts.c.message_key == message_key(message_id))
    if group:
        held = post_groups.alias()
        target = select(held.c.post_id).where(held.c.post_id == posts.c.id, held.c.group_key == recipient_key(group))
        conditions.append(target.exists())
    ids: set[str] = set()
    for query in _candidates(recipient_key(recipient) if recipient else "", recipient_key(group) if group else ""):
        ids.update(await connection.scalars(query.where(*conditions).limit(limit)))
    return await summaries(connection, sorted(ids, reverse=True)[:limit])


def _candidates(recipient: str, group: str) -> list[Select[tuple[str]]]:
    """Ids of posts, newest first, by the index that tells most: the recipient's, else the group's, else the posts' own."""
    if recipient:
        tables = (recipients, suppressions)
        return [
            select(table.c.post_id)
            .distinct()
            .join(posts, posts.c.id == table.c.post_id)
            .where(table.c.key == recipient)
            .order_by(table.c.post_id.desc())
            for table in tables
        ]
    if group:
        joined = select(post_groups.c.post_id).join(posts, posts.c.id == post_groups.c.post_id)
        return [joined.where(post_groups.c.group_key == group).order_by(post_groups.c.post_id.desc())]
    return [select(posts.c.id).order_by(posts.c.id.desc())]


async def target_of_token(connection: AsyncConnection, token: str) -> tuple[str, str] | None:
    """The (post, group) of a bounce address's token."""
    if not token:
        return None
    columns = post_groups.c
    query = select(columns.post_id, columns.group_key).where(columns.token == bounded(token)).limit(1)
    row = (await connection.execute(query.where(columns.token != ""))).one_or_none()
    return None if row is None else (row.post_id, row.group_key)


# --- trace -----------------------------------------------------------------------------------------------------------
async def recipient_page(
    connection: AsyncConnection, post_id: str, recipient: str, after: str
) -> tuple[list[TraceRow], str]:
    """Up to `PAGE` recipients of a post whose key follows `after` (or the one that is asked for), and the last key."""
    columns = recipients.c
    query = select(recipients).where(columns.post_id == bounded(post_id), columns.key > after)
    if recipient:
        query = query.where(columns.key == recipient_key(recipient))
    rows = (await connection.execute(query.order_by(columns.key).limit(PAGE))).all()
    return [_recipient(row) for row in rows], rows[-1].key if rows else after


def _recipient(row: Row[Any]) -> TraceRow:
    return TraceRow(
        post_id=row.post_id,
        group=row.group_key,
        address=row.key if row.address is None else row.address,
        via=via_path(row.via, row.group_key),
        state=STATES[row.state],
        reason=None,
        attempts=row.attempts,
        code=row.code,
        status=row.status,
        text=row.reply,
        hop=row.hop,
        at=row.at,
        next_at=row.next_at,
    )


Place = tuple[str, str, int]
"""Where a page of suppressions ended: key, group, path."""


async def suppression_page(
    connection: AsyncConnection, post_id: str, recipient: str, after: Place
) -> tuple[list[TraceRow], Place]:
    """Up to `PAGE` suppressions of a post that follow `after`, and where they end."""
    columns = suppressions.c
    place = tuple_(columns.key, columns.group_key, columns.path)
    query = select(suppressions).where(columns.post_id == bounded(post_id), place > tuple_(*map(literal, after)))
    if recipient:
        query = query.where(columns.key == recipient_key(recipient))
    ordered = query.order_by(columns.key, columns.group_key, columns.path).limit(PAGE)
    rows = (await connection.execute(ordered)).all()
    end = (rows[-1].key, rows[-1].group_key, rows[-1].path) if rows else after
    return [_suppressed(row) for row in rows], end


def _suppressed(row: Row[Any]) -> TraceRow:
    return TraceRow(
        post_id=row.post_id,
        group=row.group_key,
        address=row.key if row.address is None else row.address,
        via=via_path(row.via, row.group_key),
        state=None,
        reason=reason_of(row.reason),
        attempts=0,
        code=0,
        status="",
        text="",
        hop="",
        at=row.at,
        next_at=None,
    )
