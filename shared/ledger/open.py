"""Open the ledger that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.database.engine import open_engine
from shared.ledger.store import SqlLedger
from shared.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def open_ledger(settings: Settings, engine: AsyncEngine | None = None) -> SqlLedger:
    """The ledger in HORO_DATABASE_URL, or on an engine that is shared (and that its owner disposes of).

    Connects when first used. The schema is brought up to date by `shared.database.migrate.upgrade`, not here. Raises ValueError for a bad URL.
    """
    if engine is not None:
        return SqlLedger(engine)
    return SqlLedger(open_engine(settings.effective_database_url), owned=True)
