"""The sender's story on a real ledger: claimed, sent, recorded, told; and what a crash or a blink at each step leaves behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from services.sender.plan import senders
from services.sender.story import Sender
from shared.address import bounce_address, split_role
from shared.bodies import BodiesUnavailable
from shared.identity import verp_token
from shared.ledger import Claim, Ledger, LedgerUnavailable, Standing
from shared.messages import Content, Delivery, DeliveryKind, Lane, Recipient, Signal, State, Undecodable
from shared.replies import PermanentError, TransientError
from shared.settings import Settings
from shared.topology import Queue
from tests.sender.doubles import BlinkingLedger, Crash, Hand, RecordingBus
from tests.sender.making import CONTENT, HEAD, ShelfOfBodies, people
from tests.support.sink import Sink

SECRET = "a secret of sixteen"


def delivery(sink: Sink, *addresses: str, **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "post_id": "01post",
        "group": "office@example.test",
        "cell": 3,
        "hop": f"{sink.protocol}://127.0.0.1:{sink.port}",
        "mail_from": "office-bounces+t0@example.test",
        "recipients": people(*addresses),
        "content": CONTENT,
        "accepted_at": time.time(),
    }
    return Delivery(**{**values, **changes})


def sender(sink: Sink, ledger: Any, bus: Any, *, bodies: Any = None, **changes: Any) -> Sender:
    values = {"hop_timeout": "5s", "next_hop": f"{sink.protocol}://127.0.0.1:{sink.port}", "retry_schedule": "1m, 5m"}
    settings = Settings(**{**values, **changes})
    return Sender(
        settings, bus=bus, ledger=ledger, bodies=bodies or ShelfOfBodies(), secret=SECRET, hostname="horo.example.test"
    )


async def standing(ledger: Ledger, address: str, post_id: str = "01post") -> Standing | None:
    return (await ledger.standings(post_id, [address])).get(address)


async def states(ledger: Ledger, *addresses: str) -> list[tuple[State, int]]:
    found = await ledger.standings("01post", list(addresses))
    return [(found[address].state, found[address].attempts) for address in addresses]


# --- the plain story ----------------------------------------------------------------------------------------------------
async def test_every_recipient_has_its_own_fate_recorded_and_what_is_news_told(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "550_b@x.test", "450-9_c@x.test")
        await sender(sink, ledger, bus).handle(message, Hand(message))
    assert sink.counts == {"ana@x.test": 1}
    assert await states(ledger, "ana@x.test", "550_b@x.test", "450-9_c@x.test") == [
        (State.DELIVERED, 1),
        (State.FAILED, 1),
        (State.DEFERRED, 1),
    ]
    ((retry, delay),) = bus.retries
    assert (retry.attempt, retry.recipients, delay) == (1, people("450-9_c@x.test"), 60.0)
    assert retry.content == message.content
    (told,) = bus.told
    assert (told.post_id, told.group, told.kind) == ("01post", "office@example.test", DeliveryKind.POST)
    assert [(fate.address, fate.state, fate.status) for fate in told.fates] == [
        ("550_b@x.test", State.FAILED, "5.1.1"),
        ("450-9_c@x.test", State.DEFERRED, "4.7.1"),
    ]


@pytest.mark.parametrize(
    ("lane", "queue"), [(Lane.EXPRESS, Queue.DELIVERIES_EXPRESS), (Lane.BULK, Queue.DELIVERIES_BULK)]
)
async def test_a_retry_stays_in_its_lane(ledger: Ledger, lane: Lane, queue: Queue) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "450-9_c@x.test", lane=lane)
        await sender(sink, ledger, bus).handle(message, Hand(message))
    assert [out.queue for out in bus.published] == [queue, Queue.OUTCOMES]


async def test_a_report_goes_the_same_way(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", kind=DeliveryKind.REPORT, mail_from="")
        for _ in range(2):
            await sender(sink, ledger, bus).handle(message, Hand(message))
    assert [(copy.mail_from, copy.recipient) for copy in sink.copies] == [("", "ana@x.test")]
    assert bus.published == []  # what has arrived is in the ledger, and no news


async def test_verp_gives_every_recipient_a_sender_of_its_own(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "Eva@x.test", verp=True)
        await sender(sink, ledger, RecordingBus()).handle(message, Hand(message))
    tokens = [verp_token(SECRET, "01post", key) for key in ("ana@x.test", "eva@x.test")]
    assert [copy.mail_from for copy in sink.copies] == [f"office-bounces+t0-{token}@example.test" for token in tokens]


@pytest.mark.parametrize("length", [1, 25, 27, 28, 43, 44, 58])
def test_verp_of_a_group_with_a_long_name_fits_a_local_part(length: int) -> None:
    """RFC 5321 4.5.3.1.1: 64 octets. What is too long goes to the postmaster of the domain, who finds the group by the token."""
    token = "abcdefghjkmn"
    shared = bounce_address(f"{'o' * length}@example.test", token)
    one = Delivery(
        post_id="01post", group="g@example.test", cell=0, hop="smtp://h:25", mail_from=shared, recipients=(), accepted_at=0.0,
        content=Content(head=b""), verp=True,
    )  # fmt: skip
    (own,) = senders(one, [Recipient(address="Ana@x.test")], SECRET)
    local, _, domain = own.rpartition("@")
    assert len(local) <= 64
    assert domain == "example.test"
    role, _, tag = split_role(own)
    assert tag == f"{token}-{verp_token(SECRET, '01post', 'ana@x.test')}"
    assert role == ("bounces" if length <= 27 else "postmaster")


async def test_expiry_fails_what_is_still_deferred(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "450-9_c@x.test", "ana@x.test", accepted_at=time.time() - 6 * 86400, attempt=1)
        await sender(sink, ledger, bus).handle(message, Hand(message))
    assert not bus.retries
    assert await states(ledger, "450-9_c@x.test", "ana@x.test") == [(State.FAILED, 2), (State.DELIVERED, 2)]
    failed = await standing(ledger, "450-9_c@x.test")
    assert failed is not None
    assert failed.status == "5.4.7"


async def test_f28_a_lost_reply_after_the_dot_is_tried_again_late(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "drop-dot-stored_a@x.test")
        await sender(sink, ledger, bus, retry_schedule="1m, 5m, 15m, 1h").handle(message, Hand(message))
    assert [delay for _, delay in bus.retries] == [900.0]
    assert bus.told[0].fates[0].status == "4.4.2"


async def test_a_retry_follows_the_routes_of_today(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink, Sink() as other:
        message = delivery(sink, "ana@x.test", "boris@y.test", attempt=1, hop="smtp://127.0.0.1:9")
        routed = sender(sink, ledger, bus, routes=f"y.test=smtp://127.0.0.1:{other.port}")
        await routed.handle(message, Hand(message))
    assert sink.counts == {"ana@x.test": 1}
    assert other.counts == {"boris@y.test": 1}


# --- P3 ---------------------------------------------------------------------------------------------------------------------
async def test_p3_a_redelivered_batch_delivers_nothing_twice(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "550_b@x.test", "450-9_c@x.test")
        for redelivered in (False, True, True):
            await sender(sink, ledger, bus).handle(message, Hand(message, redelivered=redelivered))
    assert sink.counts == {"ana@x.test": 1}
    assert sink.tries == {"ana@x.test": 1, "550_b@x.test": 1, "450-9_c@x.test": 1}


async def test_p3_members_added_by_a_repeated_expansion_are_sent_and_the_others_not_again(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        first, second = delivery(sink, "ana@x.test", "b@x.test"), delivery(sink, "ANA@x.test", "c@x.test", "b@x.test")
        for message in (first, second):
            await sender(sink, ledger, bus).handle(message, Hand(message))
    assert sink.counts == {"ana@x.test": 1, "b@x.test": 1, "c@x.test": 1}


async def test_p3_a_crash_between_the_record_and_the_retry_loses_neither_retry_nor_word(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "550_b@x.test", "450-9_c@x.test")
        bus.crash = True
        with pytest.raises(Crash):
            await sender(sink, ledger, bus).handle(message, Hand(message))
        assert not bus.published
        await sender(sink, ledger, bus).handle(message, Hand(message, redelivered=True))
    assert sink.counts == {"ana@x.test": 1}
    assert sink.tries["450-9_c@x.test"] == 1
    ((retry, delay),) = bus.retries
    assert (retry.attempt, retry.recipients) == (1, people("450-9_c@x.test"))
    assert 50 <= delay <= 60
    fates = {fate.address: (fate.state, fate.attempt) for told in bus.told for fate in told.fates}
    assert fates == {
        "550_b@x.test": (State.FAILED, 0),
        "450-9_c@x.test": (State.DEFERRED, 0),
    }


async def test_p3_a_bus_that_blinks_before_the_retry_is_confirmed(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "450-9_c@x.test")
        bus.fail = 1
        with pytest.raises(TransientError):
            await sender(sink, ledger, bus).handle(message, Hand(message))
        await sender(sink, ledger, bus).handle(message, Hand(message, tries=1))  # as the worker publishes it again
    assert sink.counts == {"ana@x.test": 1}
    assert len(bus.retries) == len(bus.told) == 1


async def test_p3_a_late_duplicate_of_an_earlier_attempt_changes_nothing(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        first = delivery(sink, "450-1_c@x.test")
        await sender(sink, ledger, bus).handle(first, Hand(first))
        second = bus.retries[0][0]
        await sender(sink, ledger, bus).handle(second, Hand(second))
        published = len(bus.published)
        for message in (first, second, first):
            await sender(sink, ledger, bus).handle(message, Hand(message))
    assert sink.counts == {"450-1_c@x.test": 1}
    assert await states(ledger, "450-1_c@x.test") == [(State.DELIVERED, 2)]
    assert len(bus.published) == published


async def test_p3_a_ledger_that_blinks_after_the_dot_is_waited_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sender.recording.retry_delay", lambda _: 0.01)
    blinking = BlinkingLedger(ledger)
    blinking.fail["record"] = 3
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        await sender(sink, blinking, RecordingBus()).handle(message, Hand(message))
    assert blinking.calls["record"] == 4
    assert sink.counts == {"ana@x.test": 1}
    assert await states(ledger, "ana@x.test") == [(State.DELIVERED, 1)]


async def test_p3_without_the_ledger_nothing_is_sent(ledger: Ledger) -> None:
    blinking = BlinkingLedger(ledger)
    blinking.fail["take"] = 1
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        with pytest.raises(LedgerUnavailable):
            await sender(sink, blinking, RecordingBus()).handle(message, Hand(message))
        assert not sink.commands
        await sender(sink, blinking, RecordingBus(), claim_lease="1s").handle(message, Hand(message))
    assert sink.counts == {"ana@x.test": 1}


async def test_p3_two_senders_with_the_same_batch_send_it_once(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "slow-300_ana@x.test", "550_b@x.test")
        both = [sender(sink, ledger, bus, claim_lease="2s") for _ in range(2)]
        await asyncio.gather(*(one.handle(message, Hand(message)) for one in both))
    assert sink.counts == {"slow-300_ana@x.test": 1}
    assert sink.tries["550_b@x.test"] == len(bus.told) == 1


async def test_p3_one_sender_given_the_same_batch_twice_at_once_sends_it_once(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "slow-100_ana@x.test", "b@x.test")
        one = sender(sink, ledger, RecordingBus())
        await asyncio.gather(*(one.handle(message, Hand(message)) for _ in range(5)))
    assert sink.counts == {"slow-100_ana@x.test": 1, "b@x.test": 1}
    assert not one._claims._locks


async def test_p3_a_transaction_longer_than_the_lease_keeps_its_claim(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "slow-1500_ana@x.test")
        first, second = (sender(sink, ledger, RecordingBus(), claim_lease="0.6s") for _ in range(2))
        renewing = asyncio.create_task(first._claims.renew_for_ever())
        try:
            sending = asyncio.create_task(first.handle(message, Hand(message)))
            while sink.open == 0 or "DATA" not in sink.commands:
                await asyncio.sleep(0.01)
            await second.handle(message, Hand(message))
            await sending
        finally:
            renewing.cancel()
    assert sink.counts == {"slow-1500_ana@x.test": 1}


async def test_p3_a_dead_senders_claim_is_waited_for_and_then_taken(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        claim = Claim(post_id=message.post_id, cell=message.cell, hop=message.hop)
        assert (await ledger.take(claim, "a sender that died", 0.5)).wait == 0.0
        begun = time.monotonic()
        await sender(sink, ledger, RecordingBus()).handle(message, Hand(message))
    assert time.monotonic() - begun >= 0.4
    assert sink.counts == {"ana@x.test": 1}


async def test_p3_a_lease_that_was_not_renewed_is_not_sent_under(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        one = sender(sink, ledger, RecordingBus())
        real = ledger.take

        async def slow(*asked: Any) -> Any:
            taken = await real(*asked)
            now = time.monotonic()
            monkeypatch.setattr("services.sender.claims.time.monotonic", lambda: now + 60)  # a minute for this answer
            return taken

        monkeypatch.setattr(ledger, "take", slow)
        with pytest.raises(TransientError, match="lease"):
            await one.handle(message, Hand(message))
    assert not sink.commands


async def test_a_sender_that_stops_waits_for_no_claim_of_another(ledger: Ledger) -> None:
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        await ledger.take(Claim(post_id=message.post_id, cell=message.cell, hop=message.hop), "another", 60.0)
        one = sender(sink, ledger, RecordingBus())
        waiting = asyncio.create_task(one.handle(message, Hand(message)))
        await asyncio.sleep(0)
        one.stop()
        with pytest.raises(TransientError, match="another sender"):
            await asyncio.wait_for(waiting, 10)
    assert not sink.commands


async def test_a_claim_that_could_not_be_released_is_released_later(ledger: Ledger) -> None:
    blinking = BlinkingLedger(ledger)
    blinking.fail["release"] = 1
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test")
        one = sender(sink, blinking, RecordingBus())
        for _ in range(2):  # the second time nothing is to be recorded, so that the claim is given back by itself
            await one.handle(message, Hand(message))
        claim = Claim(post_id=message.post_id, cell=message.cell, hop=message.hop)
        assert (await ledger.take(claim, "another", 1.0)).wait > 0
        await one._claims.release_leftovers()
        assert (await ledger.take(claim, "another", 1.0)).wait == 0.0
    assert blinking.calls["release"] == 2


async def test_p3_the_record_gives_the_claim_back(ledger: Ledger) -> None:
    """One trip less; and whoever takes the batch while its follow-ups are published finds everybody recorded."""
    blinking, bus = BlinkingLedger(ledger), RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "450-9_c@x.test")
        bus.crash = True
        with pytest.raises(Crash):
            await sender(sink, blinking, bus).handle(message, Hand(message))
        taken = await ledger.take(Claim(post_id=message.post_id, cell=message.cell, hop=message.hop), "another", 60.0)
    assert "release" not in blinking.calls
    assert taken.wait == 0.0
    assert {name: (one.state, one.attempts) for name, one in taken.standings.items()} == {
        "ana@x.test": (State.DELIVERED, 1),
        "450-9_c@x.test": (State.DEFERRED, 1),
    }


async def test_p3_a_retry_published_twice_sends_once_and_goes_on_as_one(ledger: Ledger) -> None:
    """Two senders had the batch one after the other, and both published the retry: each attempt is made once, however often it is asked for."""
    bus = RecordingBus()
    async with Sink() as sink:
        message = delivery(sink, "450-2_c@x.test")
        for _ in range(2):
            await sender(sink, ledger, bus).handle(message, Hand(message, redelivered=True))
        for attempt in (1, 2):
            waiting = [retry for retry, _ in bus.retries if retry.attempt == attempt]
            assert len(waiting) == 2
            for retry in waiting:
                await sender(sink, ledger, bus).handle(retry, Hand(retry))
            assert sink.tries == {"450-2_c@x.test": attempt + 1}
    assert sink.counts == {"450-2_c@x.test": 1}
    assert [retry.attempt for retry, _ in bus.retries] == [1, 1, 2, 2]
    assert await states(ledger, "450-2_c@x.test") == [(State.DELIVERED, 3)]


# --- trouble of our own -------------------------------------------------------------------------------------------------------
async def test_a_missing_body_is_for_a_person_and_counts_no_attempt(ledger: Ledger) -> None:
    shelf, bus = ShelfOfBodies(), RecordingBus()
    content = Content(head=HEAD, ref=await shelf.put(b"body\r\n"))
    shelf.blobs.clear()
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", "550_b@x.test", content=content)
        with pytest.raises(PermanentError):
            await sender(sink, ledger, bus, bodies=shelf).handle(message, Hand(message))
    assert not sink.copies
    assert await standing(ledger, "ana@x.test") is None
    assert await standing(ledger, "550_b@x.test") is None
    assert not bus.told


async def test_a_body_store_that_blinks_puts_the_work_off_without_an_attempt(ledger: Ledger) -> None:
    shelf, bus = ShelfOfBodies(), RecordingBus()
    content = Content(head=HEAD, ref=await shelf.put(b"y" * 200_000 + b"\r\n"))
    shelf.broken_after, shelf.trouble = 1, BodiesUnavailable("away")
    async with Sink() as sink:
        message = delivery(sink, "ana@x.test", content=content)
        one = sender(sink, ledger, bus, bodies=shelf)
        with pytest.raises(BodiesUnavailable):
            await one.handle(message, Hand(message))
        assert not bus.published
        shelf.broken_after = None
        await one.handle(message, Hand(message, tries=1))
    assert sink.counts == {"ana@x.test": 1}
    assert await states(ledger, "ana@x.test") == [(State.DELIVERED, 1)]


async def test_what_is_no_delivery_is_parked(ledger: Ledger) -> None:
    async with Sink() as sink:
        one = sender(sink, ledger, RecordingBus())
        signal = Signal(id="s", group="g@x", text="t", origin="o", sent_at=1.0)
        with pytest.raises(Undecodable):
            await one.handle(signal, Hand(signal))
        message = delivery(sink, "ana@x.test", hop="gopher://x")
        with pytest.raises(PermanentError):
            await one.handle(message, Hand(message))


async def test_dsn_parameters_are_passed_on(ledger: Ledger) -> None:
    async with Sink() as sink:
        recipients = (Recipient(address="ana@x.test", notify=("NEVER",), orcpt="rfc822;a@x"),)
        message = delivery(sink, recipients=recipients, envid="E1", ret="FULL")
        await sender(sink, ledger, RecordingBus()).handle(message, Hand(message))
    assert "RCPT TO:<ana@x.test> NOTIFY=NEVER ORCPT=rfc822;a@x" in sink.commands
    assert any(line.endswith("RET=FULL ENVID=E1") for line in sink.commands)
