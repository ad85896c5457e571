"""The reporter's journey over in-memory ports: what is filed, who is told, and that repeating any of it changes nothing."""

from __future__ import annotations

import asyncio
from email.header import decode_header, make_header
from typing import Any

import msgspec
import pytest

from shared.bus import BusUnavailable, Outgoing
from shared.groups import Member
from shared.identity import new_id
from shared.ledger import LedgerUnavailable
from shared.messages import (
    Brief,
    DeliveryKind,
    Lane,
    Refused,
    Signal,
    SignalExpanded,
    State,
    TargetKind,
    Undecodable,
    encode,
)
from shared.replies import TransientError
from shared.topology import Queue
from tests.reporter.doubles import until
from tests.reporter.rfc3464 import Status
from tests.reporter.test_notices import shown
from tests.reporter.world import (
    AUTHOR,
    GROUP,
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


# --- reports ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "action"),
    [
        ({"report": True}, "delivered"),
        ({"report": True, "notify": ("SUCCESS",)}, "delivered"),
        ({"report": True, "envelope": "alias"}, "expanded"),
        ({"notify": ("SUCCESS",), "envelope": "alias"}, "relayed"),
    ],
)
async def test_a_complete_fan_out_is_reported_once_to_the_envelope_sender(
    settings: dict[str, Any], action: str
) -> None:
    world, post = World(), record(envid="E1")
    await told(world, post, target(orcpt="rfc822;Office@example.test", **settings), expanded(post))
    (delivery,) = world.bus.reports
    assert (delivery.mail_from, delivery.kind, delivery.lane, delivery.attempt) == (
        "",
        DeliveryKind.REPORT,
        Lane.EXPRESS,
        0,
    )
    assert (delivery.hop, [r.address for r in delivery.recipients]) == ("smtp://127.0.0.1:2", [AUTHOR])
    status = Status(octets(delivery.content))
    assert status.per_message["original-envelope-id"] == "E1"
    assert status.recipients == [
        {
            "original-recipient": "rfc822; Office@example.test",
            "final-recipient": "rfc822; Office@example.test",
            "action": action,
            "status": "2.1.5",
        }
    ]
    (event,) = world.bus.emitted("report.sent")
    assert (event["kind"], event["to"], event["post"], event["group"]) == (action, [AUTHOR], post.id, GROUP)


async def test_no_report_that_nobody_asked_for() -> None:
    world, post = World(), record()
    await told(world, post, target(), expanded(post))
    assert world.bus.reports == []
    assert world.bus.emitted("post.expanded")


async def test_the_report_waits_for_the_last_share_of_a_large_fan_out() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True))
    for index in (2, 0, 1):
        assert world.bus.reports == []
        await world.handle(expanded(post, members=(f"m{index}@x.test",), index=index, of=3))
    assert len(world.bus.reports) == 1
    (event,) = world.bus.emitted("post.expanded")
    assert (event["recipients"], event["suppressed"]) == (3, 3)


async def test_a_group_that_is_gone_is_told_to_the_author() -> None:
    world, post = World(), record()
    await told(world, post, target(owners=()), expanded(post, members=()), verdict="gone")
    (delivery,) = world.bus.reports
    status = Status(octets(delivery.content))
    assert (status.recipients[0]["action"], status.recipients[0]["status"]) == ("failed", "5.1.1")
    assert "no such group" in status.text.replace("\r\n", " ")


@pytest.mark.parametrize(("report", "count"), [(True, 1), (False, 0)])
async def test_a_post_without_recipients_is_delivered_where_asked(report: bool, count: int) -> None:
    world, post = World(), record()
    await told(world, post, target(report=report), expanded(post, members=()), verdict="no_recipients")
    assert [Status(octets(each.content)).recipients[0]["action"] for each in world.bus.reports] == ["delivered"] * count


