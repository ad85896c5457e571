"""Who hears of copies that could not be delivered: owners, authors, the next in line, or nobody; when, and how often."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.reporter import waiting
from shared.groups import Group, Member
from shared.groups import Settings as GroupSettings
from shared.ledger import LedgerUnavailable
from shared.messages import (
    Content,
    Delivery,
    DeliveryKind,
    State,
    TargetKind,
)
from tests.reporter.rfc3464 import Status
from tests.reporter.test_notices import shown
from tests.reporter.world import (
    AUTHOR,
    GROUP,
    MEMBERS,
    OWNERS,
    World,
    attempted,
    expanded,
    fate,
    octets,
    record,
    target,
)

DELAYED, DELIVERED = State.DEFERRED, State.DELIVERED


async def told(world: World, post: Any, aim: Any, message: Any, *, verdict: str = "open") -> None:
    """Open the post, handle the message, and look until nothing waits."""
    world.ledger.open(post, aim, verdict=verdict)
    await world.handle(message)
    await world.settle()


def ids(world: World) -> list[str]:
    """The reports that were published, each once: what the sender's record makes of them."""
    return list(dict.fromkeys(each.post_id for each in world.bus.reports))


def subject(delivery: Delivery) -> str:
    return shown(delivery.content)[0]


# --- owners ----------------------------------------------------------------------------------------------------------
async def test_p9_failures_of_a_list_go_to_its_owners_and_name_nobody_to_the_author() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True, notify=("SUCCESS", "FAILURE", "DELAY")))
    await world.handle(expanded(post))
    await world.handle(attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], DELAYED)))
    await world.pass_days(1)
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


@pytest.mark.parametrize("which", ["owner", "the domain's postmaster", "HORO_POSTMASTER"])
async def test_p5_a_group_that_looks_after_another_hears_through_its_members(which: str) -> None:
    board = "board@example.test"  # mail of ours to it would come back to us, from the null sender, and be refused
    world = World(
        domain_postmaster=board if which == "the domain's postmaster" else "",
        postmaster=board if which == "HORO_POSTMASTER" else "",
    )
    world.directory.groups[board] = Group(id=2, address=board, settings=GroupSettings())
    world.directory.people[board] = [
        Member(address="Iva@x.test", key="iva@x.test"),
        Member(address="paused@x.test", key="paused@x.test", paused=True),
        Member(address="dead@x.test", key="dead@x.test", bounce="suspended"),
        Member(address=board, key=board, group=board),
    ]
    post = record()
    world.ledger.open(post, target(owners=(board,) if which == "owner" else ()))
    await world.handle(attempted(post, fate(MEMBERS[0])))
    await world.settle()
    (notice,) = world.bus.reports
    assert [each.address for each in notice.recipients] == ["Iva@x.test"]


async def test_one_notice_for_all_failures_of_a_post_however_many_batches_failed() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    for batch in range(5):
        people = (fate(f"m{n}@x.test") for n in range(batch * 100, batch * 100 + 100))
        await world.handle(attempted(post, *people, fate(f"ok{batch}@x.test", DELIVERED)))
    await world.settle()
    (delivery,) = world.bus.reports
    title, text = shown(delivery.content)
    assert title == "500 members of office@example.test did not get a message"
    assert "... and 300 more" in text
    assert len(world.bus.emitted("delivery.failed")) == 500
    assert len(world.bus.emitted("report.sent")) == 1


async def test_owners_hear_when_the_post_is_finished() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    await world.handle(attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], DELIVERED)))
    await world.look(waiting.FIRST - 0.1)
    assert not world.bus.reports
    await world.look(0.2)
    assert len(world.bus.reports) == 1
    assert world.ledger.waiting == []


