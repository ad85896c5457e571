"""The digest of the secret, held on SQLite and PostgreSQL alike: the first one is the installation's, another one is told."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database.installation import hold_secret, replace_secret, same_secret, server
from shared.database.tables import installation
from shared.ledger.store import SqlLedger

SECRET, OTHER = "the secret of this installation", "the secret of another one"


async def test_the_first_secret_is_the_installations(engine: AsyncEngine, ledger: SqlLedger) -> None:
    assert await same_secret(engine, SECRET) is None
    assert await hold_secret(engine, SECRET)
    assert await hold_secret(engine, SECRET)
    assert await same_secret(engine, OTHER) is False
    assert not await hold_secret(engine, OTHER)
    await replace_secret(engine, OTHER)
    assert await hold_secret(engine, OTHER)
    assert not await hold_secret(engine, SECRET)


async def test_of_processes_that_start_at_once_one_is_first(engine: AsyncEngine, ledger: SqlLedger) -> None:
    held = await asyncio.gather(*(hold_secret(engine, one) for one in (SECRET, OTHER, SECRET, OTHER)))
    assert sorted(held) == [False, False, True, True]
    assert held[0] == held[2]


async def test_the_secret_itself_is_kept_nowhere(engine: AsyncEngine, ledger: SqlLedger) -> None:
    await hold_secret(engine, SECRET)
    async with engine.connect() as connection:
        kept = bytes(await connection.scalar(select(installation.c.secret_digest)) or b"")
    assert len(kept) == 48
    assert SECRET.encode() not in kept


async def test_the_server_says_its_version_and_its_time(engine: AsyncEngine, ledger: SqlLedger) -> None:
    found = await server(engine)
    assert found.name in ("SQLite", "PostgreSQL") and found.version[0].isdigit()
    assert abs(found.now - time.time()) < 5
