"""Groups in groups: in place or as posts of their own, and what must not happen where they meet, cycle or overlap (F41, F42)."""

from __future__ import annotations

import msgspec
import pytest

from shared import identity
from shared.headers import loop_mark
from shared.identity import derive, new_id
from shared.messages import Origin, Post, Reason, State, Target, TargetKind
from tests.expander.town import person
from tests.expander.world import ACCEPTED, SECRET, World, head, post, role

OFFICE, BOARD, CREW, OUTER = "office@a.test", "board@a.test", "crew@a.test", "outer@b.test"


# --- where a sub-group goes -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("expands", "sub", "nest_from", "in_place"),
    [
        (True, BOARD, (), True),
        (False, BOARD, (), False),
        (True, OUTER, (), False),
        (True, OUTER, ("a.test",), True),
        (True, OUTER, ("c.test",), False),
        (False, OUTER, ("a.test",), False),
    ],
)
async def test_in_place_or_a_post_of_its_own(
    world: World, expands: bool, sub: str, nest_from: tuple[str, ...], in_place: bool
) -> None:
    world.directory.add(sub, "vera@x.test", nest_from=nest_from)
    world.directory.add(OFFICE, "boris@x.test", sub, expand_groups=expands)
    message = post(OFFICE)
    result = await world.run(message)
    assert result.people == ["boris@x.test", "vera@x.test"]
    vera = result.one("vera@x.test")
    assert vera.group == (OFFICE if in_place else sub)
    assert vera.post_id == (message.id if in_place else identity.derive(message.id, sub))


async def test_a_sub_groups_own_switch_decides_about_its_sub_groups(world: World) -> None:
    world.directory.add(CREW, "vera@x.test")
    world.directory.add(BOARD, "boris@x.test", CREW, expand_groups=False)
    world.directory.add(OFFICE, BOARD)
    result = await world.run(post(OFFICE))
    assert result.one("boris@x.test").group == OFFICE
    assert result.one("vera@x.test").group == CREW


async def test_filters_are_the_addressed_groups_not_those_of_a_sub_group_in_place(world: World) -> None:
    world.directory.add(BOARD, "ana@example.test", "vera@x.test", remove_author=False, remove_to_cc=False)
    world.directory.add(OFFICE, BOARD)
    result = await world.run(post(OFFICE, head=head(cc="vera@x.test")))
    assert result.people == []
    assert result.reasons("ana@example.test") == ["author"]
    assert result.reasons("vera@x.test") == ["to_cc"]


@pytest.mark.parametrize("by", ["group", "domain"])
async def test_a_disabled_sub_group_is_skipped_and_traced(world: World, by: str) -> None:
    world.directory.add(OUTER, "vera@x.test", disabled=by == "group", nest_from=("a.test",))
    world.directory.add(OFFICE, "boris@x.test", OUTER)
    if by == "domain":
        world.directory.domains["b.test"] = type(world.directory.domains["b.test"])(name="b.test", disabled=True)
    result = await world.run(post(OFFICE))
    assert result.people == ["boris@x.test"]
    assert [(row.address, row.reason, row.via) for row in result.suppressed] == [
        (OUTER, Reason.SUBGROUP_DISABLED, (OFFICE,))
    ]


async def test_a_paused_sub_group_gets_nothing(world: World) -> None:
    world.directory.add(BOARD, "vera@x.test")
    world.directory.add(OFFICE, person(BOARD, paused=True))
    result = await world.run(post(OFFICE))
    assert result.people == []
    assert result.reasons(BOARD) == ["paused"]


# --- cycles, diamonds -----------------------------------------------------------------------------------------------------
async def test_p2_a_group_in_itself_a_cycle_and_a_diamond(world: World) -> None:
    world.directory.add(CREW, "vera@x.test", OFFICE, CREW)
    world.directory.add(BOARD, "vera@x.test", CREW)
    world.directory.add(OFFICE, "OFFICE+x@A.test", BOARD, CREW)
    result = await world.run(post(OFFICE))
    assert result.people == ["vera@x.test"]
    assert result.reasons(OFFICE) == ["cycle"]
    assert result.reasons("office+x@a.test") == ["cycle"]
    assert sorted(result.reasons(CREW)) == ["cycle", "duplicate"]


