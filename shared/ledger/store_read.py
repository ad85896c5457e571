"""What the ledger tells: posts, standings, traces. Read over a line in few trips; what a person searches for, by the engine."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database.line import Rows, Step
from shared.ledger import PostSummary, Standing, TargetRecord, Totals
from shared.ledger.rows import bounded, post_record, target_record
from shared.ledger.store_bulk import Bulk
from shared.ledger.store_sums import EMPTY, Book, Run, Span, book_steps, books_of, folds, together, totals_of
from shared.ledger.tables import post_groups, posts

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
    "SELECT r.post_id, r.group_key, count(DISTINCT number), max(parts) FROM r {near} GROUP BY 1, 2",
    near=("shares", "shares.post_id = r.post_id AND shares.group_key = r.group_key"),
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
    plan = (await books(run, [bounded(post_id)]))[bounded(post_id)].plan
    spans = [Span(bounded(post_id), plan, number) for number in plan.slices_of(keys)]
    found = {}
    async for _, folded in folds(run, spans):
        for name in wanted.keys() & folded.people.keys():
            found[wanted[name]] = folded.people[name].standing()
    return found


# --- tokens ----------------------------------------------------------------------------------------------------------
async def target_of_token(connection: AsyncConnection, token: str) -> tuple[str, str] | None:
    """The (post, group) of a bounce address's token."""
    if not token:
        return None
    columns = post_groups.c
    query = select(columns.post_id, columns.group_key).where(columns.token == bounded(token)).limit(1)
    row = (await connection.execute(query.where(columns.token != ""))).one_or_none()
    return None if row is None else (row.post_id, row.group_key)
