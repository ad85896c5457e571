"""Imports into the directory, on SQLite and PostgreSQL: which row counts, what breaks off leaves nothing, and one entry in the change log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psycopg
import pytest

from shared.directory import Added, DirectoryError, DirectoryUnavailable, NewMember
from shared.directory.csvfile import CsvErrors, read_members
from shared.directory.open import open_registry
from shared.directory.rules import member
from shared.directory.store_import import PAGE
from shared.directory.store_write import SqlDirectory
from shared.settings import Settings
from tests.support.servers import PostgreSQL

OFFICE = "office@example.test"
MANY = 2 * PAGE + 7


@pytest.fixture(params=["sqlite", "postgresql"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlDirectory]:
    url = f"sqlite:///{tmp_path}/horo.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = await open_registry(Settings(database_url=url))
    await opened.create_group(OFFICE)
    yield opened
    await opened.close()


async def pages(*parts: Sequence[NewMember]) -> AsyncIterator[Sequence[NewMember]]:
    for part in parts:
        yield part


def numbered(count: int, name: str = "", *, paused: bool | None = None) -> list[NewMember]:
    return [NewMember(address=f"u{number}@x.test", name=name, paused=paused) for number in range(count)]


async def names(registry: SqlDirectory) -> dict[str, str]:
    return {one.key: one.name async for page in registry.members(OFFICE) for one in page}


async def counted(registry: SqlDirectory) -> int:
    group = await registry.group(OFFICE)
    assert group is not None
    return group.members


async def test_of_rows_with_one_key_the_first_counts_in_an_empty_group_and_in_a_full_one(
    registry: SqlDirectory,
) -> None:
    twice = (numbered(MANY, "first"), [NewMember(address="U3@X.test", name="second"), *numbered(MANY, "second")])
    assert await registry.import_members(OFFICE, pages(*twice)) == Added(added=MANY)
    assert await counted(registry) == MANY
    assert set((await names(registry)).values()) == {"first"}
    again = (numbered(MANY, "third"), numbered(MANY, "fourth"), [NewMember(address="new@x.test", name="new")])
    assert await registry.import_members(OFFICE, pages(*again)) == Added(added=1, updated=MANY)
    found = await names(registry)
    assert (len(found), await counted(registry)) == (MANY + 1, MANY + 1)
    assert found.pop("new@x.test") == "new"
    assert set(found.values()) == {"third"}


async def test_what_is_said_already_is_present_and_who_is_missing_is_removed(registry: SqlDirectory) -> None:
    await registry.import_members(OFFICE, pages(numbered(MANY, "name", paused=True)))
    half = numbered(MANY // 2, "name", paused=True)
    assert await registry.import_members(OFFICE, pages(half)) == Added(present=MANY // 2)
    assert await registry.import_members(OFFICE, pages(half), replace=True) == Added(
        present=MANY // 2, removed=MANY - MANY // 2
    )
    assert await counted(registry) == len(await names(registry)) == MANY // 2


async def test_an_import_is_one_change_with_one_key(registry: SqlDirectory) -> None:
    before = await registry.progress(None)
    await registry.import_members(OFFICE, pages(numbered(MANY)))
    after = await registry.progress(before.seq)
    assert (after.seq, list(after.changes)) == (before.seq + 1, [(before.seq + 1, f"group:{OFFICE}")])


async def test_values_that_are_special_to_copy_arrive_as_they_are(registry: SqlDirectory) -> None:
    wanted = {
        '"a\\\\b"@x.test': "\\N",
        "nul@x.test": "\\.",
        "tab@x.test": "a\\tb\\n\\x02 \\",
        "percent@x.test": "%s :name $1 '\" {}",
        "юри@пример.test": "Юри \U0001f600",
    }
    await registry.import_members(OFFICE, pages([NewMember(address=key, name=name) for key, name in wanted.items()]))
    keys = [member(NewMember(address=address), "x.test").key for address in wanted]
    assert await names(registry) == dict(zip(keys, wanted.values(), strict=True))


async def test_a_file_with_an_error_at_its_end_leaves_nothing(registry: SqlDirectory) -> None:
    async def source() -> AsyncIterator[bytes]:
        for number in range(MANY):
            yield b"u%d@x.test\n" % number
        yield b"bad bad\n"

    before = await registry.progress(None)
    with pytest.raises(CsvErrors, match=f"line {MANY + 1}: "):
        await registry.import_members(OFFICE, read_members(source(), domain="example.test"))
    assert await names(registry) == {}
    assert (await registry.progress(None)).seq == before.seq


async def test_checked_and_unchecked_members_may_come_together(registry: SqlDirectory) -> None:
    checked = member(NewMember(address="ana", name="Ana"), "example.test")
    assert await registry.import_members(OFFICE, pages([checked, NewMember(address="boris")])) == Added(added=2)
    assert await names(registry) == {"ana@example.test": "Ana", "boris@example.test": ""}
    with pytest.raises(DirectoryError, match="bad bad"):
        await registry.import_members(OFFICE, pages([checked, NewMember(address="bad bad")]))


async def test_f19_a_connection_cut_between_two_pages_is_unavailable_and_leaves_nothing(
    postgres: PostgreSQL, postgres_url: str
) -> None:
    registry = await open_registry(Settings(database_url=postgres_url))

    async def cut() -> AsyncIterator[Sequence[NewMember]]:
        yield numbered(MANY)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        yield numbered(MANY, "again")

    try:
        await registry.create_group(OFFICE)
        with pytest.raises(DirectoryUnavailable):
            await registry.import_members(OFFICE, cut())
        assert await names(registry) == {}
        assert await registry.import_members(OFFICE, pages(numbered(3))) == Added(added=3)
    finally:
        await registry.close()