async def test_owners_hear_after_a_quarter_of_an_hour_and_once_more_at_the_end_if_more_failed() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    await world.handle(attempted(post, fate("a@x.test"), fate("b@x.test", DELAYED), fate("c@x.test", DELAYED)))
    await world.pass_days(14.9 / 1440)
    assert not world.bus.reports
    await world.pass_days(0.2 / 1440)
    (first,) = world.bus.reports
    title, text = shown(first.content)
    assert title == "1 member of office@example.test did not get a message"
    assert "For 2 more members delivery is still being tried." in text
    assert "28 November 2026, 12:00 UTC" in text
    await world.handle(attempted(post, fate("b@x.test", at=world.now)))
    await world.pass_days(1)
    assert len(world.bus.reports) == 1, "c is still being tried"
    await world.handle(attempted(post, fate("c@x.test", DELIVERED)))
    await world.settle()
    (_, second) = world.bus.reports
    title, text = shown(second.content)
    assert title == "2 members of office@example.test did not get a message"
    assert "You have had a notice about this message before." in text
    assert len(ids(world)) == 2


async def test_no_second_notice_where_no_more_failed() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    await world.handle(attempted(post, fate("a@x.test"), fate("b@x.test", DELAYED)))
    await world.pass_days(1)
    await world.handle(attempted(post, fate("b@x.test", DELIVERED)))
    await world.settle()
    assert len(world.bus.reports) == 1
    assert world.ledger.waiting == []


async def test_a_post_that_never_ends_is_told_of_as_it_stands() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    await world.handle(attempted(post, fate("a@x.test"), fate("b@x.test", DELAYED)))
    await world.pass_days(1)
    await world.handle(attempted(post, fate("c@x.test")))
    await world.pass_days(10)
    assert [subject(each).partition(" ")[0] for each in world.bus.reports] == ["1", "2"]
    assert world.ledger.waiting == []


@pytest.mark.parametrize(("mode", "count"), [("failures", 1), ("none", 0)])
async def test_notify_owners_says_whether_they_hear_of_failures(mode: str, count: int) -> None:
    world, post = World(), record()
    world.group(notify_owners=mode)
    await told(world, post, target(), attempted(post, fate()))
    assert len(world.bus.reports) == count
    assert len(world.bus.emitted("delivery.failed")) == 1


async def test_notify_owners_is_read_when_it_is_time() -> None:
    world, post = World(), record()
    world.group(notify_owners="failures")
    world.ledger.open(post, target())
    await world.handle(attempted(post, fate()))
    world.group(notify_owners="none")
    await world.settle()
    assert not world.bus.reports
    assert world.ledger.waiting == []


async def test_the_language_of_a_notice_is_the_groups() -> None:
    world, post = World(), record()
    world.group(language="bg")
    await told(world, post, target(), attempted(post, fate()))
    assert subject(world.bus.reports[0]) == "1 абонат на office@example.test не получи съобщение"


async def test_p3_a_failure_that_is_told_again_and_again_by_any_number_of_reporters_is_one_notice() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    message = attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], DELIVERED))
    for _ in range(3):
        await world.handle(message)
        await world.handle(message)
        await world.settle()
        world.reporter = world.start()
    assert len(world.bus.reports) == 1
    assert len(world.ledger.noted) == 1


@pytest.mark.parametrize("envelope", ["list", "alias"])
async def test_p3_a_crash_between_writing_down_and_sending_sends_the_same_report(envelope: str) -> None:
    world, post = World(), record()
    world.ledger.open(post, target(envelope=envelope))
    await world.handle(attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], DELIVERED)))
    world.bus.refuse = 1
    await world.look(waiting.FIRST)
    assert (world.bus.reports, len(world.ledger.waiting)) == ([], 1)
    await world.look(60)
    assert len(world.bus.reports) == 1
    # sent, and not written down any more: the next one finds what was to be sent, and sends the same
    (due,) = world.ledger.dues.values()
    memory = msgspec.json.decode(due.detail)
    sent = {"sending": memory.get("marks") or [memory["told"]], "last": memory["last"]}
    detail = msgspec.json.encode(sent).decode()
    world.ledger.dues[due.id] = msgspec.structs.replace(due, at=world.now, detail=detail)
    await world.look(60)
    assert len(world.bus.reports) == 2
    assert len(ids(world)) == 1, "one report for the sender's record"
    assert world.bus.reports[0] == world.bus.reports[1]


