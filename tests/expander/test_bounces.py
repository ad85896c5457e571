"""Mail to bounce addresses: what is told to the reporter, what goes to people, and whose word counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.address import bounce_address
from shared.headers import split
from shared.identity import bounce_token, derive, verp_token
from shared.ledger.bounces import Probe
from shared.messages import Bounced, Comeback, Post, Slice, Target, TargetKind
from tests.expander.world import ACCEPTED, SECRET, Result, World, post, role

OFFICE, BOARD = "office@a.test", "board@a.test"
OWNER = "ola@x.test"
SAMPLES = Path(__file__).parent.parent / "messages" / "bounces"


@pytest.fixture
async def sent(world: World) -> Post:
    """A post to the office, whose members are Boris and 300 others, vera among them through the board."""
    world.directory.add(BOARD, "vera@x.test", owners=("vera@x.test",))
    world.directory.add(OFFICE, "boris@x.test", BOARD, *(f"p{n}@x.test" for n in range(300)), owners=(OWNER,))
    message = post(OFFICE)
    await world.file(await world.run(message))
    return message


def token_of(message: Post, group: str = OFFICE) -> str:
    return bounce_token(SECRET, message.id, group)


def bounce(sample: str, tag: str, *, group: str = OFFICE, mail_from: str = "", **changes: Any) -> Post:
    """A sample that comes to a group's bounce address with this tag."""
    local, _, domain = group.rpartition("@")
    head, tail = split((SAMPLES / f"{sample}.eml").read_bytes())
    target = role(group, TargetKind.BOUNCES, f"{local}-bounces+{tag}@{domain}")
    return post(target, head=head, tail=tail, mail_from=mail_from, accepted_at=ACCEPTED + 5, **changes)


def told(result: Result) -> list[Bounced]:
    return [wire for _, wire in result.wires if isinstance(wire, Bounced)]


async def ended(world: World, message: Post, verdict: str, result: Result) -> None:
    """The bounce went no further, and the ledger says what it was."""
    assert result.people == []
    await world.file(result)
    summary = await world.ledger.post(message.id)
    assert summary is not None
    ((_, found, totals),) = summary.targets
    assert (found, totals.expanded, totals.complete) == (verdict, 0, True)
    assert world.bus.aside == []


async def test_a_bounce_at_the_shared_address_is_hearsay_and_bothers_nobody(world: World, sent: Post) -> None:
    message = bounce("postfix", token_of(sent))
    result = await world.run(message)
    (one,) = told(result)
    text = "550 5.1.1 <boris@x.test>: Recipient address rejected: User unknown in virtual mailbox table"
    assert one == Bounced(
        id=message.id,
        post_id=sent.id,
        group=OFFICE,
        recipients=(Comeback(address="boris@x.test", action="failed", status="5.1.1", text=text),),
        at=ACCEPTED + 5,
    )
    await ended(world, message, "bounce", result)


async def test_p3_a_bounce_worked_twice_is_told_the_same(world: World, sent: Post) -> None:
    message = bounce("postfix", token_of(sent))
    assert told(await world.run(message)) == told(await world.run(message))
    again = await world.run(bounce("postfix", token_of(sent)))
    assert (told(again), again.people) == ([], [])  # the same message once more


@pytest.mark.parametrize(("sample", "action"), [("postfix_delayed", "delayed"), ("qmail", "failed")])
async def test_a_delay_and_a_bounce_in_words_are_recognised(world: World, sent: Post, sample: str, action: str) -> None:
    result = await world.run(message := bounce(sample, token_of(sent)))
    (one,) = told(result)
    assert [(who.address, who.action, who.sure) for who in one.recipients] == [("boris@x.test", action, False)]
    await ended(world, message, "bounce", result)


@pytest.mark.parametrize("sample", ["postfix", "hidden", "nameless", "exim_plain"])
async def test_the_own_address_of_a_member_says_who_it_is(world: World, sent: Post, sample: str) -> None:
    tag = f"{token_of(sent)}-{verp_token(SECRET, sent.id, 'boris@x.test')}"
    result = await world.run(message := bounce(sample, tag))
    (one,) = told(result)
    assert [(who.address, who.action, who.status, who.sure) for who in one.recipients] == [
        ("boris@x.test", "failed", "5.1.1", True)
    ]
    await ended(world, message, "bounce", result)


async def test_an_own_address_finds_a_member_of_a_sub_group(world: World, sent: Post) -> None:
    result = await world.run(bounce("hidden", f"{token_of(sent)}-{verp_token(SECRET, sent.id, 'vera@x.test')}"))
    assert [who.address for one in told(result) for who in one.recipients] == ["vera@x.test"]


def _forged(sent: Post) -> dict[str, str]:
    token, own = token_of(sent), verp_token(SECRET, sent.id, "boris@x.test")
    other = derive(sent.id, "another")
    return {
        "no token": "",
        "unknown token": "abcdefghjkmn",
        "another group's": token_of(sent, BOARD),
        "own part of another post": f"{token}-{verp_token(SECRET, other, 'boris@x.test')}",
        "own part of a stranger": f"{token}-{verp_token(SECRET, sent.id, 'nobody@x.test')}",
        "own part with another secret": f"{token}-{verp_token('not the secret', sent.id, 'boris@x.test')}",
        "own part cut": f"{token}-{own[:-1]}",
        "own part, slot alone": f"{token}-{own[:7]}",
        "own part twice": f"{token}-{own}-{own}",
    }