@pytest.mark.parametrize("unreachable", [{"mail_from": ""}, {"parent": "01parent"}])
@pytest.mark.parametrize("envelope", ["list", "alias"])
async def test_p5_nothing_is_sent_in_answer_to_the_null_sender_or_a_child_post(
    unreachable: dict[str, str], envelope: str
) -> None:
    world, post = World(), record(**unreachable)
    aim = target(report=True, notify=("SUCCESS", "FAILURE", "DELAY"), envelope=envelope, owners=())
    await told(world, post, aim, expanded(post))
    await world.handle(attempted(post, fate(), fate("late@x.test", State.DEFERRED, at=NOW + 1e6)))
    assert world.bus.reports == []


async def test_p3_each_outcome_twice_makes_one_report_of_the_same_octets() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True, envelope="alias", notify=("SUCCESS", "FAILURE", "DELAY")))
    late = fate("late@x.test", State.DEFERRED)
    share = expanded(post, members=(*MEMBERS, "late@x.test"))
    outcomes = [share, attempted(post, fate(MEMBERS[1]), fate(MEMBERS[0])), attempted(post, late)]
    for message in outcomes:
        await world.handle(message)
    await world.pass_days(1)
    first, events = world.bus.reports, world.bus.events[:]
    actions = [Status(octets(each.content)).recipients[0]["action"] for each in first]
    assert actions == ["expanded", "failed", "delayed"]
    again = World()  # another process, with nothing remembered
    again.ledger, again.now = world.ledger, world.now
    again.reporter = again.start()
    for message in outcomes:
        await again.handle(message)
    await again.settle()
    assert again.bus.reports == first[:1], "the same post id and octets: the sender's record makes one of them"
    assert set(again.bus.events) <= set(events)
    assert len(world.ledger.noted) == 3


# --- the end of a post -----------------------------------------------------------------------------------------------
async def test_a_list_whose_switch_is_off_reports_once_when_all_is_over() -> None:
    """semantics 1.5: RFC 3461 says MUST where SUCCESS asks, and OFF says when."""
    world, post = World(), record(envid="E1")
    world.ledger.open(post, target(notify=("SUCCESS", "FAILURE", "DELAY"), orcpt="rfc822;Office@example.test"))
    await world.handle(expanded(post))
    await world.handle(attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], State.DEFERRED)))
    await world.pass_days(1)
    to_author = [each for each in world.bus.reports if each.recipients[0].address == AUTHOR]
    assert to_author == [], "one member is still being tried"
    await world.handle(attempted(post, fate(MEMBERS[1], State.DELIVERED)))
    await world.handle(expanded(post))
    await world.settle()
    (delivery,) = [each for each in world.bus.reports if each.recipients[0].address == AUTHOR]
    status = Status(octets(delivery.content))
    assert status.per_message["original-envelope-id"] == "E1"
    assert status.recipients == [
        {
            "original-recipient": "rfc822; Office@example.test",
            "final-recipient": "rfc822; Office@example.test",
            "action": "delivered",
            "status": "2.1.5",
        }
    ]
    assert "no copy is still waiting" in status.text.replace("\r\n", " ")
    for member in MEMBERS:
        assert member not in octets(delivery.content).decode(), "P9"


async def test_the_report_of_a_post_that_never_ends_is_sent_in_the_end() -> None:
    world, post = World(), record()
    await told(world, post, target(notify=("SUCCESS",)), expanded(post))
    await world.pass_days(5)
    assert world.bus.reports == []
    await world.pass_days(1)
    (delivery,) = world.bus.reports
    status = Status(octets(delivery.content))
    assert status.recipients[0]["action"] == "delivered"
    assert "no copy is still waiting" not in status.text.replace("\r\n", " ")


@pytest.mark.parametrize(
    ("mode", "kinds"), [("posts", ["summary"]), ("daily", ["day"]), ("failures", []), ("none", [])]
)
async def test_owners_who_want_to_hear_of_every_post_do(mode: str, kinds: list[str]) -> None:
    world, post = World(), record()
    world.group(notify_owners=mode, owners=OWNERS)
    await told(world, post, target(), expanded(post))
    for member in MEMBERS:
        await world.handle(attempted(post, fate(member, State.DELIVERED)))
    await world.settle()
    assert [event["kind"] for event in world.bus.emitted("report.sent")] == kinds
    assert [tuple(r.address for r in each.recipients) for each in world.bus.reports] == [OWNERS] * len(kinds)
    assert world.ledger.waiting == []


