"""Notes in SQL: few rows, written one by one and read by post."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.ledger import LedgerUnavailable
from shared.ledger.notes import Note, stop_note
from shared.ledger.rows import TEXT_LIMIT, bounded, clean
from shared.ledger.store_bulk import Bulk
from shared.ledger.tables import notes

_NOTE = Bulk(
    {"post_id": "text", "mark": "int8", "at": "float8", "kind": "text", "group_key": "text", "detail": "text"},
    "INSERT INTO notes ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT DO NOTHING",
)
_detail = msgspec.json.Decoder(dict[str, str])


def mark_of_note(note: Note) -> int:
    """63 bits of what makes the note one."""
    facts = "\0".join((note.kind, note.group, note.unique)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(facts, digest_size=8).digest()) >> 1


STOP = f"(SELECT stops.at FROM notes AS stops WHERE stops.mark = {mark_of_note(stop_note('', at=0, why=''))} AND stops.post_id"  # noqa: S608 - a number
"""When a post was stopped, NULL where it was not: `STOP + " = posts.id)"`. One look by the key, and no join that a planner could turn round."""


class StoredNotes:
    """The ledger's notes in one database."""

    _engine: AsyncEngine

    async def note(self, note: Note) -> None:
        """Keep a note, insert-if-absent."""
        detail = {name: clean(value)[:TEXT_LIMIT] for name, value in note.detail.items()}
        row = (
            bounded(note.post_id),
            mark_of_note(note),
            note.at,
            clean(note.kind)[:TEXT_LIMIT],
            bounded(note.group),
            msgspec.json.encode(detail).decode(),
        )

        async def work(connection: AsyncConnection) -> None:
            await _NOTE.run(connection, [row])

        await transact(self._engine, LedgerUnavailable, work)

    async def notes(self, post_id: str, *, limit: int = 200) -> Sequence[Note]:
        """The notes of a post, oldest first."""
        columns = notes.c
        query = select(notes).where(columns.post_id == bounded(post_id)).order_by(columns.at, columns.mark).limit(limit)
        async with read(self._engine, LedgerUnavailable) as connection:
            rows = (await connection.execute(query)).all()
        return [
            Note(
                post_id=row.post_id,
                kind=row.kind,
                group=row.group_key,
                at=row.at,
                unique="",
                detail=_detail.decode(row.detail),
            )
            for row in rows
        ]
