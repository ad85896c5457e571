"""Notifications: each channel is called once, its answers are in the ledger, what is temporary is tried again, and a crash loses nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from services.sender.claims import Claims
from services.sender.notify import MAX_AGE, PUT_OFF, Notifier
from services.sender.slow import LONG, Slow
from shared.bus import Bus
from shared.channels import THREADS
from shared.channels.addresses import networks
from shared.channels.courier import Courier
from shared.directory.channels import SealedChannel
from shared.identity import new_id
from shared.ledger import Ledger, LedgerUnavailable, Row
from shared.messages import Expanded, Notification, Queued, Signal, State, Undecodable, decode
from shared.settings import Settings
from shared.topology import Queue
from tests.contract.ledgers import adds_up, post, target
from tests.sender.doubles import BlinkingLedger, Crash, Hand, RecordingBus
from tests.support.chat import Chat

GROUP = "office@example.test"
SECRET = "the secret of these tests"


class Shelf:
    """Channels by number."""

    def __init__(self) -> None:
        self.kept: dict[int, SealedChannel] = {}

    async def sealed_channel(self, number: int) -> SealedChannel | None:
        return self.kept.get(number)


class World:
    """A notifier over a real ledger, a chat on loopback and a bus that remembers."""

    def __init__(self, ledger: Ledger, chat: Chat, **settings: Any) -> None:
        self.ledger, self.chat, self.shelf = BlinkingLedger(ledger), chat, Shelf()
        self.bus = RecordingBus()
        self.settings = Settings(**{"channel_networks": "127.0.0.0/8", "retry_schedule": "1m, 5m", **settings})
        self.claims = Claims(self.ledger, lease=15.0)  # type: ignore[arg-type]
        self.notifier = self.fresh()

    def fresh(self) -> Notifier:
        """Another process's."""
        return Notifier(
            self.settings,
            bus=Publishing(self.bus),  # type: ignore[arg-type]
            ledger=self.ledger,  # type: ignore[arg-type]
            channels=self.shelf,  # type: ignore[arg-type]
            claims=self.claims,
            secret=SECRET,
        )

    async def channel(self, path: str = "hook") -> SealedChannel:
        courier = Courier(SECRET, networks("127.0.0.0/8"))
        made = await courier.sealed(f"json://127.0.0.1:{self.chat.port}/{path}")
        courier.close()
        self.shelf.kept[len(self.shelf.kept) + 1] = made
        return made

    async def sent(self, channel: SealedChannel, **changes: Any) -> Notification:
        """A signal to ana and the channel, opened and filed as the expander and the reporter do."""
        now = time.time()
        values = {"id": new_id(), "group": GROUP, "text": "елате", "origin": "test", "sent_at": now, **changes}
        signal = Signal(**values)
        await self.ledger.real.open_post(post(signal.id, cells=1), [target()])
        queued = Queued(addresses=(channel.label,), via=(GROUP,))
        share = Expanded(post_id=signal.id, group=GROUP, index=0, of=1, queued=(queued,), suppressed=(), at=now)
        await self.ledger.real.file(share)
        return Notification(signal=signal, channel=1, label=channel.label, cell=0)

    async def handle(self, message: Notification, **hand: Any) -> None:
        await self.notifier.handle(message, Hand(message, **hand))

    async def row(self, message: Notification) -> Row:
        rows = [row async for page in self.ledger.real.trace(message.signal.id) for row in page]
        assert adds_up(await self.ledger.real.totals(message.signal.id))
        (found,) = rows
        return found

    @property
    def retries(self) -> list[tuple[Notification, float]]:
        assert all(one.queue is Queue.NOTIFICATIONS for one in self.bus.published)
        found = [(decode(one.payload), one.delay) for one in self.bus.published]
        return [(one, delay) for one, delay in found if isinstance(one, Notification)]


class Publishing:
    """`publish` over `publish_all`."""

    def __init__(self, bus: RecordingBus) -> None:
        self._bus = bus

    async def publish(self, message: Any, *, timeout: float = 30.0) -> None:
        await self._bus.publish_all([message])


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()
    yield made
    made.close()


@pytest.fixture
def worlds(ledger: Ledger, chat: Chat) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(ledger, chat, **settings))
        return made[-1]

    yield make
    for world in made:
        world.notifier.close()