async def test_the_summary_of_a_post_tells_how_it_ended() -> None:
    world, post = World(), record()
    world.group(notify_owners="posts", language="bg")
    world.ledger.open(post, target())
    await world.handle(expanded(post))
    await world.handle(attempted(post, fate(MEMBERS[0]), fate(MEMBERS[1], State.DELIVERED)))
    await world.settle()
    (delivery,) = world.bus.reports
    title, text = shown(delivery.content)
    assert title == "office@example.test: доставени копия 1 от 2"
    assert "boris@gmail.test" in text
    assert "1  автор на съобщението" in text


async def test_the_summary_of_a_day_has_its_posts_and_what_failed_on_it_of_older_ones() -> None:
    world = World()
    world.group(notify_owners="daily", owners=OWNERS)
    world.directory.people[GROUP] = [
        Member(address=f"m{n}@x.test", key=f"m{n}@x.test", bounce="suspended" if n == 3 else "ok") for n in range(5)
    ]
    old, post = (
        record(subject="Yesterday's"),
        record(accepted_at=NOW + 86400, subject="Today's", id=new_id(NOW + 86400)),
    )
    for each in (old, post):
        world.ledger.open(each, target())
        world.now = each.accepted_at
        await world.look()
        await world.handle(expanded(each))
    await world.handle(attempted(old, fate(MEMBERS[0], at=NOW + 86500)))
    await world.settle()
    first, second = (shown(each.content)[1] for each in world.bus.reports)
    assert ("Yesterday's" in first, "Today's" in first, MEMBERS[0] in first) == (True, False, False)
    assert ("Yesterday's" in second, "Today's" in second, MEMBERS[0] in second) == (False, True, True)
    assert "1 member gets no mail" in second
    assert "m3@x.test" in second


async def test_no_mail_about_a_day_for_a_group_that_wants_none_any_more() -> None:
    world, post = World(), record()
    world.group(notify_owners="daily", owners=OWNERS)
    world.ledger.open(post, target())
    await world.handle(expanded(post))
    world.group(notify_owners="failures", owners=OWNERS)
    await world.settle()
    assert (world.bus.reports, world.ledger.waiting) == ([], [])


async def test_the_language_of_a_report_is_the_groups_or_the_installations() -> None:
    for settings, expected in (({"language": "bg"}, "Доставено"), ({"language": "en"}, "Delivered"), ({}, "Доставено")):
        world, post = World(language="bg"), record()
        world.group(**settings)
        world.ledger.open(post, target(report=True))
        await world.handle(expanded(post))
        title = str(make_header(decode_header(Status(octets(world.bus.reports[0].content)).message["Subject"])))
        assert (
            title
            == f"{expected}: {'съобщението Ви до' if expected == 'Доставено' else 'your message to'} Office@example.test"
        )


# --- no flood --------------------------------------------------------------------------------------------------------
async def test_p5_an_address_that_is_not_ours_gets_so_many_reports_an_hour_and_the_others_are_noted() -> None:
    world = World(reports_per_hour=3)
    posts = [record(accepted_at=NOW + n, id=new_id(NOW + n)) for n in range(5)]
    for post in posts:
        world.ledger.open(post, target(report=True))
        for _ in range(2):  # what is told again does not count again
            await world.handle(msgspec.structs.replace(expanded(post), at=post.accepted_at))
    assert len({each.post_id for each in world.bus.reports}) == 3
    notes = [note.detail["kind"] for note in world.ledger.noted.values()]
    assert notes == ["delivered"] * 3 + ["delivered, held"] * 2
    assert len({event["id"] for event in world.bus.emitted("report.sent")}) == 3
    later = record(accepted_at=NOW + 3700, id=new_id(NOW + 3700))
    world.ledger.open(later, target(report=True))
    await world.handle(msgspec.structs.replace(expanded(later), at=NOW + 3700))
    assert len({each.post_id for each in world.bus.reports}) == 4


async def test_authors_in_domains_of_ours_have_no_limit() -> None:
    world = World(reports_per_hour=1)
    for number in range(4):
        post = record(mail_from="ana@example.test", accepted_at=NOW + number, id=new_id(NOW + number))
        world.ledger.open(post, target(report=True))
        await world.handle(expanded(post))
    assert len(world.bus.reports) == 4


