"""The bus without a broker: a durable queue in one SQLite file. Nothing to install, and nothing lost by kill -9.

Several processes may publish into a file (the command line beside `horo up`) and follow its events; one consumes, and holds PATH.lock. Publishes of
the own process wake consumers at once, those of others within a quarter of a second. A file that is locked, full or damaged is `BusUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from shared import journal
from shared.bus import BusUnavailable, BusUnusable, Consumer, EventStream, Incoming, Outgoing, Parked
from shared.bus import embedded_file as file
from shared.bus.embedded_writer import Run, Writer
from shared.bus.topics import matches
from shared.topology import MAX_PAYLOAD, Queue, delay_step

EVENTS = "events"
REASON_LIMIT = 1000
PAUSE = 0.5
"""Seconds before a consumer tries again a file that is in trouble."""

T = TypeVar("T")


class Held:
    """A message taken from the file (the port's `Incoming`)."""

    def __init__(self, row: file.Row, queue: Queue, feed: Feed) -> None:
        self.row = row
        self._queue = queue
        self._feed = feed

    @property
    def queue(self) -> Queue:
        """The queue it was taken from."""
        return self._queue

    @property
    def payload(self) -> bytes:
        """Its bytes."""
        return self.row.payload

    @property
    def tries(self) -> int:
        """How often the work was tried before."""
        return self.row.tries

    @property
    def redelivered(self) -> bool:
        """Whether it was handed out before."""
        return self.row.returned

    async def ack(self) -> None:
        """Forget it; should the file be in trouble, as soon as it is not."""
        await self._feed.end(self, lambda connection: file.remove(connection, self.row.id))

    async def park(self, reason: str) -> None:
        """Move it to `parked`, durably. Raises `BusUnavailable`, and then it is still ours."""
        text = reason.encode("utf-8", "replace").decode()[:REASON_LIMIT]
        await self._feed.put_aside(self, lambda connection: file.put_aside(connection, self.row.id, text))

    async def release(self) -> None:
        """Give it back."""
        await self._feed.end(
            self, lambda connection: file.give_back(connection, [self.row.id]), touches=(self._queue.value,)
        )


class Feed:
    """A consumer: keeps at most `prefetch` messages taken and not ended, in hand or waiting in memory."""

    def __init__(self, writer: Writer, queue: Queue, prefetch: int) -> None:
        self._writer = writer
        self._queue = queue
        self._prefetch = prefetch
        self._held: dict[int, Held] = {}
        self._local: asyncio.Queue[Held | BusUnusable] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._stopping = False
        self._failing = False

    def wake(self) -> None:
        """There may be something to take."""
        self._wake.set()

    def stop(self) -> None:
        """Take no more, and give back what is not ended: `run` returns then."""
        self._stopping = True
        self._wake.set()

    async def get(self) -> Held:
        """The next message; waits for one. Raises `BusUnusable` once the file is broken: waiting on would be for ever."""
        held = await self._local.get()
        if isinstance(held, BusUnusable):
            self._local.put_nowait(held)  # for whoever asks next
            raise BusUnusable(held.why)
        if self._hungry():
            self._wake.set()
        return held

    def ready(self) -> Held | None:
        """The next message that has arrived."""
        if self._local.empty():
            return None
        held = self._local.get_nowait()
        if isinstance(held, BusUnusable):
            self._local.put_nowait(held)
            return None
        if self._hungry():
            self._wake.set()
        return held

    async def run(self) -> None:
        """Take messages until stopped. Never cancelled: a take that is under way must be known when it ends."""
        while not self._stopping:
            self._wake.clear()
            pause = await self._refill_surely() if self._hungry() else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
        held, self._held = list(self._held), {}
        with contextlib.suppress(BusUnavailable):  # broken: whoever consumes next finds them taken, and gives them back
            await self._writer.submit(
                lambda connection: file.give_back(connection, held), owed=True, touches=(self._queue.value,)
            )

    async def end(self, held: Held, run: Run, *, touches: tuple[str, ...] = ()) -> None:
        """Ack or release: nothing that is in the way stops it, it is done when the way is free."""
        if self._forget(held):
            with contextlib.suppress(BusUnavailable):  # closed or broken: the message stays in the file and comes again
                await self._writer.submit(run, owed=True, touches=touches)

    async def put_aside(self, held: Held, run: Run) -> None:
        """Park. Raises `BusUnavailable`, and then the message is still held."""
        if held.row.id in self._held:
            await self._writer.submit(run, durable=True, touches=(Queue.PARKED.value,))
            self._forget(held)

    def _forget(self, held: Held) -> bool:
        """Whether it was ours to end."""
        if self._held.get(held.row.id) is not held:
            return False
        del self._held[held.row.id]
        if self._hungry():
            self._wake.set()
        return True

    def _hungry(self) -> bool:
        """Whether to take more: in halves of the prefetch, for a take of one message costs as much as one of many."""
        room = self._prefetch - len(self._held)
        return room > 0 and (self._local.empty() or room * 2 >= self._prefetch)

    async def _refill_surely(self) -> float | None:
        try:
            pause = await self._refill()
        except BusUnusable as error:
            self._local.put_nowait(error)
            return None
        except BusUnavailable as error:
            if not self._failing:
                journal.unavailable(f"embedded queue {self._queue}", error.why)
            self._failing = True
            return PAUSE
        self._failing = False
        return pause

    async def _refill(self) -> float | None:
        """Take what there is room for; how long to wait then, None for until woken."""
        room = self._prefetch - len(self._held)
        taken = await self._writer.submit(lambda connection: file.take(connection, self._queue.value, room))
        for row in taken.rows:
            held = Held(row, self._queue, self)
            self._held[row.id] = held
            self._local.put_nowait(held)
        return None if taken.next_due is None else max(taken.next_due - time.time(), 0.001)


class Events:
    """A subscription (the port's `EventStream`): events are read from the file as they are asked for."""

    def __init__(self, writer: Writer, pattern: str, last: int) -> None:
        self._writer = writer
        self._pattern = pattern
        self._last = last
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be new ones."""
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        return self._events()

    async def _events(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            self._wake.clear()
            rows = await self._writer.submit(
                lambda connection: file.events_after(connection, self._last, 200), reads=True
            )
            for row, routing_key, payload in rows:
                self._last = row
                if matches(self._pattern, routing_key):
                    yield routing_key, payload
            if not rows:
                await self._wake.wait()


class Embedded:
    """The port `Bus` over one file. Make it with `open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = Writer(path, self._woken)
        self._feeds: set[Feed] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._streams: set[Events] = set()
        self._lock: int | None = None
        self._owning = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Embedded:
        """Open the file, make it where it is missing. Raises `BusUnavailable`, whose text names the file and what is wrong with it."""
        bus = cls(path)
        await bus._writer.open()
        return bus

    async def publish(self, message: Outgoing, *, timeout: float = 30.0) -> None:
        """Make one message durable. Raises `BusUnavailable`; ValueError for a payload over MAX_PAYLOAD."""
        await self.publish_all([message], timeout=timeout)

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        """Make all of them durable, or none."""
        rows = [_row(message) for message in messages]
        touched = {message.queue.value for message in messages}
        await self._within(timeout, lambda connection: file.add(connection, rows), touches=tuple(touched))

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue, *, prefetch: int) -> AsyncIterator[Consumer]:
        """Consume a queue. Raises `BusUnusable` when another process consumes from the file."""
        if prefetch < 1:
            raise ValueError("prefetch: at least 1")
        await self.own()
        feed = Feed(self._writer, queue, prefetch)
        self._feeds.add(feed)
        task = asyncio.create_task(feed.run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            yield feed
        finally:
            feed.stop()
            self._feeds.discard(feed)
            await asyncio.wait((task,))

    def parked(self, message: Incoming) -> Parked:
        """Where a message of the queue `parked` came from and why it is there."""
        if not isinstance(message, Held):
            raise TypeError("not a message of this bus")
        return Parked(queue=message.row.origin, reason=message.row.reason or "unknown", tries=message.tries)

    async def emit(self, routing_key: str, payload: bytes) -> None:
        """Keep an event for the subscribers of any process."""
        await self.emit_all(((routing_key, payload),))

    async def emit_all(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Keep events for the subscribers of any process."""
        for routing_key, payload in events:
            _bounded(payload)
            routing_key.encode()  # a routing key that is no text fails here, and not in the transaction that it shares with others
        if events:
            await self._within(30.0, lambda connection: file.add_events(connection, events), touches=(EVENTS,))

    @contextlib.asynccontextmanager
    async def events(self, pattern: str = "#") -> AsyncIterator[EventStream]:
        """Events from now on. A subscriber that falls behind by more than the file keeps misses the oldest."""
        stream = Events(self._writer, pattern, await self._writer.submit(file.last_event, reads=True))
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    async def depth(self, queue: Queue) -> int:
        """Messages ready or delayed for the queue."""
        return await self._writer.submit(lambda connection: file.depth(connection, queue.value), reads=True)

    async def check(self, *, timeout: float = 5.0) -> None:
        """A durable write. Raises `BusUnavailable`."""
        await self._within(timeout, file.touch_canary)

    async def close(self) -> None:
        """Give back what is taken, close the file, let go of the lock."""
        for feed in list(self._feeds):
            feed.stop()
        if self._running:
            await asyncio.wait(set(self._running))
        await self._writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _within(self, timeout: float, run: Callable[..., T], *, touches: tuple[str, ...] = ()) -> T:
        try:
            async with asyncio.timeout(timeout):
                return await self._writer.submit(run, durable=True, touches=touches)
        except TimeoutError as error:
            raise BusUnavailable(f"{self._path}: not written within {timeout:g} s") from error

    async def own(self) -> None:
        """Become the process that consumes from the file, and find what the last one left taken. Raises `BusUnusable` where another does."""
        async with self._owning:
            if self._lock is not None:
                return
            lock = locked(self._path)
            try:
                if self._path.stat().st_size > file.CHECKED:
                    await self._writer.submit(lambda connection: file.check(connection, self._path), reads=True)
                await self._writer.submit(file.recover)
            except BaseException:
                os.close(lock)
                raise
            self._lock = lock

    def _woken(self, touched: str) -> None:
        """A commit touched a queue or the events, or ("") another process wrote something."""
        for feed in self._feeds:
            if touched in ("", feed._queue.value):
                feed.wake()
        if touched in ("", EVENTS):
            for stream in self._streams:
                stream.wake()


def locked(path: Path) -> int:
    """The descriptor of the consumers' lock; the system lets go of it when the process ends, however it ends. Raises `BusUnusable`."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        raise BusUnusable(
            f"another process ({holder or 'unknown'}) consumes from {path}: only one may; stop it, or set another HORO_DATA"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _bounded(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} octets is over the limit of {MAX_PAYLOAD}")


def _row(message: Outgoing) -> tuple[str, float, int, bytes]:
    _bounded(message.payload)
    return message.queue.value, time.time() + delay_step(message.delay), message.tries, message.payload
