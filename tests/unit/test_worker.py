"""The worker loop: what becomes of a message whatever its handler, its bytes or the bus do; and that nothing ends the loop but a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared import worker as module
from shared.bus import BusUnavailable, BusUnusable, Outgoing
from shared.identity import new_id
from shared.messages import Refused, Undecodable, Wire, encode
from shared.replies import NO_ROOM, TROUBLE, PermanentError, TransientError
from shared.topology import Queue
from shared.worker import RETRY_DELAYS, Worker, retry_delay

LIMIT = 5.0


def payload() -> bytes:
    return encode(
        Refused(group="a@b.test", mail_from="", code=550, status="5.1.1", text=new_id(), ip="127.0.0.1", at=1.0)
    )


class Message:
    """An `Incoming` that notes how it ended."""

    def __init__(self, body: bytes | None = None, *, tries: int = 0) -> None:
        self.queue = Queue.OUTCOMES
        self.payload = payload() if body is None else body
        self.tries = tries
        self.redelivered = False
        self.ends: list[str] = []
        self.trouble: list[BaseException] = []
        self.ended = asyncio.Event()

    def _end(self, how: str) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        self.ends.append(how)
        self.ended.set()

    async def ack(self) -> None:
        self._end("ack")

    async def park(self, reason: str) -> None:
        self._end(f"park: {reason}")

    async def release(self) -> None:
        self._end("release")


class Bus:
    """A bus of one queue. `trouble` is raised by publishes, `failures` by `consume`."""

    def __init__(self, *messages: Message) -> None:
        self.waiting: asyncio.Queue[Message | BaseException] = asyncio.Queue()
        for message in messages:
            self.waiting.put_nowait(message)
        self.published: list[Outgoing] = []
        self.trouble: list[BaseException] = []
        self.failures: list[BaseException] = []
        self.consumed = 0
        self.prefetch = 0
        self.publishing = asyncio.Event()

    @asynccontextmanager
    async def consume(self, queue: Queue, *, prefetch: int) -> AsyncIterator[Any]:
        self.consumed += 1
        self.prefetch = prefetch
        if self.failures:
            raise self.failures.pop(0)
        yield self

    async def get(self) -> Message:
        found = await self.waiting.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def ready(self) -> Message | None:
        if self.waiting.empty():
            return None
        found = self.waiting.get_nowait()
        if isinstance(found, BaseException):
            self.waiting.put_nowait(found)  # for who waits
            return None
        return found

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        self.publishing.set()
        if self.trouble:
            raise self.trouble.pop(0)
        self.published.append(message)


Handle = Callable[[Wire, Any], Awaitable[None]]


async def fine(message: Wire, incoming: Any) -> None:
    """A handler that has no trouble."""


def raising(error: BaseException) -> Handle:
    async def handle(message: Wire, incoming: Any) -> None:
        raise error

    return handle


def made(bus: Bus, handle: Handle, *, concurrency: int = 1, max_tries: int = 5) -> Worker:
    return Worker(bus, Queue.OUTCOMES, handle, concurrency=concurrency, max_tries=max_tries)  # type: ignore[arg-type]


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """A worker at work; stopped and waited for at the end."""
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(LIMIT):
            yield task
            worker.stop()
            await task
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test does not feel; their values are looked at where they matter."""
    monkeypatch.setattr(module, "CONSUME_AGAIN", (0.001,))


def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_DELAYS", (0.001,))


async def test_work_that_is_done_is_acked_once_and_nothing_is_published() -> None:
    message = Message()
    bus = Bus(message)
    seen: list[Wire] = []

    async def handle(wire: Wire, incoming: Any) -> None:
        assert message.ends == []  # acked last
        seen.append(wire)

    async with running(made(bus, handle, concurrency=3)):
        await message.ended.wait()
    assert (len(seen), message.ends, bus.published, bus.prefetch) == (1, ["ack"], [], 6)