async def test_two_groups_of_one_post_are_two_reports_and_one_acceptance() -> None:
    world, post = World(), record()
    world.ledger.open(
        post, target(report=True), target(group="board@example.test", recipient="board@example.test", report=True)
    )
    await world.handle(expanded(post))
    await world.handle(expanded(post, group="board@example.test"))
    await world.handle(expanded(post))
    assert len({each.post_id for each in world.bus.reports}) == 2
    accepted = world.bus.emitted("post.accepted")
    assert len(accepted) == 1
    assert accepted[0]["groups"] == ["board@example.test", GROUP]


async def test_an_owner_address_opened_after_its_posts_group_is_found() -> None:
    world, post = World(), record()
    owner = "office-owner@example.test"
    await told(world, post, target(), expanded(post))
    await told(
        world,
        post,
        target(group=owner, recipient=owner, kind=TargetKind.OWNER, notify=("SUCCESS",)),
        expanded(post, group=owner),
    )
    assert [Status(octets(each.content)).recipients[0]["action"] for each in world.bus.reports] == ["relayed"]
    assert len(world.bus.emitted("post.accepted")) == 1


async def test_a_utf8_author_is_reached_with_smtputf8_and_an_ascii_one_without() -> None:
    world = World()
    for sender, utf8 in (("ана@author.example", True), (AUTHOR, False)):
        post = record(mail_from=sender, id=f"01{utf8}")
        await told(world, post, target(report=True, recipient="офис@example.test"), expanded(post))
        assert world.bus.reports[-1].smtputf8 is utf8
        assert Status(octets(world.bus.reports[-1].content)).kind == "message/global-delivery-status"


@pytest.mark.parametrize(
    ("author", "hop"),
    [("Ana@Author.example", "mx:author.example"), ("ana@xn--bcher-kva.example", "mx:xn--bcher-kva.example")],
)
async def test_reports_to_the_world_name_the_authors_own_domain_as_next_hop(author: str, hop: str) -> None:
    world, post = World(next_hop="mx:"), record(mail_from=author)
    await told(world, post, target(report=True), expanded(post))
    assert [each.hop for each in world.bus.reports] == [hop]


async def test_reports_take_the_route_of_their_recipients_domain() -> None:
    world, post = World(routes="author.example=lmtp://127.0.0.1:3"), record()
    await told(world, post, target(report=True), expanded(post))
    assert world.bus.reports[0].hop == "lmtp://127.0.0.1:3"


# --- refusals, signals, trouble --------------------------------------------------------------------------------------
async def test_a_refusal_is_filed_and_announced() -> None:
    world = World()
    refused = Refused(group=GROUP, mail_from=AUTHOR, code=550, status="5.7.1", text="no", ip="192.0.2.1", at=NOW)
    await world.handle(refused)
    await world.handle(refused)
    assert world.ledger.refusals == [refused, refused]
    first, second = world.bus.emitted("post.refused")
    assert first == second
    assert (first["group"], first["code"], first["at"]) == (GROUP, 550, "2026-11-23T12:00:00Z")


def signal() -> Signal:
    return Signal(
        id="01signal", group=GROUP, text="здравей", origin="monitor", sent_at=NOW, title="t", link="https://x.test/"
    )


async def test_a_signal_is_one_event_a_member() -> None:
    world = World()
    members = tuple(f"m{number}@x.test" for number in range(250))
    await world.handle(SignalExpanded(signal=signal(), members=members))
    events = world.bus.emitted("signal.delivered")
    assert [event["member"] for event in events] == list(members)
    assert len({event["id"] for event in events}) == 250
    assert {(event["signal"], event["text"], event["title"], event["link"], event["origin"]) for event in events} == {
        ("01signal", "здравей", "t", "https://x.test/", "monitor")
    }
    assert world.bus.emitted("signal.suppressed") == []


