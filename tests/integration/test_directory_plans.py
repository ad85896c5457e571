"""What PostgreSQL makes of the directory's questions when one group has nearly all members there are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from shared.database.engine import open_engine
from shared.directory import NewMember, store_import
from shared.directory.open import open_registry
from shared.directory.store_import import GROWN
from shared.settings import Settings

HUGE, SMALL = "huge@example.test", "small@example.test"
MEMBERS = 200_000
_FILL = """
INSERT INTO members (group_id, key, slot, address, name, search, paused, own_copies, bounce, group_key)
SELECT (SELECT id FROM groups WHERE address = :group), k, ('x' || substr(md5(k), 1, 7))::bit(28)::int * 8, k, '', '', false, false, 'ok', NULL
FROM (SELECT 'p' || n || '@example.net' AS k FROM generate_series(1, :members) n) keys
"""


@pytest.fixture
async def url(postgres_url: str) -> str:
    registry = await open_registry(Settings(database_url=postgres_url))
    await registry.create_group(HUGE)
    await registry.create_group(SMALL, members=[NewMember(address=f"s{number}@example.org") for number in range(10)])
    await registry.close()
    engine = open_engine(postgres_url)
    async with engine.begin() as connection:
        await connection.execute(text(_FILL), {"group": HUGE, "members": MEMBERS})
        await connection.execute(
            text("UPDATE groups SET members = :members WHERE address = :group"), {"group": HUGE, "members": MEMBERS}
        )
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE members"))
        await connection.execute(text("ANALYZE groups"))
    await engine.dispose()
    return postgres_url


async def _read_rows(url: str) -> int:
    """Rows of members that statements have fetched since the server began."""
    engine = open_engine(url)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        found = await connection.scalar(
            text("SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'members'")
        )
    await engine.dispose()
    return int(found or 0)


async def test_p7_a_small_group_s_members_are_found_without_walking_the_huge_one_s(url: str) -> None:
    """A post to ten people must not cost the reading of every member there is because some other group is large."""
    before = await _read_rows(url)
    registry = await open_registry(Settings(database_url=url))
    few, _ = await registry.few_members_at(SMALL, 500)
    assert few is not None
    assert len(few) == 10
    assert await registry.subgroups(SMALL) == await registry.subgroups(HUGE) == []
    assert await registry.is_member(SMALL, "s1@example.org")
    assert not await registry.is_member(SMALL, "p1@example.net")
    assert len((await registry.rolls([SMALL], cells=1))[SMALL][0]) == 10
    await registry.close()
    deadline = time.monotonic() + 5
    while (after := await _read_rows(url)) == before and time.monotonic() < deadline:
        pass  # the statistics of a connection are there a moment after its end
    assert 10 <= after - before < 200


async def _pages(count: int) -> AsyncIterator[list[NewMember]]:
    yield [NewMember(address=f"n{number}@example.net") for number in range(count)]


async def _estimated(url: str) -> float:
    """How many rows the planner takes the table to have; -1 where it was never looked at."""
    engine = open_engine(url)
    async with engine.begin() as connection:
        found = await connection.scalar(text("SELECT reltuples FROM pg_class WHERE relname = 'members'"))
    await engine.dispose()
    return float(found or 0)


async def test_after_a_large_import_the_planner_knows_the_table(postgres_url: str) -> None:
    registry = await open_registry(Settings(database_url=postgres_url))
    await registry.create_group(HUGE)
    await registry.import_members(HUGE, _pages(GROWN))
    await registry.close()
    assert await _estimated(postgres_url) == GROWN


async def test_an_import_stands_though_the_planner_cannot_look(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_import, "ANALYZE_LIMIT", 0.3)
    registry = await open_registry(Settings(database_url=postgres_url))
    await registry.create_group(HUGE)
    engine = open_engine(postgres_url)
    async with engine.begin() as connection:  # a vacuum under way, say, keeps ANALYZE waiting, and nobody else
        await connection.execute(text("LOCK TABLE members IN SHARE UPDATE EXCLUSIVE MODE"))
        assert (await registry.import_members(HUGE, _pages(GROWN))).added == GROWN
    await engine.dispose()
    group = await registry.group(HUGE)
    await registry.close()
    assert group is not None
    assert group.members == GROWN
