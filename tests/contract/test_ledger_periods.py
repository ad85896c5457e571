"""Old outcomes go: on PostgreSQL by whole periods of a table, on SQLite in portions; what is not finished stays, and everything still adds up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import migrate
from shared.database.engine import open_engine
from shared.identity import derive, new_id
from shared.ledger import Alike, LedgerUnavailable
from shared.ledger import store_periods as periods_module
from shared.ledger.store import SqlLedger
from shared.ledger.store_periods import Periods
from shared.messages import Reason, State, Suppressed
from tests.contract.ledgers import DAY, GROUP, at, fate, post, rows_of, share, target

LATER = 5 * DAY
"""Sweeps are told that it is so much later: the periods of today are old by then, and nobody has to go back in time."""


async def delivered(ledger: SqlLedger, names: list[str], *, last: State = State.DELIVERED) -> str:
    """A post of which all members have a copy, but for the last one, who is in that state."""
    record = post()
    await ledger.open_post(record, [target()])
    left_out = Suppressed(addresses=("author@x.test",), reason=Reason.AUTHOR, via=(GROUP,))
    await ledger.file(share(record.id, names, [left_out]))
    await ledger.record(at(record.id), GROUP, [*map(fate, names[:-1]), fate(names[-1], last)])
    return record.id


class EndedHere(Exception):
    """Stands for the end of a process."""


async def held(engine: AsyncEngine, table: str) -> set[str]:
    column = "id" if table == "posts" else "post_id"
    async with engine.connect() as connection:
        return set(await connection.scalars(text(f"SELECT {column} FROM {table}")))


async def names_of(engine: AsyncEngine) -> list[str]:
    if engine.dialect.name == "sqlite":
        return []
    return [period.name for table in periods_module.TABLES for period in await Periods(engine).all(table)]


async def test_p4_a_period_goes_and_what_is_not_finished_stays_in_full(ledger: SqlLedger, engine: AsyncEngine) -> None:
    names = [f"m{number}@x.test" for number in range(10)]
    gone = [await delivered(ledger, names) for _ in range(3)]
    waiting = await delivered(ledger, names, last=State.DEFERRED)
    report, late_report = derive(gone[0], "report"), derive(waiting, "report")
    await ledger.record(at(report), GROUP, [fate("ana@x.test")])
    await ledger.record(at(late_report), GROUP, [fate("ana@x.test", State.DEFERRED)])
    before = await rows_of(ledger, waiting)
    periods = await names_of(engine)
    assert await ledger.sweep(posts_before=time.time() + LATER) == 3
    assert await ledger.sweep(posts_before=time.time() + LATER) == 0
    assert await held(engine, "posts") == {waiting}
    assert await held(engine, "attempts") == {waiting, late_report}
    for table in ("shares", "people", "post_groups"):
        assert await held(engine, table) == {waiting}
    assert await rows_of(ledger, waiting) == before
    found = await ledger.post(waiting)
    assert found is not None
    assert (found.totals.delivered, found.totals.deferred, found.totals.suppressed) == (9, 1, 1)
    assert [each.record.id for each in await ledger.find(recipient=names[3])] == [waiting]
    assert len(set(periods) - set(await names_of(engine))) in (0, 12)  # four days of three tables
    await ledger.record(at(waiting), GROUP, [fate(names[-1], State.DELIVERED, 1)])  # its period is no more
    assert (await ledger.totals(waiting)).delivered == 10
    await ledger.record(at(late_report), GROUP, [fate("ana@x.test", State.FAILED, 1)])
    assert await ledger.sweep(posts_before=time.time() + LATER) == 1
    for table in ("posts", "attempts", "shares", "people"):
        assert await held(engine, table) == set()


async def test_of_a_period_that_cannot_be_emptied_at_once_what_is_finished_goes(
    ledger: SqlLedger, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods_module, "MOVED_ROWS", 1)
    names = [f"m{number}@x.test" for number in range(3)]
    gone = [await delivered(ledger, names) for _ in range(3)]
    waiting = [await delivered(ledger, names, last=State.DEFERRED) for _ in range(2)]
    assert await ledger.sweep(posts_before=time.time() + LATER) == len(gone)
    for table in ("posts", "attempts", "shares", "people"):
        assert await held(engine, table) == set(waiting)
    monkeypatch.undo()
    for post_id in waiting:
        await ledger.record(at(post_id), GROUP, [fate(names[-1], State.DELIVERED, 1)])
    assert await ledger.sweep(posts_before=time.time() + LATER) == 2
    for table in ("posts", "attempts", "shares", "people"):
        assert await held(engine, table) == set()


async def test_two_processes_sweep_at_once_while_others_write(
    ledger: SqlLedger, other: SqlLedger, engine: AsyncEngine
) -> None:
    names = [f"m{number}@x.test" for number in range(5)]
    gone = [await delivered(ledger, names) for _ in range(40)]
    waiting = [await delivered(ledger, names, last=State.DEFERRED) for _ in range(5)]
    end = asyncio.Event()
    written: list[str] = []

    async def write() -> None:
        while not end.is_set():
            written.append(derive(waiting[0], str(len(written))))
            await ledger.record(at(written[-1]), GROUP, [fate("ana@x.test", State.DEFERRED)])

    writer = asyncio.create_task(write())
    when = time.time() + LATER
    swept = await asyncio.gather(ledger.sweep(posts_before=when), other.sweep(posts_before=when))
    end.set()
    await writer
    assert sum(swept) == len(gone)
    assert await held(engine, "posts") == set(waiting)
    assert await held(engine, "attempts") == {*waiting, *written}
    for post_id in waiting:
        assert (await ledger.totals(post_id)).delivered == 4


@pytest.mark.parametrize("stop", ["people", "attempts", "shares", "detached"])
async def test_a_sweep_that_is_cut_short_is_ended_by_the_next(
    ledger: SqlLedger, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    names = [f"m{number}@x.test" for number in range(5)]
    waiting = await delivered(ledger, names, last=State.DEFERRED)
    for _ in range(3):
        await delivered(ledger, names)
    before = await rows_of(ledger, waiting)
    detach = Periods.detach

    async def cut(self: Periods, period: object, *args: object) -> bool:
        if not isinstance(period, periods_module.Period) or period.table == stop:
            raise EndedHere
        return await detach(self, period, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Periods, "drop_detached" if stop == "detached" else "detach", cut)
        if engine.dialect.name == "postgresql":
            with pytest.raises(EndedHere):
                await ledger.sweep(posts_before=time.time() + LATER)
    assert await rows_of(ledger, waiting) == before
    await ledger.sweep(posts_before=time.time() + LATER)
    assert await rows_of(ledger, waiting) == before
    for table in ("posts", "attempts", "shares", "people"):
        assert await held(engine, table) == {waiting}


async def test_a_large_post_with_somebody_deferred_keeps_what_it_has(ledger: SqlLedger, engine: AsyncEngine) -> None:
    record = post(cells=2, slices=1)
    names = [f"m{number}@x.test" for number in range(1500)]  # more than have rows of their own
    await ledger.open_post(record, [target()])
    await ledger.file(share(record.id, names))
    for start in range(0, 1500, 100):
        await ledger.record(at(record.id), GROUP, [Alike(fate=fate(""), addresses=names[start : start + 100])])
    await ledger.record(at(record.id), GROUP, [fate("another@x.test", State.DEFERRED)])
    assert await ledger.sweep(posts_before=time.time() + LATER) == 0
    totals = await ledger.totals(record.id)
    assert (totals.delivered, totals.deferred) == (1500, 1)
    assert [each.record.id for each in await ledger.find(recipient=names[7])] == [record.id]


# --- periods ---------------------------------------------------------------------------------------------------------
@pytest.fixture
async def server(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(postgres_url)
    await migrate.upgrade(made)
    yield made
    await made.dispose()


@pytest.fixture
def periods(server: AsyncEngine) -> Periods:
    return Periods(server)


@pytest.fixture
async def on_server(server: AsyncEngine) -> AsyncIterator[SqlLedger]:
    made = SqlLedger(server)
    yield made
    await made.close()


async def test_periods_are_made_ahead_once_by_however_many(periods: Periods, server: AsyncEngine) -> None:
    now = time.time()
    await asyncio.gather(*(periods.ahead(now, 90 * DAY) for _ in range(3)))
    for table in periods_module.TABLES:
        made = await periods.all(table)
        assert all(first.high == second.low for first, second in pairwise(made))
        assert made[0].low <= new_id(now) < made[0].high
        assert made[-1].low > new_id(now + periods_module.AHEAD)[:10]
    before = await names_of(server)
    await periods.ahead(now, 90 * DAY)
    assert await names_of(server) == before


async def test_days_that_nobody_made_periods_for_are_in_the_rest(periods: Periods, on_server: SqlLedger) -> None:
    later = time.time() + 60 * DAY
    record = post(accepted_at=later)
    await on_server.open_post(record, [target()])
    await on_server.file(share(record.id, ["a@x.test"]))
    await on_server.record(at(record.id), GROUP, [fate("a@x.test")])
    await periods.ahead(later, 30 * DAY)
    for table in periods_module.TABLES:
        made = await periods.all(table)
        assert not any(period.low <= record.id < period.high for period in made)
        assert any(period.low <= new_id(later + DAY) < period.high for period in made)
    assert (await on_server.totals(record.id)).delivered == 1


async def test_who_holds_a_table_makes_a_change_of_periods_wait_and_nobody_else(
    periods: Periods, on_server: SqlLedger, server: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods_module, "PAUSE", 0.01)
    record = post()
    await on_server.open_post(record, [target()])
    (first, *_) = await periods.all("attempts")
    async with server.connect() as reader:
        await reader.execute(text("SELECT count(*) FROM attempts"))  # a backup, say: it holds its lock to its end
        change = asyncio.create_task(periods.detach(first, [], []))
        longest = 0.0
        while not change.done():
            began = time.monotonic()
            await on_server.record(at(record.id), GROUP, [fate("a@x.test")])
            longest = max(longest, time.monotonic() - began)
        with pytest.raises(LedgerUnavailable):
            await change
    assert first in await periods.all("attempts")
    assert longest < 1.0  # PostgreSQL notices a deadlock after a second; a wait for the reader's end would have none
    assert await periods.detach(first, [], [])
    assert first not in await periods.all("attempts")
