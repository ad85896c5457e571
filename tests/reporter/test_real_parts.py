"""The reporter over the embedded profile's real bus and ledger: the same story, durable, and across a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from services.reporter.story import Reporter
from shared.bus import Bus, Outgoing
from shared.bus.open import open_bus
from shared.database.engine import open_engine
from shared.database.migrate import upgrade
from shared.groups import Domain
from shared.ledger import Claim
from shared.ledger.due import NEVER
from shared.ledger.open import open_ledger
from shared.ledger.store import SqlLedger
from shared.messages import Delivery, Refused, Signal, SignalExpanded, State, Wire, decode, encode
from shared.settings import Settings
from shared.topology import Queue
from tests.reporter.doubles import MemoryBodies, MemoryDirectory
from tests.reporter.rfc3464 import Status
from tests.reporter.world import AUTHOR, GROUP, MEMBERS, NOW, OWNERS, attempted, expanded, fate, octets, record, target


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=str(tmp_path), hostname="mx.example.test", next_hop="smtp://127.0.0.1:2")


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[SqlLedger]:
    engine = open_engine(settings.effective_database_url)
    await upgrade(engine)
    await engine.dispose()
    opened = open_ledger(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    opened = await open_bus("embedded:", settings.data_path)
    yield opened
    await opened.close()


@asynccontextmanager
async def reporting(settings: Settings, bus: Bus, ledger: SqlLedger) -> AsyncIterator[None]:
    directory = MemoryDirectory(Domain(name="example.test"))
    reporter = Reporter(
        settings,
        bus=bus,
        ledger=ledger,
        bodies=MemoryBodies(),  # type: ignore[arg-type]
        directory=directory,  # type: ignore[arg-type]
        registry=directory,  # type: ignore[arg-type]
        secret="a secret of the tests only",
    )
    running = asyncio.create_task(reporter.run())
    yield
    reporter.stop()
    await asyncio.wait_for(running, 20)


async def publish(bus: Bus, *messages: Wire) -> None:
    await bus.publish_all([Outgoing(queue=Queue.OUTCOMES, payload=encode(message)) for message in messages])


async def deliveries(bus: Bus, count: int) -> list[Delivery]:
    """The next `count` deliveries on the express lane."""
    taken = []
    async with asyncio.timeout(20), bus.consume(Queue.DELIVERIES_EXPRESS, prefetch=count) as consumer:
        for _ in range(count):
            incoming = await consumer.get()
            message = decode(incoming.payload)
            assert isinstance(message, Delivery)
            taken.append(message)
            await incoming.ack()
    return taken


async def test_f7_p4_the_whole_story_told_twice(settings: Settings, bus: Bus, ledger: SqlLedger) -> None:
    post = record()
    await ledger.open_post(post, [target(report=True)])
    outcomes = (expanded(post), attempted(post, fate()))
    claim = Claim(post_id=post.id, cell=0, hop="h")
    await ledger.record(claim, GROUP, [fate(), fate(MEMBERS[1], State.DELIVERED, hop="h")])
    await publish(bus, *outcomes)
    async with reporting(settings, bus, ledger):
        first = await deliveries(bus, 2)
    await publish(bus, *outcomes)
    async with reporting(settings, bus, ledger):  # another process takes them again
        (second,) = await deliveries(bus, 1)
        await settled(bus, ledger)
    by_reader = {each.recipients[0].address: each for each in first}
    assert second == by_reader[AUTHOR], "the same id and octets"
    assert Status(octets(by_reader[AUTHOR].content)).recipients[0]["action"] == "delivered"
    assert tuple(recipient.address for recipient in by_reader[OWNERS[0]].recipients) == OWNERS
    totals = await ledger.totals(post.id)
    assert totals.expanded == totals.delivered + totals.deferred + totals.failed + totals.suppressed == 3
    assert await bus.depth(Queue.OUTCOMES) == await bus.depth(Queue.DELIVERIES_EXPRESS) == 0
    notes = [(note.kind, note.detail["kind"]) for note in await ledger.notes(post.id)]
    assert sorted(notes) == [("report", "delivered"), ("report", "owners")]


@pytest.mark.parametrize(
    ("envelope", "notify", "expected"),
    [
        ("list", ("SUCCESS",), ["delivered"]),
        ("alias", None, ["failed"]),
        ("alias", ("SUCCESS", "FAILURE"), ["relayed", "failed"]),
    ],
)
async def test_p3_two_reporters_a_restart_and_every_outcome_many_times_make_one_report_of_a_kind(
    settings: Settings, bus: Bus, ledger: SqlLedger, envelope: str, notify: tuple[str, ...] | None, expected: list[str]
) -> None:
    post = record()
    await ledger.open_post(post, [target(envelope=envelope, notify=notify, owners=())])
    outcomes = (expanded(post), attempted(post, fate()), attempted(post, fate(MEMBERS[1])))
    async with reporting(settings, bus, ledger), reporting(settings, bus, ledger):
        for _ in range(3):
            await publish(bus, *outcomes)
        await settled(bus, ledger, looked=False)
        await ledger.record(Claim(post_id=post.id, cell=0, hop="h"), GROUP, [fate(), fate(MEMBERS[1])])
        await settled(bus, ledger)
    await publish(bus, *outcomes)
    async with reporting(settings, bus, ledger):
        await settled(bus, ledger)
    sent = await deliveries(bus, await bus.depth(Queue.DELIVERIES_EXPRESS))
    unique = {each.post_id: each for each in sent}
    reports = [Status(octets(each.content)) for each in unique.values()]
    assert sorted(each.recipients[0]["action"] for each in reports) == sorted(expected)
    failures = [
        fields["final-recipient"] for each in reports for fields in each.recipients if fields["action"] == "failed"
    ]
    assert sorted(failures) == sorted(f"rfc822; {each}" for each in MEMBERS if "failed" in expected), (
        "each once, together"
    )
    assert {each.recipients[0].address for each in sent} == {AUTHOR}


async def settled(bus: Bus, ledger: SqlLedger, *, looked: bool = True) -> None:
    """All outcomes are worked, and, if `looked`, nothing is due any more."""
    async with asyncio.timeout(30):
        while await bus.depth(Queue.OUTCOMES) or (looked and await ledger.due_next() < NEVER):
            await asyncio.sleep(0.02)


async def test_a_gone_group_a_refusal_and_a_signal(settings: Settings, bus: Bus, ledger: SqlLedger) -> None:
    post = record()
    await ledger.open_post(post, [target(owners=())])
    await ledger.set_target(post.id, GROUP, "gone")
    refused = Refused(group=GROUP, mail_from=AUTHOR, code=550, status="5.7.1", text="no", ip="192.0.2.1", at=NOW)
    signal = Signal(id="01k4signal", group=GROUP, text="t", origin="o", sent_at=NOW)
    async with bus.events("#") as stream, reporting(settings, bus, ledger):
        told = SignalExpanded(signal=signal, members=MEMBERS)
        await publish(
            bus,
            expanded(post, members=()),
            refused,
            told,
            SignalExpanded(signal=signal, suppressed="disabled", spared=2),
        )
        (delivery,) = await deliveries(bus, 1)
        names = []
        async with asyncio.timeout(20):
            async for routing_key, payload in stream:
                assert msgspec.json.decode(payload)["type"] == routing_key
                names.append(routing_key)
                if len(names) == 7:
                    break
    assert Status(octets(delivery.content)).recipients[0]["status"] == "5.1.1"
    assert sorted(names) == [
        "post.accepted", "post.expanded", "post.refused", "report.sent", "signal.delivered", "signal.delivered", "signal.suppressed",
    ]  # fmt: skip
    assert await ledger.refusals(GROUP) == [refused]


async def test_f34_what_cannot_be_decoded_is_parked_and_filed(settings: Settings, bus: Bus, ledger: SqlLedger) -> None:
    hostile = [b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 50_000, "офис".encode()]
    await bus.publish_all([Outgoing(queue=Queue.OUTCOMES, payload=payload) for payload in hostile])
    async with reporting(settings, bus, ledger), asyncio.timeout(20):
        while len(await ledger.parked()) < len(hostile):
            await asyncio.sleep(0.01)
    rows = await ledger.parked()
    assert sorted(row.payload for row in rows) == sorted(hostile)
    assert {row.queue for row in rows} == {"outcomes"}
    assert all(row.reason.startswith("undecodable: ") for row in rows)
    assert await bus.depth(Queue.PARKED) == 0
