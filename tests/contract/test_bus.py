"""The laws of the bus (`shared/bus/__init__.py`), for every implementation of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from shared.bus import Bus, BusUnavailable, Consumer, Incoming, Outgoing
from shared.bus.open import open_bus
from shared.topology import DELAYS, MAX_PAYLOAD, Queue

PATIENCE = 30.0
"""Seconds in which anything that is to happen happens, on a busy machine too."""

Open = Callable[[], Awaitable[Bus]]


async def soon(consumer: Consumer) -> Incoming:
    """The next message, which is there or on its way."""
    async with asyncio.timeout(PATIENCE):
        return await consumer.get()


async def eventually(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Ask until the answer is the one that is wanted."""
    deadline = time.monotonic() + PATIENCE
    while (answer := await ask()) != wanted:
        assert time.monotonic() < deadline, f"still {answer!r}, not {wanted!r}"
        await asyncio.sleep(0.02)


async def depth_becomes(bus: Bus, queue: Queue, wanted: int) -> None:
    await eventually(lambda: bus.depth(queue), wanted)


def post(payload: bytes = b"one", **more: object) -> Outgoing:
    return Outgoing(queue=Queue.POSTS, payload=payload, **more)  # type: ignore[arg-type]


async def one_by_one(bus: Bus, messages: Iterable[Outgoing]) -> None:
    """Published one after the other, so that the broker counts each."""
    for message in messages:
        await bus.publish(message)


