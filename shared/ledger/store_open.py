"""Opening posts, many at once: what was recorded first wins, a message that comes twice is found out, and a reply finds who started its thread.

Works in its caller's transaction, which is repeated when it fails. What an attacker controls: Message-IDs and references. A post that takes another's
Message-ID is never the thread's beginning, for the first post of the group with that Message-ID is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.ledger import Opened, PostRecord, TargetRecord, Verdict
from shared.ledger.rows import (
    POST_COLUMNS,
    TARGET_COLUMNS,
    body_ref,
    bounded,
    clean,
    graph_octets,
    message_key,
    nearest,
    post_row,
    target_row,
    waves,
)
from shared.ledger.store_bulk import Bulk
from shared.ledger.tables import post_groups, posts
from shared.messages import BodyRef

FINGERPRINTS_KEPT = 7 * 86400.0
"""Seconds that a post is known by what it is (P3)."""

Opening = tuple[PostRecord, Sequence[TargetRecord]]
_Fresh = tuple[PostRecord, int, TargetRecord]
_Known = dict[tuple[str, str], tuple[str, str]]  # (post, group) -> verdict as stored, thread author

_NEW = "new"  # in `_Known`, of a target that is recorded just now; stored as "open"

_POSTS = Bulk(
    POST_COLUMNS, "INSERT INTO posts ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (id) DO NOTHING"
)
_TARGETS = Bulk(
    TARGET_COLUMNS,
    "INSERT INTO post_groups ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (post_id, group_key) DO NOTHING",
)
_FINGERPRINTS = Bulk(
    {"fingerprint": "text", "post_id": "text", "at": "float8"},
    "INSERT INTO fingerprints ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (fingerprint) DO UPDATE SET "
    "post_id = CASE WHEN {run_out} THEN excluded.post_id ELSE fingerprints.post_id END, "
    "at = CASE WHEN {run_out} THEN excluded.at ELSE fingerprints.at END "
    "RETURNING fingerprint, post_id",
    run_out=f"fingerprints.at < excluded.at - {FINGERPRINTS_KEPT}",
)


async def open_all(connection: AsyncConnection, asked: Sequence[Opening]) -> list[Opened]:
    """Open posts; what shares a post or a fingerprint is opened one after the other."""
    answers: dict[int, Opened] = {}
    names = [
        {post.id, *(target.fingerprint for target in targets if target.fingerprint is not None)}
        for post, targets in asked
    ]
    for wave in waves((names[number], number) for number in range(len(asked))):
        opened = await _open_wave(connection, [asked[number] for number in wave])
        answers.update(zip(wave, opened, strict=True))
    return [answers[number] for number in range(len(asked))]


async def _open_wave(connection: AsyncConnection, asked: Sequence[Opening]) -> list[Opened]:
    await _POSTS.run(connection, sorted((post_row(post) for post, _ in asked), key=lambda row: str(row[0])))
    ids = [bounded(post.id) for post, _ in asked]
    plans = await _plans(connection, ids)
    known = await _known(connection, ids)
    fresh = _fresh(asked, known)
    owners = await _take_fingerprints(connection, fresh)
    authors = await _thread_authors(connection, fresh)
    rows = []
    for post, position, target in fresh:
        verdict = _verdict(post, target, owners)
        author = authors.get((bounded(post.id), bounded(target.group)), "")
        rows.append(target_row(post, position, target, verdict, author))
        known[bounded(post.id), bounded(target.group)] = (_NEW if verdict == "open" else verdict, author)
    await _TARGETS.run(connection, sorted(rows, key=lambda row: (str(row[0]), str(row[1]))))
    return [_opened(post, targets, plans[bounded(post.id)], known) for post, targets in asked]


def _fresh(asked: Sequence[Opening], known: _Known) -> list[_Fresh]:
    """The targets that are not recorded yet; a group that was written to twice (office@, office+tag@) is one target."""
    fresh: dict[tuple[str, str], _Fresh] = {}
    for post, targets in asked:
        for position, target in enumerate(targets):
            name = bounded(post.id), bounded(target.group)
            if name not in known:
                fresh.setdefault(name, (post, position, target))
    return list(fresh.values())


def _opened(
    post: PostRecord,
    targets: Sequence[TargetRecord],
    recorded: Any,
    known: Mapping[tuple[str, str], tuple[str, str]],
) -> Opened:
    verdicts: dict[str, Verdict] = {}
    authors: dict[str, str] = {}
    for target in targets:
        stored, author = known[bounded(post.id), bounded(target.group)]
        match stored:
            case "repetition":
                verdicts[target.group] = Verdict.REPETITION
            case "new":
                verdicts[target.group] = Verdict.NEW
            case _:
                verdicts[target.group] = Verdict.AGAIN
        if author:
            authors[target.group] = author
    return Opened(
        cells=recorded["cells"],
        slices=recorded["slices"],
        verdicts=verdicts,
        thread_authors=authors,
        graph=graph_octets(recorded["graph"]),
        body=body_ref(recorded),
    )


def _verdict(post: PostRecord, target: TargetRecord, owners: Mapping[str, str]) -> str:
    if target.fingerprint is None or owners[target.fingerprint.hex()] == bounded(post.id):
        return "open"
    return "repetition"


async def _plans(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Any]:
    columns = posts.c
    kept = (columns.cells, columns.slices, columns.graph, columns.body_key, columns.body_size, columns.body_sha256)
    result = await connection.execute(select(columns.id, *kept).where(columns.id.in_(ids)))
    return {row["id"]: row for row in result.mappings()}


async def set_body(connection: AsyncConnection, post_id: str, body: BodyRef) -> BodyRef:
    """Name a post's body where none is named, and answer with the one that is."""
    mine = posts.c.id == bounded(post_id)
    absent = update(posts).where(mine, posts.c.body_key.is_(None))
    await connection.execute(
        absent.values(body_key=bounded(body.key), body_size=body.size, body_sha256=body.sha256.hex())
    )
    found = (
        (await connection.execute(select(posts.c.body_key, posts.c.body_size, posts.c.body_sha256).where(mine)))
        .mappings()
        .first()
    )
    return (body_ref(dict(found)) if found else None) or body


