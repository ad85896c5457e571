"""Signals: who they reach, by which channels, what is left out and why, what a repetition does, and what a post announces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from shared.bus import BusUnavailable, Outgoing
from shared.groups import cell, slot
from shared.identity import derive, new_id
from shared.ledger import Row
from shared.messages import Notification, Queued, Reason, Signal, SignalExpanded, decode, encode
from shared.topology import Queue
from tests.expander.town import person
from tests.expander.world import ACCEPTED, FailAt, Result, World, head, post

OFFICE, BOARD, FAR = "office@a.test", "board@a.test", "far@b.test"
HOOK, ROOM = "json:aaaaaaaaaaaaaaaa", "slack:bbbbbbbbbbbbbbbb"


def signal(group: str = OFFICE, **changes: Any) -> Signal:
    values = {"id": new_id(ACCEPTED), "group": group, "text": "Fire drill", "origin": "test", "sent_at": ACCEPTED}
    return Signal(**{**values, **changes})


def people(told: Iterable[SignalExpanded]) -> list[str]:
    """Everybody who gets an event, as often as they get one."""
    return sorted(who for one in told if one.share for row in one.share.queued for who in row.addresses)


def left_out(told: Iterable[SignalExpanded]) -> list[tuple[str, Reason]]:
    rows = [row for one in told if one.share for row in one.share.suppressed]
    return sorted((who, row.reason) for row in rows for who in row.addresses)


def notifications(result: Result) -> list[Notification]:
    return [wire for _, wire in result.wires if isinstance(wire, Notification)]


async def file(world: World, told: Iterable[SignalExpanded]) -> None:
    """What the reporter does with the shares."""
    for one in told:
        assert one.share is not None
        await world.ledger.real.file(msgspec.structs.replace(one.share, queued=(*one.share.queued, *one.channels)))


async def rows(world: World, post_id: str) -> list[Row]:
    return [row async for page in world.ledger.real.trace(post_id) for row in page]


# --- people -----------------------------------------------------------------------------------------------------------
async def test_p2_a_signal_reaches_the_people_of_nested_groups_once(world: World) -> None:
    world.directory.add(BOARD, "Boris@x.test", "vera@x.test", OFFICE)
    world.directory.add(OFFICE, "boris@x.test", BOARD, person("paused@x.test", paused=True))
    (told,) = (await world.run(signal())).signals
    assert people([told]) == ["boris@x.test", "vera@x.test"]
    assert told.suppressed is None
    assert left_out([told]) == [
        ("Boris@x.test", Reason.DUPLICATE),
        (OFFICE, Reason.CYCLE),
        ("paused@x.test", Reason.PAUSED),
    ]


async def test_who_is_suspended_after_bounces_gets_signals(world: World) -> None:
    world.directory.add(OFFICE, person("gone@x.test", bounce="suspended"), person("off@x.test", paused=True))
    (told,) = (await world.run(signal())).signals
    assert people([told]) == ["gone@x.test"]
    assert (await world.run(post(OFFICE))).people == []


async def test_a_signal_to_a_group_that_wants_none_is_suppressed(world: World) -> None:
    world.directory.add(BOARD, "boris@x.test", "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", BOARD, disable_signals=True)
    world.directory.channels = [(OFFICE, HOOK)]
    sent = signal()
    result = await world.run(sent)
    (told,) = result.signals
    assert (people([told]), told.suppressed, told.spared) == ([], "disabled", 2)
    assert notifications(result) == []
    await file(world, [told])
    summary = await world.ledger.real.post(sent.id)
    assert summary is not None
    assert (summary.targets[0][1], summary.totals.expanded, summary.totals.complete) == ("disabled", 0, True)


async def test_disable_signals_does_not_touch_mail_nor_disabled_signals(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", disable_signals=True)
    assert (await world.run(post(OFFICE))).people == ["boris@x.test"]
    world.directory.set(OFFICE, disable_signals=False, disabled=True)
    assert people((await world.run(signal())).signals) == ["boris@x.test"]


async def test_p4_sub_groups_that_refuse_signals_are_left_out_and_traced(world: World) -> None:
    world.directory.add(BOARD, "vera@x.test", disable_signals=True)
    world.directory.add(FAR, "far@x.test")
    world.directory.add("near@b.test", "near@x.test", nest_from=("a.test",))
    world.directory.add(OFFICE, "boris@x.test", BOARD, FAR, "near@b.test")
    sent = signal()
    (told,) = (await world.run(sent)).signals
    assert people([told]) == ["boris@x.test", "near@x.test"]
    assert left_out([told]) == [(BOARD, Reason.SIGNALS_DISABLED), (FAR, Reason.NOT_NESTED)]
    await file(world, [told])
    totals = await world.ledger.real.totals(sent.id)
    assert (totals.expanded, totals.deferred, totals.suppressed) == (4, 2, 2)


async def test_a_signal_to_no_group_is_told(world: World) -> None:
    (told,) = (await world.run(signal("nobody@a.test"))).signals
    assert (people([told]), told.suppressed) == ([], "unknown_group")


async def test_a_signal_to_nobody_is_told(world: World) -> None:
    world.directory.add(OFFICE, person("off@x.test", paused=True))
    (told,) = (await world.run(signal())).signals
    assert (people([told]), told.suppressed) == ([], "no_members")


async def test_p10_a_signal_to_a_large_group_goes_out_in_slices(world: World) -> None:
    everybody = sorted(f"p{n}@x.test" for n in range(5000))
    world.directory.add(OFFICE, *everybody)
    told = (await world.run(signal())).signals
    assert people(told) == everybody
    assert [one.share.index for one in told if one.share] == [0, 1, 2]
    assert max(len(people([one])) for one in told) < 2 * 5000 // 3


# --- channels ---------------------------------------------------------------------------------------------------------
async def test_p2_a_channel_of_several_groups_is_notified_once_by_the_nearest(world: World) -> None:
    world.directory.add(BOARD, "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", BOARD)
    world.directory.channels = [(BOARD, HOOK), (OFFICE, HOOK), (BOARD, ROOM), (FAR, "json:cccccccccccccccc")]
    sent = signal()
    result = await world.run(sent)
    assert [(one.channel, one.label, one.attempt) for one in notifications(result)] == [(2, HOOK, 0), (3, ROOM, 0)]
    (told,) = result.signals
    assert told.channels == (
        Queued(addresses=(HOOK,), via=(OFFICE,)),
        Queued(addresses=(ROOM,), via=(OFFICE, BOARD)),
    )
    await file(world, [told])
    assert sorted(row.address for row in await rows(world, sent.id)) == sorted(
        ["boris@x.test", "vera@x.test", HOOK, ROOM]
    )


async def test_p10_each_slice_notifies_the_channels_of_its_own_cell(world: World) -> None:
    world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(5000)))
    world.directory.channels = [(OFFICE, f"json:{n:016}") for n in range(20)]
    result = await world.run(signal())
    sent = notifications(result)
    assert sorted(one.channel for one in sent) == list(range(1, 21))
    assert {one.cell for one in sent} == {0, 1, 2}
    assert all(one.cell == cell(slot(one.label), 3) for one in sent)
    by_share = {one.share.index: {row.addresses[0] for row in one.channels} for one in result.signals if one.share}
    assert by_share == {index: {one.label for one in sent if one.cell == index} for index in range(3)}


async def test_a_group_of_no_members_with_a_channel_is_reached(world: World) -> None:
    world.directory.add(OFFICE)
    world.directory.channels = [(OFFICE, HOOK)]
    (told,) = (await world.run(signal())).signals
    assert told.suppressed is None


async def test_p3_the_channels_are_notified_before_the_reporter_is_told(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    world.directory.channels = [(OFFICE, HOOK)]
    result = await world.run(signal())
    assert [message.queue for message, _ in result.wires] == [Queue.NOTIFICATIONS, Queue.OUTCOMES]


# --- repetition -------------------------------------------------------------------------------------------------------
async def test_p3_a_redelivered_signal_reaches_the_same_by_the_recorded_graph(world: World) -> None:
    world.directory.add(BOARD, "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", BOARD)
    sent = signal()
    first = (await world.run(sent)).signals
    world.directory.remove(OFFICE, BOARD)
    world.directory.set(OFFICE, disable_signals=True)
    again = (await world.run(sent)).signals
    assert people(again) == people(first) == ["boris@x.test", "vera@x.test"]
    assert [one.suppressed for one in again] == [None]


async def test_p3_a_signal_with_the_origins_id_is_one_however_often_it_is_sent(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    world.directory.add(BOARD, "vera@x.test")
    first = await world.run(signal(once="alarm 7"))
    assert people(first.signals) == ["boris@x.test"]
    repeated = await world.run(signal(once="alarm 7"))
    assert [(one.suppressed, people([one])) for one in repeated.signals] == [("repetition", [])]
    others = [signal(once="alarm 8"), signal(BOARD, once="alarm 7"), signal(once="alarm 7", origin="another"), signal()]
    for other in others:
        assert [one.suppressed for one in (await world.run(other)).signals] == [None]


async def test_p3_trouble_anywhere_ends_in_the_same_signal(world: World) -> None:
    """Whatever fails at whichever call: in the end the same people and channels, by the same ids."""
    world.directory.add(BOARD, "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", BOARD)
    world.directory.channels = [(OFFICE, HOOK)]
    for number in range(1, 5):
        for place in ("fault", "late"):
            sent = signal()
            setattr(world.bus, place, FailAt(number, BusUnavailable("no confirm")))
            result = await world.run(sent)
            setattr(world.bus, place, FailAt(0))
            mine = [one for one in result.signals if one.signal.id == sent.id]
            assert set(people(mine)) == {"boris@x.test", "vera@x.test"}
            assert {one.label for one in notifications(result) if one.signal.id == sent.id} == {HOOK}


async def test_a_group_that_is_deleted_between_two_tries_leaves_no_post_open(world: World) -> None:
    world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(5000)))
    sent = signal()
    told = (await world.run(sent)).signals
    await file(world, told[:1])
    world.directory.delete(OFFICE)
    again = (await world.run(sent)).signals
    assert Counter(one.suppressed for one in again) == {None: 2, "unknown_group": 1}
    await file(world, again)
    assert (await world.ledger.real.totals(sent.id)).complete


# --- from outside -----------------------------------------------------------------------------------------------------
async def test_json_of_another_system_becomes_a_signal(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    asked = (
        b'{"group": "Office+now@A.test", "text": "\xd0\xb7\xd0\xb4\xd1\x80\xd0\xb0\xd0\xb2\xd0\xb5\xd0\xb9", "id": "7"}'
    )
    await world.bus.feed(Outgoing(queue=Queue.SIGNALS_IN, payload=asked))
    await world.work()
    result = world.since()
    (told,) = result.signals
    assert people([told]) == ["boris@x.test"]
    assert (told.signal.group, told.signal.text, told.signal.origin, told.signal.once) == (
        OFFICE,
        "здравей",
        "amqp",
        "7",
    )


BAD = {
    "no json": b"\xff\x00",
    "another type": b"[1]",
    "no group": b'{"text": "x"}',
    "no text": b'{"group": "office@a.test", "text": ""}',
    "long": b'{"group": "office@a.test", "text": "' + b"x" * 10_001 + b'"}',
    "huge": b'{"group": "office@a.test", "text": "' + b"x" * 200_000 + b'"}',
    "unknown field": b'{"group": "office@a.test", "text": "x", "priority": 1}',
    "script": b'{"group": "office@a.test", "text": "x", "link": "javascript:alert(1)"}',
    "two lines": b'{"group": "office@a.test", "text": "x", "title": "a\\nb"}',
    "terminal": b'{"group": "office@a.test", "text": "\\u001b[31m"}',
    "half a character": b'{"group": "office@a.test", "text": "\\ud800"}',
    "no address": b'{"group": "office", "text": "x"}',
    "deep": b"[" * 100_000,
    "ours": encode(Signal(id="x", group=OFFICE, text="t", origin="o", sent_at=0.0)),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD.keys())
async def test_p5_what_is_no_request_is_parked_with_the_reason(world: World, payload: bytes) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    await world.bus.feed(Outgoing(queue=Queue.SIGNALS_IN, payload=payload))
    await world.work()
    ((message, reason),) = world.bus.aside
    assert message.payload == payload
    assert reason.startswith("undecodable: ")
    assert world.bus.published == []


# --- announcements ----------------------------------------------------------------------------------------------------
def announced(result: Result) -> list[Signal]:
    return [wire for message, wire in result.wires if isinstance(wire, Signal) and message.queue is Queue.SIGNALS]


async def test_a_group_that_announces_its_posts_makes_a_signal_of_each(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", announce_posts=True, title="Офисът")
    letter = post(OFFICE, head=head("=?utf-8?b?0JDQvdCw?= <ana@example.test>"))
    result = await world.run(letter)
    (told,) = announced(result)
    assert (told.id, told.group, told.title, told.text, told.link, told.origin) == (
        derive(letter.id, OFFICE, "announced"),
        OFFICE,
        "Офисът: Ана",
        "News",
        "",
        f"post:{letter.id}",
    )
    assert people(result.signals) == ["boris@x.test"]
    again = announced(await world.run(letter))
    assert {one.id for one in again} <= {told.id}


async def test_no_signal_where_the_group_does_not_ask_for_one(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    assert announced(await world.run(post(OFFICE))) == []


@pytest.mark.parametrize("line", ["Auto-Submitted: auto-replied", "Precedence: bulk"])
async def test_what_no_human_wrote_is_not_announced(world: World, line: str) -> None:
    world.directory.add(OFFICE, "boris@x.test", announce_posts=True, reject_automatic=False)
    result = await world.run(post(OFFICE, head=head("ana@example.test", line)))
    assert result.people == ["boris@x.test"]
    assert announced(result) == []


async def test_an_announcement_of_a_group_without_signals_is_suppressed_with_the_reason(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", announce_posts=True, disable_signals=True)
    result = await world.run(post(OFFICE))
    assert [(one.suppressed, one.spared) for one in result.signals] == [("disabled", 1)]


async def test_p2_a_sub_groups_own_post_is_not_announced_again(world: World) -> None:
    """The parent's announcement has reached the people of all its sub-groups; where the parent makes none, the sub-group's own does."""
    world.directory.add(BOARD, "vera@x.test", announce_posts=True)
    world.directory.add(OFFICE, "boris@x.test", BOARD, announce_posts=True, expand_groups=False)
    assert [told.group for told in announced(await world.run(post(OFFICE)))] == [OFFICE]
    world.directory.set(OFFICE, announce_posts=False)
    assert [told.group for told in announced(await world.run(post(OFFICE)))] == [BOARD]


async def test_p10_an_announcement_of_a_large_post_is_one(world: World) -> None:
    world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(3000)), announce_posts=True)
    result = await world.run(post(OFFICE))
    assert len(result.slices) > 1
    assert len(announced(result)) == 1


def test_a_notification_holds_no_address() -> None:
    made = Notification(signal=signal(), channel=3, label=HOOK, cell=0)
    assert decode(encode(made)) == made
    assert b"://" not in encode(made)
