"""The ledger's port, held on SQLite and PostgreSQL alike: batches and shares are sheets, and a large post is asked about without reading them all."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import migrate
from shared.database.engine import open_engine
from shared.groups import cell, slot
from shared.identity import new_id
from shared.ledger import Alike
from shared.ledger.store import SqlLedger
from shared.messages import Queued, Reason, State, Suppressed
from tests.contract.ledgers import DAY, GROUP, adds_up, at, fate, post, rows_of, share, target

PEOPLE = [f"m{n}@x.test" for n in range(6000)]
LEFT_OUT = [next(name for n in range(99) if cell(slot(name := f"s{n}@x.test"), 3) == index) for index in range(3)]
"""One for each slice."""


def alike(state: State, *addresses: str, attempt: int = 0) -> Alike:
    return Alike(fate=fate("", state, attempt), addresses=addresses)


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


async def a_large_post(ledger: SqlLedger, **changes: Any) -> tuple[str, dict[int, list[str]]]:
    """Six thousand people in three slices of twenty cells; the people of each cell."""
    record = post(cells=60, slices=3, **changes)
    await ledger.open_post(record, [target()])
    cells: dict[int, list[str]] = {}
    for who in PEOPLE:
        cells.setdefault(cell(slot(who), 60), []).append(who)
    for index in range(3):
        mine = [who for number in range(index * 20, index * 20 + 20) for who in cells[number]]
        await ledger.file(
            share(record.id, mine, [Suppressed(addresses=(LEFT_OUT[index],), reason=Reason.PAUSED)], index=index, of=3)
        )
    return record.id, cells


# --- what senders tell -----------------------------------------------------------------------------------------------
async def test_p3_what_is_taken_tells_where_everybody_stands_who_was_tried(ledger: SqlLedger, other: SqlLedger) -> None:
    claim = at(new_id(), 3)
    assert (await ledger.take(claim, "one", 30)).standings == {}
    await ledger.record(claim, GROUP, [alike(State.DELIVERED, "A@x.test"), alike(State.DEFERRED, "b@x.test")])
    refused = await other.take(claim, "two", 30)
    assert refused.wait > 25
    assert refused.standings == {}
    await ledger.release(claim, "one")
    taken = await other.take(msgspec.structs.replace(claim, hop="lmtp://192.0.2.9:24"), "two", 30)  # by another route
    assert taken.wait == 0.0
    assert {name: (one.state, one.attempts) for name, one in taken.standings.items()} == {
        "a@x.test": (State.DELIVERED, 1),
        "b@x.test": (State.DEFERRED, 1),
    }
    assert (await other.take(at(claim.post_id, 4), "two", 30)).standings == {}


async def test_p3_who_waits_for_a_claim_sees_what_was_recorded_with_its_release(
    ledger: SqlLedger, other: SqlLedger
) -> None:
    """The take that succeeds after a release sees the record that came with it, at every interleaving."""
    for _ in range(30):
        claim = at(new_id())
        assert (await ledger.take(claim, "one", 30)).wait == 0.0
        recording = asyncio.create_task(ledger.record(claim, GROUP, [fate("a@x.test")], owner="one"))
        while (taken := await other.take(claim, "two", 30)).wait:
            await asyncio.sleep(0)
        assert list(taken.standings) == ["a@x.test"]
        await recording


async def test_p3_a_record_without_its_owners_name_keeps_the_claim(ledger: SqlLedger, other: SqlLedger) -> None:
    claim = at(new_id())
    await ledger.take(claim, "one", 30)
    await ledger.record(claim, GROUP, [fate("a@x.test")])
    assert (await other.take(claim, "two", 30)).wait > 0
    await ledger.record(claim, GROUP, [fate("b@x.test")], owner="another")
    assert (await other.take(claim, "two", 30)).wait > 0
    await ledger.record(claim, GROUP, [], owner="one")
    assert (await other.take(claim, "two", 30)).wait == 0.0


async def test_p3_a_record_whose_answer_was_lost_is_one_row_when_it_is_said_again(
    ledger: SqlLedger, other: SqlLedger, engine: AsyncEngine
) -> None:
    claim, told = at(new_id()), [alike(State.DELIVERED, "a@x.test", "b@x.test"), alike(State.FAILED, "c@x.test")]
    await asyncio.gather(*(one.record(claim, GROUP, told, owner="one") for one in (ledger, other, ledger)))
    assert await count(engine, "attempts") == 1
    sums = await ledger.totals(claim.post_id)
    assert (sums.delivered, sums.failed) == (2, 1)


async def test_p3_a_share_told_again_is_one_row_and_one_with_others_is_another(
    ledger: SqlLedger, engine: AsyncEngine
) -> None:
    post_id = new_id()
    for names in (["a@x.test", "b@x.test"], ["a@x.test", "b@x.test"], ["a@x.test"]):
        await ledger.file(share(post_id, names))  # each at a time of its own
    assert await count(engine, "shares") == 2
    assert (await ledger.totals(post_id)).deferred == 2


async def test_many_who_share_a_fate_and_each_with_a_fate_of_its_own_are_recorded_alike(ledger: SqlLedger) -> None:
    together, apart = at(new_id()), at(new_id())
    names = ["Ana@x.test", "b@x.test", "c@x.test"]
    now = time.time()
    await ledger.record(together, GROUP, [Alike(fate=fate("", at=now), addresses=names)])
    await ledger.record(apart, GROUP, [fate(name, at=now) for name in names])
    one, two = [
        [(row.address, row.state, row.attempts, row.code, row.text, row.hop, row.at) for row in rows]
        for rows in (await rows_of(ledger, together.post_id), await rows_of(ledger, apart.post_id))
    ]
    assert one == two
    assert [row[0] for row in one] == names


async def test_p4_a_failure_that_a_later_attempt_had_overtaken_does_not_settle_a_post(ledger: SqlLedger) -> None:
    """As many final words as people, and of the right people: but one of them came too late to count."""
    record = post(cells=1)
    await ledger.open_post(record, [target()])
    await ledger.file(share(record.id, ["a@x.test", "b@x.test"]))
    await ledger.record(at(record.id), GROUP, [alike(State.DELIVERED, "a@x.test")])
    await ledger.record(at(record.id), GROUP, [alike(State.DEFERRED, "b@x.test", attempt=2)])
    await ledger.record(at(record.id), GROUP, [alike(State.FAILED, "b@x.test", attempt=1)])
    sums = await ledger.totals(record.id)
    assert (sums.delivered, sums.deferred, sums.failed) == (1, 1, 0)


async def test_p4_as_many_final_as_queued_but_others_do_not_settle_a_post(ledger: SqlLedger) -> None:
    """The members were edited between an expansion that crashed and its repetition, which alone was told."""
    record = post(cells=1)
    await ledger.open_post(record, [target()])
    await ledger.record(at(record.id), GROUP, [alike(State.DELIVERED, "a@x.test", "b@x.test")])
    await ledger.file(share(record.id, ["a@x.test", "c@x.test"]))
    sums = await ledger.totals(record.id)
    assert (sums.expanded, sums.delivered, sums.deferred) == (3, 2, 1)


async def test_p4_a_person_whom_two_groups_had_counts_once(ledger: SqlLedger) -> None:
    record = post(cells=1)
    await ledger.open_post(record, [target(), target("b@example.test")])
    await ledger.file(share(record.id, ["a@x.test"]))
    await ledger.file(share(record.id, ["a@x.test", "z@x.test"], group="b@example.test"))
    await ledger.record(at(record.id), GROUP, [alike(State.DELIVERED, "a@x.test")])
    sums = await ledger.totals(record.id)
    assert (sums.expanded, sums.delivered, sums.deferred, sums.announced) == (2, 1, 1, 3)
    assert adds_up(sums)


# --- large posts -----------------------------------------------------------------------------------------------------
async def test_p4_a_large_post_in_every_stage(ledger: SqlLedger, engine: AsyncEngine) -> None:
    post_id, cells = await a_large_post(ledger)
    assert await count(engine, "people") == 0  # big shares are found by their signature
    sums = await ledger.totals(post_id)
    assert (sums.expanded, sums.deferred, sums.suppressed, sums.complete) == (6003, 6000, 3, True)
    for number, names in cells.items():
        if number < 30:  # the first slice, and half of the second
            await ledger.record(
                at(post_id, number), GROUP, [alike(State.DELIVERED, *names[1:]), alike(State.FAILED, names[0])]
            )
    done = sum(len(names) for number, names in cells.items() if number < 30)
    sums = await ledger.totals(post_id)
    assert (sums.delivered, sums.failed, sums.deferred) == (done - 30, 30, 6000 - done)
    assert adds_up(sums)


async def test_p4_a_settled_post_is_summed_without_its_sheets(ledger: SqlLedger, engine: AsyncEngine) -> None:
    post_id, cells = await a_large_post(ledger)
    for number, names in cells.items():
        await ledger.record(at(post_id, number), GROUP, [alike(State.DELIVERED, *names)])
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE attempts SET content = 'not read'"))
        await connection.execute(text("UPDATE shares SET content = 'not read'"))
    sums = await ledger.totals(post_id)
    assert (sums.expanded, sums.delivered, sums.deferred, sums.suppressed) == (6003, 6000, 0, 3)


async def test_p4_a_post_that_was_put_off_once_is_settled_too(ledger: SqlLedger) -> None:
    """Read by its sheets: counts do not tell whether one who was put off is one of those who are delivered now."""
    post_id, cells = await a_large_post(ledger)
    for number, names in cells.items():
        await ledger.record(at(post_id, number), GROUP, [alike(State.DEFERRED, *names)])
        await ledger.record(at(post_id, number), GROUP, [alike(State.DELIVERED, *names, attempt=1)])
    sums = await ledger.totals(post_id)
    assert (sums.expanded, sums.delivered, sums.deferred, sums.suppressed) == (6003, 6000, 0, 3)
    await ledger.record(at(post_id, 0), GROUP, [alike(State.DEFERRED, "stranger@x.test")])
    sums = await ledger.totals(post_id)
    assert (sums.expanded, sums.delivered, sums.deferred, sums.suppressed) == (6004, 6000, 1, 3)


@pytest.mark.parametrize("who", [PEOPLE[0], PEOPLE[3456].upper(), LEFT_OUT[1]])
async def test_a_recipient_of_a_large_post_is_found_and_traced(ledger: SqlLedger, who: str) -> None:
    post_id, _ = await a_large_post(ledger)
    newer, _ = await a_large_post(ledger, accepted_at=time.time() + 1)
    await ledger.file(share(new_id(), [who]))  # of no post that is known
    found = await ledger.find(recipient=who)
    assert [summary.record.id for summary in found] == [newer, post_id]
    (row,) = await rows_of(ledger, post_id, who)
    assert (row.address, row.state is None) == (who.lower(), who == LEFT_OUT[1])
    assert await ledger.find(recipient="nobody@x.test") == []
    assert await rows_of(ledger, post_id, "nobody@x.test") == []


async def test_a_path_of_groups_is_nobody_who_is_found(ledger: SqlLedger) -> None:
    record = post(cells=1)
    await ledger.open_post(record, [target()])
    via = (GROUP, "board@example.test")
    await ledger.file(share(record.id, [Queued(addresses=(name,), via=via) for name in PEOPLE[:1500]]))
    assert await ledger.find(recipient="board@example.test") == []
    assert len(await ledger.find(recipient=PEOPLE[7])) == 1


async def test_a_large_post_is_traced_in_pages_slice_by_slice(ledger: SqlLedger) -> None:
    post_id, cells = await a_large_post(ledger)
    await ledger.record(at(post_id, 0), GROUP, [alike(State.DELIVERED, *cells[0])])
    pages = [page async for page in ledger.trace(post_id)]
    assert max(len(page) for page in pages) == 500
    rows = [row for page in pages for row in page]
    assert sorted(row.address for row in rows[:6000]) == sorted(PEOPLE)
    assert {row.address for row in rows[6000:]} == set(LEFT_OUT)
    assert {row.address for row in rows if row.state is State.DELIVERED} == set(cells[0])


async def test_sweep_takes_a_large_post_with_all_its_sheets(ledger: SqlLedger, engine: AsyncEngine) -> None:
    old = time.time() - 100 * DAY
    post_id, cells = await a_large_post(ledger, accepted_at=old)
    for number, names in cells.items():
        for start in range(0, len(names), 5):
            await ledger.record(at(post_id, number), GROUP, [alike(State.DELIVERED, *names[start : start + 5])])
    assert await count(engine, "attempts") > 1000  # more than go at once
    assert await ledger.sweep(posts_before=time.time() - 90 * DAY) == 1
    assert [await count(engine, table) for table in ("posts", "attempts", "shares", "people")] == [0, 0, 0, 0]


async def test_a_sweep_that_was_cut_short_is_finished_by_the_next(ledger: SqlLedger, engine: AsyncEngine) -> None:
    old = time.time() - 100 * DAY
    record = post(accepted_at=old, cells=1)
    await ledger.open_post(record, [target()])
    await ledger.file(msgspec.structs.replace(share(record.id, ["a@x.test"]), at=old))
    await ledger.record(at(record.id), GROUP, [fate("a@x.test", at=old)])
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM posts"))
        await connection.execute(text("DELETE FROM post_groups"))
    assert await ledger.sweep(posts_before=time.time() - 90 * DAY) == 0
    assert [await count(engine, table) for table in ("attempts", "shares", "people")] == [0, 0, 0]


# --- a server that comes and goes ------------------------------------------------------------------------------------
async def test_f19_a_server_that_was_restarted_is_no_trouble(postgres: Any, postgres_url: str) -> None:
    """A connection that stood idle meanwhile is replaced, and what was asked is done at the first try."""
    ledger = SqlLedger(open_engine(postgres_url), owned=True)
    await migrate.upgrade(ledger._engine)
    claim = at(new_id())
    await ledger.record(claim, GROUP, [fate("a@x.test")])
    assert (await ledger.totals(claim.post_id)).delivered == 1
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    await ledger.record(claim, GROUP, [fate("b@x.test")])
    assert (await ledger.totals(claim.post_id)).delivered == 2
    await ledger.close()
