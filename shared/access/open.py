"""Tokens by URL alone. The database must be of this Horo's version: whoever opens the directory brings it there."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.access.store import SqlTokens
from shared.database.engine import open_engine
from shared.settings import Settings


def open_tokens(settings: Settings, engine: AsyncEngine | None = None) -> SqlTokens:
    """The tokens, on `engine`, which stays its owner's, or on one of their own. Connects when first asked."""
    return SqlTokens(engine or open_engine(settings.effective_database_url), owned=engine is None)
