"""The ledger under everybody at once: two processes file, record, claim, renew and let go over the same rows, in every order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.database import migrate
from shared.database.engine import open_engine
from shared.identity import new_id
from shared.ledger import Claim
from shared.ledger.store import SqlLedger
from shared.messages import Expanded, Fate, Queued, State

GROUP = "office@example.test"
PEOPLE = 60


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server("postgresql"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'horo.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def ledgers(url: str) -> AsyncIterator[tuple[SqlLedger, SqlLedger]]:
    """Two processes' views of one database."""
    made = SqlLedger(open_engine(url), owned=True), SqlLedger(open_engine(url), owned=True)
    await migrate.upgrade(made[0]._engine)
    yield made
    for one in made:
        await one.close()


def share(post_id: str, index: int, of: int) -> Expanded:
    people = [f"m{number}@x.test" for number in range(PEOPLE) if number % of == index]
    queued = tuple(Queued(addresses=(one,)) for one in random.sample(people, len(people)))
    return Expanded(post_id=post_id, group=GROUP, index=index, of=of, queued=queued, suppressed=(), at=1.0)


async def test_p4_everybody_at_once_over_the_same_rows(ledgers: tuple[SqlLedger, SqlLedger]) -> None:
    """Nobody is refused (the database gives up one of two that wait for each other, and it is done again), and the sums are right."""
    posts = [new_id() for _ in range(6)]

    async def send(post_id: str, number: int) -> None:
        ledger, owner = ledgers[number % 2], f"sender{number % 2}"
        people = random.sample(range(PEOPLE), PEOPLE)
        claim = Claim(post_id=post_id, cell=number, hop="smtp://h:25")
        assert (await ledger.take(claim, owner, 30)).wait == 0.0
        for start in range(0, PEOPLE, 15):
            fates = [
                Fate(
                    address=f"m{one}@x.test",
                    state=State.DELIVERED,
                    code=250,
                    status="2.0.0",
                    text="OK",
                    hop="h",
                    attempt=0,
                    at=2.0,
                )
                for one in people[start : start + 15]
            ]
            await ledger.record(claim, GROUP, fates)
        await ledger.release(claim, owner)

    async def file(post_id: str, number: int) -> None:
        for index in random.sample(range(3), 3):
            await ledgers[number % 2].file(share(post_id, index, 3))

    async def renew(number: int) -> None:
        for _ in range(10):
            await ledgers[number % 2].renew(f"sender{number % 2}", 30)

    async def look(post_id: str) -> None:
        for _ in range(10):
            sums = await ledgers[0].totals(post_id)
            assert sums.expanded == sums.delivered + sums.deferred + sums.failed + sums.suppressed

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(send(post_id, number) for post_id in posts for number in range(4)),
            *(file(post_id, number) for post_id in posts for number in range(4)),
            *(renew(number) for number in range(4)),
            *(look(post_id) for post_id in posts),
        )
    for post_id in posts:
        sums = await ledgers[1].totals(post_id)
        assert (sums.expanded, sums.delivered, sums.announced) == (PEOPLE, PEOPLE, PEOPLE)
