"""Trouble of our own: faults that nobody foresaw, bodies in the real file store that are missing or damaged, retries that may be lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.sender.claims import Claims
from services.sender.outcome import MOST_UNKNOWNS
from services.sender.plan import rerouted
from shared.bodies.files import FileBodies
from shared.bus import Bus, Outgoing
from shared.ledger import Claim, Ledger
from shared.messages import BodyRef, Content, Delivery, DeliveryKind, State, decode, encode
from shared.replies import PermanentError, TransientError
from shared.routes import Routes
from shared.topology import Queue
from shared.worker import Worker
from tests.sender.doubles import BlinkingLedger, Crash, Hand, RecordingBus
from tests.sender.making import HEAD, people
from tests.sender.test_story import delivery, sender, standing, states
from tests.support.sink import Sink

CLAIM = Claim(post_id="01post", cell=3, hop="smtp://127.0.0.1:1")
LARGE = b"".join(b"line %d of a large message\r\n" % number for number in range(30_000))


@pytest.fixture
async def bodies(tmp_path: Path) -> AsyncIterator[FileBodies]:
    store = FileBodies(tmp_path / "bodies")
    yield store
    await store.close()


def file_of(tmp_path: Path, ref: BodyRef) -> Path:
    return tmp_path / "bodies" / ref.key[:2] / ref.key[2:4] / ref.key


def damage(tmp_path: Path, ref: BodyRef, how: str) -> None:
    """What a disk, or a person, may do to a blob."""
    file = file_of(tmp_path, ref)
    octets = bytearray(file.read_bytes())
    match how:
        case "missing":
            file.unlink()
            return
        case "short":
            del octets[-1000:]
        case "long":
            octets += b"\r\n"
        case "empty":
            octets.clear()
        case "flipped":
            octets[len(octets) // 2] ^= 1
        case "last octet":
            octets[-3] ^= 1
    file.write_bytes(octets)


DAMAGES = ("missing", "short", "long", "empty", "flipped", "last octet")


# --- bodies in the real store -----------------------------------------------------------------------------------------------
async def test_p8_a_large_body_leaves_the_file_store_octet_for_octet(
    ledger: Ledger, bodies: FileBodies, tmp_path: Path
) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", content=Content(head=HEAD, ref=await bodies.put(LARGE)))
        await sender(sink, ledger, RecordingBus(), bodies=bodies).handle(message, Hand(message))
    assert [copy.content for copy in sink.copies] == [HEAD + LARGE]


@pytest.mark.parametrize("hop", ["smtp", "lmtp", "maildir"])
@pytest.mark.parametrize("how", DAMAGES)
async def test_f21_a_body_that_is_not_what_was_stored_is_parked_and_never_sent(
    ledger: Ledger, bodies: FileBodies, bus: Bus, tmp_path: Path, how: str, hop: str
) -> None:
    ref = await bodies.put(LARGE)
    damage(tmp_path, ref, how)
    async with Sink(protocol="lmtp" if hop == "lmtp" else "smtp") as sink:
        changes = {"hop": f"maildir:{tmp_path / 'mail'}"} if hop == "maildir" else {}
        message = delivery(sink, "ana@x.test", "b@x.test", content=Content(head=HEAD, ref=ref), **changes)
        await bus.publish(Outgoing(queue=Queue.DELIVERIES_EXPRESS, payload=encode(message)))
        one = sender(sink, ledger, bus, bodies=bodies)
        worker = Worker(bus, Queue.DELIVERIES_EXPRESS, one.handle, concurrency=1, max_tries=3)
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(30), bus.consume(Queue.PARKED, prefetch=1) as parked:
            incoming = await parked.get()
            assert decode(incoming.payload) == message
            assert "body is missing" in bus.parked(incoming).reason
            await incoming.ack()
        worker.stop()
        await working
        await one._hops.close()
    assert not sink.copies
    assert not [path for path in (tmp_path / "mail").rglob("*") if path.is_file()]
    assert await standing(ledger, "ana@x.test") is None  # deferred, until a person has decided (P4)
    assert await bus.depth(Queue.DELIVERIES_EXPRESS) == await bus.depth(Queue.OUTCOMES) == 0


# --- what happened is recorded, or a person is asked --------------------------------------------------------------------------
class FaultyLedger(BlinkingLedger):
    """A ledger in which one method has a fault of ours, or gives up by a `CancelledError` as drivers do, as often as `faults` says."""

    def __init__(self, real: Ledger, method: str, faults: int, fault: type[BaseException] = ZeroDivisionError) -> None:
        super().__init__(real)
        self.method, self.faults, self.fault = method, faults, fault

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)

        async def faulty(*args: Any, **keywords: Any) -> Any:
            if name == self.method and self.faults > 0:
                self.faults -= 1
                raise self.fault
            return await found(*args, **keywords)

        return faulty


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sender.recording.retry_delay", lambda _: 0.0)


FAULTS = (ZeroDivisionError, asyncio.CancelledError)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("fault", FAULTS)
async def test_p3_a_fault_in_recording_is_tried_again_and_sends_nothing_again(
    ledger: Ledger, fault: type[BaseException]
) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        await sender(sink, FaultyLedger(ledger, "record", 2, fault), RecordingBus()).handle(message, Hand(message))
    assert sink.counts == {"ana@x.test": 1}
    assert await states(ledger, "ana@x.test") == [(State.DELIVERED, 1)]


@pytest.mark.usefixtures("_at_once")
async def test_p3_fates_that_cannot_be_recorded_are_for_a_person_and_not_for_another_try(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        with pytest.raises(PermanentError, match="could not be recorded"):
            await sender(sink, FaultyLedger(ledger, "record", 99), RecordingBus()).handle(message, Hand(message))
    assert sink.counts == {"ana@x.test": 1}


@pytest.mark.parametrize("fault", FAULTS)
async def test_p3_a_fault_between_two_transactions_keeps_what_was_heard(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    bus = RecordingBus()
    async with Sink("no-pipelining", "limit-1") as sink:
        message = delivery(sink, "ana@x.test", "b@x.test")
        one = sender(sink, ledger, bus)
        real, rounds = one._hops._round, []

        async def second_fails(*args: Any, **keywords: Any) -> Any:
            rounds.append(args)
            if len(rounds) > 1:
                raise fault
            return await real(*args, **keywords)

        monkeypatch.setattr(one._hops, "_round", second_fails)
        with pytest.raises((ZeroDivisionError, TransientError)):
            await one.handle(message, Hand(message))
        assert await states(ledger, "ana@x.test") == [(State.DELIVERED, 1)]
        monkeypatch.setattr(one._hops, "_round", real)
        await one.handle(message, Hand(message, tries=1))
    assert sink.counts == {"ana@x.test": 1, "b@x.test": 1}


# --- claims -----------------------------------------------------------------------------------------------------------------
async def test_a_release_that_fails_for_any_reason_does_not_make_done_work_fail(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        one = sender(sink, FaultyLedger(ledger, "release", 1), RecordingBus())
        for _ in range(2):  # the second time there is nothing to record, so that the claim is given back by itself
            await one.handle(message, Hand(message))
        assert len(one._claims._leftovers) == 1
        await one._claims.release_leftovers()
        assert not one._claims._leftovers


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["renew", "release"])
async def test_p3_the_renewal_of_leases_outlives_faults_of_any_kind(
    ledger: Ledger, method: str, fault: type[BaseException]
) -> None:
    faulty = FaultyLedger(ledger, method, 2, fault)
    claims = Claims(faulty, lease=0.3)
    claims._leftovers.add(CLAIM)
    renewing = asyncio.create_task(claims.renew_for_ever())
    async with asyncio.timeout(20):
        while faulty.faults or claims._leftovers:
            assert not renewing.done()
            await asyncio.sleep(0.01)
    assert not renewing.done()
    renewing.cancel()


# --- retries that may be lost -----------------------------------------------------------------------------------------------
async def test_retries_that_may_be_lost_are_one_message_and_not_one_for_each_recipient(ledger: Ledger) -> None:
    bus = RecordingBus()
    names = [f"450-9_{number}@x.test" for number in range(20)]
    async with Sink() as sink:
        message = delivery(sink, *names)
        bus.crash = True
        with pytest.raises(Crash):
            await sender(sink, ledger, bus).handle(message, Hand(message))
        await sender(sink, ledger, bus).handle(message, Hand(message, redelivered=True))
    groups = {retry.recipients for retry, _ in bus.retries}
    assert sorted(each.address for group in groups for each in group) == sorted(names)
    assert len(bus.retries) == len({due.next_at for due in (await ledger.standings("01post", names)).values()}) <= 2


def test_a_retry_is_routed_by_the_a_label_as_the_first_attempt_was() -> None:
    message = Delivery(
        post_id="p", group="g@x.test", cell=0, hop="mx:x", mail_from="", recipients=people("ana@B\u00fccher.test"),
        content=Content(head=HEAD), accepted_at=1.0, attempt=1,
    )  # fmt: skip
    routes = Routes.parse("xn--bcher-kva.test=smtp://192.0.2.1", default="mx:")
    assert [each.hop for each in rerouted(message, routes)] == ["smtp://192.0.2.1:25"]


@pytest.mark.parametrize(
    ("mail_from", "kind", "comes"),
    [
        ("ana@author.example", DeliveryKind.POST, True),
        (
            "office-bounces+t0@example.test",
            DeliveryKind.POST,
            False,
        ),  # the group answers for its members: P9, and no weight for nothing
        ("postmaster+t0@example.test", DeliveryKind.POST, False),
        ("", DeliveryKind.POST, False),
        ("ana@author.example", DeliveryKind.FORWARD, False),
    ],
)
async def test_what_failed_goes_with_the_word_of_it_where_the_author_may_get_it_back(
    ledger: Ledger, mail_from: str, kind: DeliveryKind, comes: bool
) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        for cell, name in enumerate(("550_b@x.test", "ana@x.test")):
            message = delivery(sink, name, mail_from=mail_from, kind=kind, cell=cell)
            await sender(sink, ledger, bus).handle(message, Hand(message))
    assert [told.content for told in bus.told] == [message.content if comes else None]


async def test_f28_a_next_hop_that_takes_everything_and_hangs_up_gets_a_bounded_number_of_copies(
    ledger: Ledger,
) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "drop-dot-stored_a@x.test", "450-99_b@x.test")
        one = sender(sink, ledger, bus, retry_schedule="1s")
        waiting = [message]
        for _ in range(12):
            bus.published.clear()
            for each in waiting:
                bus.crash = each.attempt == 1  # also where a crash comes between the record and the retry
                with contextlib.suppress(Crash):
                    await one.handle(each, Hand(each))
                if each.attempt == 1:
                    await one.handle(each, Hand(each, redelivered=True))
            waiting = [retry for retry, _ in bus.retries]
    assert sink.counts == {"drop-dot-stored_a@x.test": MOST_UNKNOWNS}
    assert await states(ledger, "drop-dot-stored_a@x.test", "450-99_b@x.test") == [
        (State.FAILED, MOST_UNKNOWNS),
        (State.DEFERRED, 12),
    ]
