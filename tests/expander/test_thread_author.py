"""The author of a thread gets the answers to the group, member or not: who is added, who is left out and why, and who never is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.address import key
from shared.messages import Lane, Origin
from tests.expander.town import person
from tests.expander.world import Result, World, head, open_world, post

OFFICE, BOARD, SUB = "office@a.test", "board@a.test", "sub@b.test"
ANA, GUEST = "ana@example.test", "guest@x.test"
THREAD = "thread"


async def begun(world: World, *groups: str, author: str = GUEST, message_id: str = "<t@x>", **more: Any) -> Result:
    """A thread that somebody starts in some groups."""
    top = head(author, *more.pop("lines", ()), message_id=message_id)
    return await world.run(post(*groups, head=top, **{"mail_from": author, **more}))


async def answered(world: World, *groups: str, author: str = ANA, lines: tuple[str, ...] = (), **more: str) -> Result:
    """An answer to it."""
    top = head(author, *(lines or ("In-Reply-To: <t@x>",)), **more)
    return await world.run(post(*groups, head=top, mail_from=author))


def ways(result: Result, address: str) -> list[tuple[str, ...]]:
    """The paths by which somebody is given a copy."""
    return [row.via for one in result.expanded for row in one.queued if key(address) in map(key, row.addresses)]


# --- who is added -----------------------------------------------------------------------------------------------------
async def test_the_trace_says_that_it_is_for_the_thread(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE)
    answer = await answered(world, OFFICE)
    assert answer.people == ["boris@x.test", GUEST]
    assert ways(answer, GUEST) == [(OFFICE, THREAD)]
    assert ways(answer, "boris@x.test") == [(OFFICE,)]


async def test_the_copy_goes_to_the_address_as_its_owner_spells_it(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE, author="Guest.Person@X.test")
    answer = await answered(world, OFFICE)
    assert answer.one("guest.person@x.test").recipient.address == "Guest.Person@x.test"
    assert (await answered(world, OFFICE, author="guest.person@x.test")).people == ["boris@x.test"]


async def test_the_same_subject_alone_is_no_thread(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE)
    answer = await answered(world, OFFICE, lines=("Subject: Re: News", "Thread-Topic: News"))
    assert answer.people == ["boris@x.test"]


async def test_a_message_id_that_another_group_had_finds_nobody(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    world.directory.add(BOARD, "vera@x.test")
    await begun(world, BOARD)
    assert (await answered(world, OFFICE)).people == ["boris@x.test"]


async def test_p2_an_answer_to_two_groups_of_the_thread_is_one_copy(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    world.directory.add(BOARD, "vera@x.test")
    await begun(world, OFFICE, BOARD)
    answer = await answered(world, OFFICE, BOARD)
    assert answer.people == ["boris@x.test", GUEST, "vera@x.test"]
    assert answer.one(GUEST).group == OFFICE
    assert answer.reasons(GUEST) == ["duplicate"]


async def test_p2_who_is_a_member_in_a_group_inside_gets_one_copy_as_a_member(world: World) -> None:
    world.directory.add(BOARD, GUEST)
    world.directory.add(OFFICE, "boris@x.test", BOARD)
    await begun(world, OFFICE)
    answer = await answered(world, OFFICE)
    assert answer.people == ["boris@x.test", GUEST]
    assert ways(answer, GUEST) == [(OFFICE, BOARD)]


async def test_an_answer_to_a_sub_group_reaches_who_started_the_thread_outside_of_it(world: World) -> None:
    """The sub-group had the thread as a post of its own, and its people answer to it."""
    world.directory.add(SUB, "vera@x.test", "zora@x.test")
    world.directory.add(OFFICE, "boris@x.test", SUB)
    await begun(world, OFFICE)
    answer = await answered(world, SUB, author="vera@x.test")
    assert answer.people == [GUEST, "zora@x.test"]
    assert ways(answer, GUEST) == [(SUB, THREAD)]


async def test_p3_a_repeated_expansion_adds_the_same_person_to_the_same_cell(world: World) -> None:
    world.directory.add(OFFICE, *(f"p{number}@x.test" for number in range(30)))
    await begun(world, OFFICE)
    answer = post(OFFICE, head=head(ANA, "References: <t@x>"), mail_from=ANA)
    first = await world.run(answer)
    world.directory.remove(OFFICE, "p3@x.test")
    again = await world.run(answer)
    mine = {claim for claim in first.claims if claim[1] == GUEST}
    assert len(mine) == 1
    assert mine == {claim for claim in again.claims if claim[1] == GUEST}


async def test_p2_a_fan_out_in_slices_adds_the_author_of_the_thread_once(tmp_path: Path) -> None:
    async with open_world(tmp_path, express_limit=10, slice_size=10, batch_size=5) as world:
        people = [f"p{number}@x.test" for number in range(100)]
        world.directory.add(OFFICE, *people)
        await begun(world, OFFICE)
        answer = await answered(world, OFFICE)
        assert len(answer.slices) > 3
        assert answer.people == sorted([*people, GUEST])
        assert answer.one(GUEST).delivery.lane is Lane.BULK
        assert ways(answer, GUEST) == [(OFFICE, THREAD)]
        own = await answered(world, OFFICE, author=GUEST)
        assert own.people == sorted(people)
        assert own.reasons(GUEST) == ["author"]


# --- who is left out, and why (P4) ------------------------------------------------------------------------------------
LEFT_OUT: list[tuple[str, dict[str, Any], Any, dict[str, str], str]] = [
    # what, settings, the member beside boris, the answer, the reason
    ("in To:", {}, None, {"to": f"{OFFICE}, Guest <{GUEST}>"}, "to_cc"),
    ("in Cc:", {}, None, {"cc": GUEST.upper()}, "to_cc"),
    ("answers themselves", {}, None, {"author": GUEST}, "author"),
    ("answers with a tag", {}, None, {"author": "guest+phone@x.test"}, "author"),
    ("answers themselves, authors kept", {"remove_author": False}, None, {"author": GUEST}, "author"),
    ("a paused member now", {}, person(GUEST, paused=True), {}, "paused"),
    ("a suspended member now", {}, person(GUEST, bounce="suspended"), {}, "suspended"),
    ("a member who answers", {}, GUEST, {"author": GUEST}, "author"),
]


@pytest.mark.parametrize(
    ("settings", "member", "answer", "reason"), [row[1:] for row in LEFT_OUT], ids=[row[0] for row in LEFT_OUT]
)
async def test_p4_who_is_left_out_stands_in_the_trace_with_the_reason(
    world: World, settings: dict[str, Any], member: Any, answer: dict[str, str], reason: str
) -> None:
    world.directory.add(OFFICE, "boris@x.test", **settings)
    await begun(world, OFFICE)
    if member is not None:
        world.directory.put(OFFICE, member)
    result = await answered(world, OFFICE, **answer)
    assert result.people == ["boris@x.test"]
    assert result.reasons(GUEST) == [reason]


async def test_a_member_of_a_group_that_keeps_authors_gets_the_own_answer(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", GUEST, remove_author=False)
    await begun(world, OFFICE)
    result = await answered(world, OFFICE, author=GUEST)
    assert result.people == ["boris@x.test", GUEST]


async def test_paused_in_a_group_inside_is_paused_for_the_thread(world: World) -> None:
    world.directory.add(BOARD, person(GUEST, paused=True))
    world.directory.add(OFFICE, "boris@x.test", BOARD)
    await begun(world, OFFICE)
    result = await answered(world, OFFICE)
    assert result.people == ["boris@x.test"]
    assert result.reasons(GUEST) == ["paused"]


async def test_switched_off_in_one_group_and_on_in_the_other(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", thread_author=False)
    world.directory.add(BOARD, "vera@x.test")
    await begun(world, OFFICE, BOARD)
    result = await answered(world, OFFICE, BOARD)
    assert result.one(GUEST).group == BOARD
    assert (await answered(world, OFFICE)).people == ["boris@x.test"]


# --- who never is -----------------------------------------------------------------------------------------------------
OURS = [BOARD, "board+x@a.test", "board-owner@a.test", "board-bounces+token@a.test", "postmaster@a.test", OFFICE]
MACHINES = [
    "noreply@shop.test",
    "No-Reply@shop.test",
    "no_reply+order-7@shop.test",
    "do-not-reply@shop.test",
    "donotreply@shop.test",
    "calendar-noreply@big.test",
    "noreply-orders@big.test",
    "MAILER-DAEMON@relay.test",
    "bounces@list.test",
]
PEOPLE = [
    "nora.eply@x.test",
    "inoreply@x.test",
    "boris-owner@elsewhere.test",
    "postmaster@elsewhere.test",
    "o'reply@x.test",
]


@pytest.mark.parametrize("author", [*OURS, *MACHINES])
async def test_an_address_of_ours_or_of_a_machine_is_never_added(world: World, author: str) -> None:
    world.directory.add(BOARD, "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", reject_automatic=False)
    await begun(world, OFFICE, author=author)
    assert (await answered(world, OFFICE)).people == ["boris@x.test"]


@pytest.mark.parametrize("author", PEOPLE)
async def test_a_person_whose_address_looks_like_one_is_added(world: World, author: str) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE, author=author)
    assert (await answered(world, OFFICE)).people == sorted(["boris@x.test", key(author)])


AUTOMATIC: list[dict[str, Any]] = [
    {"lines": ("Auto-Submitted: auto-generated",)},
    {"lines": ("Precedence: bulk",)},
    {"lines": ("Content-Type: multipart/report; report-type=delivery-status; boundary=b",)},
    {"mail_from": ""},
]


@pytest.mark.parametrize("what", AUTOMATIC, ids=str)
async def test_p5_a_thread_that_a_machine_began_leads_to_nobody_nor_does_the_answer_to_the_answer(
    world: World, what: dict[str, Any]
) -> None:
    world.directory.add(OFFICE, "boris@x.test", reject_automatic=False)
    await begun(world, OFFICE, author="alerts@machine.test", **what)
    first = await answered(world, OFFICE, message_id="<a@x>")
    assert first.people == ["boris@x.test"]
    second = await answered(
        world, OFFICE, lines=("References: <t@x> <a@x>",), message_id="<third@x>", author="c@x.test"
    )
    assert second.people == ["boris@x.test"]


async def test_nobody_is_the_author_of_what_two_people_wrote(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE, author=f"{GUEST}, other@x.test", mail_from=GUEST)
    assert (await answered(world, OFFICE)).people == ["boris@x.test"]


async def test_the_author_is_the_one_in_from_not_who_handed_the_mail_in(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    origin = Origin(ip="192.0.2.1", helo="form.test", protocol="ESMTP")
    await begun(world, OFFICE, mail_from="www@form.test", origin=origin)
    assert (await answered(world, OFFICE)).people == ["boris@x.test", GUEST]


async def test_p9_no_header_names_the_author_of_the_thread(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE)
    answer = await answered(world, OFFICE)
    assert {GUEST.encode() in copy.head for copies in answer.copies.values() for copy in copies} == {False}


# --- what it costs ----------------------------------------------------------------------------------------------------
async def test_a_post_that_answers_nothing_asks_for_no_author(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hot path: no look into the ledger or the directory for a thread that there is not."""
    world.directory.add(OFFICE, "boris@x.test")
    await begun(world, OFFICE)
    asked: list[str] = []
    monkeypatch.setattr("services.expander.share.are_people", lambda *_: asked.append("directory"))
    monkeypatch.setattr("shared.ledger.store_open._STARTERS", None)
    assert (await world.run(post(OFFICE))).people == ["boris@x.test"]
    assert asked == []
