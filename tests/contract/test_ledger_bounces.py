"""What the ledger keeps of addresses that fail, on both databases, and by two processes at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from shared.groups import slot
from shared.ledger.bounces import Failure, Probe, Source, Suspension, bounce_note
from shared.ledger.store import SqlLedger
from shared.ledger.store_bounces import KEPT, SUSPENSIONS_KEPT
from shared.messages import Queued, State, TargetKind
from tests.contract.ledgers import DAY, GROUP, at, fate, post, share, target

NOW = 1_795_435_200.0  # 2026-11-23 12:00 UTC
BOARD = "board@example.test"


def failure(
    day: float = 0, member: str = "boris@x.test", source: Source = Source.SESSION, **changes: object
) -> Failure:
    values = {"group": GROUP, "member": member, "at": NOW + day * DAY, "post_id": "01p", "status": "5.1.1"}
    return Failure(**{**values, "source": source, "reply": "no such user", **changes})  # type: ignore[arg-type]


async def kept(ledger: SqlLedger, member: str = "boris@x.test", group: str = GROUP, since: float = 0.0) -> list[str]:
    """The days that are kept of a member, as (day, source), without adding one."""
    other = failure(900, "nobody@x.test")
    asked = failure(901, member, group=group)
    found = await ledger.failed([asked, other], since=since)
    await ledger.forgive(GROUP, "nobody@x.test", until=NOW + 999 * DAY)
    return [f"{one.day} {one.source.value}" for one in found if one.member == member and one.day != asked.day]


async def test_p3_a_day_counts_once_however_often_it_is_told(ledger: SqlLedger, other: SqlLedger) -> None:
    for writer in (ledger, other, ledger):
        told = await writer.failed([failure(), failure(at=NOW + 3600, reply="later")], since=0.0)
    assert told == [failure()]
    assert await ledger.failed([failure(1)], since=0.0) == [failure(), failure(1)]
    assert await ledger.failed([failure(1)], since=NOW + DAY / 2) == [failure(1)]


async def test_what_is_sure_takes_the_place_of_hearsay_and_not_the_other_way(ledger: SqlLedger) -> None:
    await ledger.failed([failure(source=Source.HEARSAY)], since=0.0)
    (sure,) = await ledger.failed([failure(at=NOW + 60, source=Source.OWN, reply="sure")], since=0.0)
    assert (sure.source, sure.reply, sure.at) == (Source.OWN, "sure", NOW)
    again = await ledger.failed([failure(source=Source.HEARSAY), failure(reply="another")], since=0.0)
    assert again == [sure]


async def test_of_one_telling_what_is_sure_counts(ledger: SqlLedger) -> None:
    (told,) = await ledger.failed([failure(source=Source.HEARSAY), failure(at=NOW + 1)], since=0.0)
    assert told.source is Source.SESSION


async def test_the_days_are_those_of_utc_and_of_each_member_and_group(ledger: SqlLedger) -> None:
    late = NOW + 12 * 3600 - 1  # 23:59:59
    told = await ledger.failed(
        [failure(at=late), failure(at=late + 1), failure(member="vera@x.test"), failure(group=BOARD)], since=0.0
    )
    assert sorted((one.group, one.member, one.day) for one in told) == [
        (BOARD, "boris@x.test", "2026-11-23"),
        (GROUP, "boris@x.test", "2026-11-23"),
        (GROUP, "boris@x.test", "2026-11-24"),
        (GROUP, "vera@x.test", "2026-11-23"),
    ]


async def test_p3_many_reporters_tell_of_the_same_members_at_once(ledger: SqlLedger, other: SqlLedger) -> None:
    members = [f"m{n}@x.test" for n in range(40)]
    failures = [failure(day, member) for day in range(3) for member in members]
    tellings = [writer.failed(order, since=0.0) for writer in (ledger, other) for order in (failures, failures[::-1])]
    for told in await asyncio.gather(*tellings):
        assert len(told) == 120
    assert sorted(await kept(ledger, "m7@x.test")) == [f"2026-11-{day} session" for day in (23, 24, 25)]


async def test_forgiving_forgets_until_a_time(ledger: SqlLedger) -> None:
    await ledger.failed([failure(0), failure(1), failure(2, source=Source.HEARSAY), failure(3)], since=0.0)
    await ledger.probe(Probe(token="t1", group=GROUP, member="boris@x.test", at=NOW), since=0.0)
    await ledger.forgive(GROUP, "boris@x.test", until=NOW + 1)
    assert await kept(ledger) == ["2026-11-24 session", "2026-11-25 hearsay", "2026-11-26 session"]
    assert await ledger.probe_of_token("t1") is None
    await ledger.forgive(GROUP, "boris@x.test", until=0.0, hearsay=NOW + 9 * DAY)
    assert await kept(ledger) == ["2026-11-24 session", "2026-11-26 session"]
    await ledger.bring_back(GROUP, "boris@x.test")
    assert await kept(ledger) == []


async def test_p3_a_member_has_one_probe_in_a_while(ledger: SqlLedger, other: SqlLedger) -> None:
    def probe(token: str, day: float = 0, member: str = "boris@x.test") -> Probe:
        return Probe(token=token, group=GROUP, member=member, at=NOW + day * DAY)

    same = await asyncio.gather(*(each.probe(probe("t1"), since=NOW - 7 * DAY) for each in (ledger, other)))
    assert list(same) == [probe("t1")] * 2
    assert await other.probe(probe("t2", 3), since=NOW - 4 * DAY) == probe("t1")
    assert await ledger.probe(probe("t3", member="vera@x.test"), since=0.0) == probe("t3", member="vera@x.test")
    assert await ledger.probe(probe("t4", 8), since=NOW + DAY) == probe("t4", 8)
    assert await ledger.probe_of_token("t4") == probe("t4", 8)
    assert await ledger.probe_of_token("t2") is None
    assert await ledger.probe_of_member(GROUP, "boris@x.test") == probe("t4", 8)
    assert await ledger.probe_of_member(BOARD, "boris@x.test") is None


async def test_a_suspension_is_known_until_the_member_is_brought_back(ledger: SqlLedger) -> None:
    values = {"group": GROUP, "member": "boris@x.test", "at": NOW, "post_id": "01p", "reason": "5.1.1 на 3 дни"}
    suspension = Suspension(id="s1", **values)  # type: ignore[arg-type]
    again = msgspec.structs.replace(suspension, id="s2")
    for each in (suspension, suspension, again):
        await ledger.suspended(each)
    assert await ledger.suspensions(GROUP, ["boris@x.test", "vera@x.test"]) == {"boris@x.test": again}
    assert await ledger.suspensions(BOARD, ["boris@x.test"]) == {}
    counted = [await ledger.suspended_since(group, at) for group, at in ((GROUP, NOW), (GROUP, NOW + 1), (BOARD, 0.0))]
    assert counted == [1, 0, 0]
    for _ in range(2):
        await ledger.bring_back(GROUP, "boris@x.test")
    assert await ledger.suspensions(GROUP, ["boris@x.test"]) == {}


async def test_strange_text_is_kept(ledger: SqlLedger) -> None:
    strange = failure(member="\ud800x" + "y" * 400, reply="a\0b\ud800" + "z" * 9999, status="5.1.1")
    (told,) = await ledger.failed([strange], since=0.0)
    assert len(told.reply) <= 500


async def test_the_sweep_takes_what_is_too_old_to_count(ledger: SqlLedger) -> None:
    now = time.time()
    old, young = failure(at=now - KEPT - DAY), failure(at=now - KEPT + DAY)
    await ledger.failed([old, young], since=0.0)
    for name, when in (("old", now - KEPT - DAY), ("young", now)):
        await ledger.probe(Probe(token=name, group=GROUP, member=name, at=when), since=0.0)
    values = {"group": GROUP, "id": "s", "post_id": "01p", "reason": "r"}
    for name, when in (("gone", now - SUSPENSIONS_KEPT - 1), ("stays", now - KEPT - DAY)):
        await ledger.suspended(Suspension(member=name, at=when, **values))
    await ledger.sweep(posts_before=now - 90 * DAY)
    assert await kept(ledger) == [f"{young.day} session"]
    assert [await ledger.probe_of_token(name) is None for name in ("old", "young")] == [True, False]
    assert set(await ledger.suspensions(GROUP, ["gone", "stays"])) == {"stays"}


# --- successes --------------------------------------------------------------------------------------------------------
async def sent(
    ledger: SqlLedger,
    when: float,
    state: State = State.DELIVERED,
    *,
    more: int = 0,
    **changes: Any,
) -> str:
    """A post to boris, and `more` others, that ended so at that time; its id."""
    record = post(accepted_at=when - 60)
    await ledger.open_post(record, [target(**{"token": record.id[-12:], **changes})])
    crowd = tuple(f"p{n}@x.test" for n in range(more))
    await ledger.file(share(record.id, [Queued(addresses=("Boris@x.test", *crowd), via=(GROUP,))]))
    await ledger.record(at(record.id), GROUP, [fate("Boris@x.test", state, at=when)])
    return record.id


@pytest.mark.parametrize("more", [0, 1500])
async def test_the_last_success_is_a_copy_that_arrived_and_did_not_come_back(ledger: SqlLedger, more: int) -> None:
    now = time.time()
    await sent(ledger, now - 9 * DAY, more=more)
    good = now - 4 * DAY
    await sent(ledger, good, more=more)
    await sent(ledger, now - 3 * DAY, State.FAILED, more=more)
    returned = await sent(ledger, now - 2 * DAY, more=more)
    await ledger.note(bounce_note(returned, GROUP, "boris@x.test", at=now, detail={"recipient": "boris@x.test"}))
    await sent(ledger, now - 60, more=more)
    found = await ledger.last_success("boris@x.test", since=now - 8 * DAY, until=now - DAY)
    assert found == pytest.approx(good)
    assert await ledger.last_success("boris@x.test", since=good, until=now - DAY) is None
    assert await ledger.last_success("vera@x.test", since=0.0, until=now) is None


@pytest.mark.parametrize("more", [0, 1500])
@pytest.mark.parametrize(
    "what", [{"kind": TargetKind.SIGNAL, "token": ""}, {"envelope": "alias"}, {"kind": TargetKind.OWNER, "token": ""}]
)
async def test_what_would_not_come_back_to_us_is_no_success(ledger: SqlLedger, more: int, what: dict[str, Any]) -> None:
    """A signal is told as an event, and a group may announce each post by one; other envelopes' bounces go to authors.
    Nor do they hide the copies behind them."""
    now = time.time()
    for minutes in range(30):
        await sent(ledger, now - 60 * minutes - 60, more=more if minutes < 2 else 0, **what)
    assert await ledger.last_success("boris@x.test", since=now - DAY, until=now) is None
    await sent(ledger, now - DAY / 2, more=more)
    assert await ledger.last_success("boris@x.test", since=now - DAY, until=now) == pytest.approx(now - DAY / 2)


async def test_a_slot_finds_its_recipient(ledger: SqlLedger) -> None:
    record = post(slices=3)
    await ledger.open_post(record, [target()])
    crowd = [f"p{n}@x.test" for n in range(300)]
    for index in range(3):
        mine = [name for name in crowd if slot(name) * 3 >> 31 == index]
        await ledger.file(share(record.id, mine, index=index, of=3))
    for name in crowd[::50]:
        assert [row.address for row in await ledger.at_slot(record.id, slot(name))] == [name]
        assert (await ledger.at_slot(record.id, slot(name)))[0].via == (GROUP,)
    assert await ledger.at_slot(record.id, slot("nobody@x.test")) == []
    assert await ledger.at_slot("01nopost", 7) == []