async def test_p4_while_the_ledger_does_not_answer_nothing_is_forgotten() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    world.ledger.away = True
    with pytest.raises(LedgerUnavailable):
        await world.handle(attempted(post, fate()))
    world.ledger.away = False
    await world.handle(attempted(post, fate()))
    world.ledger.away = True
    with pytest.raises(LedgerUnavailable):
        await world.look(60)
    world.ledger.away = False
    await world.look(60)
    assert len(world.bus.reports) == 1


async def test_owners_behind_two_next_hops_are_two_deliveries_of_one_report() -> None:
    world, post = World(routes="owner.test=lmtp://127.0.0.1:3"), record()
    await told(world, post, target(), attempted(post, fate()))
    assert {each.hop: [r.address for r in each.recipients] for each in world.bus.reports} == {
        "smtp://127.0.0.1:2": [OWNERS[0]],
        "lmtp://127.0.0.1:3": [OWNERS[1]],
    }
    assert len({each.post_id for each in world.bus.reports}) == 1
    assert len(world.bus.emitted("report.sent")) == 1


async def test_a_notice_stands_in_the_posts_notes() -> None:
    world, post = World(), record()
    await told(world, post, target(), attempted(post, fate()))
    (note,) = world.ledger.noted.values()
    assert (note.post_id, note.kind, note.group) == (post.id, "report", GROUP)
    assert note.detail == {"kind": "owners", "to": ", ".join(OWNERS), "report": world.bus.reports[0].post_id}


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


# --- authors ---------------------------------------------------------------------------------------------------------
async def test_failures_of_an_alias_are_the_authors_own_bounces_in_one_report() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(envelope="alias"))
    await world.handle(attempted(post, fate(MEMBERS[1])))
    await world.handle(attempted(post, fate(MEMBERS[0])))
    await world.settle()
    (delivery,) = world.bus.reports
    assert [r.address for r in delivery.recipients] == [AUTHOR]
    status = Status(octets(delivery.content))
    assert [(each["action"], each["final-recipient"]) for each in status.recipients] == [
        ("failed", "rfc822; boris@gmail.test"),
        ("failed", "rfc822; vera@other.test"),
    ]


async def test_an_author_gets_few_reports_each_failure_once() -> None:
    """The first attempts together after a minute, what fails later at most once an hour, the rest when all is over."""
    world, post = World(), record()
    world.ledger.open(post, target(envelope="alias"))
    people = [f"m{n:02}@x.test" for n in range(20)]
    await world.handle(attempted(post, *(fate(each, DELAYED) for each in people[2:]), *map(fate, people[:2])))
    for number in range(2, 19):
        await world.pass_days(4 / 1440)
        await world.handle(attempted(post, fate(people[number], at=world.now)))
    await world.pass_days(1)
    await world.handle(attempted(post, fate(people[19], at=world.now)))
    await world.settle()
    assert len(world.bus.reports) == len(ids(world))
    assert 2 <= len(world.bus.reports) <= 4
    named = [
        each["final-recipient"] for report in world.bus.reports for each in Status(octets(report.content)).recipients
    ]
    assert sorted(named) == sorted(f"rfc822; {each}" for each in people), "each once"
    assert "Delivery to 18 more people is still being tried." in Status(octets(world.bus.reports[0].content)).text


async def test_p10_of_very_many_failures_behind_an_alias_some_are_named_and_all_counted() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(envelope="alias"))
    await world.handle(attempted(post, *(fate(f"m{n}@x.test") for n in range(700))))
    await world.settle()
    (delivery,) = world.bus.reports
    status = Status(octets(delivery.content))
    assert len(status.recipients) == 500
    assert "... and 500 more" in status.text, "300 that the text does not name, and 200 without a block"


