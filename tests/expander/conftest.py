"""The world of the expander's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.expander.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An expander over doubles and the real ledger, small limits."""
    async with open_world(tmp_path) as made:
        yield made
