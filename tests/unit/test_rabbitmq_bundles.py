"""Bundles: who is joined with whom, who hears of what, and what is taken for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus import BusUnavailable
from shared.bus.rabbitmq_bundles import MAX_OCTETS, PARALLEL, Joiner, decode_bundle, encode_bundle
from shared.bus.rabbitmq_consumer import TRIES_HEADER, parked_of, scattered_headers
from shared.topology import Queue


class Broker:
    """Takes bundles when it is let; remembers them."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.open = asyncio.Event()
        self.ready = asyncio.Event()
        self.ready.set()
        self.trouble: Exception | None = None

    async def send(self, queue: Queue, payloads: Sequence[bytes]) -> None:
        self.sent.append(list(payloads))
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble

    async def takes(self) -> None:
        await self.ready.wait()
        if self.trouble is not None:
            raise self.trouble

    def joiner(self, queue: Queue = Queue.POSTS) -> Joiner:
        return Joiner(queue, self.send, self.takes)


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_an_idle_bus_sends_at_once_and_a_busy_one_joins_what_waits() -> None:
    broker = Broker()
    joiner = broker.joiner()
    first = joiner.submit(b"first")
    await turns()
    assert broker.sent == [[b"first"]]
    rest = [joiner.submit(b"%d" % number) for number in range(40)]
    await turns()
    assert len(broker.sent) == PARALLEL == 1
    broker.open.set()
    await asyncio.gather(first, *rest)
    assert [len(bundle) for bundle in broker.sent] == [1, 32, 8]
    assert [payload for bundle in broker.sent[1:] for payload in bundle] == [b"%d" % number for number in range(40)]


async def test_p10_a_bundle_is_bounded_in_octets_and_a_slice_travels_alone() -> None:
    broker = Broker()
    broker.open.set()
    joiner, alone = broker.joiner(), broker.joiner(Queue.SLICES)
    await asyncio.gather(*(joiner.submit(b"x" * 60_000) for _ in range(10)))
    assert all(sum(map(len, bundle)) <= MAX_OCTETS for bundle in broker.sent)
    assert sum(map(len, broker.sent)) == 10
    broker.sent.clear()
    await asyncio.gather(*(alone.submit(b"slice") for _ in range(5)))
    assert broker.sent == [[b"slice"]] * 5


async def test_p1_each_publisher_hears_of_the_trouble_of_its_bundle_and_the_next_one_is_sent() -> None:
    broker = Broker()
    broker.open.set()
    broker.trouble = BusUnavailable("gone")
    joiner = broker.joiner()
    failing = [joiner.submit(b"lost") for _ in range(3)]
    assert all(isinstance(one, BusUnavailable) for one in await asyncio.gather(*failing, return_exceptions=True))
    broker.trouble = None
    await joiner.submit(b"works on")
    assert broker.sent[-1] == [b"works on"]


async def test_what_its_publisher_has_given_up_while_the_broker_was_blocked_is_not_sent() -> None:
    broker = Broker()
    broker.open.set()
    broker.ready.clear()
    joiner = broker.joiner()
    given_up, kept = joiner.submit(b"given up"), joiner.submit(b"kept")
    await turns()
    given_up.cancel()
    broker.ready.set()
    await kept
    assert broker.sent == [[b"kept"]]


async def test_closing_tells_all_who_wait() -> None:
    broker = Broker()
    joiner = broker.joiner()
    waiting = [joiner.submit(b"%d" % number) for number in range(100)]
    await turns()
    await joiner.close()
    assert all(isinstance(one, BusUnavailable) for one in await asyncio.gather(*waiting, return_exceptions=True))


async def test_p10_what_was_given_up_under_an_alarm_is_not_kept() -> None:
    broker = Broker()
    broker.ready.clear()
    joiner = broker.joiner()
    for number in range(1000):
        joiner.submit(b"%d" % number).cancel()
        await asyncio.sleep(0)
    assert len(joiner._waiting) <= 2
    await joiner.close()


def test_a_part_that_goes_on_alone_tells_that_it_was_handed_out_and_where_it_was_parked_from() -> None:
    assert scattered_headers(Queue.OUTCOMES, {TRIES_HEADER: 4}) == {TRIES_HEADER: 5}
    death = {"queue": "horo.deliveries.bulk", "reason": "delivery_limit"}
    parked = parked_of(scattered_headers(Queue.PARKED, {"x-death": [death], TRIES_HEADER: 2}))
    assert (parked.queue, parked.tries) == ("deliveries.bulk", 2)
    assert parked.reason.startswith("delivery_limit")


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=40))
def test_a_bundle_gives_back_what_went_in(payloads: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(payloads)) == payloads


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90",
        b"\xc1",
        b"\x91" * 100_000,
        msgspec.msgpack.encode(["text"]),
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xc4\xff",
    ],
)
def test_bytes_that_are_no_bundle_are_none(body: bytes) -> None:
    assert decode_bundle(body) is None
