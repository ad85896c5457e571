"""Senders and reporters over a real broker and a real database: retries through the delay queues, shared queues, claims, notices."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.reporter.story import Reporter
from services.sender.story import Sender
from shared.bodies.files import FileBodies
from shared.bus import Bus, Outgoing
from shared.bus.open import open_bus
from shared.database.engine import open_engine
from shared.database.migrate import upgrade
from shared.directory.open import open_directory, open_registry
from shared.identity import new_id
from shared.ledger import Claim, Ledger, PostRecord, TargetRecord
from shared.ledger.open import open_ledger
from shared.messages import (
    Attempted,
    Content,
    Delivery,
    Expanded,
    Fate,
    Lane,
    Queued,
    Recipient,
    State,
    TargetKind,
    decode,
    encode,
)
from shared.settings import Settings
from shared.topology import Queue
from tests.support.servers import RabbitMQ
from tests.support.sink import Sink

GROUP = "office@example.test"
OWNER = "head@owner.test"
HEAD = b"From: ana@example.test\r\nSubject: minutes\r\n\r\n"
PATIENCE = 90.0


class Cluster:
    """A broker and a database, with as many senders and reporters on them as a test starts; each has connections of its own, as processes have."""

    def __init__(self, settings: Settings, sink: Sink, bodies: FileBodies) -> None:
        self.settings = settings
        self.sink = sink
        self.bodies = bodies
        self.bus: Bus
        self.ledger: Ledger
        self.accepted_at = time.time()
        self.post_id = new_id(self.accepted_at)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Cluster:
        engine = open_engine(self.settings.effective_database_url)
        await upgrade(engine)
        await engine.dispose()
        self.bus, self.ledger = await self.parts()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def parts(self) -> tuple[Bus, Ledger]:
        """Connections of one process's own."""
        bus = await open_bus(self.settings.broker_url, self.settings.data_path)
        self._stack.push_async_callback(bus.close)
        ledger = open_ledger(self.settings)
        self._stack.push_async_callback(ledger.close)
        return bus, ledger

    async def sender(self) -> Sender:
        bus, ledger = await self.parts()
        one = Sender(self.settings, bus=bus, ledger=ledger, bodies=self.bodies, hostname="horo.example.test")
        self._run(one)
        return one

    async def reporter(self) -> Reporter:
        bus, ledger = await self.parts()
        registry = await open_registry(self.settings)
        directory = await open_directory(self.settings, secret="s" * 32, registry=registry)
        self._stack.push_async_callback(directory.close)
        one = Reporter(
            self.settings,
            bus=bus,
            ledger=ledger,
            bodies=self.bodies,
            directory=directory,
            registry=registry,
            secret="s" * 32,
            hostname="mx.example.test",
        )
        self._run(one)
        return one

    def _run(self, service: Sender | Reporter) -> None:
        task = asyncio.create_task(service.run())

        async def end() -> None:
            service.stop()
            await asyncio.wait_for(task, PATIENCE)

        self._stack.push_async_callback(end)

    async def post(self, *addresses: str, **changes: Any) -> None:
        """A post as the expander leaves it: opened, and its share on the way to the reporter."""
        record = PostRecord(
            id=self.post_id, accepted_at=self.accepted_at, mail_from="ana@author.example", author="ana@author.example",
            message_id="<m1@author.example>", subject="Plan", size=100, ip="192.0.2.1", cells=1, slices=1,
        )  # fmt: skip
        target = TargetRecord(group=GROUP, recipient=GROUP, kind=TargetKind.GROUP, owners=(OWNER,), **changes)
        await self.ledger.open_post(record, [target])
        share = Expanded(
            post_id=self.post_id, group=GROUP, index=0, of=1, suppressed=(), at=time.time(),
            queued=tuple(Queued(addresses=(address,)) for address in addresses),
        )  # fmt: skip
        await self.bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(share)))

    def delivery(self, cell: int, *addresses: str, **changes: Any) -> Delivery:
        values: dict[str, Any] = {
            "post_id": self.post_id,
            "group": GROUP,
            "cell": cell,
            "hop": f"smtp://127.0.0.1:{self.sink.port}",
            "mail_from": "office-bounces+t0@example.test",
            "recipients": tuple(Recipient(address=address) for address in addresses),
            "content": Content(head=HEAD, tail=b"hello\r\n"),
            "accepted_at": self.accepted_at,
        }
        return Delivery(**{**values, **changes})

    async def publish(self, *deliveries: Delivery) -> None:
        queues = {Lane.EXPRESS: Queue.DELIVERIES_EXPRESS, Lane.BULK: Queue.DELIVERIES_BULK}
        await self.bus.publish_all([Outgoing(queue=queues[each.lane], payload=encode(each)) for each in deliveries])

    async def states(self, *addresses: str) -> list[State | None]:
        found = await self.ledger.standings(self.post_id, list(addresses))
        return [found[address].state if address in found else None for address in addresses]


