"""Bring a database to this Horo's version, or say why it is not: alembic, run by the program itself.

Several processes may start at once: one migrates, the others wait for it and find the work done.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, write
from shared.replies import TROUBLE, TransientError

LOCK = 0x484F524F  # "HORO": the advisory lock of whoever migrates
_LIMIT = 600.0  # a migration may rewrite a large table
_WAIT = 600.0


class SchemaError(Exception):
    """The database is of another version than this Horo; the text says what to do."""


class DatabaseUnavailable(TransientError):
    """The database does not answer."""

    def __init__(self, why: str) -> None:
        super().__init__(TROUBLE, why=why)


def config(**attributes: Any) -> Config:
    """Alembic's configuration: the scripts that are packaged here, and what `migrations/env.py` is given."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    made.attributes.update(attributes)
    return made


def head() -> str:
    """The version that this Horo knows."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the database to `head()`; nothing to do is fine. Raises `SchemaError` for a newer database, `DatabaseUnavailable`."""
    async with read(engine, DatabaseUnavailable) as connection:  # the usual case: a look that waits for no writer
        if await _version(connection) == head():
            return
    async with asyncio.timeout(_WAIT):
        while not await _upgraded(engine):  # noqa: ASYNC110 - another process is at it, and it has no way to tell us
            await asyncio.sleep(0.1)


async def _upgraded(engine: AsyncEngine) -> bool:
    """Migrate in one transaction that holds the lock: SQLite's write lock, PostgreSQL's advisory one (tried: a wait might hit a limit)."""
    async with write(engine, DatabaseUnavailable, limit=_LIMIT) as connection:
        if engine.dialect.name == "postgresql" and not await connection.scalar(
            text(f"SELECT pg_try_advisory_xact_lock({LOCK})")
        ):
            return False
        found = await _version(connection)
        if found != head():
            _refuse_newer(found)
            await connection.run_sync(_run)
        return True


def _run(connection: Connection) -> None:
    command.upgrade(config(connection=connection), "head")


async def check(engine: AsyncEngine) -> None:
    """Whether the database is of this Horo's version. Raises `SchemaError`, `DatabaseUnavailable`."""
    async with read(engine, DatabaseUnavailable) as connection:
        found = await _version(connection)
    if found == head():
        return
    _refuse_newer(found)
    state = f"of version {found}, older than this Horo's ({head()})" if found else "empty"
    raise SchemaError(f"the database is {state}: run `horo check`, which brings it up to date")


async def _version(connection: AsyncConnection) -> str | None:
    return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def _refuse_newer(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaError(f"the database is of version {found}, newer than this Horo knows ({head()}): upgrade Horo")
