"""How commands get at the database, the bus and the rest: by the same settings as the services, whose files they share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from cli.output import CommandError, Exit
from shared import journal
from shared.settings import Settings, load

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from shared.access import Tokens
    from shared.directory import Registry
    from shared.ledger import Ledger
    from shared.parts import Parts


PATIENCE = 5.0
"""Seconds that a command waits for each server it needs: a person sits in front of it."""


def settings() -> Settings:
    """The settings of this shell. Logs go to standard error, warnings and worse alone, in words for people."""
    loaded = load(os.environ)
    journal.configure("error", "console")
    return loaded


@asynccontextmanager
async def registry() -> AsyncIterator[Registry]:
    """The directory, to read and to write."""
    from shared.directory.open import open_registry

    loaded = settings()
    _data(loaded)
    with _told():
        opened = await open_registry(loaded)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def ledger() -> AsyncIterator[Ledger]:
    """The ledger."""
    from shared.ledger.open import open_ledger

    async with _database() as (loaded, engine):
        opened = open_ledger(loaded, engine)
        try:
            yield opened
        finally:
            await opened.close()


@asynccontextmanager
async def tokens() -> AsyncIterator[Tokens]:
    """The tokens of the API."""
    from shared.access.open import open_tokens

    async with _database() as (loaded, engine):
        yield open_tokens(loaded, engine)


@asynccontextmanager
async def _database() -> AsyncIterator[tuple[Settings, AsyncEngine]]:
    """The database, brought to this Horo's version."""
    from shared.database.engine import open_engine
    from shared.database.migrate import at_start

    loaded = settings()
    _data(loaded)
    with _told():
        engine = open_engine(loaded.effective_database_url)
    try:
        with _told():
            await at_start(engine, loaded.migrate)
        yield loaded, engine
    finally:
        await engine.dispose()


async def migrate() -> tuple[str | None, str]:
    """Bring the database to this Horo's version, whatever HORO_MIGRATE says; the version before (None: empty) and the one now."""
    from shared.database import migrate as schema
    from shared.database.engine import open_engine

    loaded = settings()
    _data(loaded)
    with _told():
        engine = open_engine(loaded.effective_database_url)
    try:
        before = await schema.version(engine)
        with _told():
            await schema.upgrade(engine)
    finally:
        await engine.dispose()
    return before, schema.head()


@asynccontextmanager
async def parts() -> AsyncIterator[Parts]:
    """Everything a service has."""
    from shared.parts import open_parts

    async with open_parts(settings(), patience=PATIENCE) as opened:
        yield opened


@contextmanager
def _told() -> Iterator[None]:
    """A database of a newer Horo, one that is none of ours, or a path that is none, is told in a sentence."""
    from shared.database.migrate import SchemaError

    try:
        yield
    except (SchemaError, ValueError) as error:
        raise CommandError(f"the database (HORO_DATABASE_URL): {error}", Exit.USAGE) from error
    except OSError as error:
        why = f"{error.filename or ''}: {error.strerror or error}"
        raise CommandError(f"the database (HORO_DATABASE_URL): {why}", Exit.USAGE) from error


def _data(loaded: Settings) -> None:
    try:
        loaded.data_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"HORO_DATA: cannot make {loaded.data_path}: {error.strerror}", Exit.USAGE) from error
