"""A line that cannot be made gives its place in the pool back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.database.line import Step, open_line
from shared.ledger import LedgerUnavailable


class Held:
    """A connection of the pool that turns out to be none when its driver is asked for."""

    def __init__(self) -> None:
        self.given_back = False

    async def get_raw_connection(self) -> Any:
        raise ConnectionResetError("gone")

    async def invalidate(self) -> None:
        pass

    async def close(self) -> None:
        self.given_back = True


async def test_a_connection_that_breaks_while_it_is_made_leaves_the_pool_whole() -> None:
    taken: list[Held] = []

    async def connect() -> Held:
        taken.append(Held())
        return taken[-1]

    engine: Any = SimpleNamespace(connect=connect, dialect=SimpleNamespace(name="postgresql"))
    line = open_line(engine, LedgerUnavailable, writing=True)
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match="ConnectionResetError"):
            await line.run([Step({"postgresql": "SELECT 1"}, {})])
    assert len(taken) == 3
    assert all(held.given_back for held in taken)
    await line.close()