async def test_a_channel_is_told_and_the_ledger_knows(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel(), title="Хоро", link="https://horo.test/1")
    assert (await world.row(message)).state is State.QUEUED
    await world.handle(message)
    assert chat.told[0].json["title"] == "Хоро"
    assert chat.told[0].json["message"] == "елате\nhttps://horo.test/1"
    row = await world.row(message)
    assert (row.state, row.address, row.code, row.attempts, row.via) == (
        State.DELIVERED,
        message.label,
        250,
        1,
        (GROUP,),
    )
    assert row.hop == f"webhook://127.0.0.1:{chat.port}"
    assert world.retries == []


async def test_p3_a_notification_that_comes_again_calls_nobody(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel())
    await asyncio.gather(*(world.handle(message) for _ in range(5)))
    await world.handle(message, redelivered=True)
    await world.handle(msgspec.structs.replace(message, attempt=1))
    assert len(chat.told) == 1


async def test_what_is_temporary_is_tried_again_by_the_schedule(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel())
    chat.answers = [503, 429, 200]
    for attempt, delay in enumerate([60.0, 300.0]):
        await world.handle(msgspec.structs.replace(message, attempt=attempt))
        following, due = world.retries[-1]
        assert (following.attempt, due) == (attempt + 1, pytest.approx(delay, abs=0.2))
        row = await world.row(message)
        assert (row.state, row.attempts, row.next_at is not None) == (State.DEFERRED, attempt + 1, True)
        assert "HTTP" in row.text
    await world.handle(following)
    assert (await world.row(message)).state is State.DELIVERED
    assert len(world.retries) == 2


async def test_p3_a_retry_that_was_lost_in_a_crash_is_published_again(worlds: Callable[..., World], chat: Chat) -> None:
    """Recorded, and then the process dies before the retry is on the bus: whoever gets the message again finds the record."""
    world = worlds()
    message = await world.sent(await world.channel())
    chat.answers = [503, 200]
    world.bus.crash = True
    with pytest.raises(Crash):
        await world.handle(message)
    assert world.retries == []
    await world.handle(message, redelivered=True)
    assert len(chat.told) == 1
    ((following, delay),) = world.retries
    assert (following.attempt, delay) == (1, pytest.approx(60, abs=1))


