"""Mail for owner, bounce and postmaster addresses."""

from __future__ import annotations

import msgspec
import pytest

from shared.groups import Domain
from shared.headers import loop_mark
from shared.messages import DeliveryKind, Reason, Target, TargetKind
from shared.settings import Settings
from tests.expander.town import person
from tests.expander.world import SECRET, World, head, post, role

OFFICE, BOARD = "office@a.test", "board@a.test"
NAMES = {
    TargetKind.OWNER: "office-owner@a.test",
    TargetKind.BOUNCES: "office-bounces@a.test",
    TargetKind.POSTMASTER: "postmaster@a.test",
}


def target(kind: TargetKind) -> Target:
    return role("a.test" if kind is TargetKind.POSTMASTER else OFFICE, kind, NAMES[kind])


def with_postmaster(world: World, address: str) -> World:
    """The world with HORO_POSTMASTER."""
    values = {name: getattr(world.settings, name) for name in Settings.__struct_fields__}
    made = World(Settings(**{**values, "postmaster": address}), world.ledger.real)
    made.directory = world.directory
    return made


# --- role addresses -----------------------------------------------------------------------------------------------------
RESPONSIBLE = [
    # kind, owners, the domain's postmaster, HORO_POSTMASTER, who gets it
    (TargetKind.OWNER, ("ola@x.test", "oto@x.test"), "dom@x.test", "pm@x.test", ["ola@x.test", "oto@x.test"]),
    (TargetKind.BOUNCES, ("ola@x.test",), "dom@x.test", "pm@x.test", ["ola@x.test"]),
    (TargetKind.OWNER, (), "dom@x.test", "pm@x.test", ["dom@x.test"]),
    (TargetKind.OWNER, (), "", "pm@x.test", ["pm@x.test"]),
    (TargetKind.BOUNCES, (), "", "pm@x.test", ["pm@x.test"]),
    (TargetKind.POSTMASTER, ("ola@x.test",), "", "pm@x.test", ["pm@x.test"]),
    (TargetKind.POSTMASTER, ("ola@x.test",), "dom@x.test", "pm@x.test", ["dom@x.test"]),
    (TargetKind.OWNER, ("ola@x.test", "OLA@X.test"), "", "", ["ola@x.test"]),
    (TargetKind.OWNER, (BOARD,), "", "", ["vera@x.test"]),
]


@pytest.mark.parametrize(("kind", "owners", "domains", "general", "got"), RESPONSIBLE)
async def test_who_answers_for_an_address(
    world: World, kind: TargetKind, owners: tuple[str, ...], domains: str, general: str, got: list[str]
) -> None:
    made = with_postmaster(world, general)
    dead = person("dead@x.test", bounce="suspended")
    made.directory.add(BOARD, "vera@x.test", person("paused@x.test", paused=True), dead, BOARD)
    made.directory.add(OFFICE, "boris@x.test", owners=owners)
    made.directory.domains["a.test"] = Domain(name="a.test", postmaster=domains)
    message = post(target(kind), mail_from="")
    result = await made.run(message)
    assert result.people == got
    copy = result.one(got[0])
    assert copy.mail_from == ""
    assert copy.delivery.kind is DeliveryKind.FORWARD
    assert copy.head.count(b"Received:") == 1
    assert b"List-Id" not in copy.head
    assert b"Reply-To" not in copy.head
    await made.file(result)
    totals = await made.ledger.totals(message.id, NAMES[kind])
    assert (totals.expanded, totals.complete) == (len(got), True)


async def test_an_author_who_is_an_owner_gets_mail_to_the_owners(world: World) -> None:
    world.directory.add(OFFICE, owners=("ana@example.test",))
    result = await world.run(post(target(TargetKind.OWNER), head=head(to="ana@example.test")))
    assert result.people == ["ana@example.test"]


@pytest.mark.parametrize("kind", NAMES)
async def test_p5_where_nobody_answers_it_is_parked_for_the_operator(world: World, kind: TargetKind) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    result = await world.run(post(target(kind)))
    assert result.people == []
    ((_, reason),) = world.bus.aside
    assert "HORO_POSTMASTER" in reason
    assert NAMES[kind] in reason


async def test_p3_nobody_behind_one_address_does_not_keep_the_next_from_its_mail(world: World) -> None:
    world.directory.add("orphan@b.test")
    world.directory.add(OFFICE, "boris@x.test", owners=("ola@x.test",))
    orphan = role("orphan@b.test", TargetKind.OWNER, "orphan-owner@b.test")
    result = await world.run(post(OFFICE, orphan, target(TargetKind.OWNER)))
    assert result.people == ["boris@x.test", "ola@x.test"]
    assert len(world.bus.aside) == 1


@pytest.mark.parametrize("kind", NAMES)
async def test_f42_a_forward_that_comes_back_is_swallowed(world: World, kind: TargetKind) -> None:
    made = with_postmaster(world, "pm@x.test")
    made.directory.add(OFFICE, owners=("ola@x.test",))
    message = post(target(kind), head=loop_mark(NAMES[kind], SECRET) + head())
    result = await made.run(message)
    assert result.people == []
    assert [row.reason for row in result.suppressed] == [Reason.LOOP]


async def test_p3_a_repeated_forward_is_a_repetition(world: World) -> None:
    world.directory.add(OFFICE, owners=("ola@x.test",))
    message = post(target(TargetKind.OWNER))
    await world.run(message)
    again = await world.run(msgspec.structs.replace(message, id="01m848z6pkr7z60fgts5m02rf9"))
    assert again.people == []
    assert again.reasons(NAMES[TargetKind.OWNER]) == ["repetition"]


async def test_p3_a_forward_again_is_the_same_batch(world: World) -> None:
    world.directory.add(OFFICE, owners=tuple(f"o{n}@x.test" for n in range(100)))
    message = post(target(TargetKind.OWNER))
    first, second = await world.run(message), await world.run(message)
    assert first.claims == second.claims
    assert first.deliveries == second.deliveries
