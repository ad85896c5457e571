"""Members by the thousand (`Directory.rolls`), on both databases, straight from the store and through the cache: what `members` says."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.directory import Directory, DirectoryUnavailable, NewMember, store_rolls
from shared.directory.cache import CachedDirectory
from shared.directory.open import open_registry
from shared.directory.store_rolls import to_roll
from shared.directory.store_write import SqlDirectory
from shared.groups import SLOTS, Member, Roll, cell, roll, rolls, slot
from shared.settings import Settings as Environment

OFFICE, BOARD, MANY = "office@example.test", "board@example.test", "many@example.test"


@pytest.fixture(params=["sqlite", "postgresql"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlDirectory]:
    url = f"sqlite:///{tmp_path}/horo.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = await open_registry(Environment(database_url=url))
    yield opened
    await opened.close()


@pytest.fixture(params=["store", "process"])
async def reader(request: pytest.FixtureRequest, registry: SqlDirectory) -> AsyncIterator[Directory]:
    if request.param == "store":
        yield registry
        return
    cached = CachedDirectory(registry, None, "the secret of these tests")
    await cached.start()
    yield cached
    await cached.close()


async def settle(registry: SqlDirectory) -> None:
    """Two short lists with everything that a member can be, and one too long for the process's cache."""
    board = [NewMember(address="Vera@Example.org"), NewMember(address="boris@example.org")]
    await registry.create_group(BOARD, members=board)
    people = [
        NewMember(address="boris@example.org"),
        NewMember(address="Ana.Petrova@Example.ORG", name="Ana Petrova"),
        NewMember(address='"odd name"@example.org'),
        NewMember(address="Мария@пример.бг"),
        NewMember(address="Paused@example.org", paused=True),
        NewMember(address="own@example.org", own_copies=True),
        NewMember(address="gone@example.org"),
        NewMember(address="both@example.org", paused=True, own_copies=True),
        NewMember(address="board+x@example.test"),
        NewMember(address="bare"),
    ]
    await registry.create_group(OFFICE, members=people)
    await registry.set_member(OFFICE, "gone@example.org", bounce="suspended")
    many = [NewMember(address=f"p{number}@example.org", paused=not number % 50) for number in range(700)]
    await registry.create_group(MANY, members=many)


async def one_by_one(directory: Directory, key: str, *, cells: int, low: int = 0, high: int = SLOTS) -> dict[int, Roll]:
    """The same from `members`, without names, which a roll does not have."""
    found = [member async for page in directory.members(key, low=low, high=high) for member in page]
    bare = [Member(**{name: getattr(one, name) for name in one.__struct_fields__ if name != "name"}) for one in found]
    return rolls(bare, cells=cells)


@pytest.mark.parametrize("cells", [1, 7, 400])
async def test_p4_rolls_have_everybody_that_the_members_have(
    reader: Directory, registry: SqlDirectory, cells: int
) -> None:
    await settle(registry)
    asked = [OFFICE, BOARD, MANY, "nobody@example.test"]
    found = await reader.rolls(asked, cells=cells)
    assert set(found) == {OFFICE, BOARD, MANY}
    for key in (OFFICE, BOARD, MANY):
        assert found[key] == await one_by_one(reader, key, cells=cells)
    assert sum(len(one) for one in found[OFFICE].values()) == 10
    assert sum(len(one) for one in found[MANY].values()) == 700


async def test_p3_ranges_of_slots_have_everybody_once(reader: Directory, registry: SqlDirectory) -> None:
    await settle(registry)
    bounds = [0, 1, SLOTS // 3, SLOTS // 2, SLOTS - 1, SLOTS]
    seen: list[str] = []
    for low, high in itertools.pairwise(bounds):
        found = await reader.rolls([OFFICE, MANY], cells=64, low=low, high=high)
        for key in found:
            assert found[key] == await one_by_one(reader, key, cells=64, low=low, high=high)
        for of_group in found.values():
            for number, one in of_group.items():
                keys = [*one.keys, *(member.key for member in one.others)]
                assert all(low <= slot(key) < high and cell(slot(key), 64) == number for key in keys)
                seen += keys
    assert len(seen) == len(set(seen)) == 710
    assert await reader.rolls([OFFICE], cells=64, low=5, high=5) == {}
    assert await reader.rolls([], cells=64) == {}


async def test_plain_people_are_keys_and_the_rest_says_what_it_is(reader: Directory, registry: SqlDirectory) -> None:
    await settle(registry)
    office = (await reader.rolls([OFFICE], cells=1))[OFFICE][0]
    assert "bare@example.test" in office.keys
    assert list(office.keys) == sorted(office.keys)
    assert office.spelled["ana.petrova@example.org"] == "Ana.Petrova@example.org"
    assert "boris@example.org" not in office.spelled
    states = {one.key: (one.paused, one.own_copies, one.bounce, one.group) for one in office.others}
    assert states == {
        "board+x@example.test": (False, False, "ok", BOARD),
        "both@example.org": (True, True, "ok", None),
        "gone@example.org": (False, False, "suspended", None),
        "own@example.org": (False, True, "ok", None),
        "paused@example.org": (True, False, "ok", None),
    }


async def test_p6_a_change_shows(reader: Directory, registry: SqlDirectory) -> None:
    await settle(registry)
    assert len((await reader.rolls([BOARD], cells=1))[BOARD][0]) == 2
    await registry.add_members(BOARD, [NewMember(address="new@example.org")])
    assert len((await reader.rolls([BOARD], cells=1))[BOARD][0]) == 3
    await registry.remove_members(BOARD, ["new@example.org", "vera@example.org", "boris@example.org"])
    assert await reader.rolls([BOARD], cells=1) == {}


async def test_p10_more_than_fit_are_refused_and_many_groups_are_read_in_portions(
    registry: SqlDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(registry)
    monkeypatch.setattr(store_rolls, "GROUPS", 2)
    assert set(await registry.rolls([OFFICE, BOARD, MANY], cells=1)) == {OFFICE, BOARD, MANY}
    monkeypatch.setattr(store_rolls, "MOST_IN_ROLLS", 712)
    assert len(await registry.rolls([OFFICE, BOARD, MANY], cells=1)) == 3
    monkeypatch.setattr(store_rolls, "MOST_IN_ROLLS", 711)
    with pytest.raises(DirectoryUnavailable):
        await registry.rolls([OFFICE, BOARD, MANY], cells=1)


# --- the text of a cell -------------------------------------------------------------------------------------------------
_names = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(_names, st.tuples(_names, st.booleans(), st.booleans(), st.booleans()), min_size=1), st.randoms()
)
def test_p4_a_cell_s_lines_read_back_in_whatever_order_they_come(
    members: dict[str, tuple[str, bool, bool, bool]], random: object
) -> None:
    made, lines = [], []
    for key, (address, paused, own_copies, stopped) in members.items():
        made.append(
            Member(
                address=address, key=key, paused=paused, own_copies=own_copies, bounce="suspended" if stopped else "ok"
            )
        )
        state = "p" * paused + "o" * own_copies + "s" * stopped
        plain = key if address == key else f"{key}\t{address}"
        lines.append(f"{key}\t{address}\t{state}\t" if state else plain)
    random.shuffle(lines)  # type: ignore[attr-defined]
    assert to_roll("\n".join(lines)) == roll(made)