async def test_p3_a_ledger_that_blinks_after_the_call_is_waited_for(
    worlds: Callable[..., World], chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sender.recording.retry_delay", lambda _: 0.01)
    world = worlds()
    message = await world.sent(await world.channel())
    world.ledger.fail["record"] = 3
    await world.handle(message)
    assert len(chat.told) == 1
    assert (await world.row(message)).state is State.DELIVERED


async def test_nobody_is_called_where_the_ledger_does_not_answer(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel())
    world.ledger.fail["take"] = 1
    with pytest.raises(LedgerUnavailable):
        await world.handle(message)
    assert chat.told == []


async def test_what_a_channel_refuses_has_failed(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel("status410"))
    await world.handle(message)
    row = await world.row(message)
    assert (row.state, row.code, row.text) == (State.FAILED, 550, "the channel answered HTTP 410")
    assert world.retries == []


async def test_after_a_day_a_signal_is_no_news(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel("status503"), sent_at=time.time() - MAX_AGE - 1)
    await world.handle(message)  # a queue that stood still: it is tried twice at least
    await world.handle(world.retries[0][0])
    row = await world.row(message)
    assert (row.state, row.attempts) == (State.FAILED, 2)
    assert "HTTP 503" in row.text
    assert len(world.retries) == 1


async def test_a_channel_that_was_removed_meanwhile_has_failed(worlds: Callable[..., World], chat: Chat) -> None:
    world = worlds()
    message = await world.sent(await world.channel())
    world.shelf.kept.clear()
    await world.handle(message)
    assert ((await world.row(message)).state, (await world.row(message)).text) == (
        State.FAILED,
        "the channel was removed",
    )
    assert chat.told == []


async def test_a_channel_the_networks_do_not_allow_any_more_is_not_reached(
    worlds: Callable[..., World], chat: Chat
) -> None:
    world = worlds(channel_networks="")
    message = await world.sent(await world.channel())
    await world.handle(message)
    assert ((await world.row(message)).state, chat.connections) == (State.DEFERRED, 0)


async def test_no_record_and_no_log_holds_a_url(
    worlds: Callable[..., World], chat: Chat, capfd: pytest.CaptureFixture[str]
) -> None:
    world = worlds()
    for path in ("canary", "status500/canary", "redirect/canary", "sulk/canary"):
        world.shelf.kept.clear()
        message = await world.sent(await world.channel(path))
        await world.handle(message)
        row = await world.row(message)
        assert "canary" not in str(row)
    assert len(chat.told) == 4
    assert all(b"canary" not in one.payload for one in world.bus.published)
    captured = capfd.readouterr()
    assert "canary" not in captured.out + captured.err


async def test_what_is_no_notification_is_undecodable(worlds: Callable[..., World]) -> None:
    signal = Signal(id="x", group=GROUP, text="t", origin="o", sent_at=0.0)
    with pytest.raises(Undecodable):
        await worlds().notifier.handle(signal, Hand(signal))


@asynccontextmanager
async def running(notifier: Notifier) -> AsyncIterator[None]:
    task = asyncio.create_task(notifier.worker.run())
    try:
        yield
    finally:
        notifier.worker.stop()
        await task


async def test_p7_slow_channels_leave_half_of_the_threads_to_others(worlds: Callable[..., World], chat: Chat) -> None:
    """More of them than there are threads: those that are known as slow wait on the bus, asked by nobody, and the attempt stays the same."""
    world = worlds()
    silent = []
    for number in range(THREADS + 2):
        channel = await world.channel(f"silent/{number}")
        world.notifier._slow.took(channel.label, LONG + 1)
        silent.append(msgspec.structs.replace(await world.sent(channel), channel=number + 1))
    calls = [asyncio.create_task(world.handle(message)) for message in silent]
    async with asyncio.timeout(4):
        while chat.connections < THREADS // 2 or len(world.retries) < len(silent) - THREADS // 2:
            await asyncio.sleep(0.02)
        assert [(one.attempt, delay) for one, delay in world.retries] == [(0, PUT_OFF)] * (THREADS // 2 + 2)
        quick = await world.sent(await world.channel("quick"))
        await world.handle(msgspec.structs.replace(quick, channel=len(world.shelf.kept)))
        assert "/quick" in chat.paths
    chat.open.set()
    await asyncio.gather(*calls)
    assert chat.connections == THREADS // 2 + 1
    world.bus.published.clear()
    await world.handle(silent[-1])  # its turn
    assert (await world.row(silent[-1])).attempts == 1


async def test_a_channel_that_answers_fast_again_is_not_slow() -> None:
    slow = Slow(1)
    slow.took("a", LONG + 1)
    with slow.place("a") as first, slow.place("a") as second, slow.place("b") as other:
        assert (first, second, other) == (True, False, True)
    with slow.place("a") as again:  # given back
        assert again
    slow.took("a", LONG / 2)
    with slow.place("a") as first, slow.place("a") as second:
        assert first
        assert second


async def test_p10_slow_channels_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sender.slow.REMEMBERED", 2)
    slow = Slow(0)
    for label in "abc":
        slow.took(label, LONG + 1)
    free = []
    for label in "abc":
        with slow.place(label) as place:
            free.append(place)
    assert free == [True, False, False]


async def test_p7_a_channel_that_is_slow_holds_up_no_other(
    ledger: Ledger, chat: Chat, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.bus import Outgoing
    from shared.messages import encode

    world = World(ledger, chat)
    notifier = Notifier(
        world.settings,
        bus=bus,
        ledger=ledger,
        channels=world.shelf,  # type: ignore[arg-type]
        claims=world.claims,
        secret=SECRET,
    )
    slow = await world.sent(await world.channel("silent"))
    quick = [msgspec.structs.replace(await world.sent(await world.channel(f"q{n}")), channel=n + 2) for n in range(5)]
    for message in (slow, *quick):
        await bus.publish(Outgoing(queue=Queue.NOTIFICATIONS, payload=encode(message)))
    async with running(notifier):
        async with asyncio.timeout(4):
            while len(chat.told) < 6:
                await asyncio.sleep(0.02)
        chat.open.set()
    notifier.close()
    assert sorted(chat.paths) == ["/q0", "/q1", "/q2", "/q3", "/q4", "/silent"]