@pytest.mark.parametrize(
    "error",
    [
        TransientError(NO_ROOM, why="disk"),
        BusUnavailable("gone"),
        RuntimeError("a fault of ours"),
        TimeoutError(),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("tries", [0, 3])
async def test_p3_trouble_is_put_off_with_one_more_try_and_acked_after_that(error: Exception, tries: int) -> None:
    message = Message(tries=tries)
    bus = Bus(message)
    async with running(made(bus, raising(error))):
        await message.ended.wait()
    assert message.ends == ["ack"]
    assert bus.published == [
        Outgoing(queue=Queue.OUTCOMES, payload=message.payload, delay=retry_delay(tries), tries=tries + 1)
    ]


def test_delays_grow_and_stay() -> None:
    delays = [retry_delay(tries) for tries in range(30)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (1, RETRY_DELAYS[-1])


async def test_after_the_last_try_it_is_parked_with_the_cause() -> None:
    message = Message(tries=4)
    bus = Bus(message)
    async with running(made(bus, raising(TransientError(TROUBLE, why="no room in the ledger")))):
        await message.ended.wait()
    (end,) = message.ends
    assert end.startswith("park: after 5 tries: TransientError")
    assert "no room in the ledger" in end
    assert bus.published == []


@pytest.mark.parametrize("body", [b"", b"\xff" * 40, b"{}", b"\x81\xa1a", b"\x91" * 5000], ids=len)
async def test_undecodable_bytes_are_parked_and_never_reach_the_handler(body: bytes) -> None:
    message, after = Message(body), Message()
    bus = Bus(message, after)
    handled: list[Any] = []

    async def handle(wire: Wire, incoming: Any) -> None:
        handled.append(incoming)

    async with running(made(bus, handle)):
        await after.ended.wait()
    assert [end.split(":")[:2] for end in message.ends] == [["park", " undecodable"]]
    assert (handled, bus.published) == ([after], [])


@pytest.mark.parametrize("error", [Undecodable("of another kind"), PermanentError(NO_ROOM, why="never")], ids=repr)
async def test_what_can_never_work_is_parked_at_the_first_try(error: Exception) -> None:
    message = Message()
    bus = Bus(message)
    async with running(made(bus, raising(error))):
        await message.ended.wait()
    assert message.ends[0].startswith("park: ")
    assert bus.published == []


async def test_p3_while_the_bus_takes_no_retry_the_message_stays_unacked(monkeypatch: pytest.MonkeyPatch) -> None:
    no_pauses(monkeypatch)
    message = Message()
    bus = Bus(message)
    bus.trouble = [BusUnavailable("down")] * 5
    ends_at_failure: list[list[str]] = []
    publish = bus.publish

    async def watched(outgoing: Outgoing, *, timeout: float = 30.0) -> None:
        ends_at_failure.append(list(message.ends))
        await publish(outgoing, timeout=timeout)

    monkeypatch.setattr(bus, "publish", watched)
    async with running(made(bus, raising(TransientError(TROUBLE)))):
        await message.ended.wait()
    assert ends_at_failure == [[]] * 6
    assert (message.ends, len(bus.published)) == (["ack"], 1)


async def test_p3_while_it_cannot_be_parked_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    no_pauses(monkeypatch)
    message = Message(b"junk")
    message.trouble = [BusUnavailable("down")] * 3
    async with running(made(Bus(message), fine)):
        await message.ended.wait()
    assert len(message.ends) == 1


async def test_a_stop_while_the_bus_is_away_ends_the_worker_with_the_message_unacked() -> None:
    message = Message()
    bus = Bus(message)
    bus.trouble = [BusUnavailable("down")] * 1000
    worker = made(bus, raising(TransientError(TROUBLE)))
    async with running(worker):
        await bus.publishing.wait()
    assert message.ends == []  # given back with its consumer


async def test_a_stop_lets_work_in_hand_finish_and_takes_no_more() -> None:
    first, second = Message(), Message()
    bus = Bus(first, second)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(wire: Wire, incoming: Any) -> None:
        begun.set()
        await go_on.wait()

    worker = made(bus, handle)
    async with running(worker) as task:
        await begun.wait()
        worker.stop()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
    assert (first.ends, second.ends) == (["ack"], [])


async def test_a_message_taken_in_the_instant_of_the_stop_is_given_back() -> None:
    bus = Bus()
    worker = made(bus, fine, concurrency=2)
    message = Message()
    async with running(worker):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        bus.waiting.put_nowait(message)  # both in one turn of the loop: whoever waits has it, and is told to stop
        worker.stop()
    assert message.ends in (["release"], [])  # [] where nobody took it
    assert message.ends or not bus.waiting.empty()


async def test_a_cancelled_wait_that_had_a_message_gives_it_back() -> None:
    """`get` that finishes although it was cancelled, as a queue does whose item came first."""
    message, asked = Message(), asyncio.Event()

    class Late(Bus):
        async def get(self) -> Message:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return message
            raise AssertionError

    worker = made(Late(), fine)
    async with running(worker):
        await asked.wait()
    assert message.ends == ["release"]


@pytest.mark.parametrize("worst", [SystemError("c"), MemoryError(), asyncio.CancelledError(), KeyError("k")], ids=repr)
async def test_no_crash_of_a_handler_ends_the_loop(worst: BaseException) -> None:
    """A `CancelledError` among them that nobody asked for: clients raise it when a connection dies (faults.md 0.8)."""
    bad, good = Message(), Message()
    bus = Bus(bad, good)

    async def handle(wire: Wire, incoming: Any) -> None:
        if incoming is bad:
            raise worst

    async with running(made(bus, handle)):
        await good.ended.wait()
    assert (bad.ends, good.ends, len(bus.published)) == (["ack"], ["ack"], 1)


async def test_a_message_that_can_neither_be_put_off_nor_parked_stays_and_the_next_is_worked() -> None:
    bad, good = Message(), Message()
    bad.trouble = [ValueError("too large")]
    bus = Bus(bad, good)
    bus.trouble = [ValueError("a payload over the limit")]

    async def handle(wire: Wire, incoming: Any) -> None:
        if incoming is bad:
            raise TransientError(TROUBLE)

    async with running(made(bus, handle)):
        await good.ended.wait()
    assert (bad.ends, good.ends) == ([], ["ack"])


async def test_a_message_over_the_limit_of_the_bus_is_parked_instead_of_put_off() -> None:
    message = Message()
    bus = Bus(message)
    bus.trouble = [ValueError("a payload of 9000000 octets is over the limit")]
    async with running(made(bus, raising(TransientError(TROUBLE, why="no room")))):
        await message.ended.wait()
    (end,) = message.ends
    assert "no room" in end
    assert "9000000 octets" in end


async def test_a_bus_that_cannot_be_consumed_from_is_tried_until_it_can() -> None:
    message = Message()
    bus = Bus(message)
    bus.failures = [BusUnavailable("not yet")] * 4
    async with running(made(bus, fine)) as task:
        await message.ended.wait()
        assert not task.done()
    assert (message.ends, bus.consumed) == (["ack"], 5)


async def test_a_consumer_that_fails_later_is_replaced_and_the_others_finish_their_work() -> None:
    slow, after = Message(), Message()
    bus = Bus(slow)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(wire: Wire, incoming: Any) -> None:
        if incoming is slow:
            begun.set()
            await go_on.wait()

    async with running(made(bus, handle, concurrency=2)):
        await begun.wait()
        bus.waiting.put_nowait(BusUnavailable("lost"))
        await asyncio.sleep(0)
        go_on.set()
        await slow.ended.wait()
        while bus.consumed < 2:
            await asyncio.sleep(0.001)
        bus.waiting.put_nowait(after)
        await after.ended.wait()
    assert (slow.ends, after.ends, bus.consumed) == (["ack"], ["ack"], 2)


async def test_a_bus_that_can_never_be_used_ends_the_worker_with_the_reason() -> None:
    bus = Bus()
    bus.failures = [BusUnusable("another process (17) consumes from it")]
    async with asyncio.timeout(LIMIT):
        with pytest.raises(BusUnusable, match="another process"):
            await made(bus, fine).run()


async def test_a_stop_ends_a_worker_that_waits_for_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONSUME_AGAIN", (60.0,))
    bus = Bus()
    bus.failures = [BusUnavailable("down")]
    worker = made(bus, fine)
    async with running(worker):
        while not bus.consumed:
            await asyncio.sleep(0)


async def test_a_cancelled_worker_cancels_its_work_and_says_so() -> None:
    message = Message()
    begun = asyncio.Event()

    async def handle(wire: Wire, incoming: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(made(Bus(message), handle).run())
    async with asyncio.timeout(LIMIT):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert message.ends == []
