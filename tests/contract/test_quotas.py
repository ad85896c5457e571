"""Quotas, held on SQLite and PostgreSQL alike: what a domain sends in a day is counted, what it may have is looked at where it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.directory import Conflict, DirectoryError, NewMember
from shared.directory.store_write import SqlDirectory
from shared.groups import Domain
from shared.ledger.days import Sent
from shared.ledger.store import SqlLedger

NAME, DAY = "example.test", "2026-11-23"


async def test_a_day_is_counted_up_to_the_quota_and_not_beyond(ledger: SqlLedger, other: SqlLedger) -> None:
    most = Sent(3, 10)
    assert await ledger.spent(NAME, DAY) == Sent(0, 0)
    assert await ledger.spend(NAME, DAY, Sent(1, 4), most)
    assert await other.spend(NAME, DAY, Sent(1, 6), most)
    assert not await ledger.spend(NAME, DAY, Sent(1, 1), most)  # an eleventh recipient
    assert await ledger.spend(NAME, DAY, Sent(1, 0), most)
    assert not await ledger.spend(NAME, DAY, Sent(1, 0), most)  # a fourth message
    assert await ledger.spent(NAME, DAY) == await other.spent(NAME, DAY) == Sent(3, 10)
    assert not await ledger.spend(NAME, "2026-11-24", Sent(1, 11), most)  # more than a day's, on a fresh day
    assert await ledger.spend(NAME, "2026-11-24", Sent(1, 10), most)
    assert await ledger.spend("other.test", DAY, Sent(1, 11), Sent(9, 0))  # 0 is no limit


async def test_of_many_at_once_so_many_fit_as_the_quota_says(ledger: SqlLedger, other: SqlLedger) -> None:
    tasks = [(ledger, other)[n % 2].spend(NAME, DAY, Sent(1, 2), Sent(7, 0)) for n in range(20)]
    assert sum(await asyncio.gather(*tasks)) == 7
    await ledger.give_back(NAME, DAY, Sent(1, 2))
    assert await ledger.spent(NAME, DAY) == Sent(6, 12)
    assert await other.spend(NAME, DAY, Sent(1, 2), Sent(7, 0))


async def test_old_days_are_forgotten(ledger: SqlLedger) -> None:
    for month in (1, 2, 3):
        for day in range(1, 29):
            await ledger.spend(NAME, f"2026-{month:02}-{day:02}", Sent(1, 0), Sent(5, 0))
    kept = [f"2026-{month:02}-{day:02}" for month in (1, 2, 3) for day in range(1, 29)]
    found = [day for day in kept if await ledger.spent(NAME, day) != Sent()]
    assert found == kept[-62:]


@pytest.fixture
async def registry(engine: AsyncEngine) -> AsyncIterator[SqlDirectory]:
    made = SqlDirectory(engine, own_engine=False)
    yield made
    await made.close()


def people(low: int, high: int) -> list[NewMember]:
    return [NewMember(address=f"m{n}@x.test") for n in range(low, high)]


async def test_a_domain_keeps_its_settings(registry: SqlDirectory) -> None:
    settings = {"suspended": "on", "max_groups": 3, "max_members": "40", "messages_per_day": 5, "recipients_per_day": 6}
    made = await registry.create_domain(NAME, **settings)
    wanted = Domain(name=NAME, suspended=True, max_groups=3, max_members=40, messages_per_day=5, recipients_per_day=6)
    assert made == await registry.domain(NAME) == (await registry.domains())[0] == wanted
    changed = await registry.set_domain(NAME, suspended=False, max_groups=0)
    assert changed == await registry.domain(NAME)
    assert (changed.suspended, changed.max_groups, changed.metered) == (False, 0, True)
    for bad in ({"max_groups": -1}, {"messages_per_day": "many"}, {"suspended": "perhaps"}, {"max_groups": True}):
        with pytest.raises(DirectoryError, match=next(iter(bad))):
            await registry.set_domain(NAME, **bad)


async def test_a_domain_has_no_more_groups_than_it_may(registry: SqlDirectory) -> None:
    await registry.create_domain(NAME, max_groups=2)
    for name in ("a", "b"):
        await registry.create_group(f"{name}@{NAME}")
    with pytest.raises(Conflict, match="may have 2 groups"):
        await registry.create_group(f"c@{NAME}")
    assert await registry.group(f"c@{NAME}") is None
    await registry.create_group("c@other.test")
    await registry.set_domain(NAME, max_groups=1)  # lowered: those that are there stay, and can be changed
    await registry.set_group(f"a@{NAME}", title="still here")
    await registry.delete_group(f"b@{NAME}")


async def test_a_domains_groups_have_no_more_members_than_they_may_however_they_come(registry: SqlDirectory) -> None:
    await registry.create_domain(NAME, max_members=10)
    with pytest.raises(Conflict, match="11 more are too many"):
        await registry.create_group(f"a@{NAME}", members=people(0, 11))
    await registry.create_group(f"a@{NAME}", members=people(0, 6))
    await registry.create_group(f"b@{NAME}", members=people(0, 3))
    with pytest.raises(Conflict, match=r"has 9, and 2 more are too many"):
        await registry.add_members(f"b@{NAME}", people(0, 5))
    with pytest.raises(Conflict, match="max_members"):
        await registry.import_members(f"a@{NAME}", pages(people(0, 8)))
    assert [group.members for group in await registry.groups(domain=NAME)] == [6, 3]
    assert (await registry.import_members(f"a@{NAME}", pages(people(20, 27)), replace=True)).added == 7
    assert (await registry.add_members(f"a@{NAME}", people(20, 27))).present == 7  # nothing is added to a full domain
    assert await registry.remove_members(f"a@{NAME}", ["m20@x.test"]) == 1


async def pages(members: Sequence[NewMember]) -> AsyncIterator[Sequence[NewMember]]:
    yield members
