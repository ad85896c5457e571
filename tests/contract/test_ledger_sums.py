"""The ledger's port, held on SQLite and PostgreSQL alike: shares are filed, and sums add up."""

from __future__ import annotations

import asyncio

from shared.identity import new_id
from shared.ledger import Totals
from shared.ledger.store import SqlLedger
from shared.messages import (
    Queued,
    Reason,
    State,
    Suppressed,
)
from tests.contract.ledgers import GROUP, adds_up, at, fate, post, rows_of, share, target


async def test_p4_a_fan_out_is_complete_with_its_last_share(ledger: SqlLedger) -> None:
    record = post(slices=3)
    await ledger.open_post(record, [target()])
    shares = [
        share(
            record.id, [f"m{n}@x.test"], [Suppressed(addresses=(f"s{n}@x.test",), reason=Reason.PAUSED)], index=n, of=3
        )
        for n in range(3)
    ]
    assert await ledger.file(shares[0]) is False
    assert await ledger.file(shares[2]) is False
    assert await ledger.file(shares[2]) is False
    assert (await ledger.totals(record.id)).complete is False
    assert await ledger.file(shares[1]) is True
    assert await ledger.file(shares[0]) is True  # a repeat: its effect may not have been seen
    totals = await ledger.totals(record.id)
    assert totals == Totals(expanded=6, delivered=0, deferred=3, failed=0, suppressed=3, announced=6, complete=True)
    assert await ledger.totals(record.id, GROUP) == totals


async def test_p4_shares_filed_at_once_are_seen_complete(ledger: SqlLedger, other: SqlLedger) -> None:
    record = post(slices=12)
    await ledger.open_post(record, [target()])
    shares = [share(record.id, [f"m{n}@x.test"], index=n, of=12) for n in range(12)]
    done = await asyncio.gather(*((ledger, other)[one.index % 2].file(one) for one in shares))
    assert any(done)


async def test_p4_totals_by_group_and_of_the_post(ledger: SqlLedger) -> None:
    record = post()
    second = "b@example.test"
    await ledger.open_post(record, [target(), target(second)])
    await ledger.file(
        share(record.id, ["a@x.test", "b@x.test"], [Suppressed(addresses=("c@x.test",), reason=Reason.TO_CC)])
    )
    await ledger.record(at(record.id), GROUP, [fate("a@x.test"), fate("b@x.test", State.DEFERRED)])
    first = await ledger.totals(record.id, GROUP)
    assert first == Totals(expanded=3, delivered=1, deferred=1, failed=0, suppressed=1, announced=3, complete=True)
    assert (await ledger.totals(record.id, second)).complete is False
    assert (await ledger.totals(record.id)).complete is False
    await ledger.file(share(record.id, ["d@x.test"], group=second))
    whole = await ledger.totals(record.id)
    assert whole == Totals(expanded=4, delivered=1, deferred=2, failed=0, suppressed=1, announced=4, complete=True)


async def test_p3_a_sender_faster_than_the_reporter(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    await ledger.record(at(record.id), GROUP, [fate("Nested@x.test"), fate("direct@x.test")])
    nested = Queued(addresses=("nested@x.test",), via=(GROUP, "board@example.test"))
    assert await ledger.file(share(record.id, [nested, "direct@x.test", "late@x.test"])) is True
    found = {row.address: (row.state, row.via) for row in await rows_of(ledger, record.id)}
    assert found == {
        "Nested@x.test": (State.DELIVERED, (GROUP, "board@example.test")),
        "direct@x.test": (State.DELIVERED, (GROUP,)),
        "late@x.test": (State.QUEUED, (GROUP,)),
    }


async def test_p3_an_expansion_repeated_over_edited_members_adds_them(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    await ledger.file(share(record.id, ["a@x.test", "b@x.test"]))
    await ledger.record(at(record.id), GROUP, [fate("a@x.test")])
    await ledger.file(share(record.id, ["a@x.test", "c@x.test"]))
    totals = await ledger.totals(record.id)
    assert (totals.expanded, totals.delivered, totals.deferred) == (3, 1, 2)


async def test_one_address_left_out_on_two_paths_is_two_rows_and_one_when_told_again(ledger: SqlLedger) -> None:
    post_id = new_id()
    left_out = [
        Suppressed(addresses=("Ana@x.test",), reason=Reason.DUPLICATE, via=(GROUP, "b@example.test")),
        Suppressed(addresses=("ana@x.test",), reason=Reason.DUPLICATE, via=(GROUP, "c@example.test")),
        Suppressed(addresses=("ana@x.test",), reason=Reason.AUTHOR),
    ]
    for _ in range(2):
        await ledger.file(share(post_id, ["ana@x.test"], left_out))
    rows = await rows_of(ledger, post_id)
    assert rows[0].state is State.QUEUED
    assert {(row.reason, row.via) for row in rows[1:]} == {
        (Reason.DUPLICATE, (GROUP, "b@example.test")),
        (Reason.DUPLICATE, (GROUP, "c@example.test")),
        (Reason.AUTHOR, ()),
    }
    totals = await ledger.totals(post_id)
    assert (totals.expanded, totals.deferred, totals.suppressed) == (4, 1, 3)


async def test_p4_the_sums_add_up_at_every_read_of_a_busy_post(ledger: SqlLedger, other: SqlLedger) -> None:
    record = post(cells=20, slices=10)
    await ledger.open_post(record, [target()])
    names = [[f"m{index}-{n}@x.test" for n in range(30)] for index in range(10)]
    seen = []

    async def send(index: int) -> None:
        for attempt, state in enumerate((State.DEFERRED, State.DELIVERED)):
            cell = 2 * index + attempt  # both cells are of the share's slice
            await ledger.record(at(record.id, cell), GROUP, [fate(name, state, attempt) for name in names[index]])

    async def tell(index: int) -> None:
        await other.file(
            share(
                record.id,
                names[index],
                [Suppressed(addresses=(f"s{index}@x.test",), reason=Reason.AUTHOR)],
                index=index,
                of=10,
            )
        )

    async def watch() -> None:
        while not seen or not (seen[-1].complete and seen[-1].delivered == 300):
            seen.append(await other.totals(record.id))

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        for index in range(10):
            tasks.create_task(send(index))
            tasks.create_task(tell(index))
    assert all(adds_up(totals) for totals in seen)
    assert seen[-1] == Totals(
        expanded=310, delivered=300, deferred=0, failed=0, suppressed=10, announced=310, complete=True
    )
