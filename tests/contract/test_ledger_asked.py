"""The ledger's port, held on SQLite and PostgreSQL alike: what is asked, parked and swept."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.groups import cell, slot
from shared.identity import derive, new_id
from shared.ledger import Row
from shared.ledger.notes import Note
from shared.ledger.store import SqlLedger
from shared.messages import (
    BodyRef,
    Content,
    Delivery,
    Origin,
    Post,
    Queued,
    Reason,
    Recipient,
    Refused,
    State,
    Suppressed,
    Target,
    encode,
)
from tests.contract.ledgers import DAY, GROUP, at, fate, post, rows_of, share, target


# --- asked ------------------------------------------------------------------------------------------------------------
async def test_p4_a_trace_comes_in_pages_recipients_first(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    names = [f"m{n:04}@x.test" for n in range(1100)]
    left_out = [Suppressed(addresses=(f"s{n:04}@x.test",), reason=Reason.PAUSED) for n in range(600)]
    random.Random(7).shuffle(names)
    await ledger.file(share(record.id, names, left_out))
    pages = [page async for page in ledger.trace(record.id)]
    assert [len(page) for page in pages] == [500, 500, 100, 500, 100]
    rows = [row for page in pages for row in page]
    assert [row.address for row in rows[:1100]] == sorted(names)
    assert [row.address for row in rows[1100:]] == [entry.addresses[0] for entry in left_out]
    (one,) = await rows_of(ledger, record.id, "M0007@x.test")
    assert (one.address, one.state, one.group) == ("m0007@x.test", State.QUEUED, GROUP)


async def test_find_by_message_id_group_and_recipient_newest_first(ledger: SqlLedger) -> None:
    now = time.time()
    posts = [post(accepted_at=now - 100 + n, message_id=f"<m{n % 2}@x>") for n in range(6)]
    for number, record in enumerate(posts):
        group = f"g{number % 3}@example.test"
        await ledger.open_post(record, [target(group)])
        gone = [Suppressed(addresses=("Gone@x.test",), reason=Reason.PAUSED, via=(str(n),)) for n in range(3)]
        await ledger.file(
            share(record.id, ["All@x.test", f"only{number}@x.test"], gone if number == 5 else (), group=group)
        )
    await ledger.record(at(derive(posts[0].id, "report")), GROUP, [fate("all@x.test")])  # a report: no post of its own

    async def found(**asked: Any) -> list[int]:
        ids = [record.id for record in posts]
        return [ids.index(summary.record.id) for summary in await ledger.find(**asked)]

    assert await found(message_id="<m1@x>") == [5, 3, 1]
    assert await found(message_id="m1@x") == [5, 3, 1]
    assert await found(group="G2@example.test") == [5, 2]
    assert await found(recipient="ALL@x.test") == [5, 4, 3, 2, 1, 0]
    assert await found(recipient="all@x.test", limit=2) == [5, 4]
    assert await found(recipient="gone@x.test") == [5]
    assert await found(recipient="all@x.test", group="g0@example.test", message_id="m1@x") == [3]
    assert await found(recipient="nobody@x.test") == []
    assert await found(limit=3) == [5, 4, 3]
    assert (await ledger.find(recipient="only3@x.test"))[0].totals.deferred == 2


async def test_find_by_time_and_page_by_page(ledger: SqlLedger) -> None:
    start = time.time() - 10 * DAY
    posts = [post(accepted_at=start + n * DAY, message_id=f"<m{n % 2}@x>") for n in range(8)]
    large = [f"m{n}@x.test" for n in range(1200)]  # more than have rows of their own
    for number, record in enumerate(posts):
        await ledger.open_post(record, [target(f"g{number % 2}@example.test")])
        everybody = large if number in (2, 5) else ["m7@x.test"]
        await ledger.file(share(record.id, everybody, group=f"g{number % 2}@example.test"))

    async def found(**asked: Any) -> list[int]:
        ids = [record.id for record in posts]
        return [ids.index(summary.record.id) for summary in await ledger.find(**asked)]

    assert await found(since=start + 5 * DAY) == [7, 6, 5]
    assert await found(until=start + 2 * DAY) == [1, 0]
    assert await found(since=start + 2 * DAY, until=start + 6 * DAY, limit=3) == [5, 4, 3]
    assert await found(since=start + 2 * DAY, until=start + 6 * DAY, after=posts[3].id) == [2]
    for asked in (
        {"recipient": "M7@x.test"},
        {"group": "g1@example.test"},
        {"message_id": "m1@x"},
        {"message_id": "m1@x", "recipient": "m7@x.test"},
        {"recipient": "m7@x.test", "group": "g1@example.test"},
        {"recipient": "m9@x.test"},
        {"recipient": "m9@x.test", "message_id": "m1@x", "group": "g1@example.test"},
        {},
    ):
        everything = await found(**asked)
        assert everything == sorted(everything, reverse=True)
        assert len(everything) == {"m9@x.test": 1 if len(asked) > 1 else 2}.get(
            asked.get("recipient", ""), len(everything)
        )
        pages, last = list[int](), ""
        while page := await found(**asked, after=last, limit=1):
            pages += page
            last = posts[page[-1]].id
        assert pages == everything
        within = await found(**asked, since=start + 2 * DAY, until=start + 6 * DAY)
        assert within == [number for number in everything if 2 <= number < 6]
    assert await found(recipient="nobody@x.test") == []
    assert await found(message_id="m0@x", recipient="nobody@x.test") == []


async def test_p4_a_trace_page_by_page_says_what_the_whole_says(ledger: SqlLedger) -> None:
    record = post(cells=4, slices=4)
    await ledger.open_post(record, [target()])
    names = [f"m{n:03}@x.test" for n in range(300)]
    parts = [tuple(name for name in names if cell(slot(name), 4) == number) for number in range(4)]
    for number, part in enumerate(parts):
        left_out = [Suppressed(addresses=part[:7], reason=Reason.PAUSED, via=(GROUP, str(n))) for n in range(2)]
        left_out.append(Suppressed(addresses=part[7:9], reason=Reason.AUTHOR, via=(GROUP,)))
        await ledger.file(share(record.id, part[9:], left_out if number != 2 else (), index=number, of=4))
        if number:
            ends = [State.DELIVERED, State.FAILED, State.DEFERRED]
            fates = [fate(name, ends[n % number]) for n, name in enumerate(part[9:20])]
            await ledger.record(at(record.id, number), GROUP, fates)
    whole = await rows_of(ledger, record.id)
    assert len(whole) == 300 - 9 * 4 + 3 * 16
    for words in ("", "delivered", "failed", "deferred paused", "queued", "suppressed", "author"):
        states = words.split()
        wanted = [
            row
            for row in whole
            if not states
            or (row.state is not None and row.state.value in states)
            or (row.reason is not None and (row.reason.value in states or "suppressed" in states))
        ]
        assert wanted
        for limit in (1 if len(wanted) < 60 else 41, 500):
            rows, after = list[Row](), ""
            while True:
                page = await ledger.trace_page(record.id, states=states, after=after, limit=limit)
                assert len(page.rows) <= limit
                rows += page.rows
                after = page.after
                if not after:
                    break
            assert rows == wanted
        assert [row async for some in ledger.trace(record.id, states=states) for row in some] == wanted
    for bad in ("x", "W10", "bm9uZQ", "[0,0,[]]", "AAAA", "ÿ"):
        with pytest.raises(ValueError, match="no place in a trace"):
            await ledger.trace_page(record.id, after=bad)


async def test_p9_pages_of_some_groups_tell_of_no_other(ledger: SqlLedger) -> None:
    record, other = post(), "team@other.test"
    await ledger.open_post(record, [target(), target(other)])
    ours, theirs = [f"m{n}a@x.test" for n in range(9)], [f"m{n}b@y.test" for n in range(9)]
    await ledger.file(share(record.id, ours))
    await ledger.file(share(record.id, theirs, group=other))
    for group, names, hidden in ((GROUP, ours, "y.test"), (other, theirs, "x.test")):
        rows, after = list[Row](), ""
        while True:
            page = await ledger.trace_page(record.id, groups=[group], after=after, limit=2)
            assert hidden not in base64.urlsafe_b64decode(page.after + "==").decode()
            rows += page.rows
            after = page.after
            if not after:
                break
        assert [row.address for row in rows] == names


async def test_p4_a_duplicate_names_the_way_that_its_copy_took(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    twice = [
        Suppressed(addresses=("Ana@x.test", "gone@x.test"), reason=Reason.DUPLICATE, via=(GROUP, "all@example.test"))
    ]
    board = Queued(addresses=("ana@x.test",), via=(GROUP, "board@example.test"))
    await ledger.file(share(record.id, [board], twice))
    ways = {row.address: (row.via, row.instead) for row in await rows_of(ledger, record.id) if row.reason}
    assert ways["Ana@x.test"] == ((GROUP, "all@example.test"), (GROUP, "board@example.test"))
    assert ways["gone@x.test"] == ((GROUP, "all@example.test"), ())


async def test_p4_every_try_is_told(ledger: SqlLedger) -> None:
    record = post(cells=4, slices=4)
    await ledger.open_post(record, [target()])
    number = cell(slot("ana@x.test"), 4)
    told = [fate("Ana@x.test", State.DEFERRED, n, code=450 + n, text=f"later {n}", at=1000.0 + n) for n in range(2)]
    for each in [*told, fate("ana@x.test", State.DELIVERED, 2)]:
        await ledger.record(at(record.id, number), GROUP, [each, fate("boris@x.test", each.state, each.attempt)])
    tries = await ledger.tries(record.id, "ANA@x.test")
    assert [(each.attempt, each.state, each.code) for each in tries] == [
        (0, State.DEFERRED, 450),
        (1, State.DEFERRED, 451),
        (2, State.DELIVERED, 250),
    ]
    assert (tries[0].text, tries[0].hop, tries[0].at, tries[0].next_at is None) == (
        "later 0",
        told[0].hop,
        1000.0,
        False,
    )
    assert await ledger.tries(record.id, "na@x.test") == []
    assert await ledger.tries(new_id(), "ana@x.test") == []


async def test_the_posts_made_for_sub_groups_are_named(ledger: SqlLedger) -> None:
    parent, stranger = post(), post()
    for record in (parent, stranger):
        await ledger.open_post(record, [target()])
    for group in ("b@example.test", "a@example.test"):
        child = post(derive(parent.id, group), accepted_at=time.time() + 60, parent=parent.id)
        await ledger.open_post(child, [target(group)])
    names = ("a@example.test", "b@example.test")
    assert await ledger.children(parent.id) == [(derive(parent.id, group), group) for group in names]
    assert await ledger.children(stranger.id) == []


async def test_refusals_are_counted_once_and_the_last_are_kept(ledger: SqlLedger) -> None:
    at = 1_790_000_000.0
    messages = [
        Refused(group=GROUP, mail_from="s@x", code=550, status="5.7.1", text="no", ip="192.0.2.1", at=at + n)
        for n in range(450)
    ]
    await asyncio.gather(*(ledger.refused(message) for message in messages))
    await ledger.refused(messages[-1])
    await ledger.refused(msgspec.structs.replace(messages[0], group="other@example.test", at=at + DAY))
    assert await ledger.refusals_by_day(GROUP) == {"2026-09-21": 450}
    assert await ledger.refusals_by_day("other@example.test") == {"2026-09-22": 1}
    assert list(await ledger.refusals(GROUP, limit=2)) == [messages[-1], messages[-2]]
    assert len(await ledger.refusals(GROUP, limit=1000)) == 200


async def test_notes_are_kept_once_told_in_order_and_go_with_their_post(ledger: SqlLedger) -> None:
    now = time.time()
    old, young = post(accepted_at=now - 40 * DAY), post()
    for record in (old, young):
        await ledger.open_post(record, [target()])
        await ledger.file(share(record.id))
        for number in (2, 1, 2):
            await ledger.note(
                Note(
                    post_id=record.id,
                    kind="report",
                    group=GROUP,
                    at=record.accepted_at + number,
                    unique=f"r{number}",
                    detail={"to": "ana@x.test\0"},
                )
            )
    lost = Note(post_id=new_id(now - 40 * DAY), kind="bounce", group=GROUP, at=now - 40 * DAY, unique="u")
    await ledger.note(lost)
    assert [(note.kind, note.at - young.accepted_at) for note in await ledger.notes(young.id)] == [
        ("report", 1.0),
        ("report", 2.0),
    ]
    assert (await ledger.notes(young.id, limit=1))[0].detail["to"].startswith("ana@x.test")
    assert len(await ledger.notes(old.id)) == 2
    await ledger.sweep(posts_before=now - 30 * DAY)
    assert [len(await ledger.notes(each)) for each in (old.id, lost.post_id, young.id)] == [0, 0, 2]


# --- parked -----------------------------------------------------------------------------------------------------------
def wire_post(body: str) -> Post:
    return Post(
        id=new_id(),
        accepted_at=time.time(),
        mail_from="",
        targets=(Target(group=GROUP, recipient=GROUP),),
        content=Content(head=b"\r\n", ref=BodyRef(key=body, size=1, sha256=b"")),
        digest=b"",
        origin=Origin(ip="", helo="", protocol="LMTP"),
    )


async def test_parked_messages_are_kept_once_and_forgotten(ledger: SqlLedger) -> None:
    payload = bytes(range(256))
    numbers = [await ledger.park("posts", f"why\0{n}", payload, 3, unique="u1") for n in range(2)]
    assert numbers[0] == numbers[1]
    second = await ledger.park("slices", "other", b"", 0, unique="u2")
    assert [one.id for one in await ledger.parked()] == [numbers[0], second]
    assert [one.id for one in await ledger.parked(after=numbers[0])] == [second]
    assert [one.id for one in await ledger.parked(limit=1)] == [numbers[0]]
    one = await ledger.parked_one(numbers[0])
    assert one is not None
    assert (one.queue, one.payload, one.tries) == ("posts", payload, 3)
    assert await ledger.unpark(numbers[0]) is True
    assert await ledger.unpark(numbers[0]) is False
    assert await ledger.parked_one(numbers[0]) is None


async def test_f46_a_body_is_in_use_while_a_parked_message_names_it(ledger: SqlLedger) -> None:
    parked = wire_post("parked-body")
    delivery = Delivery(
        post_id="p",
        group=GROUP,
        cell=0,
        hop="h",
        mail_from="",
        recipients=(Recipient(address="a@x"),),
        content=Content(head=b"", ref=BodyRef(key="delivery-body", size=1, sha256=b"")),
        accepted_at=0,
    )
    number = await ledger.park("posts", "why", encode(parked), 1, unique="a")
    await ledger.park("deliveries.bulk", "why", encode(delivery), 1, unique="b")
    assert await ledger.body_in_use("parked-body")
    assert await ledger.body_in_use("delivery-body")
    await ledger.unpark(number)
    assert not await ledger.body_in_use("parked-body")
    assert not await ledger.body_in_use("never")


async def test_f46_a_body_is_in_use_until_its_post_is_finished(ledger: SqlLedger) -> None:
    old = time.time() - 30 * DAY
    records = [
        post(accepted_at=at, body=BodyRef(key=key, size=1, sha256=b"\1"))
        for key, at in (("old", old), ("new", time.time()), ("unfiled", old))
    ]
    for record in records:
        await ledger.open_post(record, [target()])
    await ledger.file(share(records[0].id, ["a@x.test"]))
    await ledger.record(at(records[0].id), GROUP, [fate("a@x.test", State.DEFERRED)])
    assert await ledger.body_in_use("old")
    await ledger.record(at(records[0].id), GROUP, [fate("a@x.test", State.DELIVERED, 1)])
    assert not await ledger.body_in_use("old")
    assert await ledger.body_in_use("unfiled")
    await ledger.file(share(records[1].id, []))
    assert await ledger.body_in_use("new")  # finished, but recent


# --- sweeping ---------------------------------------------------------------------------------------------------------
async def test_sweep_drops_what_is_finished_and_old(ledger: SqlLedger, engine: AsyncEngine) -> None:
    old, now = time.time() - 100 * DAY, time.time()
    finished, waiting, young = post(accepted_at=old), post(accepted_at=old + 1), post()
    for record in (finished, waiting, young):
        await ledger.open_post(record, [target(fingerprint=record.id.encode())])
        names = [f"m{n}@x.test" for n in range(2100)] if record is finished else ["a@x.test"]
        await ledger.file(share(record.id, names, [Suppressed(addresses=("s@x.test",), reason=Reason.PAUSED)]))
    await ledger.record(at(finished.id), GROUP, [fate(f"m{n}@x.test", at=old) for n in range(2100)])
    await ledger.record(at(young.id), GROUP, [fate("a@x.test")])
    report, alive = derive(finished.id, "report"), derive(waiting.id, "report")
    await ledger.record(at(report), GROUP, [fate("r@x.test", at=old)])
    await ledger.record(at(alive), GROUP, [fate("r@x.test", State.DEFERRED, at=old)])
    assert await ledger.sweep(posts_before=now - 90 * DAY) == 1
    assert await ledger.post(finished.id) is None
    assert await ledger.post(waiting.id) is not None
    assert await ledger.post(young.id) is not None
    assert await ledger.standings(report, ["r@x.test"]) == {}
    assert len(await ledger.standings(alive, ["r@x.test"])) == 1
    async with engine.connect() as connection:
        kept = {
            table: set(await connection.scalars(text(f"SELECT post_id FROM {table}")))
            for table in ("shares", "attempts", "people", "fingerprints")
        }
    assert kept == {
        "shares": {waiting.id, young.id},
        "attempts": {young.id, alive},
        "people": {waiting.id, young.id},
        "fingerprints": {young.id},
    }
    assert await ledger.sweep(posts_before=now - 90 * DAY) == 0
