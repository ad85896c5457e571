"""A ledger on each database, and as another process has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import migrate
from shared.database.engine import open_engine
from shared.ledger.store import SqlLedger


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'horo.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(url)
    await migrate.upgrade(made)
    yield made
    await made.dispose()


@pytest.fixture
async def ledger(engine: AsyncEngine) -> AsyncIterator[SqlLedger]:
    made = SqlLedger(engine)
    yield made
    await made.close()


@pytest.fixture
async def other(url: str, ledger: SqlLedger) -> AsyncIterator[SqlLedger]:
    """The ledger as another process has it: engine and connections of its own."""
    made = SqlLedger(open_engine(url), owned=True)
    yield made
    await made.close()