async def test_a_suppressed_signal_says_why_and_how_many_were_spared() -> None:
    world = World()
    await world.handle(SignalExpanded(signal=signal(), suppressed="disabled", spared=7))
    (event,) = world.bus.emitted("signal.suppressed")
    assert (event["reason"], event["group"], event["origin"], event["spared"]) == ("disabled", GROUP, "monitor", 7)
    assert world.bus.emitted("signal.delivered") == []


async def test_what_is_no_outcome_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        await World().handle(signal())


async def test_a_post_or_target_that_is_not_in_the_ledger_is_trouble_that_may_pass() -> None:
    world, post = World(), record()
    for message in (expanded(post), attempted(post, fate())):
        with pytest.raises(TransientError):
            await world.handle(message)
    world.ledger.open(post, target(group="other@example.test"))
    with pytest.raises(TransientError):
        await world.handle(attempted(post, fate()))
    world.ledger.open(post, target())
    await world.handle(attempted(post, fate()))
    await world.settle()
    assert len(world.bus.reports) == 1


async def test_trouble_of_the_ledger_or_the_bus_is_the_workers_to_retry() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True))
    world.ledger.away = True
    with pytest.raises(LedgerUnavailable):
        await world.handle(expanded(post))
    world.ledger.away = False
    world.bus.refuse = 1  # an event; then, the second time, the next
    with pytest.raises(BusUnavailable):
        await world.handle(SignalExpanded(signal=signal(), members=("a@x.test", "b@x.test")))
    assert not world.bus.emitted("signal.delivered")
    with pytest.raises(BusUnavailable):
        world.bus.refuse = 1
        await world.handle(expanded(post))
    assert world.bus.reports == []
    await world.handle(expanded(post))
    assert len(world.bus.reports) == 1


async def test_f7_the_running_reporter_works_acks_and_stops() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True))
    for payload in (encode(expanded(post)), encode(attempted(post, fate())), b"\xc1 no message", encode(signal())):
        await world.bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=payload))
    published = len(world.bus.published)
    running = asyncio.create_task(world.reporter.run())
    await until(lambda: world.bus.acked[Queue.OUTCOMES] == 2 and world.bus.acked[Queue.PARKED] == 2)
    world.ledger.record(post.id, GROUP, [fate(), fate(MEMBERS[1], State.DELIVERED)])
    world.now += 10
    await until(lambda: len(world.bus.published) - published == 2)
    world.reporter.stop()
    await asyncio.wait_for(running, 10)
    assert [len(each.recipients) for each in world.bus.reports_after(published)] == [1, 2], (
        "the author; then the owners"
    )
    filed = sorted((queue, payload) for queue, _, payload, _ in world.ledger.parked_rows.values())
    assert filed == sorted([("outcomes", b"\xc1 no message"), ("outcomes", encode(signal()))])


async def test_a_fan_out_that_says_all_itself_makes_the_same_events_without_the_ledger() -> None:
    post, asked = record(), World()
    asked.ledger.open(post, target())
    await asked.handle(expanded(post))
    brief = Brief(
        accepted_at=post.accepted_at,
        mail_from=post.mail_from,
        message_id=post.message_id,
        subject=post.subject,
        size=post.size,
        groups=(GROUP,),
    )
    told = World()
    for _ in range(2):  # a redelivery says the same again, and the acceptance once
        await told.handle(msgspec.structs.replace(expanded(post), brief=brief))
    assert (told.ledger.asked, told.ledger.dues, told.ledger.noted) == (0, {}, {}), (
        "an ordinary post costs nothing more"
    )
    assert told.bus.events[:2] == asked.bus.events
    assert told.bus.events[2:] == asked.bus.events[1:]
    assert not told.bus.reports


async def test_of_two_groups_the_first_one_announces_the_post() -> None:
    post, world = record(), World()
    facts = {"accepted_at": post.accepted_at, "mail_from": AUTHOR, "message_id": "", "subject": "", "size": 1}
    for group in ("b@example.test", "a@example.test"):
        brief = Brief(**facts, groups=("a@example.test", "b@example.test"))  # type: ignore[arg-type]
        await world.handle(msgspec.structs.replace(expanded(post, group), brief=brief))
    keys = [key for key, _ in world.bus.events]
    assert keys == ["post.expanded", "post.accepted", "post.expanded"]
