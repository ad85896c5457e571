"""Who hears of copies that could not be delivered: owners, authors, the next in line, or nobody."""

from __future__ import annotations

from typing import Any

import pytest

from shared.messages import (
    DeliveryKind,
    State,
    TargetKind,
)
from tests.reporter.rfc3464 import Status
from tests.reporter.world import (
    AUTHOR,
    MEMBERS,
    NOW,
    OWNERS,
    World,
    attempted,
    expanded,
    fate,
    octets,
    record,
    target,
)


async def told(world: World, post: Any, aim: Any, message: Any, *, verdict: str = "open") -> None:
    world.ledger.open(post, aim, verdict=verdict)
    await world.handle(message)


# --- failures --------------------------------------------------------------------------------------------------------
async def test_p9_failures_of_a_list_go_to_its_owners_and_name_nobody_to_the_author() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True, notify=("SUCCESS", "FAILURE", "DELAY")))
    await world.handle(expanded(post))
    await world.handle(attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], State.DEFERRED, at=NOW + 1e6)))
    to_author = [each for each in world.bus.reports if any(r.address == AUTHOR for r in each.recipients)]
    to_owners = [each for each in world.bus.reports if each not in to_author]
    assert len(to_author) == 1
    for member in MEMBERS:
        assert member.encode() not in octets(to_author[0].content)
    assert [(each.mail_from, each.kind) for each in to_owners] == [("", DeliveryKind.REPORT)]
    assert tuple(r.address for r in to_owners[0].recipients) == OWNERS
    notice = octets(to_owners[0].content).decode()
    assert "boris@gmail.test" in notice
    assert "550 5.1.1" in notice
    assert "vera@other.test" not in notice, "deferred is not failed"
    assert "To: <office-owner@example.test>" in notice
    assert not any(owner in notice for owner in OWNERS), "owners do not learn each other's addresses"


async def test_one_notice_for_all_failures_of_an_attempt() -> None:
    world, post = World(), record()
    await told(
        world,
        post,
        target(),
        attempted(post, *(fate(f"m{n}@x.test") for n in range(500)), fate("ok@x.test", State.DELIVERED)),
    )
    (delivery,) = world.bus.reports
    text = octets(delivery.content).decode()
    assert "500 members of office@example.test did not get a message" in text
    assert "... and 300 more" in text
    assert len(world.bus.emitted("delivery.failed")) == 500


async def test_owners_behind_two_next_hops_are_two_deliveries_of_one_report() -> None:
    world, post = World(routes="owner.test=lmtp://127.0.0.1:3"), record()
    await told(world, post, target(), attempted(post, fate()))
    assert {each.hop: [r.address for r in each.recipients] for each in world.bus.reports} == {
        "smtp://127.0.0.1:2": [OWNERS[0]],
        "lmtp://127.0.0.1:3": [OWNERS[1]],
    }
    assert len({each.post_id for each in world.bus.reports}) == 1
    assert len(world.bus.emitted("report.sent")) == 1


@pytest.mark.parametrize(
    ("owners", "domain", "own", "expected"),
    [
        (OWNERS, "pm@example.test", "root@site.test", OWNERS),
        ((), "pm@example.test", "root@site.test", ("pm@example.test",)),
        ((), "", "root@site.test", ("root@site.test",)),
        ((), "", "", None),
        (("Boris@Gmail.test",), "", "root@site.test", ("root@site.test",)),  # the dead member is the only owner
        ((), "boris@gmail.test", "root@site.test", ("root@site.test",)),  # the dead member is the domain's postmaster
        ((), "", "Boris@gmail.test", None),
        (("bad\r\nBcc: x@y.test",), "", "", None),
    ],
)
async def test_who_looks_after_a_group(
    owners: tuple[str, ...], domain: str, own: str, expected: tuple[str, ...] | None
) -> None:
    world, post = World(domain_postmaster=domain, postmaster=own), record()
    await told(world, post, target(owners=owners), attempted(post, fate("boris@gmail.test")))
    assert [tuple(r.address for r in each.recipients) for each in world.bus.reports] == ([expected] if expected else [])
    assert len(world.bus.emitted("delivery.failed")) == 1, "the event goes out whoever is told"