class Laws:
    """The suite; a subclass says where the bus is."""

    @pytest.fixture
    def url(self) -> str:
        raise AssertionError("a subclass says which")

    @pytest.fixture
    async def opened(self, url: str, tmp_path: Path) -> AsyncIterator[Open]:
        """A function that opens one more bus on the same place; all of them are closed in the end."""
        buses: list[Bus] = []

        async def another() -> Bus:
            buses.append(await open_bus(url, tmp_path))
            return buses[-1]

        yield another
        for bus in buses:
            await bus.close()

    @pytest.fixture
    async def bus(self, opened: Open) -> Bus:
        return await opened()

    # --- durable -----------------------------------------------------------------------------------------------------
    async def test_p1_what_was_published_is_there_after_the_bus_was_closed_and_opened(self, opened: Open) -> None:
        bus = await opened()
        await bus.publish(post(b"kept", tries=7))
        await bus.close()

        again = await opened()
        async with again.consume(Queue.POSTS, prefetch=1) as consumer:
            message = await soon(consumer)
            assert (message.payload, message.tries, message.queue) == (b"kept", 7, Queue.POSTS)
            await message.ack()
        assert await again.depth(Queue.POSTS) == 0

    async def test_an_acked_message_does_not_come_again(self, opened: Open) -> None:
        bus = await opened()
        await bus.publish_all([post(b"first"), post(b"second")])
        async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
            first = await soon(consumer)
            await first.ack()
        await bus.close()

        again = await opened()
        await depth_becomes(again, Queue.POSTS, 1)
        async with again.consume(Queue.POSTS, prefetch=1) as consumer:
            second = await soon(consumer)
            assert {first.payload, second.payload} == {b"first", b"second"}
            await second.ack()
        assert await again.depth(Queue.POSTS) == 0

    async def test_every_size_of_payload_arrives_byte_for_byte(self, bus: Bus) -> None:
        payloads = {
            size: bytes(range(256)) * (size // 256) + b"\0" * (size % 256) for size in (0, 1, 131073, MAX_PAYLOAD)
        }
        await bus.publish_all([post(payload) for payload in payloads.values()])
        async with bus.consume(Queue.POSTS, prefetch=2) as consumer:
            while payloads:
                message = await soon(consumer)
                assert message.payload == payloads.pop(len(message.payload))
                await message.ack()

    async def test_a_payload_over_the_limit_is_a_value_error_and_nothing_is_published(self, bus: Bus) -> None:
        huge = b"x" * (MAX_PAYLOAD + 1)
        with pytest.raises(ValueError, match="over the limit"):
            await bus.publish(post(huge))
        with pytest.raises(ValueError, match="over the limit"):
            await bus.publish_all([post(b"small"), post(huge)])
        with pytest.raises(ValueError, match="over the limit"):
            await bus.emit("post.accepted", huge)
        assert await bus.depth(Queue.POSTS) == 0
        await bus.publish(post(b"the bus works on"))
        assert await bus.depth(Queue.POSTS) == 1

    async def test_publish_all_publishes_all_to_their_queues(self, bus: Bus) -> None:
        await bus.publish_all(
            [Outgoing(queue=queue, payload=queue.value.encode()) for queue in Queue for _ in range(3)]
        )
        await bus.publish_all([])
        for queue in Queue:
            assert await bus.depth(queue) >= 1
            async with bus.consume(queue, prefetch=5) as consumer:
                for _ in range(3):
                    message = await soon(consumer)
                    assert (message.queue, message.payload) == (queue, queue.value.encode())
                    await message.ack()

    # --- an end, or another time -----------------------------------------------------------------------------------------
    async def test_a_released_message_comes_again_and_says_so(self, bus: Bus) -> None:
        await bus.publish(post(tries=2))
        async with bus.consume(Queue.POSTS, prefetch=5) as consumer:
            message = await soon(consumer)
            assert not message.redelivered
            await message.release()
            again = await soon(consumer)
            assert (again.payload, again.tries, again.redelivered) == (b"one", 2, True)
            await again.ack()
        assert await bus.depth(Queue.POSTS) == 0

    async def test_leaving_a_consumer_gives_back_what_was_not_ended(self, bus: Bus) -> None:
        await one_by_one(bus, [post(b"%d" % number) for number in range(5)])
        async with bus.consume(Queue.POSTS, prefetch=5) as consumer:
            left = await soon(consumer)
            ended = await soon(consumer)
            await ended.ack()
        await depth_becomes(bus, Queue.POSTS, 4)
        await left.ack()  # too late: it is somebody else's now, and must not vanish
        assert await bus.depth(Queue.POSTS) == 4

    async def test_of_messages_published_together_only_those_not_ended_come_again(self, bus: Bus) -> None:
        everything = {b"%d" % number for number in range(9)}
        await bus.publish_all([post(payload) for payload in everything])
        async with bus.consume(Queue.POSTS, prefetch=9) as consumer:
            taken = [await soon(consumer) for _ in everything]
            for message in taken[:3]:
                await message.ack()
            await taken[3].release()
            await taken[4].park("odd")
        await taken[5].ack()  # too late
        again = set()
        async with bus.consume(Queue.POSTS, prefetch=9) as consumer:
            for _ in range(5):
                message = await soon(consumer)
                again.add(message.payload)
                await message.ack()
        assert again == everything - {message.payload for message in (*taken[:3], taken[4])}
        assert await bus.depth(Queue.POSTS) == 0
        async with bus.consume(Queue.PARKED, prefetch=1) as consumer:
            aside = await soon(consumer)
            assert (aside.payload, bus.parked(aside).reason) == (taken[4].payload, "odd")
            await aside.ack()

    async def test_p3_closing_the_bus_gives_back_what_was_taken(self, opened: Open) -> None:
        dying, other = await opened(), await opened()
        await one_by_one(dying, [post(b"%d" % number) for number in range(5)])
        async with dying.consume(Queue.POSTS, prefetch=5) as consumer:
            taken = await soon(consumer)
            await dying.close()
            await taken.ack()
            await taken.release()
        await depth_becomes(other, Queue.POSTS, 5)
        async with other.consume(Queue.POSTS, prefetch=5) as consumer:
            back = [await soon(consumer) for _ in range(5)]
            assert {message.payload for message in back} == {b"%d" % number for number in range(5)}
            assert any(message.redelivered for message in back)

    async def test_a_message_ends_once(self, bus: Bus) -> None:
        await bus.publish(post())
        async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
            message = await soon(consumer)
            await message.ack()
            await message.release()
            await message.ack()
        assert await bus.depth(Queue.POSTS) == 0

    async def test_a_cancelled_get_loses_nothing(self, bus: Bus) -> None:
        got = []
        async with bus.consume(Queue.POSTS, prefetch=3) as consumer:
            for number in range(20):
                waiting = asyncio.create_task(consumer.get())
                await asyncio.sleep(0)
                await bus.publish(post(b"%d" % number))
                waiting.cancel()
                await asyncio.wait((waiting,))
                message = await soon(consumer) if waiting.cancelled() else waiting.result()
                got.append(message.payload)
                await message.ack()
        assert sorted(got) == sorted(b"%d" % number for number in range(20))

    # --- parked ------------------------------------------------------------------------------------------------------
    async def test_a_parked_message_says_where_it_was_and_why(self, bus: Bus) -> None:
        reason = "undecodable: 0xff\r\nand „кавички“ \udcff" + "x" * 5000
        await bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=b"\xff\x00bad", tries=3))
        async with bus.consume(Queue.OUTCOMES, prefetch=1) as consumer:
            message = await soon(consumer)
            await message.park(reason)
        assert await bus.depth(Queue.OUTCOMES) == 0
        async with bus.consume(Queue.PARKED, prefetch=1) as consumer:
            aside = await soon(consumer)
            said = bus.parked(aside)
            assert (aside.queue, aside.payload, said.queue, said.tries) == (Queue.PARKED, b"\xff\x00bad", "outcomes", 3)
            assert said.reason.startswith("undecodable: 0xff\r\nand „кавички“ ?x")
            assert len(said.reason) == 1000
            await aside.ack()
        assert await bus.depth(Queue.PARKED) == 0

    async def test_a_parked_message_stays_for_whoever_looks_and_does_not_end_it(self, opened: Open) -> None:
        bus = await opened()
        await bus.publish(post())
        async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
            await (await soon(consumer)).park("why")
        async with bus.consume(Queue.PARKED, prefetch=1) as consumer:
            await soon(consumer)
        await depth_becomes(bus, Queue.PARKED, 1)
        await bus.close()
        again = await opened()
        async with again.consume(Queue.PARKED, prefetch=1) as consumer:
            assert again.parked(await soon(consumer)).reason == "why"

    # --- delays ------------------------------------------------------------------------------------------------------
    async def test_a_delayed_message_comes_when_it_is_due_and_not_before(self, bus: Bus) -> None:
        async with bus.consume(Queue.POSTS, prefetch=5) as consumer:
            begun = time.monotonic()
            await bus.publish(post(b"later", delay=0.3, tries=4))  # rounded up to the first step, 1 s
            await bus.publish(post(b"now"))
            now = await soon(consumer)
            await now.ack()
            later = await soon(consumer)
            waited = time.monotonic() - begun
            assert (now.payload, later.payload, later.tries) == (b"now", b"later", 4)
            assert 0.95 <= waited < 10
            await later.ack()

    async def test_p7_a_short_delay_is_not_blocked_behind_a_long_one(self, bus: Bus) -> None:
        await bus.publish_all([post(b"long", delay=60) for _ in range(3)])
        await bus.publish(post(b"short", delay=1))
        async with bus.consume(Queue.POSTS, prefetch=5) as consumer:
            async with asyncio.timeout(PATIENCE):
                message = await consumer.get()
            assert message.payload == b"short"
            await message.ack()

    async def test_every_delay_is_kept_durably_and_counted(self, opened: Open) -> None:
        bus = await opened()
        await bus.publish_all([post(delay=step) for step in DELAYS if step > 1] + [post(delay=10_000_000)])
        await bus.close()
        again = await opened()

        async def everywhere() -> int:
            return sum([await again.depth(queue) for queue in Queue])

        await eventually(everywhere, len(DELAYS))

    async def test_a_delay_survives_the_end_of_its_publisher(self, opened: Open) -> None:
        bus = await opened()
        await bus.publish(Outgoing(queue=Queue.DELIVERIES_BULK, payload=b"retry", delay=1, tries=1))
        await bus.close()
        again = await opened()
        async with again.consume(Queue.DELIVERIES_BULK, prefetch=1) as consumer:
            message = await soon(consumer)
            assert (message.payload, message.tries) == (b"retry", 1)
            await message.ack()

    # --- many --------------------------------------------------------------------------------------------------------
    async def test_p10_no_more_than_the_prefetch_is_taken(self, bus: Bus) -> None:
        await one_by_one(bus, [post(b"%d" % number) for number in range(10)])
        async with bus.consume(Queue.POSTS, prefetch=3) as consumer:
            held = [await soon(consumer) for _ in range(3)]
            await depth_becomes(bus, Queue.POSTS, 7)
            fourth = asyncio.create_task(consumer.get())
            await asyncio.wait((fourth,), timeout=0.3)
            assert not fourth.done()
            await held[0].ack()
            async with asyncio.timeout(PATIENCE):
                await (await fourth).ack()
            with pytest.raises(ValueError, match="prefetch"):
                async with bus.consume(Queue.POSTS, prefetch=0):
                    pass

    async def test_p3_ten_thousand_messages_each_exactly_once(self, bus: Bus) -> None:
        count, seen, complete = 10_000, Counter[bytes](), asyncio.Event()

        async def publish(part: int) -> None:
            await bus.publish_all([post(b"%d" % number) for number in range(part, count, 10)])

        async def work(consumer: Consumer) -> None:
            while True:
                message = await consumer.get()
                seen[message.payload] += 1
                await message.ack()
                if seen.total() >= count:
                    complete.set()

        async with bus.consume(Queue.POSTS, prefetch=100) as one, bus.consume(Queue.POSTS, prefetch=7) as two:
            workers = [asyncio.create_task(work(consumer)) for consumer in (one, two) for _ in range(5)]
            async with asyncio.timeout(120):
                await asyncio.gather(*(publish(part) for part in range(10)))
                await complete.wait()
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        assert len(seen) == seen.total() == count
        assert await bus.depth(Queue.POSTS) == 0

    async def test_queues_do_not_disturb_each_other(self, bus: Bus) -> None:
        async def journey(queue: Queue) -> set[bytes]:
            async with bus.consume(queue, prefetch=4) as consumer:
                await asyncio.gather(
                    *(bus.publish(Outgoing(queue=queue, payload=b"%d" % number)) for number in range(50))
                )
                got = set()
                for _ in range(50):
                    message = await soon(consumer)
                    assert message.queue is queue
                    got.add(message.payload)
                    await message.ack()
                return got

        for got in await asyncio.gather(*(journey(queue) for queue in Queue)):
            assert got == {b"%d" % number for number in range(50)}

    # --- events ------------------------------------------------------------------------------------------------------
    async def test_events_reach_every_subscriber_whose_pattern_matches(self, opened: Open) -> None:
        bus, other = await opened(), await opened()
        keys = ("post.accepted", "signal.suppressed", "signal.delivered.late", "signal")
        await bus.emit("signal.before", b"{}")
        wanted = {
            "#": list(keys),
            "signal.*": ["signal.suppressed"],
            "signal.#": list(keys[1:]),
            "post.accepted": ["post.accepted"],
        }
        for subscriber in (bus, other):
            for pattern, matching in wanted.items():
                async with subscriber.events(pattern) as stream:
                    for key in keys:
                        await bus.emit(key, key.encode())
                    got = []
                    async with asyncio.timeout(PATIENCE):
                        async for key, payload in stream:
                            assert payload == key.encode()
                            got.append(key)
                            if len(got) == len(matching):
                                break
                    assert got == matching

    async def test_an_event_that_nobody_hears_is_no_trouble(self, bus: Bus) -> None:
        await bus.emit("post.accepted", b"{}")

    # --- trouble -----------------------------------------------------------------------------------------------------
    async def test_p1_a_closed_bus_confirms_nothing(self, opened: Open) -> None:
        bus = await opened()
        await bus.check()
        await bus.close()
        await bus.close()
        for act in (
            bus.publish(post()),
            bus.publish_all([post()]),
            bus.emit("post.accepted", b"{}"),
            bus.check(),
            bus.depth(Queue.POSTS),
        ):
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(BusUnavailable):
                    await act
        again = await opened()
        assert await again.depth(Queue.POSTS) == 0

    async def test_a_message_of_another_bus_is_not_read_as_parked(self, bus: Bus) -> None:
        with pytest.raises(TypeError):
            bus.parked(object())  # type: ignore[arg-type]


class TestEmbedded(Laws):
    """The queue in a SQLite file."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"embedded:{tmp_path / 'deep' / 'queue.db'}"


class TestRabbitmq(Laws):
    """The broker, in every version that is to be had."""

    @pytest.fixture
    def url(self, rabbitmq_url: str) -> str:
        return rabbitmq_url


@pytest.mark.parametrize("url", ["", "redis://host", "http://user:secret@host/", "amqp"])
async def test_another_url_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no bus") as caught:
        await open_bus(url, tmp_path)
    assert "secret" not in str(caught.value)