@pytest.mark.parametrize("what", list(_forged(post(OFFICE))))
async def test_a_forged_token_makes_a_message_for_people(world: World, sent: Post, what: str) -> None:
    tag = _forged(sent)[what]
    message = bounce("postfix", tag) if tag else bounce("postfix", "x", digest=b"1" * 32)
    result = await world.run(message)
    assert told(result) == []
    assert result.people == [OWNER]
    assert result.one(OWNER).mail_from == ""


@pytest.mark.parametrize("sample", ["hidden", "nameless", "abuse_report"])
async def test_what_cannot_be_put_down_to_a_member_goes_to_the_owners(world: World, sent: Post, sample: str) -> None:
    result = await world.run(bounce(sample, token_of(sent)))
    assert (told(result), result.people) == ([], [OWNER])


async def test_what_a_person_wrote_goes_to_the_owners(world: World, sent: Post) -> None:
    result = await world.run(bounce("human", token_of(sent), mail_from="boris@x.test"))
    assert (told(result), result.people) == ([], [OWNER])


@pytest.mark.parametrize("own", [False, True])
async def test_f43_an_automatic_answer_is_told_and_bothers_nobody(world: World, sent: Post, own: bool) -> None:
    tag = token_of(sent) + (f"-{verp_token(SECRET, sent.id, 'boris@x.test')}" if own else "")
    result = await world.run(message := bounce("vacation", tag))
    (one,) = told(result)
    (who,) = one.recipients
    assert (who.address, who.action, who.sure) == ("boris@x.test" if own else "", "auto_reply", own)
    assert "boris@x.test" in who.text
    await ended(world, message, "auto_reply", result)


async def test_of_many_those_who_are_known_are_named(world: World, sent: Post) -> None:
    message = bounce("rfc3464_many", token_of(sent))
    world.directory.add(OFFICE, "wsnell@sdcc13.ucsd.test", owners=(OWNER,))
    (one,) = told(await world.run(message))
    assert [who.action for who in one.recipients] == ["failed", "delayed", "failed"]


async def test_p10_a_body_in_the_store_is_read_to_its_first_octets(world: World, sent: Post) -> None:
    head, tail = split((SAMPLES / "postfix.eml").read_bytes())
    ref = await world.bodies.put(tail + b"x" * (3 << 20))
    target = role(OFFICE, TargetKind.BOUNCES, f"office-bounces+{token_of(sent)}@a.test")
    result = await world.run(post(target, head=head, ref=ref, mail_from=""))
    assert [who.address for one in told(result) for who in one.recipients] == ["boris@x.test"]
    gone = post(target, head=head + b"", ref=ref, mail_from="", digest=b"2" * 32)
    world.bodies.blobs.clear()
    assert (await world.run(gone)).people == [OWNER]


async def test_a_group_with_a_long_name_gets_its_bounces_through_the_postmaster(world: World) -> None:
    group = f"{'o' * 55}@a.test"
    world.directory.add(group, "boris@x.test", owners=(OWNER,))
    message = post(group)
    copy = (await world.run(message)).one("boris@x.test")
    assert copy.mail_from == bounce_address(group, token_of(message, group))
    assert copy.mail_from.startswith("postmaster+")
    head, tail = split((SAMPLES / "postfix.eml").read_bytes())
    to = Target(group="a.test", recipient=copy.mail_from, kind=TargetKind.POSTMASTER)
    (one,) = told(await world.run(post(to, head=head, tail=tail, mail_from="")))
    assert (one.group, one.post_id) == (group, message.id)


@pytest.mark.parametrize("sample", ["postfix", "hidden", "nameless"])
async def test_the_address_of_a_probe_stands_for_its_member(world: World, sent: Post, sample: str) -> None:
    await world.ledger.real.probe(
        Probe(token="p0p0p0p0p0p0", group=OFFICE, member="boris@x.test", at=ACCEPTED), since=0.0
    )
    (one,) = told(await world.run(bounce(sample, "p0p0p0p0p0p0")))
    assert (one.post_id, one.group, one.probe) == ("", OFFICE, "p0p0p0p0p0p0")
    assert [(who.address, who.sure) for who in one.recipients] == [("boris@x.test", True)]
    elsewhere = await world.run(bounce(sample, "p0p0p0p0p0p0", group=BOARD))
    assert (told(elsewhere), elsewhere.people) == ([], ["vera@x.test"])


# --- the null sender ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reject_automatic", [True, False])
async def test_f44_mail_with_the_null_sender_is_never_expanded(world: World, reject_automatic: bool) -> None:
    world.directory.add(OFFICE, "boris@x.test", owners=(OWNER,), reject_automatic=reject_automatic)
    message = post(OFFICE, role(OFFICE, TargetKind.OWNER, "office-owner@a.test"), mail_from="")
    for _ in range(2):
        result = await world.run(message)
        assert result.people == [OWNER]  # the owners' address takes it, the group does not
        await world.file(result)
    summary = await world.ledger.post(message.id)
    assert summary is not None
    ((_, verdict, totals),) = [entry for entry in summary.targets if entry[0].group == OFFICE]
    assert (verdict, totals.expanded, totals.complete) == ("null_sender", 0, True)


async def test_f44_a_slice_with_the_null_sender_is_parked(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    message = post(OFFICE, mail_from="")
    result = await world.run(Slice(post=message, cells=8, index=0, of=2, low=0, high=1 << 30))
    assert (result.people, result.expanded) == ([], [])
    assert len(world.bus.aside) == 1
