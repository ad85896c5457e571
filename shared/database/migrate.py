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


class SchemaBehind(SchemaError):
    """The database has yet to be brought to this Horo's version."""


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


async def at_start(engine: AsyncEngine, when: str) -> None:
    """The database as a process needs it, by HORO_MIGRATE: brought to `head()` here and now, or, with "command", looked at.

    One that is behind is then `DatabaseUnavailable`, for `horo migrate` may be under way: a process that starts waits for it as for a server.
    Raises `SchemaError` for a newer database.
    """
    if when == "start":
        return await upgrade(engine)
    try:
        return await check(engine)
    except SchemaBehind as error:
        raise DatabaseUnavailable(str(error)) from error


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


async def check(engine: AsyncEngine, *, newer: bool = False) -> None:
    """Whether the database is of this Horo's version. Raises `SchemaError`, `DatabaseUnavailable`.

    `newer`: one that a newer Horo has brought further will do. A process that runs must bear that while a release is rolled out, or all of the
    old ones would stop working before the first of the new ones has begun; migrations leave what the release before reads and writes.
    """
    found = await version(engine)
    if found == head():
        return
    if newer and _is_newer(found):
        return
    _refuse_newer(found)
    state = f"of version {found}, older than this Horo's ({head()})" if found else "empty"
    raise SchemaBehind(f"the database is {state}: run `horo migrate`, which brings it up to date")


async def version(engine: AsyncEngine) -> str | None:
    """The version of the database, None for an empty one. Raises `DatabaseUnavailable`."""
    async with read(engine, DatabaseUnavailable) as connection:
        return await _version(connection)


async def _version(connection: AsyncConnection) -> str | None:
    return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def knows(version: str) -> bool:
    """Whether a database of this version can be brought to this Horo's; "" is an empty one."""
    return not _is_newer(version or None)


def _is_newer(found: str | None) -> bool:
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    return found is not None and found not in known


def _refuse_newer(found: str | None) -> None:
    if _is_newer(found):
        raise SchemaError(f"the database is of version {found}, newer than this Horo knows ({head()}): upgrade Horo")