async def test_failures_of_an_alias_are_the_authors_own_bounces() -> None:
    world, post = World(), record()
    await told(world, post, target(envelope="alias"), attempted(post, fate(MEMBERS[1]), fate(MEMBERS[0])))
    (delivery,) = world.bus.reports
    assert [r.address for r in delivery.recipients] == [AUTHOR]
    assert [fields["action"] for fields in Status(octets(delivery.content)).recipients] == ["failed", "failed"]


async def test_two_failed_attempts_of_an_alias_are_two_reports() -> None:
    world, post = World(), record()
    await told(world, post, target(envelope="alias"), attempted(post, fate(MEMBERS[0])))
    await world.handle(attempted(post, fate(MEMBERS[1])))
    assert len({each.post_id for each in world.bus.reports}) == 2


async def test_failures_in_an_alias_inside_another_group_go_to_its_owners() -> None:
    world, post = World(), record(parent="01parent")
    await told(world, post, target(envelope="alias", notify=("NEVER",)), attempted(post, fate()))
    assert tuple(r.address for r in world.bus.reports[0].recipients) == OWNERS


async def test_p5_the_failure_of_a_report_is_told_to_nobody() -> None:
    world = World(postmaster="root@site.test")
    await world.handle(attempted(record(), fate(), kind=DeliveryKind.REPORT))
    assert (world.bus.published, world.bus.events, world.ledger.asked) == ([], [], 0)


OWNER_MAIL = "office-owner@example.test"


@pytest.mark.parametrize(
    ("mail_from", "dead", "expected"),
    [
        (AUTHOR, "head@example.test", "pm@example.test"),
        (AUTHOR, "pm@example.test", "root@site.test"),  # the postmaster's own mailbox: the next one is told
        ("", "head@example.test", None),  # a bounce: the log alone
    ],
)
async def test_p5_mail_to_the_owners_that_fails_is_not_dropped_in_silence_nor_bounced_to_whoever_is_named(
    mail_from: str, dead: str, expected: str | None
) -> None:
    world, post = World(domain_postmaster="pm@example.test", postmaster="root@site.test"), record(mail_from=mail_from)
    aim = target(group=OWNER_MAIL, recipient=OWNER_MAIL, kind=TargetKind.OWNER, owners=())
    failure = attempted(post, fate(dead), group=OWNER_MAIL, kind=DeliveryKind.FORWARD)
    for _ in range(2):
        await told(world, post, aim, failure)
    assert {tuple(r.address for r in each.recipients) for each in world.bus.reports} == (
        {(expected,)} if expected else set()
    )
    assert len({each.post_id for each in world.bus.reports}) == (1 if expected else 0)
    for each in world.bus.reports:
        text = octets(each.content).decode()
        assert f"1 reader of {OWNER_MAIL} did not get a message" in text
        assert "member" not in text
    assert not world.bus.emitted("delivery.failed"), "that event is about members"


async def test_p5_a_forward_that_is_deferred_is_told_to_nobody() -> None:
    world, post = World(domain_postmaster="pm@example.test"), record()
    aim = target(group=OWNER_MAIL, recipient=OWNER_MAIL, kind=TargetKind.OWNER, owners=())
    late = fate("head@example.test", State.DEFERRED)
    await told(world, post, aim, attempted(post, late, group=OWNER_MAIL, kind=DeliveryKind.FORWARD))
    assert not world.bus.published


async def test_a_delay_is_told_once_to_an_author_who_asked() -> None:
    world, post = World(delay_warning="1h"), record()
    world.ledger.open(post, target(envelope="alias", notify=("FAILURE", "DELAY")))
    for at in (60.0, 3599.0, 3600.0, 7200.0):
        await world.handle(attempted(post, fate(state=State.DEFERRED, at=NOW + at)))
    assert len(world.bus.reports) == 2
    assert len({each.post_id for each in world.bus.reports}) == 1, "one report for the sender's record"
    status = Status(octets(world.bus.reports[0].content))
    assert status.recipients[0]["action"] == "delayed"
    assert status.recipients[0]["will-retry-until"]


async def test_p10_a_post_that_is_attempted_often_is_asked_for_once() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    for number in range(50):
        await world.handle(attempted(post, fate(f"m{number}@x.test", State.DEFERRED)))
        await world.handle(attempted(post, fate(f"n{number}@x.test", State.DELIVERED)))
    assert world.ledger.asked == 1
