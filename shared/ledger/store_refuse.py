"""Refusals in the session: counted, each once however often it is told, and the last ones kept. Works in its caller's transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.ledger.rows import TEXT_LIMIT, SqlRow, bounded, clean, small
from shared.ledger.store_bulk import Bulk
from shared.messages import Refused, encode

REFUSALS_KEPT = 200
"""Refusals of one group that are kept to be looked at; the others are only counted."""

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
