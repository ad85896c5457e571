"""What domains with a quota have sent, in SQL: one row for a domain and a day, changed by one statement that knows the limit itself."""

from __future__ import annotations

from sqlalchemy import and_, delete, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.ledger import LedgerUnavailable
from shared.ledger.days import Sent
from shared.ledger.rows import bounded
from shared.ledger.tables import domain_days as table

KEPT = 62
"""Days of a domain that are kept, to be looked at."""


class StoredDays:
    """The part of the ledger that counts for quotas, in one database."""

    _engine: AsyncEngine

    async def spend(self, domain: str, day: str, sent: Sent, most: Sent) -> bool:
        """Count it where it fits; whether it did."""
        if any(
            limit and part > limit
            for limit, part in ((most.messages, sent.messages), (most.recipients, sent.recipients))
        ):
            return False
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        row = insert(table).values(domain=bounded(domain), day=day, messages=sent.messages, recipients=sent.recipients)
        columns, new = table.c, row.excluded
        counted = {"messages": columns.messages + new.messages, "recipients": columns.recipients + new.recipients}
        fits = [
            counted[name] <= limit
            for name, limit in (("messages", most.messages), ("recipients", most.recipients))
            if limit
        ]
        statement = row.on_conflict_do_update(index_elements=["domain", "day"], set_=counted, where=and_(true(), *fits))

        async def work(connection: AsyncConnection) -> bool:
            done = (await connection.execute(statement.returning(columns.messages))).scalar_one_or_none()
            if done == sent.messages:  # the first of its day
                await _forget(connection, domain)
            return done is not None

        return await transact(self._engine, LedgerUnavailable, work)

    async def give_back(self, domain: str, day: str, sent: Sent) -> None:
        """Count it no longer."""
        columns = table.c
        mine = update(table).where(columns.domain == bounded(domain), columns.day == day)
        less = mine.values(messages=columns.messages - sent.messages, recipients=columns.recipients - sent.recipients)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(less)

        await transact(self._engine, LedgerUnavailable, work)

    async def spent(self, domain: str, day: str) -> Sent:
        """What was counted."""
        columns = table.c
        query = select(columns.messages, columns.recipients).where(
            columns.domain == bounded(domain), columns.day == day
        )
        async with read(self._engine, LedgerUnavailable) as connection:
            row = (await connection.execute(query)).first()
        return Sent() if row is None else Sent(row.messages, row.recipients)


async def _forget(connection: AsyncConnection, domain: str) -> None:
    """Keep the last days of a domain alone."""
    columns = table.c
    mine = columns.domain == bounded(domain)
    oldest = select(columns.day).where(mine).order_by(columns.day.desc()).offset(KEPT - 1).limit(1).scalar_subquery()
    await connection.execute(delete(table).where(mine, columns.day < oldest))
