"""What is due, held on SQLite and PostgreSQL alike: taken by one of many, looked at again, done once; and what reports are made from."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.groups import slot
from shared.identity import derive, new_id
from shared.ledger import store_sweep
from shared.ledger.due import NEVER, Due
from shared.ledger.notes import Note
from shared.ledger.store import SqlLedger
from shared.messages import Reason, State, Suppressed
from tests.contract.ledgers import DAY, GROUP, at, fate, post, share, target

NOW = 1_795_435_200.0


def due(name: str = "a", when: float = NOW, **changes: object) -> Due:
    return Due(id=name, kind="owners", post_id="01post", group=GROUP, at=when, since=NOW - 5, **changes)  # type: ignore[arg-type]


async def test_p3_what_is_due_is_taken_by_one_and_comes_again_when_its_lease_ends(
    ledger: SqlLedger, other: SqlLedger
) -> None:
    assert await ledger.due_next() == NEVER
    for number in range(40):
        await ledger.due_put(due(f"d{number:02}", NOW + number))
    assert await other.due_next() == NOW
    takes = [each.due_take(NOW + 29, limit=8, lease=60) for each in (ledger, other) * 4]
    found = [each.id for taken in await asyncio.gather(*takes) for each in taken]
    assert sorted(found) == sorted(set(found)), "nobody takes what another has taken"
    found += [each.id for each in await ledger.due_take(NOW + 29, limit=100, lease=60)]
    assert sorted(found) == [f"d{number:02}" for number in range(30)]
    assert await other.due_take(NOW + 29, limit=100, lease=60) == []
    again = await other.due_take(NOW + 89, limit=100, lease=60)
    assert len(again) == 40
    assert {each.tries for each in again} == {1, 2}


async def test_p3_who_took_it_last_writes(ledger: SqlLedger, other: SqlLedger) -> None:
    await ledger.due_put(due())
    (first,) = await ledger.due_take(NOW, limit=1, lease=1)
    (second,) = await other.due_take(NOW + 2, limit=1, lease=60)
    assert not await ledger.due_keep(first, at=NOW + 9, detail='{"by":1}')
    assert not await ledger.due_done(first, detail='{"by":1}', again=NOW)
    assert await other.due_keep(second, at=NOW + 9, detail='{"by":2}')
    assert await ledger.due_take(NOW + 8, limit=1, lease=60) == []
    await ledger.due_later(first, at=NOW + 500)
    await other.due_later(second, at=NOW + 10)
    assert await ledger.due_take(NOW + 9, limit=1, lease=60) == []
    (third,) = await ledger.due_take(NOW + 10, limit=1, lease=60)
    assert (third.detail, third.since, third.group, third.kind, third.post_id) == (
        '{"by":2}', NOW - 5, GROUP, "owners", "01post",
    )  # fmt: skip


async def test_what_is_done_stays_done_until_it_is_said_to_be_due_again(ledger: SqlLedger) -> None:
    await ledger.due_put(due())
    (taken,) = await ledger.due_take(NOW, limit=1, lease=60)
    assert await ledger.due_done(taken, detail='{"told":1}', again=NOW)
    assert await ledger.due_take(NOW + 1e6, limit=1, lease=60) == []
    await ledger.due_put(due(when=NOW + 7))
    assert await ledger.due_take(NOW + 6, limit=1, lease=60) == []
    (revived,) = await ledger.due_take(NOW + 7, limit=1, lease=60)
    assert revived.detail == '{"told":1}', "what was told is remembered"


async def test_p4_what_is_said_to_be_due_while_somebody_looks_is_looked_at_once_more(ledger: SqlLedger) -> None:
    await ledger.due_put(due())
    (taken,) = await ledger.due_take(NOW, limit=1, lease=60)
    await ledger.due_put(due(when=NOW + 1))
    assert await ledger.due_done(taken, detail="{}", again=NOW + 3)
    (again,) = await ledger.due_take(NOW + 3, limit=1, lease=60)
    assert await ledger.due_done(again, detail="{}", again=NOW + 3)
    assert await ledger.due_next() == NEVER


async def test_a_put_does_not_move_what_waits(ledger: SqlLedger) -> None:
    await ledger.due_put(due(detail='{"x":1}'))
    await ledger.due_put(due(when=NOW + 500, detail='{"x":2}'))
    (taken,) = await ledger.due_take(NOW, limit=1, lease=60)
    assert (taken.detail, taken.puts) == ('{"x":1}', 1)


async def test_the_sweep_takes_what_is_done_and_old_alone(ledger: SqlLedger) -> None:
    old = time.time() - 10 * DAY
    done, waits, young = (derive(new_id(old), name) for name in ("done", "waits", "young"))
    for name, since in ((done, old), (waits, old), (young, time.time())):
        await ledger.due_put(Due(id=name, kind="k", post_id="p", group="g", at=old, since=since))
        (taken,) = await ledger.due_take(time.time(), limit=1, lease=DAY)
        if name != waits:
            assert await ledger.due_done(taken, detail="{}", again=old)
    await ledger.sweep(posts_before=time.time() - DAY)
    for name in (done, waits, young):
        await ledger.due_put(Due(id=name, kind="k", post_id="p", group="g", at=old, since=old))
    found = {each.id: each.puts for each in await ledger.due_take(time.time() + 2 * DAY, limit=9, lease=1)}
    assert found == {done: 0, waits: 1, young: 1}


async def test_p10_what_runs_out_goes_in_portions_however_much_it_is(
    ledger: SqlLedger, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, gone = time.time() - 100 * DAY, Counter[str]()
    monkeypatch.setattr(store_sweep, "ROWS_AT_ONCE", 2)
    for number in range(5):
        await ledger.open_post(post(accepted_at=old), [target(fingerprint=b"%d" % number)])
        await ledger.note(
            Note(post_id=new_id(old), kind="report", group=GROUP, at=old, unique=str(number))
        )  # of no post
        done = Due(id=derive(new_id(old), "due"), kind="k", post_id="p", group=GROUP, at=NEVER, since=old)
        await ledger.due_put(done)
    names = {"fingerprints": 5, "notes": 5, "due": 5}

    def deleted(_connection: Any, cursor: Any, statement: str, *_more: Any) -> None:
        table = statement.split()[2] if statement.startswith("DELETE FROM") else ""
        if table in names and " LIMIT " in statement:
            assert cursor.rowcount <= 2
            gone[table] += cursor.rowcount

    event.listen(engine.sync_engine, "after_cursor_execute", deleted)
    await ledger.sweep(posts_before=time.time() - 90 * DAY)
    assert gone == names


# --- what reports are made from ----------------------------------------------------------------------------------------
async def test_unreached_are_those_who_failed_then_those_who_wait_of_that_group_alone(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target(), target("b@example.test")])
    names = [f"m{n}@x.test" for n in range(12)]
    await ledger.file(share(record.id, names))
    await ledger.file(share(record.id, ["z@x.test"], group="b@example.test"))
    fates = [fate(name, State.FAILED, code=550, status="5.1.1", text=f"no {name}") for name in names[:4]]
    fates += [fate(name, State.DEFERRED) for name in names[4:7]] + [fate(name) for name in names[7:9]]
    await ledger.record(at(record.id), GROUP, fates)
    await ledger.record(at(record.id), "b@example.test", [fate("z@x.test", State.FAILED)])
    rows = await ledger.unreached(record.id, GROUP, limit=50)
    assert [(row.address, row.state) for row in rows] == [
        *((name, State.FAILED) for name in names[:4]),
        *((name, State.DEFERRED) for name in names[4:7]),
    ]
    assert (rows[0].code, rows[0].status, rows[0].text, rows[0].attempts) == (550, "5.1.1", "no m0@x.test", 1)
    few = await ledger.unreached(record.id, GROUP, limit=2)
    assert [row.address for row in few] == [*names[:2], *names[4:6]]
    await ledger.record(at(record.id), GROUP, [fate(names[4], attempt=1)])
    assert names[4] not in {row.address for row in await ledger.unreached(record.id, GROUP, limit=50)}


async def test_unreached_of_a_sliced_post_finds_who_failed_wherever_it_was(ledger: SqlLedger) -> None:
    record = post(cells=16, slices=4)
    await ledger.open_post(record, [target()])
    people = sorted((f"m{n}@x.test" for n in range(400)), key=slot)
    for index in range(4):
        low, high = (index << 31) // 4, ((index + 1) << 31) // 4
        await ledger.file(share(record.id, [p for p in people if low <= slot(p) < high], index=index, of=4))
    for person, state in ((people[0], State.FAILED), (people[-1], State.FAILED), (people[200], State.DEFERRED)):
        await ledger.record(at(record.id, (slot(person) * 16) >> 31), GROUP, [fate(person, state)])
    rows = await ledger.unreached(record.id, GROUP, limit=50)
    assert [row.address for row in rows] == [people[0], people[-1], people[200]]


async def test_left_out_is_counted_by_reason(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target(), target("b@example.test")])
    left_out = [
        Suppressed(addresses=("a@x.test",), reason=Reason.AUTHOR),
        Suppressed(addresses=("b@x.test", "c@x.test"), reason=Reason.PAUSED),
    ]
    await ledger.file(share(record.id, ["m@x.test"], left_out))
    await ledger.file(share(record.id, ["n@x.test"], left_out[:1], group="b@example.test"))
    assert await ledger.left_out(record.id, GROUP) == {"author": 1, "paused": 2}
    assert await ledger.left_out(record.id, "none@example.test") == {}


async def test_posts_between_two_times_come_oldest_first_in_pages(ledger: SqlLedger) -> None:
    records = [post(accepted_at=NOW + 3600 * n) for n in range(6)]
    for number, record in enumerate(records):
        await ledger.open_post(record, [target(GROUP if number != 2 else "b@example.test")])
    found = await ledger.posts_between(GROUP, NOW + 3600, NOW + 3600 * 5)
    assert [each.record.id for each in found] == [records[n].id for n in (1, 3, 4)]
    page = await ledger.posts_between(GROUP, NOW + 3600, NOW + 3600 * 5, after=records[1].id, limit=1)
    assert [each.record.id for each in page] == [records[3].id]
