"""Filing what was parked: nothing is decoded, nothing is lost, and one that cannot be filed does not stop the rest (F34)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reporter import parked as parked_module
from services.reporter.parked import Filer
from shared.bus import BusUnavailable, Parked
from shared.topology import Queue
from tests.reporter.doubles import MemoryBus, MemoryLedger, until


@asynccontextmanager
async def filing(bus: MemoryBus, ledger: MemoryLedger) -> AsyncIterator[Filer]:
    filer = Filer(bus, ledger)
    running = asyncio.create_task(filer.run())
    yield filer
    filer.stop()
    await asyncio.wait_for(running, 10)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked_module, "retry_delay", lambda tries: 0.01)


HOSTILE = [
    b"",
    b"\x00" * 10,
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\xc1",
    "офис".encode(),
    b"\xff\xfe",
    b"x" * (1 << 20),
]


async def test_f34_hostile_bytes_are_filed_as_they_are() -> None:
    bus, ledger = MemoryBus(), MemoryLedger()
    for payload in HOSTILE:
        bus.put_parked(payload, Parked(queue="posts", reason="undecodable", tries=3))
    async with filing(bus, ledger):
        await until(lambda: bus.acked[Queue.PARKED] == len(HOSTILE))
    assert sorted(ledger.parked_rows.values()) == sorted(("posts", "undecodable", payload, 3) for payload in HOSTILE)


async def test_headers_are_made_fit_for_sql() -> None:
    bus, ledger = MemoryBus(), MemoryLedger()
    bus.put_parked(b"x", Parked(queue="po\x00sts\r\n" * 100, reason="\ud800 a\x00b " + "r" * 9000, tries=1 << 70))
    bus.put_parked(b"y", Parked(queue="", reason="", tries=-5))
    async with filing(bus, ledger):
        await until(lambda: bus.acked[Queue.PARKED] == 2)
    (queue, reason, _, tries), (_, _, _, none) = sorted(ledger.parked_rows.values(), key=lambda row: row[2])
    assert (len(queue), len(reason), tries, none) == (100, 1000, (1 << 31) - 1, 0)
    assert not {"\x00", "\ud800", "\r", "\n"} & set(queue + reason)


async def test_the_same_bytes_parked_again_are_filed_again() -> None:
    """`horo parked retry` publishes, then forgets the row: what is parked anew in between must not vanish with it."""
    bus, ledger = MemoryBus(), MemoryLedger()
    async with filing(bus, ledger):
        for count in (1, 2):
            bus.put_parked(b"same", Parked(queue="posts", reason="r"))
            await until(lambda count=count: bus.acked[Queue.PARKED] == count)
    assert len(ledger.parked_rows) == 2


async def test_p1_nothing_is_acked_while_the_ledger_is_away() -> None:
    bus, ledger = MemoryBus(), MemoryLedger()
    ledger.away = True
    for number in range(40):
        bus.put_parked(b"%d" % number, Parked(queue="posts", reason="r"))
    async with filing(bus, ledger):
        await until(lambda: bus.queues[Queue.PARKED].qsize() <= 40 - parked_module.IN_HAND // 2)
        assert bus.acked[Queue.PARKED] == 0
        ledger.away = False
        await until(lambda: bus.acked[Queue.PARKED] == 40)
    assert len(ledger.parked_rows) == 40


async def test_f34_one_that_sql_refuses_does_not_stop_the_others_and_is_given_back() -> None:
    bus, ledger = MemoryBus(), MemoryLedger()
    ledger.poison = b"poison"
    poison = bus.put_parked(b"poison", Parked(queue="posts", reason="r"))
    for number in range(40):
        bus.put_parked(b"%d" % number, Parked(queue="posts", reason="r"))
    async with filing(bus, ledger):
        await until(lambda: bus.acked[Queue.PARKED] == 40)
    assert poison.ended == "release"
    assert len(ledger.parked_rows) == 40


async def test_p1_a_ledger_that_gives_up_by_a_cancellation_ends_no_filing() -> None:
    bus, ledger = MemoryBus(), MemoryLedger()
    real, calls = ledger.park, 0

    async def interrupted(*given: Any, **named: Any) -> int:
        nonlocal calls
        calls += 1
        if calls <= 20:
            raise asyncio.CancelledError
        return await real(*given, **named)

    ledger.park = interrupted  # type: ignore[method-assign]
    for number in range(40):
        bus.put_parked(b"%d" % number, Parked(queue="posts", reason="r"))
    async with filing(bus, ledger):
        await until(lambda: bus.acked[Queue.PARKED] == 40)


async def test_a_consumer_that_fails_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.worker.CONSUME_AGAIN", (0.01,))
    bus, ledger = MemoryBus(), MemoryLedger()
    real, opened = bus.consume, 0

    @asynccontextmanager
    async def failing(queue: Queue, *, prefetch: int) -> AsyncIterator[Any]:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise BusUnavailable("told to")
        async with real(queue, prefetch=prefetch) as consumer:
            yield consumer

    bus.consume = failing  # type: ignore[assignment,method-assign]
    bus.put_parked(b"one", Parked(queue="posts", reason="r"))
    async with filing(bus, ledger):
        await until(lambda: bus.acked[Queue.PARKED] == 1)


@settings(max_examples=25, deadline=None)
@given(payload=st.binary(max_size=300), queue=st.text(max_size=40), reason=st.text(max_size=60), tries=st.integers())
def test_whatever_is_parked_is_filed(payload: bytes, queue: str, reason: str, tries: int) -> None:
    async def run() -> MemoryLedger:
        bus, ledger = MemoryBus(), MemoryLedger()
        bus.put_parked(payload, Parked(queue=queue, reason=reason, tries=tries))
        async with filing(bus, ledger):
            await until(lambda: bus.acked[Queue.PARKED] == 1)
        return ledger

    (row,) = asyncio.run(run()).parked_rows.values()
    assert row[2] == payload
