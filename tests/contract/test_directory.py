"""The directory's contract, on SQLite and PostgreSQL, straight from the store and through both stacks of caches."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from shared.directory import Added, Conflict, Directory, DirectoryError, NewMember, NotFound, Registry
from shared.directory.cache import CachedDirectory
from shared.directory.open import open_registry
from shared.directory.store_write import SqlDirectory
from shared.groups import SLOTS, Domain, Member, Settings, slot
from shared.settings import Settings as Environment

SECRET = "the secret of these tests"
OFFICE = "office@example.test"


class Stack(NamedTuple):
    """What is read and what is written; a change made in this process is seen by both at once."""

    reader: Directory
    registry: Registry


@pytest.fixture(params=["sqlite", "postgresql"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlDirectory]:
    url = f"sqlite:///{tmp_path}/horo.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = await open_registry(Environment(database_url=url))
    yield opened
    await opened.close()


@pytest.fixture(params=["store", "process", "redis"])
async def stack(request: pytest.FixtureRequest, registry: SqlDirectory) -> AsyncIterator[Stack]:
    if request.param == "store":
        yield Stack(registry, registry)
        return
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    cached = CachedDirectory(registry, url, SECRET)
    await cached.start()
    yield Stack(cached, registry)
    await cached.close()


def people(*addresses: str) -> list[NewMember]:
    return [NewMember(address=address) for address in addresses]


async def pages(*parts: Sequence[NewMember]) -> AsyncIterator[Sequence[NewMember]]:
    for part in parts:
        yield part


async def everyone(directory: Directory, key: str, **bounds: int) -> list[Member]:
    found: list[Member] = []
    async for page in directory.members(key, **bounds):
        assert 0 < len(page) <= 1000
        found.extend(page)
    return found


async def keys(directory: Directory, key: str, **bounds: int) -> list[str]:
    return [member.key for member in await everyone(directory, key, **bounds)]


# --- reading ---------------------------------------------------------------------------------------------------------
async def test_a_group_reads_back_as_it_was_made(stack: Stack) -> None:
    made = await stack.registry.create_group(
        "Office@Example.TEST", members=people("Ana@Example.org", "boris"), title="Офисът", disabled="on", max_size=5000
    )
    found = await stack.reader.group(OFFICE)
    assert found is not None
    assert found.address == OFFICE
    assert found.settings == Settings(title="Офисът", disabled=True, max_size=5000)
    assert (found.members, found.id) == (2, made.id)
    assert found.seq >= made.seq > 0
    assert [(m.address, m.key) for m in await everyone(stack.reader, OFFICE)] == [
        ("Ana@example.org", "ana@example.org"),
        ("boris@example.test", "boris@example.test"),
    ]


async def test_what_is_not_there_is_none_and_empty(stack: Stack) -> None:
    for _ in range(2):  # the second answer may be a cached one
        assert await stack.reader.group(OFFICE) is None
        assert await stack.reader.domain("example.test") is None
        assert list(await stack.reader.subgroups(OFFICE)) == []
        assert await everyone(stack.reader, OFFICE) == []
        assert not await stack.reader.is_member(OFFICE, "ana@example.test")
    await stack.registry.create_group(OFFICE)
    assert await stack.reader.group(OFFICE) is not None
    assert await stack.reader.domain("example.test") == Domain(name="example.test")


async def test_every_change_is_seen_at_once_where_it_was_made(stack: Stack) -> None:
    registry, reader = stack.registry, stack.reader
    await registry.create_group(OFFICE)
    assert await keys(reader, OFFICE) == []
    await registry.add_members(OFFICE, people("ana@x.test", "boris@x.test"))
    assert await keys(reader, OFFICE) == ["ana@x.test", "boris@x.test"]
    await registry.set_member(OFFICE, "ana@x.test", paused=True, own_copies=True, bounce="suspended", name="Ana")
    assert (await everyone(reader, OFFICE))[0] == Member(
        address="ana@x.test", key="ana@x.test", name="Ana", paused=True, own_copies=True, bounce="suspended"
    )
    assert await registry.remove_members(OFFICE, ["BORIS@x.test", "nobody@x.test"]) == 1
    assert await keys(reader, OFFICE) == ["ana@x.test"]
    assert not await reader.is_member(OFFICE, "boris@x.test")
    await registry.set_group(OFFICE, envelope="alias")
    found = await reader.group(OFFICE)
    assert found is not None
    assert (found.settings.envelope, found.members) == ("alias", 1)
    await registry.set_domain("example.test", disabled=True, postmaster="pm@x.test")
    assert await reader.domain("example.test") == Domain(name="example.test", disabled=True, postmaster="pm@x.test")
    await registry.delete_group(OFFICE)
    assert await reader.group(OFFICE) is None
    assert await keys(reader, OFFICE) == []
    await registry.delete_domain("example.test")
    assert await reader.domain("example.test") is None


async def test_p10_members_come_slice_by_slice_in_key_order(stack: Stack) -> None:
    wanted = sorted(f"user{number}@x{number % 7}.test" for number in range(2500))
    await stack.registry.create_group(OFFICE)
    await stack.registry.import_members(OFFICE, pages(people(*wanted)))
    assert await keys(stack.reader, OFFICE) == wanted
    bounds = [SLOTS * number // 5 for number in range(6)]
    slices = [await keys(stack.reader, OFFICE, low=low, high=high) for low, high in itertools.pairwise(bounds)]
    assert [sorted(part) == part for part in slices] == [True] * 5
    assert sorted(key for part in slices for key in part) == wanted
    for part, low, high in zip(slices, bounds, bounds[1:], strict=False):
        assert all(low <= slot(key) < high for key in part)
    assert await keys(stack.reader, OFFICE, low=5, high=5) == []
    assert await stack.reader.is_member(OFFICE, wanted[1234])
    assert not await stack.reader.is_member(OFFICE, "stranger@x1.test")


async def test_small_groups_are_sliced_like_large_ones(stack: Stack) -> None:
    await stack.registry.create_group(OFFICE, members=people("ana@x.test", "boris@x.test", "vera@x.test"))
    middle = slot("boris@x.test")
    assert await keys(stack.reader, OFFICE, low=middle, high=middle + 1) == ["boris@x.test"]
    below, above = await keys(stack.reader, OFFICE, high=middle), await keys(stack.reader, OFFICE, low=middle)
    assert sorted(below + above) == ["ana@x.test", "boris@x.test", "vera@x.test"]


@pytest.mark.parametrize("others", [0, 700], ids=["small", "large"])
async def test_members_that_are_groups_are_told_as_such(stack: Stack, others: int) -> None:
    registry, reader = stack.registry, stack.reader
    filler = [f"user{number}@x.test" for number in range(others)]
    await registry.create_group(OFFICE, members=people("board+copy", "team@other.test", "ana", *filler))
    assert list(await reader.subgroups(OFFICE)) == []
    await registry.create_group("board@example.test", members=people(OFFICE))
    await registry.create_group("team@other.test")
    assert [(m.key, m.group) for m in await reader.subgroups(OFFICE)] == [
        ("board+copy@example.test", "board@example.test"),
        ("team@other.test", "team@other.test"),
    ]
    assert [m.group for m in await reader.subgroups("board@example.test")] == [OFFICE]
    asked = (OFFICE, "board@example.test", "team@other.test", "nowhere@example.test")
    for _ in range(2):  # the second time some of it may be known
        nested = await reader.nested(asked)
        assert {key: list(nested[key]) for key in asked} == {key: list(await reader.subgroups(key)) for key in asked}
    assert await reader.is_member(OFFICE, "board+copy@example.test")
    assert {m.key for m in await everyone(reader, OFFICE) if m.group} == {"board+copy@example.test", "team@other.test"}
    await registry.delete_group("board@example.test")
    assert [m.key for m in await reader.subgroups(OFFICE)] == ["team@other.test"]
    assert await reader.is_member(OFFICE, "board+copy@example.test")


async def test_role_addresses_of_a_group_are_no_groups(stack: Stack) -> None:
    await stack.registry.create_group("board@example.test")
    await stack.registry.create_group(
        OFFICE, members=people("board-owner", "board-bounces+x", "postmaster", "board+x@foreign.test", "boards+x")
    )
    assert list(await stack.reader.subgroups(OFFICE)) == []


async def test_a_group_may_hold_itself(stack: Stack) -> None:
    await stack.registry.create_group(OFFICE, members=people("office", "OFFICE+again"))
    assert [m.group for m in await stack.reader.subgroups(OFFICE)] == [OFFICE, OFFICE]


async def test_check_and_simultaneous_questions(stack: Stack) -> None:
    await stack.reader.check()
    await stack.registry.create_group(OFFICE, members=people("ana"))
    found = await asyncio.gather(*(stack.reader.group(OFFICE) for _ in range(100)))
    assert {group.members for group in found if group} == {1}
    assert all(found)


async def test_p10_an_edit_in_the_middle_of_a_reading_hides_nobody_who_stays(stack: Stack) -> None:
    everybody = [f"user{number:04}@x.test" for number in range(2500)]
    await stack.registry.create_group(OFFICE)
    await stack.registry.import_members(OFFICE, pages(people(*everybody)))
    seen: list[str] = []
    edited = False
    async for page in stack.reader.members(OFFICE):
        seen.extend(member.key for member in page)
        if not edited:
            edited = True
            await stack.registry.remove_members(OFFICE, everybody[::10])
            await stack.registry.add_members(OFFICE, people("a@x.test", "zz@x.test"))
    stayed = {key for number, key in enumerate(everybody) if number % 10}
    assert stayed <= set(seen)
    assert len(seen) == len(set(seen))


# --- changing --------------------------------------------------------------------------------------------------------
async def test_names_taken_and_reserved_are_refused(registry: Registry) -> None:
    await registry.create_group(OFFICE)
    for address in ("OFFICE@example.test", "postmaster@example.test", "a-owner@example.test", "a-bounces@example.test"):
        with pytest.raises(Conflict):
            await registry.create_group(address)
    for address in (
        "office+x@example.test",
        "no domain",
        "a b@example.test",
        "оffice@example.test",
        "@example.test",
        "x@",
    ):
        with pytest.raises(DirectoryError):
            await registry.create_group(address)
    with pytest.raises(Conflict):
        await registry.create_domain("EXAMPLE.test")
    assert [group.address for group in await registry.groups()] == [OFFICE]


BAD_SETTINGS = [
    ({"reject_automatic": "maybe"}, "reject_automatic"),
    ({"who_can_post": "friends"}, "anyone, domain, members, owners"),
    ({"envelope": 5}, "list, alias"),
    ({"max_size": -1}, "max_size"),
    ({"max_size": True}, "max_size"),
    ({"max_size": "big"}, "max_size"),
    ({"title": "a\r\nBcc: x@y.test"}, "title"),
    ({"title": "a\u0085b"}, "U\\+0085"),
    ({"subject_prefix": "[x]\n"}, "subject_prefix"),
    ({"title": "=?utf-8?q?=0ABcc:x?="}, "encoded words"),
    ({"title": "x" * 201}, "title"),
    ({"title": "\udcff"}, "title"),
    ({"description": "a\x00b"}, "description"),
    ({"owners": ["ana@x.test", "not an address"]}, "owners"),
    ({"owners": 7}, "owners"),
    ({"nest_from": "x.test, ..bad"}, "nest_from"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(
    ("changes", "told"), BAD_SETTINGS, ids=lambda value: str(value)[:30].encode("ascii", "replace").decode()
)
async def test_bad_settings_are_refused_by_name_and_change_nothing(
    registry: Registry, changes: dict[str, Any], told: str
) -> None:
    await registry.create_group(OFFICE, title="Before")
    with pytest.raises(DirectoryError, match=told):
        await registry.set_group(OFFICE, **changes)
    with pytest.raises(DirectoryError, match=told):
        await registry.create_group("other@example.test", **changes)
    groups = await registry.groups()
    assert [(group.address, group.settings) for group in groups] == [(OFFICE, Settings(title="Before"))]


async def test_settings_are_read_as_people_write_them(registry: Registry) -> None:
    made = await registry.create_group(
        OFFICE,
        remove_author="off",
        verp="YES",
        owners="Ana <nothing>".removesuffix(" <nothing>") + ", boris@X.test,",
        nest_from=["Other.TEST", "bücher.example"],
        max_size="1000",
        who_can_post="Members",
        description="two\nlines",
    )
    assert made.settings == Settings(
        remove_author=False,
        verp=True,
        owners=("Ana@example.test", "boris@x.test"),
        nest_from=("other.test", "xn--bcher-kva.example"),
        max_size=1000,
        who_can_post="members",
        description="two\nlines",
    )
    changed = await registry.set_group(OFFICE, owners=(), verp=False)
    assert changed.settings == msgspec.structs.replace(made.settings, owners=(), verp=False)


NEEDS_A_GROUP: list[Callable[[Registry], Awaitable[Any]]] = [
    lambda registry: registry.set_group(OFFICE, title="x"),
    lambda registry: registry.delete_group(OFFICE),
    lambda registry: registry.add_members(OFFICE, people("ana")),
    lambda registry: registry.remove_members(OFFICE, ["ana"]),
    lambda registry: registry.set_member(OFFICE, "ana", paused=True),
    lambda registry: registry.list_members(OFFICE),
    lambda registry: registry.import_members(OFFICE, pages(people("ana"))),
    lambda registry: registry.set_domain("example.test", disabled=True),
    lambda registry: registry.delete_domain("example.test"),
]


@pytest.mark.parametrize("act", NEEDS_A_GROUP, ids=range(len(NEEDS_A_GROUP)))
async def test_what_is_not_there_cannot_be_changed(
    registry: Registry, act: Callable[[Registry], Awaitable[Any]]
) -> None:
    with pytest.raises(NotFound):
        await act(registry)


async def test_a_domain_with_groups_stays(registry: Registry) -> None:
    await registry.create_domain("example.test", postmaster="pm@x.test")
    await registry.create_group(OFFICE)
    with pytest.raises(Conflict, match="still has groups, office@"):
        await registry.delete_domain("example.test")
    assert await registry.domain("example.test") == Domain(name="example.test", postmaster="pm@x.test")


async def test_members_are_added_once_and_counted_exactly(registry: Registry) -> None:
    made = await registry.create_group(OFFICE, members=people("ana", "ANA@example.test", "boris@x.test"))
    assert made.members == 2
    again = [NewMember(address="Ana", paused=True), *people("vera@x.test", "VERA@X.test")]
    assert await registry.add_members(OFFICE, again) == Added(added=1, present=1)
    assert [(m.key, m.paused) for m in await registry.list_members(OFFICE)] == [
        ("ana@example.test", False),
        ("boris@x.test", False),
        ("vera@x.test", False),
    ]
    assert await registry.add_members(OFFICE, people(*(f"u{number}@x.test" for number in range(1200)))) == Added(
        added=1200
    )
    assert await registry.remove_members(OFFICE, [f"u{number}@x.test" for number in range(0, 1200, 2)]) == 600
    group = await registry.group(OFFICE)
    assert group is not None
    assert group.members == len(await everyone(registry, OFFICE)) == 603


async def test_one_bad_member_adds_nobody(registry: Registry) -> None:
    await registry.create_group(OFFICE)
    for bad in ("", "a b", "a@b@c.test", "x@[127.0.0.1]", "ana\n@x.test"):
        with pytest.raises(DirectoryError):
            await registry.add_members(OFFICE, people("good@x.test", bad))
    with pytest.raises(DirectoryError, match="name"):
        await registry.add_members(OFFICE, [NewMember(address="good@x.test", name="a\rb")])
    with pytest.raises(DirectoryError):
        await registry.create_group("other@example.test", members=people("good@x.test", "bad bad"))
    assert await everyone(registry, OFFICE) == []
    assert await registry.group("other@example.test") is None


async def test_bad_changes_of_a_member_are_refused(registry: Registry) -> None:
    await registry.create_group(OFFICE, members=people("ana"))
    for changes in ({"paused": "sometimes"}, {"bounce": "dead"}, {"key": "x"}, {"name": "a\nb"}, {"name": 5}):
        with pytest.raises(DirectoryError):
            await registry.set_member(OFFICE, "ana", **changes)
    assert (await registry.list_members(OFFICE))[0] == Member(address="ana@example.test", key="ana@example.test")


async def test_import_adds_changes_and_replaces(registry: Registry) -> None:
    await registry.create_group(
        OFFICE, members=[NewMember(address="ana", name="Ana", paused=True), *people("boris", "gone")]
    )
    first = [NewMember(address="ANA@example.test"), NewMember(address="boris", name="Boris", own_copies=True)]
    second = [*people("vera@x.test", "Vera@x.test", "boris")]
    assert await registry.import_members(OFFICE, pages(first, second)) == Added(added=1, present=1, updated=1)
    assert await registry.import_members(OFFICE, pages(first, second), replace=True) == Added(present=3, removed=1)
    assert await registry.import_members(OFFICE, pages([NewMember(address="ana", paused=False)])) == Added(updated=1)
    found = await everyone(registry, OFFICE)
    assert [(m.key, m.name, m.paused, m.own_copies) for m in found] == [
        ("ana@example.test", "Ana", False, False),
        ("boris@example.test", "Boris", False, True),
        ("vera@x.test", "", False, False),
    ]
    group = await registry.group(OFFICE)
    assert group is not None
    assert group.members == 3


async def test_import_is_all_or_nothing(registry: Registry) -> None:
    async def broken() -> AsyncIterator[Sequence[NewMember]]:
        yield people(*(f"u{number}@x.test" for number in range(6000)))
        raise DirectoryError("line 6001")

    await registry.create_group(OFFICE, members=people("ana"))
    with pytest.raises(DirectoryError, match="line 6001"):
        await registry.import_members(OFFICE, broken())
    with pytest.raises(DirectoryError):
        await registry.import_members(OFFICE, pages(people("u@x.test"), people("bad bad")), replace=True)
    with pytest.raises(DirectoryError, match="empty"):
        await registry.import_members(OFFICE, pages([]), replace=True)
    assert await keys(registry, OFFICE) == ["ana@example.test"]
    assert await registry.import_members(OFFICE, pages(people("boris"))) == Added(added=1)


async def test_an_import_that_drips_holds_nobody_up(registry: Registry) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def dripping() -> AsyncIterator[Sequence[NewMember]]:
        yield people(*(f"u{number}@x.test" for number in range(6000)))
        waiting.set()
        await go_on.wait()
        yield people("last@x.test")

    await registry.create_group(OFFICE)
    importing = asyncio.create_task(registry.import_members(OFFICE, dripping()))
    await waiting.wait()
    await asyncio.wait_for(registry.create_group("board@example.test", members=people("ana")), 5)
    await asyncio.wait_for(registry.add_members(OFFICE, people("u1@x.test")), 5)
    assert not importing.done()
    go_on.set()
    assert await importing == Added(added=6000, present=1)
    group = await registry.group(OFFICE)
    assert group is not None
    assert group.members == 6001


async def test_an_import_that_is_cancelled_leaves_nothing(registry: Registry) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[Sequence[NewMember]]:
        yield people(*(f"u{number}@x.test" for number in range(6000)))
        waiting.set()
        await asyncio.Event().wait()

    await registry.create_group(OFFICE)
    importing = asyncio.create_task(registry.import_members(OFFICE, endless()))
    await waiting.wait()
    importing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert await keys(registry, OFFICE) == []
    assert await registry.import_members(OFFICE, pages(people("ana"))) == Added(added=1)


async def test_imported_members_that_are_groups_are_told_as_such(registry: Registry) -> None:
    await registry.create_group("board@example.test")
    await registry.create_group(OFFICE)
    await registry.import_members(OFFICE, pages(people("board+x", "board@example.test", "ana")))
    assert [m.group for m in await registry.subgroups(OFFICE)] == ["board@example.test"] * 2


async def test_writers_at_the_same_time_are_put_in_order(registry: SqlDirectory) -> None:
    await registry.create_group(OFFICE)
    results = await asyncio.gather(
        *(registry.add_members(OFFICE, people(f"u{number}@x.test", "same@x.test")) for number in range(20)),
        *(registry.create_group("race@example.test") for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 4
    assert sum(result.added for result in results if isinstance(result, Added)) == 21
    group = await registry.group(OFFICE)
    assert group is not None
    assert group.members == len(await everyone(registry, OFFICE)) == 21
    told = (await registry.progress(None)).changes
    assert [seq for seq, _ in told] == sorted(seq for seq, _ in told)


async def test_change_log_names_what_changed_parents_of_a_group_among_it(registry: SqlDirectory) -> None:
    await registry.create_group(OFFICE, members=people("board"))
    before = (await registry.progress(None)).seq
    await registry.create_group("board@example.test")
    await registry.delete_group("board@example.test")
    await registry.remove_members(OFFICE, ["nobody"])
    told = (await registry.progress(before)).changes
    assert [{key for seq, key in told if seq == number} for number in (before + 1, before + 2)] == [
        {"group:board@example.test", f"group:{OFFICE}"}
    ] * 2
    assert len(told) == 4


async def test_change_log_is_pruned_and_says_from_where_it_is_complete(
    registry: SqlDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.directory.store_write.PRUNE_EVERY", 5)
    monkeypatch.setattr("shared.directory.store_write.KEEP_SECONDS", -1.0)
    monkeypatch.setattr("shared.directory.store_write.KEEP_CHANGES", 3)
    await registry.create_group(OFFICE)
    while (await registry.progress(None)).seq < 10:
        await registry.set_group(OFFICE, title="x")
    found = await registry.progress(0)
    assert (found.after, [seq for seq, _ in found.changes]) == (7, [8, 9, 10])


# --- lists for people ------------------------------------------------------------------------------------------------
async def test_lists_come_in_pages_and_can_be_searched(registry: Registry) -> None:
    for local in ("alpha", "beta", "gamma", "бета"):
        await registry.create_group(f"{local}@example.test", title=f"Отдел {local.upper()}")
    await registry.create_group("alpha@other.test")
    first = await registry.groups(limit=2)
    rest = await registry.groups(after=first[-1].address, limit=10)
    listed = [group.address for group in (*first, *rest)]
    assert listed == sorted(listed, key=str.encode)
    assert len(listed) == 5
    assert [group.address for group in await registry.groups(domain="Other.test")] == ["alpha@other.test"]
    assert [group.address for group in await registry.groups(search="БЕТА")] == ["бета@example.test"]
    assert [group.address for group in await registry.groups(search="отдел g")] == ["gamma@example.test"]
    assert await registry.groups(search="%") == await registry.groups(search="_") == []
    assert [domain.name for domain in await registry.domains()] == ["example.test", "other.test"]
    assert [domain.name for domain in await registry.domains(after="example.test")] == ["other.test"]
    assert [domain.name for domain in await registry.domains(search="OTHER")] == ["other.test"]


async def test_members_are_listed_in_pages_and_can_be_searched(registry: Registry) -> None:
    await registry.create_group(
        OFFICE, members=[NewMember(address="z@x.test", name="Иван Петров"), *people("a", "b_c", "bxc")]
    )
    first = await registry.list_members(OFFICE, limit=3)
    assert [m.key for m in first] == ["a@example.test", "b_c@example.test", "bxc@example.test"]
    assert [m.key for m in await registry.list_members(OFFICE, after=first[-1].key)] == ["z@x.test"]
    for member in ("z@x.test", first[1].address):
        await registry.set_member(OFFICE, member, bounce="suspended")
    suspended = await registry.list_members(OFFICE, suspended=True)
    assert [m.key for m in suspended] == sorted([first[1].key, "z@x.test"])
    assert [m.key for m in await registry.list_members(OFFICE, suspended=True, search="z@")] == ["z@x.test"]
    assert [m.key for m in await registry.list_members(OFFICE, suspended=True, limit=1)] == [suspended[0].key]
    assert [m.key for m in await registry.list_members(OFFICE, search="иван")] == ["z@x.test"]
    assert [m.key for m in await registry.list_members(OFFICE, search="B_C")] == ["b_c@example.test"]


@pytest.mark.parametrize("text", ["'; DROP TABLE members; --", '{{7*7}} "x" \\ %s :name ${x}', "…\U0001f600"])
async def test_hostile_text_is_text(registry: Registry, text: str) -> None:
    await registry.create_group(OFFICE, title=text, members=[NewMember(address="ana", name=text)])
    await registry.import_members(OFFICE, pages([NewMember(address="boris", name=text)]))
    assert [group.settings.title for group in await registry.groups(search=text)] == [text]
    assert [member.name for member in await registry.list_members(OFFICE, search=text)] == [text, text]
