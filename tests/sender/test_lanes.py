"""The whole sender on embedded parts: queues in, copies at the sink, the ledger's rows; retries, lanes, drain, kill -9."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.sender.story import Sender
from shared.bus import Bus, Outgoing
from shared.bus.open import open_bus
from shared.ledger import Ledger
from shared.messages import Attempted, Content, Delivery, Lane, State, decode, encode
from shared.settings import Settings
from shared.topology import Queue
from tests.sender.making import HEAD, ShelfOfBodies, people
from tests.support.sink import Sink

QUEUES = {Lane.EXPRESS: Queue.DELIVERIES_EXPRESS, Lane.BULK: Queue.DELIVERIES_BULK}


def delivery(sink: Sink, cell: int, *addresses: str, lane: Lane = Lane.EXPRESS, **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "post_id": "01post",
        "group": "office@example.test",
        "cell": cell,
        "hop": f"smtp://127.0.0.1:{sink.port}",
        "mail_from": "office-bounces+t0@example.test",
        "recipients": people(*addresses),
        "content": Content(head=HEAD, tail=b"hello\r\n"),
        "accepted_at": time.time(),
        "lane": lane,
    }
    return Delivery(**{**values, **changes})


async def publish(bus: Bus, *deliveries: Delivery) -> None:
    await bus.publish_all([Outgoing(queue=QUEUES[each.lane], payload=encode(each)) for each in deliveries])


async def until(condition: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not (await found if isinstance(found := condition(), Awaitable) else found):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited for {what}") from None


@asynccontextmanager
async def running(sink: Sink, bus: Bus, ledger: Ledger, **changes: Any) -> AsyncIterator[Sender]:
    values = {
        "next_hop": f"smtp://127.0.0.1:{sink.port}",
        "hop_timeout": "30s",
        "retry_schedule": "1s",
        "workers": 4,
        **changes,
    }
    sender = Sender(Settings(**values), bus=bus, ledger=ledger, bodies=ShelfOfBodies(), hostname="horo.example.test")  # type: ignore[arg-type]
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        sender.stop()
        await asyncio.wait_for(task, 60)


async def outcomes(bus: Bus, count: int) -> list[Attempted]:
    """Take `count` messages from the queue of outcomes."""
    told = []
    async with asyncio.timeout(30), bus.consume(Queue.OUTCOMES, prefetch=100) as consumer:
        for _ in range(count):
            incoming = await consumer.get()
            message = decode(incoming.payload)
            assert isinstance(message, Attempted)
            told.append(message)
            await incoming.ack()
    return told


async def test_what_is_deferred_is_tried_again_until_it_is_delivered(bus: Bus, ledger: Ledger) -> None:
    async with Sink() as sink, running(sink, bus, ledger):
        await publish(bus, delivery(sink, 1, "ana@x.test", "450-2_c@x.test", "550_b@x.test"))
        await until(lambda: sink.counts["450-2_c@x.test"] == 1, "the third attempt")
        told = await outcomes(bus, 2)
        assert sink.counts == {"ana@x.test": 1, "450-2_c@x.test": 1}
        assert sink.tries == {"ana@x.test": 1, "450-2_c@x.test": 3, "550_b@x.test": 1}
    assert [[(fate.attempt, fate.state) for fate in each.fates if fate.address[0] == "4"] for each in told] == [
        [(0, State.DEFERRED)],
        [(1, State.DEFERRED)],
    ]
    standing = (await ledger.standings("01post", ["450-2_c@x.test"]))["450-2_c@x.test"]
    assert (standing.state, standing.attempts) == (State.DELIVERED, 3)


async def test_p7_express_is_delivered_while_all_bulk_workers_are_stuck(bus: Bus, ledger: Ledger) -> None:
    async with Sink() as sink, running(sink, bus, ledger, hop_connections=4):
        await publish(bus, *(delivery(sink, cell, f"hang-dot_{cell}@x.test", lane=Lane.BULK) for cell in range(12)))
        await until(lambda: sink.transactions == 3, "bulk to hold all the connections that it may have")
        await publish(bus, delivery(sink, 99, "ana@x.test"))
        await until(lambda: sink.counts["ana@x.test"] == 1, "the express copy")
        assert sink.transactions == 4  # bulk has not moved meanwhile
        sink.faults.add("drop-banner")
        sink.hang_up()


async def test_stopping_finishes_what_is_in_hand_and_leaves_the_rest(bus: Bus, ledger: Ledger) -> None:
    async with Sink() as sink:
        async with running(sink, bus, ledger, workers=1) as sender:
            await publish(bus, *(delivery(sink, cell, f"slow-300_{cell}@x.test") for cell in range(3)))
            await until(lambda: "DATA" in sink.commands, "the first delivery to be in hand")
            sender.stop()
        assert sink.counts == {"slow-300_0@x.test": 1}
        assert sink.open == 0 or sink.commands[-1] == "QUIT"
        async with running(sink, bus, ledger):
            await until(lambda: len(sink.copies) == 3, "the others after a restart")
        assert set(sink.counts.values()) == {1}


async def test_p3_a_sender_killed_in_mid_flow_misses_nobody_and_repeats_only_what_was_in_flight(
    tmp_path: Path, ledger: Ledger
) -> None:
    """kill -9 twice while 60 batches of 10 go out; whoever was on record as delivered at a kill gets no copy after it."""
    batches = [[f"slow-20_{cell}x{number}@x.test" for number in range(10)] for cell in range(60)]
    everybody = [name for batch in batches for name in batch]
    certain: dict[str, int] = {}
    async with Sink() as sink:
        bus = await open_bus("embedded:", tmp_path)
        await publish(bus, *(delivery(sink, cell, *batch) for cell, batch in enumerate(batches)))
        await bus.close()
        for kills in (100, 300):
            process = await victim(tmp_path, sink)
            await until(lambda kills=kills: len(sink.copies) >= kills, f"{kills} copies")
            process.kill()
            await process.wait()
            found = await ledger.standings("01post", everybody)
            for name, standing in found.items():
                if standing.state is State.DELIVERED:
                    certain.setdefault(name, sink.counts[name])
        process = await victim(tmp_path, sink)
        await until(lambda: delivered(ledger, everybody), "everybody to be on record")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert set(sink.counts) == set(everybody)
    assert {name: sink.counts[name] for name in certain} == certain
    twice = [name for name, count in sink.counts.items() if count > 1]
    assert len(twice) <= 2 * 4 * 10  # kills x workers of the lane x recipients of a batch
    assert len(certain) >= 100


async def victim(data: Path, sink: Sink) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sender.victim", str(data), f"smtp://127.0.0.1:{sink.port}",
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
    return process


async def delivered(ledger: Ledger, everybody: list[str]) -> bool:
    found = await ledger.standings("01post", everybody)
    return len(found) == len(everybody) and all(standing.state is State.DELIVERED for standing in found.values())