async def test_p2_two_groups_that_hand_on_to_each_other_end(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", OUTER)
    world.directory.add(OUTER, "vera@x.test", OFFICE)
    result = await world.run(post(OFFICE))
    assert result.people == ["boris@x.test", "vera@x.test"]
    assert len(result.inside) == 1


async def test_p2_a_cycle_through_a_group_in_place_gives_its_people_one_copy(world: World) -> None:
    """office -> board in place -> outer, a post of its own -> board in place: board is on the way that the post came."""
    world.directory.add(OFFICE, BOARD)
    world.directory.add(BOARD, "boris@x.test", OUTER, nest_from=("b.test",))
    world.directory.add(OUTER, "vera@x.test", BOARD)
    result = await world.run(post(OFFICE))
    assert result.people == ["boris@x.test", "vera@x.test"]


async def test_p2_a_deep_chain_reaches_the_last(world: World) -> None:
    for number in range(300):
        nested = [f"g{number + 1}@a.test"] if number < 299 else []
        world.directory.add(f"g{number}@a.test", f"p{number}@x.test", *nested)
    result = await world.run(post("g0@a.test"))
    assert len(result.people) == 300
    assert world.bus.aside == []


async def test_a_deep_chain_of_full_groups_does_not_outgrow_the_bus(world: World) -> None:
    """Every row tells its path: what the reporter is told must stay within what a message may have."""
    for number in range(300):
        nested = [f"group-number-{number + 1}@a.test"] if number < 299 else []
        world.directory.add(f"group-number-{number}@a.test", *(f"p{number}-{n}@x.test" for n in range(20)), *nested)
    result = await world.run(post("group-number-0@a.test"))
    assert world.bus.aside == []
    assert sum(one.copies for one in result.expanded) == len(result.people) == 6000


# --- several targets --------------------------------------------------------------------------------------------------------
async def test_p2_p4_a_sub_group_of_two_targets_gets_one_post(world: World) -> None:
    world.directory.add(OUTER, "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", OUTER)
    world.directory.add(BOARD, "boris@x.test", OUTER)
    message = post(OFFICE, BOARD)
    result = await world.run(message)
    await world.file(result)
    assert result.people == ["boris@x.test", "vera@x.test"]
    assert len(result.inside) == 1
    for group in (OFFICE, BOARD):
        totals = await world.ledger.totals(message.id, group)
        assert (totals.expanded, totals.announced, totals.complete) == (2, 2, True)


@pytest.mark.parametrize("order", [1, -1], ids=["the group first", "the owners first"])
async def test_p3_p4_one_person_behind_a_group_and_its_owner_address_gets_both_and_adds_up(
    world: World, order: int
) -> None:
    world.directory.add(OFFICE, "boris@x.test", owners=("boris@x.test",))
    message = post(*[OFFICE, role(OFFICE, TargetKind.OWNER, "office-owner@a.test")][::order])
    result = await world.run(message)
    assert len({post_id for post_id, *_ in result.claims}) == 2  # in one, the sender would take the second for sent
    await world.file(result)
    owners = "office-owner@a.test"  # mail to them stands in the ledger as a post of its own
    for identifier, group in ((message.id, OFFICE), (derive(message.id, owners), owners)):
        totals = await world.ledger.totals(identifier, group)
        assert (totals.expanded, totals.announced) == (1, 1), group


async def test_p2_a_sub_group_that_hands_on_along_two_paths_is_one_post(world: World) -> None:
    world.directory.add("last@c.test", "vera@x.test")
    world.directory.add("left@b.test", "last@c.test")
    world.directory.add("right@b.test", "last@c.test")
    world.directory.add(OFFICE, "left@b.test", "right@b.test")
    result = await world.run(post(OFFICE))
    assert result.people == ["vera@x.test"]
    assert result.reasons("last@c.test") == ["repetition"]


# --- loops --------------------------------------------------------------------------------------------------------------------
def _marked(*groups: str) -> bytes:
    return b"".join(loop_mark(group, SECRET) for group in groups) + head()


async def test_f42_a_copy_that_comes_back_is_swallowed_and_traced(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    message = post(OFFICE, head=_marked(OFFICE))
    result = await world.run(message)
    assert result.people == []
    assert result.reasons(OFFICE) == ["loop"]
    summary = await world.ledger.post(message.id)
    assert [verdict for _, verdict, _ in summary.targets] == ["loop"]


async def test_f42_a_forged_mark_suppresses_nothing(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    result = await world.run(
        post(OFFICE, head=head("Ana <ana@example.test>", f"X-Horo-Loop: {OFFICE} aaaaaaaaaaaaaaaa"))
    )
    assert result.people == ["boris@x.test"]


@pytest.mark.parametrize("in_place", [True, False])
async def test_f42_a_copy_that_comes_back_by_way_of_another_group_does_not_reach_the_first_again(
    world: World, in_place: bool
) -> None:
    world.directory.add(BOARD, "boris@x.test")
    world.directory.add(OFFICE, "vera@x.test", BOARD, expand_groups=in_place)
    result = await world.run(post(OFFICE, head=_marked(BOARD)))
    assert result.people == ["vera@x.test"]
    assert result.reasons(BOARD)


# --- the policy of a sub-group --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "author", "lines", "reached"),
    [
        ({}, "ana@example.test", (), True),
        ({"who_can_post": "members"}, "ana@example.test", (), False),
        ({"who_can_post": "members"}, "vera@x.test", (), True),
        ({"who_can_post": "domain"}, "ana@example.test", (), False),
        ({"who_can_post": "domain"}, "ana@b.test", (), True),
        ({"who_can_post": "owners"}, "vera@x.test", (), False),
        ({"who_can_post": "owners", "owners": ("ana@example.test",)}, "ana@example.test", (), True),
        ({"who_can_post": "members"}, "vera@x.test, ana@example.test", (), False),
        ({"max_size": 10}, "ana@example.test", (), False),
        ({"max_size": 100_000}, "ana@example.test", (), True),
        ({"reject_automatic": True}, "ana@example.test", ("Auto-Submitted: auto-replied",), False),
        ({"reject_automatic": False}, "ana@example.test", ("Auto-Submitted: auto-replied",), True),
        ({"reject_automatic": True}, "ana@example.test", ("Precedence: list",), True),
    ],
)
async def test_a_post_made_inside_meets_the_sub_groups_own_policy(
    world: World, settings: dict[str, object], author: str, lines: tuple[str, ...], reached: bool
) -> None:
    world.directory.add(OUTER, "vera@x.test", "xenia@x.test", **settings)
    world.directory.add(OFFICE, "boris@x.test", OUTER, reject_automatic=False)
    message = post(OFFICE, head=head(author, *lines))
    result = await world.run(message)
    assert ("xenia@x.test" in result.copies) is reached
    assert "boris@x.test" in result.copies
    standing = (await world.ledger.standings(message.id, [OUTER]))[OUTER]
    assert standing.state is (State.DELIVERED if reached else State.FAILED)
    assert [fate.address for one in result.attempted for fate in one.fates] == ([] if reached else [OUTER])


async def test_the_verdict_of_a_trusted_relay_holds_inside_too(world: World) -> None:
    """A From: that the relay found forged opens no sub-group by way of one that takes mail from anyone."""
    world.directory.add(OUTER, "vera@x.test", "xenia@x.test", who_can_post="members")
    world.directory.add(OFFICE, "boris@x.test", OUTER)
    result = await world.run(post(OFFICE, head=head("vera@x.test"), mail_from="vera@x.test", verdict="fail"))
    assert result.people == ["boris@x.test"]


async def test_what_a_post_made_inside_says_of_itself(world: World) -> None:
    world.directory.add(OUTER, "vera@x.test")
    world.directory.add(OFFICE, "board+x@a.test", OUTER)
    message = post(
        Target(group=OFFICE, recipient=OFFICE, notify=("SUCCESS",), orcpt="rfc822;a@b"), envid="E1", ret="FULL"
    )
    (child,) = (await world.run(message)).inside
    assert (child.parent, child.root, child.trail) == (message.id, message.id, (OFFICE,))
    assert child.accepted_at == ACCEPTED
    assert child.mail_from.startswith("office-bounces+")
    assert child.mail_from.endswith("@a.test")
    assert (child.envid, child.ret) == (None, None)
    assert [(one.group, one.notify, one.orcpt) for one in child.targets] == [(OUTER, None, None)]
    assert loop_mark(OFFICE, SECRET) in child.content.head
    assert child.digest != message.digest
    assert child.origin.protocol == "local"


@pytest.mark.parametrize("first", ["anyone", "owners"])
async def test_p3_what_was_decided_about_a_sub_group_is_obeyed_when_the_post_is_expanded_again(
    world: World, first: str
) -> None:
    """A crash after the decision, and an edit of the sub-group's policy before the repetition."""
    world.directory.add(OUTER, "vera@x.test", who_can_post=first)
    world.directory.add(OFFICE, "boris@x.test", OUTER)
    message = post(OFFICE)
    before = await world.run(message)
    standing = (await world.ledger.standings(message.id, [OUTER]))[OUTER].state
    world.directory.set(OUTER, who_can_post="owners" if first == "anyone" else "anyone")
    again = await world.run(message)
    assert (await world.ledger.standings(message.id, [OUTER]))[OUTER].state is standing
    assert {child.id for child in again.inside} == {child.id for child in before.inside}
    assert ("vera@x.test" in again.people) is (first == "anyone")


async def test_p3_a_repeated_post_is_not_repeated_inside(world: World) -> None:
    """The client lost our 250 and sends again: a post of another id, suppressed at its first group."""
    world.directory.add(OUTER, "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", OUTER)
    message = post(OFFICE)
    await world.run(message)
    again = await world.run(_like(message))
    assert again.people == []
    assert again.inside == []
    assert again.reasons(OFFICE) == ["repetition"]


def _like(message: Post) -> Post:
    return msgspec.structs.replace(message, id=new_id(), origin=Origin(ip="192.0.2.9", helo="other", protocol="SMTP"))
