"""The directory's channels, on SQLite and PostgreSQL: who is reached, what is kept, what goes when its member goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from shared.directory import Conflict, DirectoryError, NewMember, NotFound
from shared.directory.cache import CachedDirectory
from shared.directory.channels import MOST_OF_GROUP, MOST_OF_MEMBER, SealedChannel
from shared.directory.open import open_registry
from shared.directory.store_write import SqlDirectory
from shared.groups import SLOTS, slot
from shared.settings import Settings as Environment

OFFICE, BOARD = "office@example.test", "board@example.test"
ANA, BORIS = "ana@example.org", "boris@example.org"


@pytest.fixture(params=["sqlite", "postgresql"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlDirectory]:
    url = f"sqlite:///{tmp_path}/horo.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = await open_registry(Environment(database_url=url))
    await opened.create_group(OFFICE, members=people("Ana@Example.org", BORIS, BOARD))
    await opened.create_group(BOARD, members=people(ANA))
    yield opened
    await opened.close()


def people(*addresses: str) -> list[NewMember]:
    return [NewMember(address=address) for address in addresses]


def sealed(name: str, kind: str = "webhook") -> SealedChannel:
    return SealedChannel(
        kind=kind, shown=f"{kind}://chat.test", label=f"{kind}:{name}", secret=b"\x00\xff" + name.encode()
    )


async def reached(registry: SqlDirectory, *groups: str, low: int = 0, high: int = SLOTS) -> list[tuple[str, str]]:
    return [(one.group, one.label) for one in await registry.reached(groups or (OFFICE, BOARD), low=low, high=high)]


async def test_a_channel_reads_back_as_it_was_added(registry: SqlDirectory) -> None:
    own = await registry.add_channel("Office@Example.test", sealed("a"))
    hers = await registry.add_channel(OFFICE, sealed("b", "slack"), member="ANA@example.org")
    assert (own.group, own.member, own.kind, own.shown, own.label) == (
        OFFICE,
        "",
        "webhook",
        "webhook://chat.test",
        "webhook:a",
    )
    assert (hers.member, hers.kind) == (ANA, "slack")
    assert list(await registry.channels(OFFICE)) == [own, hers]
    assert list(await registry.channels(OFFICE, member=ANA)) == [hers]
    assert list(await registry.channels(OFFICE, member="")) == [own]
    assert list(await registry.channels(OFFICE, after=own.id, limit=1)) == [hers]
    assert list(await registry.channels(BOARD)) == []
    assert await registry.sealed_channel(hers.id) == sealed("b", "slack")
    assert await registry.sealed_channel(hers.id + 100) is None


async def test_a_signal_reaches_the_groups_channels_and_those_of_members_who_are_not_paused(
    registry: SqlDirectory,
) -> None:
    await registry.add_channel(OFFICE, sealed("own"))
    await registry.add_channel(OFFICE, sealed("ana"), member=ANA)
    await registry.add_channel(OFFICE, sealed("boris"), member=BORIS)
    await registry.add_channel(BOARD, sealed("own"))
    everything = [(OFFICE, "webhook:own"), (OFFICE, "webhook:ana"), (OFFICE, "webhook:boris"), (BOARD, "webhook:own")]
    assert await reached(registry) == everything
    assert await reached(registry, OFFICE) == everything[:3]
    assert await reached(registry, "nobody@example.test") == []
    await registry.set_member(OFFICE, ANA, paused=True)
    await registry.set_member(OFFICE, BORIS, bounce="suspended")  # mail to him bounces; a chat is none
    assert await reached(registry) == [everything[0], everything[2], everything[3]]


async def test_p10_a_part_of_a_fan_out_reads_its_own_channels(registry: SqlDirectory) -> None:
    for number in range(10):
        await registry.add_channel(OFFICE, sealed(f"n{number}"))
    middle = SLOTS // 2
    low, high = await reached(registry, high=middle), await reached(registry, low=middle)
    assert len(low) + len(high) == 10
    assert set(low).isdisjoint(high)
    assert all(slot(label) < middle for _, label in low)
    assert all(slot(label) >= middle for _, label in high)


async def test_what_cannot_be_added(registry: SqlDirectory) -> None:
    await registry.add_channel(OFFICE, sealed("a"))
    with pytest.raises(Conflict):
        await registry.add_channel(OFFICE, sealed("a"))
    await registry.add_channel(OFFICE, sealed("a"), member=ANA)
    with pytest.raises(NotFound):
        await registry.add_channel("nobody@example.test", sealed("a"))
    with pytest.raises(NotFound):
        await registry.add_channel(OFFICE, sealed("a"), member="stranger@example.org")
    with pytest.raises(DirectoryError, match="group itself"):
        await registry.add_channel(OFFICE, sealed("a"), member=BOARD)


@pytest.mark.parametrize(("member", "most"), [("", MOST_OF_GROUP), (ANA, MOST_OF_MEMBER)])
async def test_p10_no_more_channels_than_fit_however_many_add_them_at_once(
    registry: SqlDirectory, member: str, most: int
) -> None:
    adding = [registry.add_channel(OFFICE, sealed(f"n{number}"), member=member) for number in range(most + 4)]
    done = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(isinstance(one, DirectoryError) for one in done) == 4
    assert len(await registry.channels(OFFICE)) == most


async def test_a_channel_is_removed_from_its_own_group_alone(registry: SqlDirectory) -> None:
    made = await registry.add_channel(OFFICE, sealed("a"))
    with pytest.raises(NotFound):
        await registry.remove_channel(BOARD, made.id)
    await registry.remove_channel(OFFICE, made.id)
    with pytest.raises(NotFound):
        await registry.remove_channel(OFFICE, made.id)
    again = await registry.add_channel(OFFICE, sealed("a"))
    assert again.id > made.id  # a number is never another channel's


async def pages(*parts: Sequence[NewMember]) -> AsyncIterator[Sequence[NewMember]]:
    for part in parts:
        yield part


@pytest.mark.parametrize("way", ["remove", "import", "delete"])
async def test_a_members_channels_go_with_the_member(registry: SqlDirectory, way: str) -> None:
    """Whoever comes back, or comes after them under the same address, has none."""
    await registry.add_channel(OFFICE, sealed("own"))
    await registry.add_channel(OFFICE, sealed("ana"), member=ANA)
    await registry.add_channel(OFFICE, sealed("boris"), member=BORIS)
    if way == "remove":
        await registry.remove_members(OFFICE, [ANA])
        left = ["webhook:own", "webhook:boris"]
    elif way == "import":
        await registry.import_members(OFFICE, pages(people(BORIS, "new@example.org")), replace=True)
        left = ["webhook:own", "webhook:boris"]
    else:
        await registry.delete_group(OFFICE)
        await registry.create_group(OFFICE, members=people(BORIS))
        left = []
    await registry.add_members(OFFICE, people(ANA))
    assert [one.label for one in await registry.channels(OFFICE)] == left
    assert [label for _, label in await reached(registry, OFFICE)] == left


async def test_a_change_holds_at_once_through_the_cache(registry: SqlDirectory) -> None:
    cached = CachedDirectory(registry, None, "the secret of these tests")
    await cached.start()
    made = await registry.add_channel(OFFICE, sealed("a"))
    assert [one.id for one in await cached.reached([OFFICE], low=0, high=SLOTS)] == [made.id]
    assert await cached.sealed_channel(made.id) == sealed("a")
    await registry.remove_channel(OFFICE, made.id)
    assert list(await cached.reached([OFFICE], low=0, high=SLOTS)) == []
    await cached.close()


async def test_p10_very_many_groups_are_asked_about_in_portions(registry: SqlDirectory) -> None:
    await registry.add_channel(OFFICE, sealed("own"))
    names = [f"g{number}@example.test" for number in range(1200)]
    assert await reached(registry, *names, OFFICE) == [(OFFICE, "webhook:own")]
