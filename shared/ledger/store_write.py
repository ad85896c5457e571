"""The hot writes of the ledger, many at once: claims, fates, shares of a fan-out, refusals. Each function works in its caller's transaction.

Rows go in the order of their keys, so that two transactions seldom wait for each other in a circle (and where they do, the database gives one
up and it is run again).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.ledger import Claim
from shared.ledger.rows import (
    RECIPIENT_COLUMNS,
    SUPPRESSION_COLUMNS,
    TEXT_LIMIT,
    SqlRow,
    bounded,
    clean,
    fate_row,
    queued_rows,
    small,
    suppressed_rows,
    waves,
)
from shared.ledger.store_bulk import Bulk
from shared.messages import Expanded, Fate, Refused, encode

REFUSALS_KEPT = 200
"""Refusals of one group that are kept to be looked at; the others are only counted."""

_CLAIM_KEY = {"post_id": "text", "cell": "int4", "hop": "text", "owner": "text"}

_CLAIM = Bulk(
    {**_CLAIM_KEY, "lease": "float8"},
    "INSERT INTO claims (post_id, cell, hop, owner, until) SELECT post_id, cell, hop, owner, {clock} + lease FROM r WHERE true "
    "ON CONFLICT (post_id, cell, hop) DO UPDATE SET "
    "owner = CASE WHEN {ours} THEN excluded.owner ELSE claims.owner END, "
    "until = CASE WHEN {ours} THEN excluded.until ELSE claims.until END "
    "RETURNING post_id, cell, hop, owner, until - {clock}",
    ours="claims.owner = excluded.owner OR claims.until <= {clock}",
)
_RELEASE = Bulk(
    _CLAIM_KEY,
    "DELETE FROM claims WHERE (post_id, cell, hop, owner) IN (SELECT post_id, cell, hop, owner FROM r)",
)
_RECORD = Bulk(
    RECIPIENT_COLUMNS,
    "INSERT INTO recipients ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (post_id, key) DO UPDATE SET "
    "at = excluded.at, next_at = excluded.next_at, state = excluded.state, code = excluded.code, status = excluded.status, "
    "reply = excluded.reply, hop = excluded.hop, "
    "attempts = CASE WHEN excluded.attempts > recipients.attempts THEN excluded.attempts ELSE recipients.attempts END "
    # a copy that has arrived is a fact, whichever attempt it was
    "WHERE recipients.state < 2 AND (excluded.attempts >= recipients.attempts OR excluded.state = 2)",
)
_QUEUE = Bulk(
    RECIPIENT_COLUMNS,
    "INSERT INTO recipients ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (post_id, key) DO NOTHING",
)
_VIA = Bulk(
    {"post_id": "text", "key": "text", "via": "text"},
    "UPDATE recipients SET via = r.via FROM r "
    "WHERE recipients.post_id = r.post_id AND recipients.key = r.key AND recipients.via = ''",
)
_SUPPRESS = Bulk(
    SUPPRESSION_COLUMNS,
    "INSERT INTO suppressions ({columns}) SELECT {columns} FROM r WHERE true "
    "ON CONFLICT (post_id, key, group_key, path) DO NOTHING",
)
_SLICE = Bulk(
    {"post_id": "text", "group_key": "text", "number": "int4", "parts": "int4", "announced": "int4"},
    "INSERT INTO slices ({columns}) SELECT {columns} FROM r WHERE true "
    "ON CONFLICT (post_id, group_key, number) DO UPDATE SET announced = excluded.announced WHERE excluded.announced > slices.announced",
)
_REFUSE = Bulk(
    {
        "digest": "text",
        "at": "float8",
        "code": "int2",
        "group_key": "text",
        "mail_from": "text",
        "status": "text",
        "reply": "text",
        "ip": "text",
    },
    "INSERT INTO refusals ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (digest) DO NOTHING RETURNING group_key, at",
)
_COUNT = Bulk(
    {"group_key": "text", "day": "text", "refused": "int8"},
    "INSERT INTO refusal_counts ({columns}) SELECT {columns} FROM r WHERE true "
    "ON CONFLICT (group_key, day) DO UPDATE SET refused = refusal_counts.refused + excluded.refused",
)
_TRIM = text(
    "DELETE FROM refusals WHERE group_key = :group AND at < "
    "(SELECT at FROM refusals WHERE group_key = :group ORDER BY at DESC LIMIT 1 OFFSET :keep)"
)


def _claim_key(claim: Claim) -> tuple[str, int, str]:
    return bounded(claim.post_id), claim.cell, bounded(claim.hop)


async def claim_all(connection: AsyncConnection, asked: Sequence[tuple[Claim, str, float]]) -> list[float]:
    """Each (claim, owner, lease): 0.0 where it is the owner's now, else the seconds until the other's lease ends."""
    answers: list[float] = [0.0] * len(asked)
    numbered = [((_claim_key(claim),), number) for number, (claim, _, _) in enumerate(asked)]
    for wave in waves(numbered):
        rows = sorted((*_claim_key(asked[n][0]), bounded(asked[n][1]), asked[n][2]) for n in wave)
        held = {(post, cell, hop): (owner, left) for post, cell, hop, owner, left in await _CLAIM.run(connection, rows)}
        for number in wave:
            owner, left = held[_claim_key(asked[number][0])]
            answers[number] = 0.0 if owner == bounded(asked[number][1]) else max(float(left), 0.001)
    return answers


async def release_all(connection: AsyncConnection, given: Sequence[tuple[Claim, str]]) -> list[None]:
    """Let go of each (claim, owner) that is still the owner's."""
    await _RELEASE.run(connection, sorted({(*_claim_key(claim), bounded(owner)) for claim, owner in given}))
    return [None] * len(given)


