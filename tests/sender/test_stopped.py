"""A post that was stopped: what is not claimed yet is not sent, what has failed is still told of, and nothing comes back."""

from __future__ import annotations

import time

from shared.ledger import Claim, Ledger
from shared.ledger.notes import stop_note
from shared.messages import State
from tests.sender.doubles import Hand, RecordingBus
from tests.sender.test_story import delivery, sender, states
from tests.support.sink import Sink


async def stop(ledger: Ledger, post_id: str = "01post") -> None:
    await ledger.note(stop_note(post_id, at=time.time(), why=""))


async def test_a_batch_of_a_stopped_post_is_not_sent_and_one_of_another_is(ledger: Ledger) -> None:
    bus = RecordingBus()
    await stop(ledger)
    async with Sink() as sink:
        service = sender(sink, ledger, bus)
        for message in (delivery(sink, "ana@x.test"), delivery(sink, "eva@x.test", post_id="01other")):
            await service.handle(message, Hand(message))
    assert sink.counts == {"eva@x.test": 1}
    assert bus.published == []
    assert (await ledger.take(_claim(sink), "another", 5)).wait == 0.0  # the claim was given back


async def test_a_retry_of_a_stopped_post_ends_there(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        service = sender(sink, ledger, bus)
        message = delivery(sink, "450-9_c@x.test", "ana@x.test")
        await service.handle(message, Hand(message))
        ((retry, _),) = bus.retries
        bus.published.clear()
        await stop(ledger)
        await service.handle(retry, Hand(retry))
    assert sink.counts == {"ana@x.test": 1}
    assert bus.published == []


async def test_p4_a_failure_that_nobody_was_told_of_is_told_though_the_post_was_stopped(ledger: Ledger) -> None:
    bus = RecordingBus()
    async with Sink() as sink:
        service = sender(sink, ledger, bus)
        message = delivery(sink, "550_b@x.test", "450-9_c@x.test")
        await service.handle(message, Hand(message))
        bus.published.clear()
        await stop(ledger)
        await service.handle(message, Hand(message, redelivered=True))  # its sender died before it told
    (told,) = bus.told
    assert [(fate.address, fate.state) for fate in told.fates] == [("550_b@x.test", State.FAILED)]
    assert bus.retries == []
    assert await states(ledger, "550_b@x.test", "450-9_c@x.test") == [(State.FAILED, 1), (State.DEFERRED, 1)]


def _claim(sink: Sink) -> Claim:
    return Claim(post_id="01post", cell=3, hop=f"{sink.protocol}://127.0.0.1:{sink.port}")
