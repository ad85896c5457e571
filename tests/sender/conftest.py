"""A real ledger on SQLite and a real embedded bus for the sender's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus import Bus
from shared.bus.open import open_bus
from shared.database import migrate
from shared.database.engine import open_engine
from shared.ledger import Ledger
from shared.ledger.open import open_ledger
from shared.settings import Settings


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    settings = Settings(data=str(tmp_path))
    engine = open_engine(settings.effective_database_url)
    await migrate.upgrade(engine)
    ledger = open_ledger(settings, engine)
    yield ledger
    await ledger.close()
    await engine.dispose()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    bus = await open_bus("embedded:", tmp_path)
    yield bus
    await bus.close()