async def until(condition: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (await found if isinstance(found := condition(), Awaitable) else found):
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.05)


@pytest.fixture
async def cluster(rabbitmq_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Sink() as sink:
        settings = Settings(
            data=str(tmp_path),
            broker_url=rabbitmq_url,
            database_url=postgres_url,
            cache_url="memory:",
            next_hop=f"smtp://127.0.0.1:{sink.port}",
            retry_schedule="1s",
            hop_timeout="20s",
            claim_lease="2s",
            workers=4,
            postmaster="root@example.test",
        )
        bodies = FileBodies(tmp_path / "bodies")
        async with Cluster(settings, sink, bodies) as made:
            yield made
        await bodies.close()


async def test_p3_p4_deferred_and_failed_recipients_through_the_delay_queues(cluster: Cluster) -> None:
    """One batch: taken, greylisted twice, refused. The owners hear once of the refusal; the sums add up."""
    names = ("ana@x.test", "450-2_c@x.test", "550_b@x.test")
    await cluster.sender()
    await cluster.reporter()
    async with cluster.bus.events("delivery.failed") as stream:
        await cluster.post(*names)
        await cluster.publish(cluster.delivery(0, *names))
        await until(lambda: cluster.sink.counts["450-2_c@x.test"] == 1, "the third attempt")
        await until(lambda: cluster.sink.counts[OWNER] == 1, "the owners' notice")
        async with asyncio.timeout(PATIENCE):
            async for _, payload in stream:
                event = msgspec.json.decode(payload)
                break
    assert (event["type"], event["recipient"], event["code"]) == ("delivery.failed", "550_b@x.test", 550)
    assert cluster.sink.counts == {"ana@x.test": 1, "450-2_c@x.test": 1, OWNER: 1}
    assert cluster.sink.tries["550_b@x.test"] == 1
    totals = await cluster.ledger.totals(cluster.post_id)
    assert (totals.expanded, totals.delivered, totals.deferred, totals.failed) == (3, 2, 0, 1)
    notice = next(copy for copy in cluster.sink.copies if copy.recipient == OWNER)
    assert notice.mail_from == ""
    assert b"550_b@x.test" in notice.content


async def test_f22_what_expires_is_failed_counted_and_told(cluster: Cluster) -> None:
    """A post older than HORO_RETRY_MAX_AGE at its first attempt still gets a second; then it fails, and the owners are told why."""
    cluster.accepted_at = time.time() - 6 * 86400
    await cluster.sender()
    await cluster.reporter()
    await cluster.post("450-99_c@x.test")
    await cluster.publish(cluster.delivery(0, "450-99_c@x.test"))
    await until(lambda: cluster.sink.counts[OWNER] == 1, "the owners' notice")
    assert cluster.sink.tries["450-99_c@x.test"] == 2
    standing = (await cluster.ledger.standings(cluster.post_id, ["450-99_c@x.test"]))["450-99_c@x.test"]
    assert (standing.state, standing.status, standing.attempts) == (State.FAILED, "5.4.7", 2)
    assert b"Delivery time expired" in cluster.sink.copies[-1].content
    totals = await cluster.ledger.totals(cluster.post_id)
    assert (totals.expanded, totals.deferred, totals.failed) == (1, 0, 1)


async def test_p3_two_senders_share_the_queues_and_a_batch_that_comes_twice(cluster: Cluster) -> None:
    """Sixty batches, each published twice (a repeated expansion), for two senders: everybody once."""
    batches = [[f"slow-5_{cell}x{number}@x.test" for number in range(5)] for cell in range(60)]
    everybody = [name for batch in batches for name in batch]
    lanes = (Lane.EXPRESS, Lane.BULK)
    deliveries = [cluster.delivery(cell, *batch, lane=lanes[cell % 2]) for cell, batch in enumerate(batches)]
    await cluster.publish(*deliveries, *deliveries)
    for _ in range(2):
        await cluster.sender()

    async def done() -> bool:
        left = [await cluster.bus.depth(queue) for queue in (Queue.DELIVERIES_EXPRESS, Queue.DELIVERIES_BULK)]
        return not any(left) and set(await cluster.states(*everybody)) == {State.DELIVERED}

    await until(done, "everybody to be on record, and the queues to be empty")
    assert set(cluster.sink.counts) == set(everybody)
    assert set(cluster.sink.counts.values()) == {1}


async def test_p3_a_claim_of_a_sender_that_died_is_waited_for_and_then_taken(cluster: Cluster) -> None:
    """By the database's clock: nothing is sent while the lease lives, everything when it has run out."""
    batch = cluster.delivery(0, "ana@x.test")
    claim = Claim(post_id=batch.post_id, cell=batch.cell, hop=batch.hop)
    assert (await cluster.ledger.take(claim, "a sender that died", 3.0)).wait == 0.0
    begun = time.monotonic()
    await cluster.sender()
    await cluster.publish(batch)
    await until(lambda: cluster.sink.counts["ana@x.test"] == 1, "the copy")
    assert time.monotonic() - begun >= 2.5
    assert (await cluster.ledger.take(claim, "another", 1.0)).wait <= 2.0  # let go of, or about to run out


async def test_f7_p3_an_outcome_told_twice_is_one_notice_and_one_event_id(cluster: Cluster) -> None:
    """What a sender tells again after a crash: the reporter may say it again, but the owners get one mail."""
    fate = Fate(
        address="b@x.test", state=State.FAILED, code=550, status="5.1.1", text="no", hop="h", attempt=0, at=time.time()
    )
    told = Attempted(post_id=cluster.post_id, group=GROUP, kind=cluster.delivery(0).kind, fates=(fate,))
    again = msgspec.structs.replace(
        told, fates=(msgspec.structs.replace(fate, at=fate.at + 60, hop="smtp://127.0.0.1:1"),)
    )
    await cluster.post("b@x.test")
    await cluster.ledger.record(Claim(post_id=cluster.post_id, cell=0, hop="h"), GROUP, [fate])  # before it tells
    await cluster.reporter()
    async with cluster.bus.events("delivery.failed") as stream:
        await cluster.bus.publish_all(
            [Outgoing(queue=Queue.OUTCOMES, payload=encode(each)) for each in (told, again, told)]
        )
        ids = []
        async with asyncio.timeout(PATIENCE):
            async for _, payload in stream:
                ids.append(msgspec.json.decode(payload)["id"])
                if len(ids) == 3:
                    break
    assert len(set(ids)) == 1
    await cluster.sender()
    await until(lambda: cluster.sink.counts[OWNER] >= 1, "the notice")

    async def quiet() -> bool:
        return not await cluster.bus.depth(Queue.DELIVERIES_EXPRESS) and not await cluster.bus.depth(Queue.OUTCOMES)

    await until(quiet, "all of it to be worked")
    assert cluster.sink.counts == {OWNER: 1}


async def test_f21_a_damaged_body_is_parked_and_filed_and_nobody_gets_an_empty_mail(
    cluster: Cluster, tmp_path: Path
) -> None:
    ref = await cluster.bodies.put(b"a line of a large message\r\n" * 20_000)
    file = tmp_path / "bodies" / ref.key[:2] / ref.key[2:4] / ref.key
    octets = bytearray(file.read_bytes())
    octets[300_000] ^= 1
    file.write_bytes(octets)
    batch = cluster.delivery(0, "ana@x.test", content=Content(head=HEAD, ref=ref))
    await cluster.sender()
    await cluster.reporter()
    await cluster.post("ana@x.test")
    await cluster.publish(batch)

    async def filed() -> bool:
        return bool(await cluster.ledger.parked())

    await until(filed, "the delivery to be filed for a person")
    (row,) = await cluster.ledger.parked()
    assert decode(row.payload) == batch
    assert (row.queue, "body is missing" in row.reason) == ("deliveries.express", True)
    assert not cluster.sink.copies

    async def counted() -> bool:
        return (await cluster.ledger.totals(cluster.post_id)).complete

    await until(counted, "the share to be filed")
    totals = await cluster.ledger.totals(cluster.post_id)
    assert (totals.expanded, totals.deferred) == (1, 1)  # P4: parked counts as deferred


async def test_f8_p3_a_broker_killed_between_attempts_loses_no_retry(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    names = [f"450-2_{number}@x.test" for number in range(20)]
    await cluster.sender()
    await cluster.publish(*(cluster.delivery(cell, name) for cell, name in enumerate(names)))
    await until(lambda: sum(cluster.sink.tries.values()) >= 20, "the first attempts")
    rabbitmq.kill()
    rabbitmq.start()
    await until(lambda: len(cluster.sink.copies) >= 20, "the last attempts")

    async def recorded() -> bool:
        return set(await cluster.states(*names)) == {State.DELIVERED}

    await until(recorded, "everybody to be on record")
    assert cluster.sink.counts == dict.fromkeys(names, 1)
    assert set(cluster.sink.tries.values()) == {3}
