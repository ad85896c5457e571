"""Posts that somebody looks for, by whatever is known of them, newest first. Each way in is an index in the order of time, walked as far as needed.

Post ids sort by the time at which a message came from outside, so a time is a beginning of an id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.address import key
from shared.groups import SLOTS, slot
from shared.identity import new_id
from shared.ledger.rows import bounded, message_key, recipient_key
from shared.ledger.sheets import hashes, mark_of
from shared.ledger.tables import people, post_groups, posts, shares

LAST = "~"
"""Sorts after every post id."""
CANDIDATES = 1000
"""Big shares that are thought of at a time, and of which the first are looked into."""
LOOKED_INTO = 20
SAME_ID = 200
"""Posts with one Message-ID that are looked through at a time for a recipient."""

# Of each number of parts that a fan-out was ever cut into: the one share that a person would be in, and the first, which has sub-groups.
_BIG = (
    "WITH RECURSIVE kinds(parts) AS (SELECT min(parts) FROM shares WHERE signature IS NOT NULL UNION ALL "
    "SELECT (SELECT min(s.parts) FROM shares AS s WHERE s.signature IS NOT NULL AND s.parts > kinds.parts) "
    "FROM kinds WHERE kinds.parts IS NOT NULL) "
    "SELECT s.post_id, s.group_key, s.number, s.mark FROM kinds JOIN shares AS s {by_index} ON s.parts = kinds.parts "
    "AND s.number IN (0, CAST(CAST(:slot AS bigint) * kinds.parts / :slots AS integer)) AND s.signature IS NOT NULL "
    "JOIN posts ON posts.id = s.post_id "
    "WHERE s.post_id >= :low AND s.post_id < :high "
    "AND (:group = '' OR EXISTS (SELECT 1 FROM post_groups AS g WHERE g.post_id = s.post_id AND g.group_key = :group)) "
    "ORDER BY s.post_id DESC LIMIT :limit"
)
_BIG_SHARES = {
    "sqlite": text(
        _BIG.format(by_index="INDEXED BY ix_shares_big")
    ),  # or it would read all shares of the time, in their order
    "postgresql": text(_BIG.format(by_index="")),
}


class Sought(NamedTuple):
    """What is looked for: keys, empty where anything will do, and post ids from `low` (included) to `high` (not included)."""

    message: str
    group: str
    recipient: str
    """The address as it was asked for."""
    low: str
    high: str

    def within(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether an id is of the time that is asked for."""
        return (column >= self.low) & (column < self.high)


def sought(message_id: str, group: str, recipient: str, since: float | None, until: float | None, after: str) -> Sought:
    """What is looked for, of what a person asks."""
    ends = [bounded(after)] if after else []
    if until is not None:
        ends.append(new_id(max(0.0, until))[:10])
    return Sought(
        message=message_key(message_id) if message_id else "",
        group=recipient_key(group) if group else "",
        recipient=recipient,
        low="" if since is None else new_id(max(0.0, since))[:10],
        high=min(ends, default=LAST),
    )


async def find(connection: AsyncConnection, what: Sought, limit: int) -> list[str]:
    """Ids of posts, newest first."""
    if what.message:
        return await _by_message(connection, what, limit)
    if what.recipient:
        ids = {*await _in_small_shares(connection, what, limit), *await _in_big_shares(connection, what, limit)}
        return sorted(ids, reverse=True)[:limit]
    if what.group:
        columns = post_groups.c
        query = select(columns.post_id).where(columns.group_key == what.group, what.within(columns.post_id))
        return list(await connection.scalars(query.order_by(columns.post_id.desc()).limit(limit)))
    query = select(posts.c.id).where(what.within(posts.c.id)).order_by(posts.c.id.desc()).limit(limit)
    return list(await connection.scalars(query))


async def _by_message(connection: AsyncConnection, what: Sought, limit: int) -> list[str]:
    """Seldom more than one post has a Message-ID, whatever else is asked; but nobody keeps a sender from using one again and again."""
    found: list[str] = []
    while len(found) < limit:
        query = select(posts.c.id).where(posts.c.message_key == what.message, what.within(posts.c.id))
        if what.group:
            held = select(post_groups.c.post_id).where(
                post_groups.c.post_id == posts.c.id, post_groups.c.group_key == what.group
            )
            query = query.where(held.exists())
        ids = list(await connection.scalars(query.order_by(posts.c.id.desc()).limit(SAME_ID)))
        found += ids if not what.recipient else await _with_recipient(connection, what, ids)
        if len(ids) < SAME_ID:
            break
        what = what._replace(high=ids[-1])
    return found[:limit]


async def _with_recipient(connection: AsyncConnection, what: Sought, ids: Sequence[str]) -> list[str]:
    (number,) = hashes([recipient_key(what.recipient)])
    small = select(people.c.post_id).where(people.c.hash == number, people.c.post_id.in_(ids))
    names = select(*shares.primary_key.columns).where(shares.c.post_id.in_(ids), shares.c.signature.is_not(None))
    big = [tuple(row) for row in await connection.execute(names)]
    within = {*await connection.scalars(small), *await _looked_into(connection, what.recipient, big)}
    return [each for each in ids if each in within]


async def _in_small_shares(connection: AsyncConnection, what: Sought, limit: int) -> list[str]:
    (number,) = hashes([recipient_key(what.recipient)])
    query = select(people.c.post_id).join(posts, posts.c.id == people.c.post_id)
    if what.group:
        query = query.join(post_groups, post_groups.c.post_id == people.c.post_id)
        query = query.where(post_groups.c.group_key == what.group, what.within(post_groups.c.post_id))
    query = query.where(people.c.hash == number, what.within(people.c.post_id))
    return list(await connection.scalars(query.order_by(people.c.post_id.desc()).limit(limit)))


async def _in_big_shares(connection: AsyncConnection, what: Sought, limit: int) -> list[str]:
    """Candidates by the index alone, and of these the newest looked into, until there are enough."""
    found: dict[str, None] = {}
    high = what.high
    while len(found) < limit:
        values = {
            "slot": slot(key(what.recipient)),
            "slots": SLOTS,
            "group": what.group,
            "low": what.low,
            "high": high,
            "limit": CANDIDATES,
        }
        rows = [tuple(row) for row in await connection.execute(_BIG_SHARES[connection.dialect.name], values)]
        full = len(rows) == CANDIDATES
        if full and rows[0][0] != rows[-1][0]:  # the last post may have a share more
            rows = [row for row in rows if row[0] != rows[-1][0]]
        for start in range(0, len(rows), LOOKED_INTO):
            if len(found) >= limit:
                break
            inside = await _looked_into(connection, what.recipient, rows[start : start + LOOKED_INTO])
            found.update(dict.fromkeys(sorted(inside, reverse=True)))
        if not full:
            break
        high = rows[-1][0]
    return list(found)[:limit]


async def _looked_into(connection: AsyncConnection, recipient: str, names: Sequence[Any]) -> set[str]:
    """The posts of those big shares that name a recipient: by signature (which may err) and content (which does not)."""
    if not names:
        return set()
    name = recipient_key(recipient)
    (number,) = hashes([name])
    within = func.instr if connection.dialect.name == "sqlite" else func.strpos
    columns = shares.c
    query = (
        select(columns.post_id)
        .distinct()
        .where(tuple_(*shares.primary_key.columns).in_(names))
        .where(within(columns.signature, mark_of(number)) > 0)
        .where(within(columns.content, msgspec.json.encode(name).decode()) > 0)
    )
    return set(await connection.scalars(query))
