"""Parked messages, and which bodies they still need. Each function works in its caller's transaction."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.ledger import ParkedRecord
from shared.ledger.rows import bounded, clean
from shared.ledger.tables import parked, parked_bodies
from shared.messages import Delivery, Post, Slice, Undecodable, decode

REASON_LIMIT = 2000


async def park(connection: AsyncConnection, queue: str, reason: str, payload: bytes, tries: int, unique: str) -> int:
    """Keep a message, once for each `unique`; returns its number."""
    values = {
        "queue": clean(queue),
        "reason": clean(reason)[:REASON_LIMIT],
        "payload": payload,
        "tries": tries,
        "at": time.time(),
        "mark": bounded(unique),
    }
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(parked).values(values).on_conflict_do_nothing(index_elements=[parked.c.mark])
    number = await connection.scalar(statement.returning(parked.c.id))
    if number is None:
        kept = await connection.scalar(select(parked.c.id).where(parked.c.mark == values["mark"]))
        return int(kept or 0)
    if (key := body_key(payload)) is not None:
        await connection.execute(insert(parked_bodies).values(parked_id=number, body_key=bounded(key)))
    return int(number)


def body_key(payload: bytes) -> str | None:
    """The body that a message on the bus names, if it is one that does; whoever made it, it is not trusted to decode."""
    try:
        message = decode(payload)
    except Undecodable:
        return None
    match message:
        case Post(content=content) | Delivery(content=content) | Slice(post=Post(content=content)):
            return content.ref.key if content.ref is not None else None
        case _:
            return None


async def page(connection: AsyncConnection, after: int, limit: int) -> list[ParkedRecord]:
    """Parked messages by number, those that follow `after`."""
    query = select(parked).where(parked.c.id > after).order_by(parked.c.id).limit(limit)
    return [_record(row) for row in await connection.execute(query)]


async def one(connection: AsyncConnection, number: int) -> ParkedRecord | None:
    """One parked message."""
    row = (await connection.execute(select(parked).where(parked.c.id == number))).one_or_none()
    return None if row is None else _record(row)


async def unpark(connection: AsyncConnection, number: int) -> bool:
    """Forget a parked message; whether it was there."""
    await connection.execute(delete(parked_bodies).where(parked_bodies.c.parked_id == number))
    result = await connection.execute(delete(parked).where(parked.c.id == number))
    return bool(result.rowcount)


async def needs(connection: AsyncConnection, key: str) -> bool:
    """Whether a parked message names this body."""
    query = select(parked_bodies.c.parked_id).where(parked_bodies.c.body_key == bounded(key)).limit(1)
    return await connection.scalar(query) is not None


def _record(row: Row[Any]) -> ParkedRecord:
    return ParkedRecord(
        id=row.id, queue=row.queue, reason=row.reason, payload=bytes(row.payload), tries=row.tries, at=row.at
    )