async def record_all(connection: AsyncConnection, given: Sequence[tuple[str, str, Sequence[Fate]]]) -> list[None]:
    """Record the fates of each (post, group, fates), in this order for one recipient."""
    rows = [fate_row(post_id, group, fate) for post_id, group, fates in given for fate in fates]
    for wave in waves(((row[:2],), row) for row in rows):
        await _RECORD.run(connection, sorted(wave, key=_two))
    return [None] * len(given)


async def file_all(connection: AsyncConnection, shares: Sequence[Expanded]) -> list[None]:
    """File shares of fan-outs: rows that are there already stay, and learn the path of groups where they do not know it."""
    queued = {_two(row): row for share in shares for row in reversed(queued_rows(share))}
    rows = sorted(queued.values(), key=_two)
    await _QUEUE.run(connection, rows)
    await _VIA.run(connection, [(row[0], row[1], row[9]) for row in rows if row[9]])
    suppressed = {row[:4]: row for share in shares for row in suppressed_rows(share)}
    await _SUPPRESS.run(connection, [suppressed[name] for name in sorted(suppressed, key=str)])
    filed: dict[tuple[str, str, int], tuple[int, int]] = {}
    for share in shares:
        name = (bounded(share.post_id), bounded(share.group), share.index)
        announced = len(share.queued) + len(share.suppressed)
        filed[name] = share.of, max(announced, filed.get(name, (0, 0))[1])
    await _SLICE.run(connection, [(*name, *filed[name]) for name in sorted(filed)])
    return [None] * len(shares)


def _two(row: SqlRow) -> tuple[str, str]:
    return str(row[0]), str(row[1])


async def refuse_all(connection: AsyncConnection, given: Sequence[Refused]) -> list[None]:
    """Count refusals, each once however often it is told, and keep the last ones of each group."""
    rows = {_digest(message): message for message in given}
    fresh = await _REFUSE.run(connection, [_refusal_row(digest, rows[digest]) for digest in sorted(rows)])
    counts = Counter((str(group), _day(at)) for group, at in fresh)
    await _COUNT.run(connection, [(*name, counts[name]) for name in sorted(counts)])
    for group in sorted({group for group, _ in counts}):
        await connection.execute(_TRIM, {"group": group, "keep": REFUSALS_KEPT - 1})
    return [None] * len(given)


def _digest(message: Refused) -> str:
    return hashlib.blake2b(encode(message), digest_size=16).hexdigest()


def _refusal_row(digest: str, message: Refused) -> SqlRow:
    return (
        digest,
        message.at,
        small(message.code),
        bounded(message.group),
        clean(message.mail_from)[:TEXT_LIMIT],
        clean(message.status)[:TEXT_LIMIT],
        clean(message.text)[:TEXT_LIMIT],
        clean(message.ip)[:TEXT_LIMIT],
    )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def refusal_of(row: Row[Any]) -> Refused:
    """The refusal that a row holds."""
    return Refused(
        group=row.group_key,
        mail_from=row.mail_from,
        code=row.code,
        status=row.status,
        text=row.reply,
        ip=row.ip,
        at=row.at,
    )
