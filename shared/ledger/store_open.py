"""Opening posts, many at once: what was recorded first wins, a message that comes twice is found out, and a reply finds who started its thread.

Makes statements for one transaction, which is repeated when it fails. What an attacker controls: Message-IDs and references. A post that takes
another's Message-ID is never the thread's beginning, for the first post of the group with that Message-ID is; and a Message-ID means nothing to a
group that had no such post.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database.line import Rows, Step
from shared.ledger import Opened, PostRecord, TargetRecord, Verdict
from shared.ledger.rows import (
    POST_COLUMNS,
    TARGET_COLUMNS,
    SqlRow,
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
from shared.ledger.store_notes import STOP
from shared.ledger.store_write import Work
from shared.ledger.tables import posts
from shared.messages import BodyRef

FINGERPRINTS_KEPT = 7 * 86400.0
"""Seconds that a post is known by what it is (P3)."""

ALIKE = 500
"""Posts of one Message-ID that are looked at for the one that began a thread. An index has equal keys in the order in which they came, so the
first are among them. Where somebody had sent one Message-ID 50,000 times, an answer to it took forty times as long as another (SQLite: 91 ms),
and takes half as much again with this."""

NOBODY = "<>"
"""Stored as the author of a thread that no human began: no address, so nobody is written to, and every answer in the thread keeps it."""

Opening = tuple[PostRecord, Sequence[TargetRecord]]
_Name = tuple[str, str]  # (post, group)
_Starter = tuple[str, str]  # (Message-ID, group)


class Started(NamedTuple):
    """A post of a thread: whom it was found to lead back to when it was opened ("" where it began the thread), and who wrote it."""

    led: str
    author: str


_POSTS = Bulk(
    POST_COLUMNS, "INSERT INTO posts ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (id) DO NOTHING"
)
_KEY = {"post_id": "text", "group_key": "text"}
_FINGERPRINTS = Bulk(
    {"fingerprint": "text", "post_id": "text", "group_key": "text", "at": "float8"},
    "INSERT INTO fingerprints (fingerprint, post_id, at) SELECT fingerprint, post_id, at FROM r "
    # a target that is recorded has its verdict
    "WHERE NOT EXISTS (SELECT 1 FROM post_groups AS g WHERE g.post_id = r.post_id AND g.group_key = r.group_key) "
    "ON CONFLICT (fingerprint) DO UPDATE SET "
    "post_id = CASE WHEN {run_out} THEN excluded.post_id ELSE fingerprints.post_id END, "
    "at = CASE WHEN {run_out} THEN excluded.at ELSE fingerprints.at END",
    run_out=f"fingerprints.at < excluded.at - {FINGERPRINTS_KEPT}",
)
_TARGETS = Bulk(
    {**TARGET_COLUMNS, "fingerprint": "text"},
    "INSERT INTO post_groups (post_id, group_key, position, verdict, token, thread_author, detail) "
    "SELECT r.post_id, group_key, position, "
    "CASE WHEN r.fingerprint IS NULL OR f.post_id = r.post_id THEN verdict ELSE 'repetition' END, "
    "token, thread_author, detail FROM r LEFT JOIN fingerprints AS f ON f.fingerprint = r.fingerprint WHERE true "
    "ON CONFLICT (post_id, group_key) DO NOTHING RETURNING post_id, group_key",
)
_RECORDED = Bulk(
    _KEY,
    "SELECT r.post_id, r.group_key, verdict, thread_author, {stop} = r.post_id), {stop} = posts.parent), "
    "cells, slices, graph, body_key, body_size, body_sha256 FROM r "
    "JOIN posts ON posts.id = r.post_id "
    "LEFT JOIN post_groups AS g ON g.post_id = r.post_id AND g.group_key = r.group_key",
    stop=STOP,
)
_STARTERS = Bulk(
    {"message_key": "text", "group_key": "text"},
    ", first AS (SELECT r.message_key, r.group_key, "
    "(SELECT min(g.post_id) FROM (SELECT id FROM posts WHERE posts.message_key = r.message_key LIMIT {alike}) AS p "
    "JOIN post_groups AS g ON g.post_id = p.id AND g.group_key = r.group_key) AS post_id FROM r) "
    "SELECT first.message_key, first.group_key, g.thread_author, p.author FROM first "
    "JOIN posts AS p ON p.id = first.post_id "
    "JOIN post_groups AS g ON g.post_id = first.post_id AND g.group_key = first.group_key",
    alike=str(ALIKE),
)


# --- who started the threads -----------------------------------------------------------------------------------------
def starters_step(asked: Sequence[Opening]) -> Step | None:
    """Asks who started the threads that the posts answer, in a transaction before theirs; None where none is an answer."""
    wanted = {(name, bounded(target.group)) for _, targets in asked for target in targets for name in _answered(target)}
    return _STARTERS.step(sorted(wanted)) if wanted else None


def starters_of(rows: Rows) -> dict[_Starter, Started]:
    """For each (Message-ID, group): what the first such post of the group says of its thread."""
    return {(message, group): Started(led, clean(author)) for message, group, led, author in rows}


def _answered(target: TargetRecord) -> list[str]:
    """The Message-IDs that a post answers, nearest first."""
    return [name for name in map(message_key, reversed(nearest(target.references))) if name]


def _thread_author(target: TargetRecord, starters: Mapping[_Starter, Started]) -> str:
    """Whom the nearest post that answers something leads to; else who wrote the farthest that is known, for it began the thread.

    Not who wrote the nearest: an answer may be opened before what it answers, and a later one names both.
    """
    if starters and target.references:
        group = bounded(target.group)
        known = [starters[name, group] for name in _answered(target) if (name, group) in starters]
        if found := next((post.led for post in known if post.led), ""):
            return found
        if found := next((post.author for post in reversed(known) if post.author), ""):
            return found
    return NOBODY if target.automatic else ""


# --- opening ---------------------------------------------------------------------------------------------------------
def open_all(asked: Sequence[Opening], starters: Mapping[_Starter, Started]) -> Work:
    """Open posts; what shares a post or a fingerprint is opened one after the other."""
    names = [
        {post.id, *(target.fingerprint for target in targets if target.fingerprint is not None)}
        for post, targets in asked
    ]
    rounds = waves((names[number], number) for number in range(len(asked)))
    works = [_open_wave([asked[number] for number in wave], starters) for wave in rounds]

    def answers(told: Sequence[Rows]) -> list[Opened]:
        opened: dict[int, Opened] = {}
        for wave, work in zip(rounds, works, strict=True):
            mine, told = told[: len(work.steps)], told[len(work.steps) :]
            opened.update(zip(wave, work.answers(mine), strict=True))
        return [opened[number] for number in range(len(asked))]

    return Work([step for work in works for step in work.steps], answers)


def _open_wave(asked: Sequence[Opening], starters: Mapping[_Starter, Started]) -> Work:
    rows: dict[_Name, SqlRow] = {}
    prints: dict[str, SqlRow] = {}
    for post, targets in asked:
        for position, target in enumerate(targets):  # a group that was written to twice (office@, office+tag@) is one
            name = bounded(post.id), bounded(target.group)
            print_ = None if target.fingerprint is None else target.fingerprint.hex()
            row = target_row(post, position, target, "open", _thread_author(target, starters))
            if rows.setdefault(name, (*row, print_))[-1] == print_ and print_ is not None:
                prints.setdefault(print_, (print_, *name, post.accepted_at))
    steps = [
        _POSTS.step(sorted((post_row(post) for post, _ in asked), key=lambda row: str(row[0]))),
        _FINGERPRINTS.step([prints[name] for name in sorted(prints)]),
        _TARGETS.step([rows[name] for name in sorted(rows)]),
        _RECORDED.step([*sorted(rows), *((bounded(post.id), "") for post, targets in asked if not targets)]),
    ]

    def answers(told: Sequence[Rows]) -> list[Opened]:
        fresh = {(post_id, group) for post_id, group in told[2]}
        recorded = {(row[0], row[1]): row[2:] for row in told[3]}
        return [_opened(post, targets, recorded, fresh) for post, targets in asked]

    return Work(steps, answers)


def _opened(
    post: PostRecord, targets: Sequence[TargetRecord], recorded: Mapping[_Name, SqlRow], fresh: set[_Name]
) -> Opened:
    verdicts: dict[str, Verdict] = {}
    authors: dict[str, str] = {}
    for target in targets:
        name = bounded(post.id), bounded(target.group)
        verdict, author = recorded[name][:2]
        if verdict == "repetition":
            verdicts[target.group] = Verdict.REPETITION
        else:
            verdicts[target.group] = Verdict.NEW if name in fresh else Verdict.AGAIN
        if author and author != NOBODY:
            authors[target.group] = str(author)
    plan: Any = recorded[bounded(post.id), bounded(targets[0].group) if targets else ""][2:]
    stop, stop_of_parent, cells, slices, graph, *body = plan
    return Opened(
        cells=cells,
        slices=slices,
        verdicts=verdicts,
        thread_authors=authors,
        graph=graph_octets(graph),
        body=body_ref(dict(zip(("body_key", "body_size", "body_sha256"), body, strict=True))),
        stopped=stop is not None or stop_of_parent is not None,
    )


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
