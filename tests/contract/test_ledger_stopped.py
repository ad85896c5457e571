"""The ledger's port, held on SQLite and PostgreSQL alike: a post that is stopped, and the sums of what was left of it."""

from __future__ import annotations

import time

from shared.ledger import Totals
from shared.ledger.notes import STOPPED, stop_note
from shared.ledger.store import SqlLedger
from shared.messages import Reason, State, Suppressed
from tests.contract.ledgers import GROUP, adds_up, at, fate, post, rows_of, share, target


async def stop(ledger: SqlLedger, post_id: str, why: str = "") -> None:
    await ledger.note(stop_note(post_id, at=time.time(), why=why))


async def test_p4_whoever_has_no_copy_of_a_stopped_post_is_left_out(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    paused = Suppressed(addresses=("p@x.test",), reason=Reason.PAUSED)
    await ledger.file(share(record.id, ["a@x.test", "b@x.test", "c@x.test", "d@x.test"], [paused]))
    fates = [fate("a@x.test"), fate("b@x.test", State.FAILED), fate("c@x.test", State.DEFERRED)]
    await ledger.record(at(record.id), GROUP, fates)
    await stop(ledger, record.id)
    sums = Totals(expanded=5, delivered=1, deferred=0, failed=1, suppressed=3, announced=5, complete=True)
    assert await ledger.totals(record.id) == await ledger.totals(record.id, GROUP) == sums
    found = {row.address: (row.state, row.reason, row.next_at) for row in await rows_of(ledger, record.id)}
    assert found == {
        "a@x.test": (State.DELIVERED, None, None),
        "b@x.test": (State.FAILED, None, None),
        "c@x.test": (None, Reason.STOPPED, None),
        "d@x.test": (None, Reason.STOPPED, None),
        "p@x.test": (None, Reason.PAUSED, None),
    }
    assert await ledger.left_out(record.id, GROUP) == {"paused": 1, "stopped": 2}
    assert [row.address for row in await ledger.unreached(record.id, GROUP, limit=9)] == ["b@x.test"]


async def test_p4_the_sums_add_up_wherever_a_stop_comes(ledger: SqlLedger) -> None:
    record = post(slices=2, cells=2)
    await ledger.open_post(record, [target()])
    await stop(ledger, record.id)
    steps = [
        ledger.file(share(record.id, ["a@x.test"], index=0, of=2)),
        ledger.record(at(record.id), GROUP, [fate("a@x.test", State.DEFERRED)]),
        ledger.record(at(record.id), GROUP, [fate("a@x.test", attempt=1)]),  # was on its way when the stop came
        ledger.file(share(record.id, ["b@x.test"], index=1, of=2)),
    ]
    seen = []
    for step in steps:
        await step
        totals = await ledger.totals(record.id)
        assert adds_up(totals)
        assert totals.deferred == 0
        seen.append((totals.delivered, totals.suppressed, totals.complete))
    assert seen == [(0, 1, False), (0, 1, False), (1, 0, False), (1, 1, True)]


async def test_a_trace_finds_the_stopped_by_their_reason(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    await ledger.file(share(record.id, ["a@x.test", "b@x.test"]))
    await ledger.record(at(record.id), GROUP, [fate("a@x.test")])
    await stop(ledger, record.id)
    for states in (["stopped"], ["suppressed"]):
        page = await ledger.trace_page(record.id, states=states)
        assert [(row.address, row.reason) for row in page.rows] == [("b@x.test", Reason.STOPPED)]
    assert (await ledger.trace_page(record.id, states=["queued", "deferred", "failed"])).rows == []
    assert [row.address for row in (await ledger.trace_page(record.id, states=["delivered"])).rows] == ["a@x.test"]


async def test_p3_a_claim_taken_after_the_stop_says_so_on_every_connection(ledger: SqlLedger, other: SqlLedger) -> None:
    record, untouched = post(), post()
    for each in (record, untouched):
        await ledger.open_post(each, [target()])
    before = await ledger.take(at(record.id), "one", 30)
    assert (before.wait, before.stopped) == (0.0, False)
    await stop(ledger, record.id)
    for owner, claim, stopped in (("two", at(record.id, 1), True), ("two", at(untouched.id), False)):
        taken = await other.take(claim, owner, 30)
        assert (taken.wait, taken.stopped) == (0.0, stopped)
    assert (await other.take(at(record.id), "one", 30)).stopped  # the claim of before, taken again


async def test_a_post_opened_after_the_stop_knows_of_it_and_so_does_one_made_from_it(ledger: SqlLedger) -> None:
    record = post()
    await stop(ledger, record.id)  # still on the bus: nobody has opened it
    assert (await ledger.open_post(record, [target()])).stopped
    assert (await ledger.open_post(record, [target()])).stopped
    assert (await ledger.open_post(post(parent=record.id), [target("sub@example.test")])).stopped
    assert not (await ledger.open_post(post(), [target("third@example.test")])).stopped


async def test_a_stop_said_twice_is_one_and_keeps_the_first_reason(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    await stop(ledger, record.id, "wrong list")
    await stop(ledger, record.id, "again")
    (note,) = await ledger.notes(record.id)
    assert (note.kind, note.detail) == (STOPPED, {"why": "wrong list"})


async def test_a_stopped_post_is_finished_and_swept_with_its_stop(ledger: SqlLedger) -> None:
    old = time.time() - 1000
    record, waiting = post(accepted_at=old), post(accepted_at=old)
    for each in (record, waiting):
        await ledger.open_post(each, [target()])
        await ledger.file(share(each.id, ["a@x.test"]))
        await ledger.record(at(each.id), GROUP, [fate("a@x.test", State.DEFERRED)])
    await stop(ledger, record.id)
    assert await ledger.sweep(posts_before=old + 1) == 1
    assert await ledger.post(record.id) is None
    assert list(await ledger.notes(record.id)) == []
    assert await ledger.post(waiting.id) is not None