async def test_the_message_that_failed_comes_back_though_it_is_told_later() -> None:
    world, post = World(), record(ret="FULL")
    world.ledger.open(post, target(envelope="alias"))
    head = b"Received: from a\r\nFrom: Ana <ana@author.example>\r\nSubject: as it came\r\n\r\n"
    failed = msgspec.structs.replace(attempted(post, fate()), content=Content(head=head, tail=b"body\r\n"))
    await world.handle(failed)
    world.reporter = world.start()
    await world.settle()
    status = Status(octets(world.bus.reports[0].content))
    assert (status.original_kind, status.original) == ("message/rfc822", head + b"body\r\n")


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
        title, text = shown(each.content)
        assert title == f"Mail to {OWNER_MAIL} did not reach 1 of its readers"
        assert "member" not in text
    assert not world.bus.emitted("delivery.failed"), "that event is about members"


async def test_p5_a_forward_that_is_deferred_is_told_to_nobody() -> None:
    world, post = World(domain_postmaster="pm@example.test"), record()
    aim = target(group=OWNER_MAIL, recipient=OWNER_MAIL, kind=TargetKind.OWNER, owners=())
    late = fate("head@example.test", State.DEFERRED)
    await told(world, post, aim, attempted(post, late, group=OWNER_MAIL, kind=DeliveryKind.FORWARD))
    assert not world.bus.published


# --- delays ----------------------------------------------------------------------------------------------------------
async def test_a_delay_is_told_once_of_everybody_who_is_late_to_an_author_who_asked() -> None:
    world, post = World(delay_warning="1h"), record()
    world.ledger.open(post, target(envelope="alias", notify=("FAILURE", "DELAY"), orcpt="rfc822;Office@example.test"))
    await world.handle(attempted(post, fate("a@x.test", DELAYED), fate("b@x.test", DELAYED), fate("c@x.test")))
    await world.pass_days(59 / 1440)
    await world.handle(attempted(post, fate("b@x.test", DELIVERED), fate("d@x.test", DELAYED)))
    assert [Status(octets(each.content)).recipients[0]["action"] for each in world.bus.reports] == ["failed"]
    await world.pass_days(2 / 1440)
    (_, delivery) = world.bus.reports
    status = Status(octets(delivery.content))
    assert [(each["action"], each["final-recipient"]) for each in status.recipients] == [
        ("delayed", "rfc822; a@x.test"),
        ("delayed", "rfc822; d@x.test"),
    ]
    assert status.recipients[0]["will-retry-until"] == "Sat, 28 Nov 2026 12:00:00 +0000"
    assert status.recipients[0]["original-recipient"] == "rfc822; Office@example.test"
    assert "has not reached 2 of the people" in status.text.replace("\r\n", " ")
    for _ in range(3):
        await world.handle(attempted(post, fate("a@x.test", DELAYED, attempt=5)))
        await world.pass_days(1)
    assert len(ids(world)) == 2, "once"


async def test_nobody_late_when_it_is_time_is_no_delay() -> None:
    world, post = World(delay_warning="1h"), record()
    world.ledger.open(post, target(envelope="alias", notify=("DELAY",)))
    await world.handle(attempted(post, fate("a@x.test", DELAYED)))
    await world.handle(attempted(post, fate("a@x.test", DELIVERED)))
    await world.settle()
    assert (world.bus.reports, world.ledger.waiting) == ([], [])


@pytest.mark.parametrize(
    ("envelope", "notify"), [("alias", None), ("alias", ("FAILURE",)), ("alias", ("NEVER",)), ("list", ("DELAY",))]
)
async def test_a_delay_is_told_to_nobody_who_did_not_ask(envelope: str, notify: tuple[str, ...] | None) -> None:
    world, post = World(delay_warning="1h"), record()
    await told(world, post, target(envelope=envelope, notify=notify), attempted(post, fate("a@x.test", DELAYED)))
    assert (world.bus.reports, world.ledger.dues) == ([], {})


async def test_p10_a_post_that_is_attempted_often_is_asked_for_once() -> None:
    world, post = World(), record()
    world.ledger.open(post, target())
    for number in range(50):
        await world.handle(attempted(post, fate(f"m{number}@x.test", State.DEFERRED)))
        await world.handle(attempted(post, fate(f"n{number}@x.test", State.DELIVERED)))
    assert world.ledger.asked == 1