async def _known(connection: AsyncConnection, ids: Sequence[str]) -> _Known:
    columns = post_groups.c
    query = select(columns.post_id, columns.group_key, columns.verdict, columns.thread_author)
    result = await connection.execute(query.where(columns.post_id.in_(ids)))
    return {(row.post_id, row.group_key): (row.verdict, row.thread_author) for row in result}


async def _take_fingerprints(connection: AsyncConnection, fresh: Sequence[_Fresh]) -> dict[str, str]:
    """Whose each fingerprint is: the post's that came first within a week."""
    rows = {
        target.fingerprint.hex(): (target.fingerprint.hex(), bounded(post.id), post.accepted_at)
        for post, _, target in reversed(fresh)
        if target.fingerprint is not None
    }
    taken = await _FINGERPRINTS.run(connection, [rows[name] for name in sorted(rows)])
    return {str(fingerprint): str(post_id) for fingerprint, post_id in taken}


async def _thread_authors(connection: AsyncConnection, fresh: Sequence[_Fresh]) -> dict[tuple[str, str], str]:
    """Who started the thread, for each (post, group) that answers a post of that group: the nearest such post knows."""
    keys = {
        (bounded(post.id), bounded(target.group)): [
            name for name in map(message_key, reversed(nearest(target.references))) if name
        ]
        for post, _, target in fresh
    }
    wanted = sorted({name for names in keys.values() for name in names})
    groups = sorted({group for (_, group), names in keys.items() if names})
    if not wanted:
        return {}
    starters = await _starters(connection, wanted, groups)
    found = {}
    for (post_id, group), names in keys.items():
        author = next((starters[name, group] for name in names if starters.get((name, group))), "")
        if author:
            found[post_id, group] = author
    return found


async def _starters(
    connection: AsyncConnection, wanted: Sequence[str], groups: Sequence[str]
) -> dict[tuple[str, str], str]:
    """For each (Message-ID, group): the author that the first such post of the group leads back to."""
    joined = posts.join(post_groups, post_groups.c.post_id == posts.c.id)
    first = (
        select(posts.c.message_key, post_groups.c.group_key, func.min(post_groups.c.post_id).label("post_id"))
        .select_from(joined)
        .where(posts.c.message_key.in_(wanted), post_groups.c.group_key.in_(groups))
        .group_by(posts.c.message_key, post_groups.c.group_key)
        .subquery()
    )
    query: Any = (
        select(first.c.message_key, first.c.group_key, post_groups.c.thread_author, posts.c.author)
        .select_from(first)
        .join(posts, posts.c.id == first.c.post_id)
        .join(post_groups, (post_groups.c.post_id == first.c.post_id) & (post_groups.c.group_key == first.c.group_key))
    )
    rows = await connection.execute(query)
    return {(row.message_key, row.group_key): row.thread_author or clean(row.author) for row in rows}
