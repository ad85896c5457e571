"""Shares of signals: filed, told by events, recorded; again and again the same. On the real ledger."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.reporter import signals
from shared.bus import BusUnavailable
from shared.database import migrate
from shared.database.engine import open_engine
from shared.groups import SLOTS, slot
from shared.identity import new_id
from shared.ledger import LedgerUnavailable, Row
from shared.ledger.store import SqlLedger
from shared.messages import Expanded, Queued, Reason, Signal, SignalExpanded, State, Suppressed, TargetKind
from tests.contract.ledgers import post, target

GROUP = "office@example.test"
HOOK = "webhook:aaaaaaaaaaaaaaaa"


class Events:
    """What was emitted; `fail` times it is not."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.fail = 0

    async def __call__(self, *happened: Any) -> None:
        if self.fail:
            self.fail -= 1
            raise BusUnavailable("no confirm")
        self.happened.extend(happened)

    @property
    def members(self) -> list[str]:
        return sorted(event.member for event in self.happened if hasattr(event, "member"))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    engine = open_engine(f"sqlite:///{tmp_path}/horo.db")
    await migrate.upgrade(engine)
    made = SqlLedger(engine)
    yield made
    await made.close()
    await engine.dispose()


def share(signal: Signal, *people: str, index: int = 0, of: int = 1, **changes: Any) -> SignalExpanded:
    told = Expanded(
        post_id=signal.id,
        group=GROUP,
        index=index,
        of=of,
        queued=(Queued(addresses=people, via=(GROUP,)),) if people else (),
        suppressed=(Suppressed(addresses=("off@x.test",), reason=Reason.PAUSED, via=(GROUP,)),) if index == 0 else (),
        at=time.time(),
    )
    return SignalExpanded(signal=signal, share=told, **changes)


async def opened(ledger: SqlLedger, cells: int = 1) -> Signal:
    signal = Signal(id=new_id(), group=GROUP, text="елате", origin="test", sent_at=time.time())
    await ledger.open_post(post(signal.id, cells=cells, slices=cells), [target(kind=TargetKind.SIGNAL)])
    return signal


async def rows(ledger: SqlLedger, signal: Signal) -> dict[str, Row]:
    return {row.address: row async for page in ledger.trace(signal.id) for row in page}


async def test_p4_everybody_who_is_told_is_delivered_and_a_channel_is_on_its_way(ledger: SqlLedger) -> None:
    signal, events = await opened(ledger), Events()
    message = share(signal, "ana@x.test", "boris@x.test", channels=(Queued(addresses=(HOOK,), via=(GROUP,)),))
    for _ in range(2):  # told twice
        await signals.tell(message, ledger=ledger, emit=events)
    totals = await ledger.totals(signal.id)
    assert (totals.expanded, totals.delivered, totals.deferred, totals.suppressed, totals.complete) == (
        4,
        2,
        1,
        1,
        True,
    )
    found = await rows(ledger, signal)
    assert {name: row.state for name, row in found.items()} == {
        "ana@x.test": State.DELIVERED,
        "boris@x.test": State.DELIVERED,
        HOOK: State.QUEUED,
        "off@x.test": None,
    }
    assert (found["ana@x.test"].hop, found["ana@x.test"].attempts) == ("events", 1)
    assert events.members == sorted(["ana@x.test", "boris@x.test"] * 2)
    assert len({event.id for event in events.happened}) == 2


async def test_p4_the_sums_hold_where_the_telling_fails_half_way(ledger: SqlLedger) -> None:
    signal, events = await opened(ledger), Events()
    message = share(signal, "ana@x.test")
    events.fail = 1
    with pytest.raises(BusUnavailable):
        await signals.tell(message, ledger=ledger, emit=events)
    totals = await ledger.totals(signal.id)
    assert (totals.expanded, totals.delivered, totals.deferred, totals.suppressed) == (2, 0, 1, 1)
    await signals.tell(message, ledger=ledger, emit=events)
    totals = await ledger.totals(signal.id)
    assert (totals.expanded, totals.delivered, totals.deferred, totals.suppressed) == (2, 1, 0, 1)


async def test_p10_the_slices_of_a_large_signal_are_each_recorded_in_their_own_cell(ledger: SqlLedger) -> None:
    signal, events = await opened(ledger, cells=3), Events()
    everybody = [f"p{number}@x.test" for number in range(600)]
    for index in (2, 0, 1):
        here = [who for who in everybody if slot(who) * 3 // SLOTS == index]
        await signals.tell(share(signal, *here, index=index, of=3), ledger=ledger, emit=events)
    totals = await ledger.totals(signal.id)
    assert (totals.expanded, totals.delivered, totals.deferred, totals.complete) == (601, 600, 0, True)
    assert events.members == sorted(everybody)


async def test_a_refused_signal_is_one_event_and_a_finished_post(ledger: SqlLedger) -> None:
    signal, events = await opened(ledger), Events()
    refused = share(signal, suppressed="disabled", spared=7)
    await signals.tell(refused, ledger=ledger, emit=events)
    ((event,), totals) = events.happened, await ledger.totals(signal.id)
    assert (event.reason, event.spared, totals.delivered, totals.complete) == ("disabled", 7, 0, True)


async def test_a_share_of_the_version_before_is_told_and_not_filed(ledger: SqlLedger) -> None:
    signal, events = await opened(ledger), Events()
    await signals.tell(SignalExpanded(signal=signal, members=("ana@x.test",)), ledger=ledger, emit=events)
    assert events.members == ["ana@x.test"]
    assert (await ledger.totals(signal.id)).expanded == 0


async def test_a_ledger_that_does_not_answer_is_the_workers_to_retry(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal, events = await opened(ledger), Events()

    async def away(_: Expanded) -> bool:
        raise LedgerUnavailable("away")

    monkeypatch.setattr(ledger, "file", away)
    with pytest.raises(LedgerUnavailable):
        await signals.tell(share(signal, "ana@x.test"), ledger=ledger, emit=events)
    assert events.happened == []
