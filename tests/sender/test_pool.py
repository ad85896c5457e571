"""Connections: limits, lanes, reuse, idle close, and a next hop that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.sender import pacing
from services.sender import pool as pool_module
from services.sender.connection import Manners, Peer
from services.sender.pool import MOST_PEERS, Pool
from shared.limits import Limits, LimitTable
from shared.messages import Lane
from tests.sender.making import CONTENT, codes, envelope, hops, towards
from tests.support.sink import Sink

LIMITS = LimitTable.parse("", default=Limits(connections=2))
MANNERS = Manners(hostname="horo.example.test", timeout=5.0, tls="none", context=None)


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited for {what}") from None


async def test_a_next_hop_gets_no_more_connections_than_it_may_have() -> None:
    async with Sink() as sink, hops(hop_connections=3, hop_timeout="5s") as made:
        tasks = [made.deliver(towards(sink), envelope(f"slow-20_{n}@x.test"), CONTENT) for n in range(12)]
        answers = await asyncio.gather(*tasks)
    assert all(codes(sent) == [(250, "2.0.0")] for sent in answers)
    assert sink.most_open == 3
    assert sink.connections == 3


async def test_p7_bulk_leaves_connections_to_express() -> None:
    """With every bulk connection stuck, an express delivery finds one at once."""
    async with Sink() as sink, hops(hop_connections=4, hop_timeout="30s") as made:
        stuck = [
            asyncio.ensure_future(
                made.deliver(towards(sink), envelope(f"hang-dot_{n}@x.test", lane=Lane.BULK), CONTENT)
            )
            for n in range(10)
        ]
        await until(lambda: sink.transactions == 3, "three of four connections to be taken by bulk")
        sent = await asyncio.wait_for(made.deliver(towards(sink), envelope("ana@x.test"), CONTENT), 10)
        assert codes(sent) == [(250, "2.0.0")]
        assert sink.open == 4
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_an_unused_connection_is_closed_after_a_while() -> None:
    async with Sink() as sink:
        pool = Pool(MANNERS, limits=LIMITS, idle=0.05)
        peer = Peer("smtp", "127.0.0.1", "127.0.0.1", sink.port)
        with await pool.lease(peer, Lane.EXPRESS):
            assert sink.open == 1
        await until(lambda: sink.open == 0, "the idle connection to be closed")
        assert sink.commands[-1] == "QUIT"
        with await pool.lease(peer, Lane.EXPRESS) as lease:
            assert lease.line.reusable
        await pool.close()
    assert sink.connections == 2


async def test_a_connection_whose_use_failed_is_not_used_again() -> None:
    async with Sink() as sink:
        pool = Pool(MANNERS, limits=LIMITS)
        peer = Peer("smtp", "127.0.0.1", "127.0.0.1", sink.port)
        with pytest.raises(ZeroDivisionError), await pool.lease(peer, Lane.EXPRESS):
            raise ZeroDivisionError
        with await pool.lease(peer, Lane.EXPRESS):
            pass
        await pool.close()
    assert sink.connections == 2


async def test_f22_a_dead_next_hop_is_not_dialled_by_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sink() as sink:
        pass
    async with hops() as made:
        for _ in range(20):
            assert codes(await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)) == [(451, "4.4.1")]
        assert made.pool.dialled == 1
    monkeypatch.setattr(pacing, "DOWN_FIRST", 0.0)
    async with hops() as made:  # the pause is over: it is dialled again, and found alive
        assert codes(await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)) == [(451, "4.4.1")]
        async with Sink(port=sink.port) as alive:
            assert codes(await made.deliver(towards(alive), envelope("ana@x.test"), CONTENT)) == [(250, "2.0.0")]
        assert made.pool.dialled == 2


async def test_f22_one_task_sees_whether_a_silent_next_hop_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and says nothing costs every dial a time-out: all workers must not pay it at once."""
    monkeypatch.setattr(pacing, "DOWN_FIRST", 0.0)
    monkeypatch.setattr(pool_module, "PROBE_PATIENCE", 0.05)
    async with Sink("hang-banner") as sink, hops(hop_timeout="1s") as made:
        await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)
        sent = await asyncio.gather(
            *(made.deliver(towards(sink), envelope(f"{number}@x.test"), CONTENT) for number in range(10))
        )
        assert [codes(each) for each in sent] == [[(451, "4.4.2")]] * 10
        assert made.pool.dialled == 2


async def test_f22_those_who_wait_for_the_probe_go_on_when_the_next_hop_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacing, "DOWN_FIRST", 0.0)
    async with Sink() as sink:
        pass
    async with hops(hop_timeout="5s") as made:
        await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)
        async with Sink(port=sink.port) as alive:
            sent = await asyncio.gather(
                *(made.deliver(towards(alive), envelope(f"{number}@x.test"), CONTENT) for number in range(10))
            )
        assert [codes(each) for each in sent] == [[(250, "2.0.0")]] * 10


async def test_p10_servers_remembered_are_bounded() -> None:
    pool = Pool(MANNERS, limits=LIMITS)
    for number in range(MOST_PEERS + 10):
        pool.site(Peer("smtp", f"mx{number}.test", "192.0.2.1", 25))
    assert len(pool.snapshot()) <= MOST_PEERS
