"""The directory by URL alone: what the services read (`open_directory`), and what the command line and the console write (`open_registry`).

Both bring the database to this Horo's version first, whoever comes first, unless HORO_MIGRATE leaves that to a command; a database of a newer
Horo is refused (`SchemaError`).
"""

from __future__ import annotations

import secrets

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import migrate
from shared.database.engine import open_engine
from shared.directory import DirectoryUnavailable
from shared.directory.cache import CachedDirectory
from shared.directory.store_write import SqlDirectory
from shared.settings import Settings


async def open_registry(settings: Settings, *, engine: AsyncEngine | None = None) -> SqlDirectory:
    """The directory to be written, straight on SQL; on `engine`, which stays its owner's, or on one of its own.

    Raises `DirectoryUnavailable` when SQL does not answer, `SchemaError` for a database of a newer version.
    """
    ours = engine or open_engine(settings.effective_database_url)
    try:
        await migrate.at_start(ours, settings.migrate)
    except BaseException as error:
        if engine is None:
            await ours.dispose()
        if isinstance(error, migrate.DatabaseUnavailable):
            raise DirectoryUnavailable(error.why) from error
        raise
    return SqlDirectory(ours, own_engine=engine is None)


async def open_directory(
    settings: Settings, *, secret: str = "", registry: SqlDirectory | None = None, engine: AsyncEngine | None = None
) -> CachedDirectory:
    """The directory to be read, through the caches, on watch; over `registry`, whose changes it then sees at once, or over one of its own.

    `secret` authenticates what Redis holds and must be the same everywhere (HORO_SECRET); without one Redis is of use to this process alone.
    Closing it closes the registry. Raises as `open_registry` does.
    """
    store = registry or await open_registry(settings, engine=engine)
    url = settings.cache_url if settings.cache_url.startswith(("redis:", "rediss:")) else None
    directory = CachedDirectory(store, url, secret or settings.secret or secrets.token_hex(32))
    await directory.start()
    return directory
